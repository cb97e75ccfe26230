"""A run in miniature: every step of `textune train` taken for real, on few rows, timed, and thrown away.

Nothing is modelled that can be done: the backbone is loaded, real batches of the real run pass through its engine and
optimizer, a checkpoint and the bundle are written, the reload is proven, and the rivals are measured on some rows. Only
what grows with the rows is extrapolated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from textune.bundle import Manifest
from textune.config import RunConfig
from textune.data import MULTI, Examples
from textune.inference import padding_of
from textune.methods import resolve
from textune.plan.forecast import (
    Forecast,
    count_evaluations,
    extrapolate,
    extrapolate_growth,
    fit_seconds,
    measure_sizes,
    time_growing,
)
from textune.plan.head import rehearse_head
from textune.progress import Progress
from textune.run.calibrate import Calibration
from textune.run.evaluate import peak_memory_mb
from textune.run.start import adopt_init
from textune.run.steps import Opened, RunSteps
from textune.run.tables import PreparedData
from textune.training.checkpoint import CheckpointState

if TYPE_CHECKING:
    from textune.engine import Engine
    from textune.tokens import Tokenized

_FEWEST_STEPS, _MOST_STEPS = 6, 64
_SHARES = {"steps": 0.5, "evaluation": 0.15, "measure": 0.35, "frozen": 0.15, "head": 0.1}
"""Of the seconds that a rehearsal may take beyond loading, saving and starting up."""
_FEW_ROWS = 48
_SECONDS_PER_ROW = 0.02  # a guess, where there are no validation rows to time
_SECONDS_BETWEEN_CHECKPOINTS = 120.0
T = TypeVar("T")


def rehearse(config: RunConfig, folder: Path, seconds: float, launched: float, progress: Progress) -> Forecast:
    """Returns the forecast of a run; folder: an empty one of the rehearsal's own, launched: `time.time()` at the start.

    Raises what the run itself would raise before it trains: ConfigError, DataError, ModelError.
    """
    parts = {"start": time.time() - launched}
    config, method = adopt_init(config, resolve(config.method.name, config.method.options))
    work = _Rehearsal(config, method, progress, {})
    _, parts["prepare"] = _time(work.prepare)
    opened, parts["load"] = _time(lambda: work.open_trainer(folder, None))
    trainer, every = opened.trainer, opened.trainer.eval_every
    frozen = _Frozen(work, opened)
    each = _rehearse_evaluation(work, opened, frozen, _SHARES["evaluation"] * seconds)
    spent, training_mb = _rehearse_steps(work, opened, frozen, _SHARES["steps"] * seconds)
    parts["head"] = rehearse_head(work, opened.engine, _SHARES["head"] * seconds)
    parts |= {"frozen": frozen.forecast(_SHARES["frozen"] * seconds), "steps": spent}
    evaluations = max(count_evaluations(trainer.total_steps, every), 1)
    tuning = work.data.task == MULTI and work.config.training.threshold is None
    parts["load"] += each  # before the first step, outside of training's own time
    parts["evaluations"] = each * (evaluations + tuning)
    saves = _count_saves(trainer.total_steps, every, config.training.checkpoint_every_steps, evaluations,
                         parts["steps"] / evaluations + each)  # fmt: skip
    checkpoint_seconds, checkpoint_mb = _rehearse_checkpoint(opened, folder)
    parts["checkpoints"] = saves * checkpoint_seconds
    manifest, parts["save"] = _time(partial(_save, work, opened, folder))
    bundle_mb = _megabytes(folder) - 2 * checkpoint_mb
    settings = _list_settings(work, opened)
    per_row = each / len(work.validation) if work.validation is not None else _SECONDS_PER_ROW
    del opened, trainer, frozen  # a run does not hold what it trained while it measures, either
    parts["measure"] = _rehearse_measuring(work, manifest, folder, per_row, _SHARES["measure"] * seconds)
    # two checkpoints are kept while the next is written, and while the bundle is
    most = max(min(saves, 3) * checkpoint_mb, min(saves, 2) * checkpoint_mb + bundle_mb)
    return Forecast(
        method=method.key,
        backbone=work.backbone.id,
        seconds=parts,
        peak_memory_mb=max(peak_memory_mb(), training_mb),
        disk_mb=_forecast_folder(work, folder),
        disk_while_training_mb=most,
        trainable_parameters=manifest.trainable_parameters,
        total_parameters=manifest.total_parameters,
        settings=settings,
        notes=tuple(_note(work)),
        rehearsed_seconds=time.time() - launched,
    )


def _count_saves(steps: int, eval_every: int, save_every: int | None, evaluations: int, seconds: float) -> int:
    """Returns how many checkpoints are written: at evaluations, which are `seconds` apart, and between them."""
    if save_every is None:
        return evaluations * (1 + int(seconds // _SECONDS_BETWEEN_CHECKPOINTS))
    at = {*range(eval_every, steps + 1, eval_every), *range(save_every, steps + 1, save_every), steps}
    return len(at)


def _time(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


class _Rehearsal(RunSteps):
    """A run whose frozen layers are not computed beforehand for all rows."""

    def _keep_frozen(self, engine: Engine, splits: list[Tokenized], layers: int) -> float:
        return 0.0

    def _start_head(self, engine: Engine, groups: list[dict[str, Any]], folder: Path, max_tokens: int) -> float:
        return 0.0


class _Frozen:
    """What frozen layers give: computed for the rows that a rehearsal looks at, and timed apart from all else."""

    def __init__(self, work: RunSteps, opened: Opened) -> None:
        self._engine: Any = opened.engine
        self._layers = int(opened.plan["engine"]["prefix_layers"])
        self._padding = padding_of(work.backbone)
        self._splits = [split.tokens for split in (work.train, work.validation) if split is not None]
        self._prefix: Any = None

    def take(self, tokens: Tokenized, rows: NDArray[Any]) -> None:
        """Computes the states of some rows of a split, and lets the engine find them."""
        if not self._layers:
            return
        from textune.engine.prefix_cache import fill_prefix, start_prefix

        if self._prefix is None or self._prefix.tokens is not tokens:
            self._prefix = start_prefix(self._engine, tokens, self._layers)
            self._engine.keep(self._prefix)
        fill_prefix(self._prefix, self._engine, rows, self._padding)

    def forecast(self, budget: float) -> float:
        """Returns the seconds for all rows of training and validation, in the batches that a run makes of them.

        What the person's cache holds already costs nothing. budget: seconds that finding it out may take.
        """
        if not self._layers:
            return 0.0
        from textune.engine.prefix_cache import is_kept, plan_prefix

        total = 0.0
        for tokens in self._splits:
            if is_kept(self._engine, tokens, self._layers):
                continue
            batches = plan_prefix(tokens)
            sizes = [int(tokens.lengths[rows].sum()) for rows in batches]
            seconds = taken = 0.0
            for number in _spread(len(batches)):
                seconds += _time(partial(self.take, tokens, batches[number]))[1]
                taken += sizes[number]
                if seconds > budget / len(self._splits):
                    break
            total += seconds * sum(sizes) / max(taken, 1)
        return total


def _spread(count: int) -> list[int]:
    """Returns numbers below count of which any first few lie evenly: the middle, the quarters, and so on."""
    places = ((2 * i + 1) / 2**level for level in range(1, 13) for i in range(2 ** (level - 1)))
    return list(dict.fromkeys(int(place * count) for place in places)) if count else []


def _rehearse_steps(work: RunSteps, opened: Opened, frozen: _Frozen, budget: float) -> tuple[float, float]:
    """Takes the run's first steps while the budget lasts, and its heaviest.

    Returns the seconds of all steps that are planned, and the megabytes that the process will have taken by then.
    """
    trainer, tokens = opened.trainer, work.train.tokens
    planned = [rows for _, rows in trainer.remaining_steps(CheckpointState(step=0, plan=""))]
    if not planned:  # the head is solved, and nothing else is trained
        return 0.0, peak_memory_mb()
    sizes = measure_sizes(tokens.lengths, tokens.longest_windows, planned)
    opened.engine.train()
    taken: list[int] = []
    seconds: list[float] = []
    computing: list[float] = []
    peaks: list[float] = []

    def take(number: int) -> None:
        taken.append(number)
        computing.append(_time(lambda: frozen.take(tokens, planned[number]))[1])
        seconds.append(_time(lambda: trainer.take_step(1, planned[number], first=number == 0))[1])
        peaks.append(peak_memory_mb())

    # In their own order, since memory that freed blocks leave in pieces depends on it; their lengths are mixed anyway.
    for number in range(min(len(planned), _MOST_STEPS)):
        if number >= _FEWEST_STEPS and sum(seconds) + sum(computing) > budget:
            break
        take(number)
    # the heaviest step is among those to come: what it takes is not to be added to it
    most = peaks[-1] + extrapolate_growth(peaks, len(planned))
    for heaviest in {int(np.argmax(sizes[:, 1])), int(np.argmax(sizes[:, 2]))} - set(taken):
        take(heaviest)
    costs = fit_seconds(sizes[taken[1:] or taken], seconds[1:] or seconds)
    extra = max(seconds[0] - float(sizes[0] @ costs), 0.0)  # what the very first step pays for all
    return float((sizes @ costs).sum()) + extra, max(most, *peaks)


def _rehearse_evaluation(work: RunSteps, opened: Opened, frozen: _Frozen, budget: float) -> float:
    """Returns the seconds of one look at the validation rows."""
    from textune.engine import predict_logits

    split = work.validation
    if split is None:
        return 0.0
    lengths, padding = split.tokens.lengths, padding_of(work.backbone)

    def run(rows: int) -> float:
        chosen = _choose_rows(lengths, rows)
        some = replace(split, tokens=split.tokens.take(chosen), targets=split.targets[chosen])
        for part in np.array_split(np.arange(rows), max(rows // _FEW_ROWS, 1)):
            frozen.take(some.tokens, part)
        return _time(lambda: predict_logits(opened.engine, some, padding))[1]

    run(min(_FEW_ROWS, len(split)))
    rows, seconds = time_growing(run, len(split), budget)
    return seconds * float(lengths.sum() / lengths[_choose_rows(lengths, rows)].sum())


def _rehearse_checkpoint(opened: Opened, folder: Path) -> tuple[float, float]:
    """Returns seconds and megabytes of one checkpoint."""
    times = [_time(partial(opened.trainer.save, CheckpointState(step=n, plan="")))[1] for n in (1, 2)]
    return sum(times) / 2, _megabytes(folder / "checkpoints") / 2


def _save(work: RunSteps, opened: Opened, folder: Path) -> Manifest:
    opened.engine.release()
    thresholds = (0.5,) * len(work.data.labels) if work.data.task == MULTI else None
    return work.save(folder, opened, Calibration(1.0, thresholds))


def _rehearse_measuring(work: RunSteps, manifest: Manifest, folder: Path, per_row: float, budget: float) -> float:
    """Measures the saved run and its rivals on parts of the rows; returns the seconds on all of them."""
    whole = work.data
    rows = len(whole.evaluation[1])
    few = min(_FEW_ROWS, rows)
    many = min(rows, max(4 * few, int(budget / max(3 * per_row, 1e-4))))

    def run(count: int) -> float:
        work.data = _take_part(whole, count / rows)
        try:
            return _time(lambda: work.measure(folder, manifest, 0.0, resumed=False))[1]
        finally:
            work.data = whole

    first, small = run(few), run(few)
    large = run(many) if many > few else small
    return extrapolate(first, small, large, (few, many, rows))


def _take_part(data: PreparedData, share: float) -> PreparedData:
    """Returns a share of every split, with long and short texts as they stand in the whole."""

    def take(examples: Examples | None, fewest: int) -> Examples | None:
        if examples is None or share >= 1:
            return examples
        lengths = np.array([len(text) for text in examples.texts()])
        count = min(len(examples), max(fewest, round(share * len(examples))))
        return examples.take(_choose_rows(lengths, count))

    train = take(data.train, _FEW_ROWS)
    assert train is not None
    return replace(data, train=train, validation=take(data.validation, 2), test=take(data.test, 2))


def _choose_rows(lengths: NDArray[Any], count: int) -> NDArray[Any]:
    """Returns so many rows, evenly from the shortest to the longest, in their order."""
    order = np.argsort(lengths, kind="stable")
    return np.sort(order[((np.arange(count) + 0.5) * len(order) / count).astype(np.int64)])


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _forecast_folder(work: RunSteps, folder: Path) -> float:
    """Returns the megabytes of the finished folder: all but the answers is there already, and these grow with rows."""
    import pyarrow.parquet as pq

    answers = folder / "evaluation" / "predictions.parquet"
    own = answers.stat().st_size / 1e6
    grown = own * len(work.data.evaluation[1]) / max(pq.read_metadata(answers).num_rows, 1)
    return _megabytes(folder) - own + float(grown)


def _list_settings(work: RunSteps, opened: Opened) -> dict[str, Any]:
    training = work.config.training
    return {
        "rows": {"training": len(work.train), "validation": len(work.validation or ()),
                 work.data.evaluation[0]: len(work.data.evaluation[1])},
        "steps": opened.trainer.total_steps, "epochs": training.epochs, "batch_size": training.batch_size,
        "max_length": work.config.tokens.max_length, "learning_rate": training.learning_rate,
        "engine": opened.engine.name, "precision": opened.plan["precision"]["name"], "device": opened.plan["device"],
        "threads": opened.plan["threads"],
    }  # fmt: skip


def _note(work: RunSteps) -> Sequence[str]:
    if work.config.training.patience is not None:
        return ["patience= may end the training earlier"]
    return []
