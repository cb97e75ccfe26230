"""Rehearsal: every step of `textune train` on few rows, timed and discarded.

It does the real work instead of modeling it: it loads the backbone, trains on batches of the run with its engine and
optimizer, writes a checkpoint and the bundle, checks the reload, and measures the baselines on some rows. Only what
grows with the rows is extrapolated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from textune.bundle import Manifest
from textune.config import RunConfig
from textune.plan.forecast import (
    Forecast,
    choose_spread,
    count_evaluations,
    extrapolate_growth,
    fit_seconds,
    measure_sizes,
    spread,
    time_growing,
)
from textune.plan.head import list_halves, rehearse_head
from textune.plan.load import describe_load, measure_load, read_times
from textune.plan.measuring import Measuring
from textune.progress import Progress
from textune.run.calibrate import Calibration
from textune.run.costs import peak_memory_mb
from textune.run.fit import Fitted, Opened, SolvedHead, build_trainer, open_training
from textune.run.held_out import FOLDS
from textune.run.prepare import Prepared, prepare
from textune.run.save import save
from textune.run.start import adopt_init
from textune.training.checkpoint import CheckpointState

if TYPE_CHECKING:
    from textune.tokens import Tokenized
    from textune.training.trainer import Trainer

_FEWEST_STEPS, _MOST_STEPS = 3, 64
_MB_OF_LOG_LINE = 155e-6
_SHARES = {"steps": 0.45, "evaluation": 0.15, "measure": 0.35, "frozen": 0.15, "head": 0.1}
"""Shares of the rehearsal's budget, which excludes starting, loading and saving."""
_FEWEST_ROWS, _FEW_ROWS = 8, 48
"""What the first parts of a job have: long texts take long enough with fewer."""
_SECONDS_PER_ROW = 0.02  # a guess, used if there are no validation rows to time
_SECONDS_BETWEEN_CHECKPOINTS = 120.0
T = TypeVar("T")


def rehearse(config: RunConfig, folder: Path, seconds: float, launched: float, progress: Progress) -> Forecast:
    """Return the forecast of a run. folder: an empty folder for the rehearsal. launched: `time.time()` at the start.

    Raises what the run would raise before training: ConfigError, DataError, ModelError.
    """
    parts, before = {"start": time.time() - launched}, read_times()
    prepared, parts["prepare"] = _time(lambda: prepare(adopt_init(config), progress))
    rehearsal, parts["load"] = _time(lambda: _open(prepared, folder, progress))
    trainer, every, frozen = rehearsal.trainer, rehearsal.trainer.eval_every, rehearsal.frozen
    each, per_row = _rehearse_evaluation(rehearsal, _SHARES["evaluation"] * seconds)
    spent, training_mb = _rehearse_steps(rehearsal, _SHARES["steps"] * seconds)
    head = rehearse_head(prepared, rehearsal.opened, frozen.compute, _SHARES["head"] * seconds)
    parts |= {"head": head.seconds, "frozen": frozen.forecast(_SHARES["frozen"] * seconds), "steps": spent}
    evaluations = max(count_evaluations(trainer.total_steps, every), 1)
    tuning = prepared.task.tunes
    parts["load"] += each  # the evaluation before the first step does not count as training time
    parts["evaluations"] = each * (evaluations + tuning)
    saves = _count_saves(
        trainer.total_steps,
        every,
        config.training.checkpoint_every_steps,
        evaluations,
        parts["steps"] / evaluations + each,
    )
    if list_halves(prepared):
        parts["calibration"] = head.calibration + (FOLDS - 1) * (parts["frozen"] + parts["steps"])
    checkpoint_seconds, checkpoint_mb = _rehearse_checkpoint(trainer, folder)
    parts["checkpoints"] = saves * checkpoint_seconds
    manifest, parts["save"] = _time(partial(_save, rehearsal, folder, progress))
    bundle_mb = _megabytes(folder) - 2 * checkpoint_mb
    settings = _list_settings(rehearsal)
    steps = trainer.total_steps
    del rehearsal, trainer, frozen  # a run also frees what it trained before it measures
    measure = Measuring(prepared, head.solved, folder, manifest, progress)
    parts["measure"] = measure.forecast(per_row, _SHARES["measure"] * seconds)
    load = measure_load(before, read_times())
    # Two checkpoints exist while the next one, or the bundle, is written.
    disk_mb = _forecast_folder(prepared, folder) + steps * _MB_OF_LOG_LINE
    peak_disk_mb = max(min(saves, 3) * checkpoint_mb, min(saves, 2) * checkpoint_mb + bundle_mb)
    return Forecast(
        method=prepared.method.key,
        backbone=prepared.backbone.id,
        seconds=parts,
        peak_memory_mb=max(peak_memory_mb(), training_mb),
        disk_mb=disk_mb,
        disk_while_training_mb=max(peak_disk_mb, disk_mb),
        trainable_parameters=manifest.trainable_parameters,
        total_parameters=manifest.total_parameters,
        settings=settings,
        notes=tuple(_list_notes(prepared, load)),
        load=load,
        rehearsed_seconds=time.time() - launched,
    )


