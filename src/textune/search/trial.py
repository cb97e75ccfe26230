"""One trial: the very training of `textune train`, without bundle, baselines and report, and with the test set shut."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.backbones import Backbone
from textune.bundle import PLAN, has_begun, lock_run
from textune.config import RunConfig, build_config
from textune.data import split_folds
from textune.errors import BundleError, TextuneError
from textune.files import read_json, read_json_lines
from textune.methods import resolve
from textune.process.interrupt import RunInterrupted
from textune.progress import Progress, Silent
from textune.run.steps import RunSteps
from textune.run.tables import PreparedData, prepare_data
from textune.tokens.batches import EncodedSplit

if TYPE_CHECKING:
    from textune.engine import Engine
    from textune.training.probe import Probe
    from textune.training.trainer import Trainer

Notice = Callable[[int, int], None]
"""Is told the steps taken and all steps of the training in hand."""

DONE, FAILED, INTERRUPTED, STOPPED, DIED = "done", "failed", "interrupted", "stopped", "died"


@dataclass(frozen=True)
class Job:
    """Train trial `number` up to a share of its epochs. settings: flat. metric: None: the run's own.

    folder: of the whole search. folds: 0: the validation rows. min_epochs: fewer are never trained.
    """

    number: int
    settings: Mapping[str, Any]
    folder: str
    share: float = 1.0
    min_epochs: float = 0.0
    folds: int = 0
    metric: str | None = None

    @property
    def place(self) -> Path:
        """The trial's own folder."""
        return Path(self.folder) / "trials" / f"{self.number:04d}"


@dataclass(frozen=True)
class Outcome:
    """What became of a job, as JSON can tell it.

    kind: "done"; "failed" (the settings' fault); "stopped" (no trial can go on); "interrupted"; "died" (its process).
    score: larger is better; ties of the figure are broken by the loss. scores: of the validation rows.
    steps of total_steps are trained now, over all folds. best_step: whose weights the trial keeps.
    """

    kind: str
    reason: str = ""
    score: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    epochs: float = 0.0
    steps: int = 0
    total_steps: int = 0
    best_step: int = 0
    seconds: float = 0.0
    finished: bool = False
    exit_code: int = 1
    warnings: tuple[str, ...] = ()


class Bench:
    """What the trials of one process share: backbones, prepared rows and tokens. frames: data frames, from Python.

    Weights are loaded anew for each trial: with the page cache warm that takes a twentieth of a second.
    """

    def __init__(self, frames: Mapping[str, Any] | None = None) -> None:
        self.frames = dict(frames or {})
        self._kept: dict[str, Any] = {}

    def keep(self, what: str, build: Callable[[], Any]) -> Any:
        """Returns what was built under this key before, or builds it."""
        if what not in self._kept:
            self._kept[what] = build()
        return self._kept[what]


class TrialSteps(RunSteps):
    """The steps of a run whose rows never include the test. fold: (which, of how many)."""

    def __init__(
        self, config: RunConfig, progress: Progress, bench: Bench, fold: tuple[int, int] | None = None
    ) -> None:
        method = resolve(config.method.name, config.method.options)
        super().__init__(config, method, progress, bench.frames)
        self._bench, self._fold = bench, fold

    def _find_backbone(self) -> Backbone:
        model = self.config.model
        found: Backbone = self._bench.keep(f"backbone {model.backbone} {model.trust}", super()._find_backbone)
        return found

    def _read_data(self) -> PreparedData:
        config = self.config

        def read() -> PreparedData:
            return prepare_data(config, self.frames, hold_test=True, pool=self._fold is not None)

        key = f"data {vars(config.data)} {config.training.seed} {self._fold is not None}"
        data: PreparedData = self._bench.keep(key, read)
        if self._fold is None:
            return data
        fold = self._fold
        held: PreparedData = self._bench.keep(f"{key} fold {fold}", lambda: _take_fold(data, config, *fold))
        return held

    def cut_fold(self) -> PreparedData:
        """Returns the rows with this fold of them as validation rows; raises DataError where they do not suffice."""
        return self._read_data()

    def _look_first(self, trainer: Trainer) -> Mapping[str, float]:
        """Trials that begin with the same weights on the same rows begin with the same scores: one look does."""
        look = super()._look_first
        scores: Mapping[str, float] = self._bench.keep(f"first look {self._describe_start()}", lambda: look(trainer))
        return scores

    def solve_probe(self, engine: Engine, most_rows: int) -> Probe:
        """Trials that begin with the same weights on the same rows have the same solved head."""
        solve = super().solve_probe
        probe: Probe = self._bench.keep(f"probe {self._describe_start()}", lambda: solve(engine, most_rows))
        return probe

    def _describe_start(self) -> tuple[Any, ...]:
        """Returns all that the weights before the first step depend on."""
        config, training = self.config, self.config.training
        return (*map(vars, (config.method, config.model, config.tokens)), training.seed, training.precision,
                training.label_smoothing, training.threshold, training.class_weights, training.head_init,
                training.contrast_steps, training.contrast_steps and training.learning_rate,
                self._fingerprints())  # fmt: skip

    def _fingerprints(self) -> list[str | None]:
        splits = (self.data.train, self.data.validation)
        return [None if split is None else split.fingerprint for split in splits]

    def _tokenise(self) -> None:
        super_tokenise = super()._tokenise
        key = f"tokens {self._fingerprints()} {self.backbone.folder} {self.config.tokens.max_length} "

        def tokenise() -> tuple[Any, EncodedSplit, EncodedSplit | None]:
            super_tokenise()
            return self.tokenizer, self.train, self.validation

        self.tokenizer, self.train, self.validation = self._bench.keep(f"{key} {self.long_text}", tokenise)


def _take_fold(data: PreparedData, config: RunConfig, which: int, folds: int) -> PreparedData:
    """Returns the rows with one fold of them as validation rows, and all others to train on."""
    fold_of = split_folds(data.train, folds, config.split_seed, grouped=config.data.group is not None)
    train, validation = (
        data.train.take((fold_of != which).nonzero()[0]),
        data.train.take((fold_of == which).nonzero()[0]),
    )
    return replace(data, train=train, validation=validation, warnings=(), notes=())


def run_job(job: Job, bench: Bench, notice: Notice) -> Outcome:
    """Trains, or goes on with, one trial. Never raises what the settings are to blame for.

    Raises RunInterrupted after Ctrl-C or SIGTERM, when a checkpoint is written.
    """
    try:
        config = build_config(job.settings)
        job.place.mkdir(parents=True, exist_ok=True)
        parts = [(i, job.folds) for i in range(job.folds)] if job.folds else [None]
        with lock_run(job.place):
            outcomes = [_train_part(job, config, bench, fold, notice) for fold in parts]
        failed = [outcome for outcome in outcomes if outcome.kind == FAILED]
    except (RunInterrupted, BundleError):
        raise
    except TextuneError as error:
        return Outcome(FAILED, str(error).replace("\n  ", "; "))
    except OSError as error:  # the machine's fault, not the settings': another trial would meet it, too
        raise BundleError(f"{job.place}: {error}") from error
    except Exception as error:  # whatever else a library raises at these settings
        return Outcome(FAILED, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return failed[0] if failed else outcomes[0] if len(outcomes) == 1 else _join(outcomes)


def _train_part(job: Job, config: RunConfig, bench: Bench, fold: tuple[int, int] | None, notice: Notice) -> Outcome:
    place = job.place if fold is None else job.place / f"fold-{fold[0]}"
    place.mkdir(exist_ok=True)
    steps = TrialSteps(config, Silent(), bench, fold)
    steps.prepare()
    steps.progress = _Notices(notice)
    epochs = steps.config.training.epochs or 1.0
    until = None if job.share >= 1 else max(round(job.share * epochs, 9), job.min_epochs)
    plan = read_json(place / PLAN, "the trial's plan") if has_begun(place) else None
    opened, result = steps.run_training(place, plan, until_epoch=until)
    opened.engine.release()
    scores = read_scores(place, result.best_step)
    if not math.isfinite(scores["loss"]):
        return Outcome(FAILED, f"the validation loss became {scores['loss']}")
    epochs = result.steps / (result.total_steps / epochs) if result.total_steps else 0.0
    return Outcome(
        DONE, "", score_of(scores, job.metric or steps.config.training.metric or "accuracy"), scores,
        epochs, result.steps, result.total_steps, result.best_step, result.seconds,
        not result.paused, 0, _read_warnings(place, result.steps),
    )  # fmt: skip


def read_scores(place: Path, step: int) -> dict[str, float]:
    """Returns the validation figures of the weights of a step."""
    log = read_json_lines(place / "metrics.jsonl")
    line = next(line for line in reversed(log) if line["kind"] == "evaluation" and line["step"] == step)
    return {k: float(line[k]) for k in ("accuracy", "macro_f1", "micro_f1", "loss")}


def _read_warnings(place: Path, step: int) -> tuple[str, ...]:
    """Returns what the last evaluation warned of; what was said on the way may hold no more."""
    log = read_json_lines(place / "metrics.jsonl")
    return tuple(line["text"] for line in log if line["kind"] == "warning" and line["step"] == step)


def score_of(scores: Mapping[str, float], metric: str) -> float:
    """Returns what trials are ranked by: the larger the better, the lower loss where figures tie."""
    loss = min(scores["loss"], 1e3)
    return -loss if metric == "loss" else scores[metric] - 1e-6 * loss


def _join(parts: list[Outcome]) -> Outcome:
    """Returns the mean over folds, and the sum of their work."""
    count = len(parts)
    scores = {k: sum(p.scores[k] for p in parts) / count for k in parts[0].scores}
    return replace(
        parts[0], score=sum(p.score for p in parts) / count, scores=scores, epochs=sum(p.epochs for p in parts) / count,
        steps=sum(p.steps for p in parts), total_steps=sum(p.total_steps for p in parts),
        seconds=sum(p.seconds for p in parts), finished=all(p.finished for p in parts),
        warnings=tuple(dict.fromkeys(w for p in parts for w in p.warnings)),
    )  # fmt: skip


def drop_checkpoints(place: Path) -> None:
    """Removes the weights of a trial that is out of the race; its log and settings stay."""
    for folder in (place, *place.glob("fold-*")):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


class _Notices(Silent):
    """Keeps warnings and passes on how far a training is."""

    def __init__(self, notice: Notice) -> None:
        super().__init__()
        self._notice, self._done, self._total = notice, 0, 1

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[_Notices]:
        """Counts anew."""
        self._done, self._total = 0, total
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Passes the count on."""
        self._done += steps
        self._notice(self._done, self._total)