def _count_saves(steps: int, eval_every: int, save_every: int | None, evaluations: int, seconds: float) -> int:
    """Return how many checkpoints are written, at evaluations and between them. seconds: between evaluations."""
    if save_every is None:
        return evaluations * (1 + int(seconds // _SECONDS_BETWEEN_CHECKPOINTS))
    return len({*range(eval_every, steps + 1, eval_every), *range(save_every, steps + 1, save_every), steps})


def _time(work: Callable[[], T]) -> tuple[T, float]:
    started_at = time.perf_counter()
    return work(), time.perf_counter() - started_at


@dataclass(frozen=True)
class _Rehearsal:
    """A run before training, without computed frozen layers or a solved head."""

    prepared: Prepared
    opened: Opened
    trainer: Trainer
    frozen: _Frozen


def _open(prepared: Prepared, folder: Path, progress: Progress) -> _Rehearsal:
    opened = open_training(prepared, folder, progress)
    trainer = build_trainer(prepared, opened, folder, progress)
    return _Rehearsal(prepared, opened, trainer, _Frozen(prepared, opened))


class _Frozen:
    """States of frozen layers, computed for the rehearsed rows and timed separately."""

    def __init__(self, prepared: Prepared, opened: Opened) -> None:
        self._engine: Any = opened.engine
        self._layers = int(opened.plan["engine"]["prefix_layers"])
        self._padding = prepared.padding
        self._splits = [split.tokens for split in (prepared.train, prepared.validation) if split is not None]
        self._prefix: Any = None

    def compute(self, tokens: Tokenized, rows: NDArray[Any]) -> None:
        """Compute the states of some rows of a split and let the engine use them."""
        if not self._layers:
            return
        from textune.engine.prefix_cache import fill_prefix, start_prefix

        if self._prefix is None or self._prefix.tokens is not tokens:
            self._prefix = start_prefix(self._engine, tokens, self._layers)
            self._engine.keep(self._prefix)
        fill_prefix(self._prefix, self._engine, rows, self._padding)

    def forecast(self, budget: float) -> float:
        """Return the seconds for all training and validation rows, in a run's batches.

        States in the user's cache cost nothing. budget: seconds for measuring it.
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
            seconds = computed = 0.0
            for number in spread(len(batches)):
                seconds += _time(partial(self.compute, tokens, batches[number]))[1]
                computed += sizes[number]
                if seconds > budget / len(self._splits):
                    break
            total += seconds * sum(sizes) / max(computed, 1)
        return total


def _rehearse_steps(rehearsal: _Rehearsal, budget: float) -> tuple[float, float]:
    """Take the run's first steps while the budget lasts, then its heaviest ones.

    Returns the seconds of all planned steps, and the predicted memory peak of the process in megabytes.
    """
    trainer, tokens, frozen = rehearsal.trainer, rehearsal.prepared.train.tokens, rehearsal.frozen
    planned = [rows for _, rows in trainer.remaining_steps(CheckpointState(step=0, plan=""))]
    if not planned:  # only the head is trained, and it is solved
        return 0.0, peak_memory_mb()
    sizes = measure_sizes(tokens.lengths, tokens.longest_windows, planned)
    rehearsal.opened.engine.train()
    taken: list[int] = []
    seconds: list[float] = []
    computing: list[float] = []
    peaks: list[float] = []

    def take(number: int) -> None:
        taken.append(number)
        computing.append(_time(lambda: frozen.compute(tokens, planned[number]))[1])
        seconds.append(_time(lambda: trainer.take_step(1, planned[number], first=number == 0))[1])
        peaks.append(peak_memory_mb())

    # In the run's order, since memory fragmentation depends on it.
    for number in range(min(len(planned), _MOST_STEPS)):
        if number >= _FEWEST_STEPS and sum(seconds) + sum(computing) > budget:
            break
        take(number)
    # Extrapolated before the heaviest steps, which the growth already includes.
    predicted_peak = peaks[-1] + extrapolate_growth(peaks, len(planned))
    for heaviest in {int(np.argmax(sizes[:, 1])), int(np.argmax(sizes[:, 2]))} - set(taken):
        take(heaviest)
    costs = fit_seconds(sizes[taken[1:] or taken], seconds[1:] or seconds)
    one_time = max(seconds[0] - float(sizes[0] @ costs), 0.0)  # paid by the first step only
    return float((sizes @ costs).sum()) + one_time, max(predicted_peak, *peaks)


def _rehearse_evaluation(rehearsal: _Rehearsal, budget: float) -> tuple[float, float]:
    """Return the seconds of one evaluation on the validation rows, and those of a row without kept states."""
    from textune.engine import predict_logits

    split, frozen = rehearsal.prepared.validation, rehearsal.frozen
    if split is None:
        return 0.0, _SECONDS_PER_ROW
    evaluating: list[float] = []
    lengths, padding = split.tokens.lengths, rehearsal.prepared.padding

    def run(rows: int) -> float:
        sample = choose_spread(lengths, rows)
        part = replace(split, tokens=split.tokens.take(sample), targets=split.targets[sample])
        started_at = time.perf_counter()
        for some in np.array_split(np.arange(rows), max(rows // _FEW_ROWS, 1)):
            frozen.compute(part.tokens, some)
        work = partial(predict_logits, rehearsal.opened.engine, part, padding, rehearsal.prepared.task)
        evaluating.append(_time(work)[1])
        return time.perf_counter() - started_at

    run(min(_FEWEST_ROWS, len(split)))
    rows, seconds = time_growing(run, len(split), budget, begin=_FEWEST_ROWS)[-1]
    whole = float(lengths.sum() / lengths[choose_spread(lengths, rows)].sum())
    return evaluating[-1] * whole, seconds * whole / len(split)


def _rehearse_checkpoint(trainer: Trainer, folder: Path) -> tuple[float, float]:
    """Return the seconds and megabytes of one checkpoint."""
    times = [_time(partial(trainer.save, CheckpointState(step=n, plan="")))[1] for n in (1, 2)]
    return sum(times) / 2, _megabytes(folder / "checkpoints") / 2


def _save(rehearsal: _Rehearsal, folder: Path, progress: Progress) -> Manifest:
    prepared, trainer = rehearsal.prepared, rehearsal.trainer
    from textune.training.trainer import TrainingResult

    untrained = TrainingResult(0, 0, None, 0.0, False, trainer.total_steps)
    fitted = Fitted(rehearsal.opened, SolvedHead(), untrained, 0.0)
    return save(
        prepared, fitted, folder, progress, Calibration(1.0, prepared.task.untuned(prepared.classes).thresholds)
    )


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _forecast_folder(prepared: Prepared, folder: Path) -> float:
    """Return the megabytes of the finished folder, in which only the predictions grow with the rows."""
    import pyarrow.parquet as pq

    predictions = folder / "evaluation" / "predictions.parquet"
    partial_mb = predictions.stat().st_size / 1e6
    whole_mb = partial_mb * len(prepared.data.evaluation[1]) / max(pq.read_metadata(predictions).num_rows, 1)
    return _megabytes(folder) - partial_mb + float(whole_mb)


def _list_settings(rehearsal: _Rehearsal) -> dict[str, Any]:
    prepared, plan = rehearsal.prepared, rehearsal.opened.plan
    training, (split, examples) = prepared.config.training, prepared.data.evaluation
    return {
        "rows": {
            "training": len(prepared.train),
            "validation": len(prepared.validation or ()),
            split: len(examples),
        },
        "steps": rehearsal.trainer.total_steps,
        "epochs": training.epochs,
        "batch_size": training.batch_size,
        "max_length": prepared.config.tokens.max_length,
        "learning_rate": training.learning_rate,
        "engine": rehearsal.opened.engine.name,
        "precision": plan["precision"]["name"],
        "device": plan["device"],
        "threads": plan["threads"],
    }


def _list_notes(prepared: Prepared, load: Mapping[str, float] | None) -> list[str]:
    early = None if prepared.config.training.patience is None else "patience= may stop the training early"
    return [note for note in (describe_load(load), early) if note]
