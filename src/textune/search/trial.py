"""One trial: the training of `textune train` without bundle, baselines, report or test rows."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from textune.bundle import has_begun, lock_run, read_plan
from textune.config import RunConfig, build_config
from textune.errors import BundleError, DataError, ModelError, TextuneError
from textune.evaluation.text import BITS_PER_BYTE, LOSSES
from textune.files import read_json_lines
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.run.fit import fit
from textune.run.places import refuse_missing
from textune.run.prepare import Sample, Shared, prepare
from textune.search.bits import describe_cut_answers, measure_bits

T = TypeVar("T")
Notice = Callable[[int, int], None]
"""Called with the steps taken and the total steps of the current training."""

_SCORES = ("accuracy", "macro_f1", "micro_f1", "loss", "perplexity")
"""Of classifiers, and of models that write."""
DONE, FAILED, INTERRUPTED, STOPPED, DIED = "done", "failed", "interrupted", "stopped", "died"


@dataclass(frozen=True)
class Job:
    """Train trial `number` up to a share of its epochs. settings: flat. metric: None: the run's.

    folder: of the whole search. folds: 0: use the validation rows. min_epochs: train at least this long.
    """

    number: int
    settings: Mapping[str, Any]
    folder: str
    share: float = 1.0
    min_epochs: float = 0.0
    folds: int = 0
    metric: str | None = None

    @property
    def trial_folder(self) -> Path:
        """The trial's folder."""
        return Path(self.folder) / "trials" / f"{self.number:04d}"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job, as plain data.

    kind: "done"; "failed" (because of the settings); "stopped" (no trial can continue); "interrupted"; "died" (the
    process). score: larger is better; the loss breaks ties of the metric. scores: on the validation rows.
    steps, total_steps: trained so far and planned, over all folds. best_step: whose weights are scored.
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


class Bench(Shared):
    """Shared by the trials of one process: backbones, prepared rows and tokens, solved heads and first scores.

    Weights are reloaded for each trial, which takes 0.05 seconds with a warm page cache.
    """

    def __init__(self, frames: Mapping[str, Any] | None = None) -> None:
        super().__init__(frames)
        self._cached: dict[str, Any] = {}

    def keep(self, key: str, build: Callable[[], T]) -> T:
        """Return the cached value of this key, building it first if necessary."""
        if key not in self._cached:
            self._cached[key] = build()
        cached: T = self._cached[key]
        return cached


def run_job(job: Job, bench: Bench, notice: Notice) -> Outcome:
    """Train or resume one trial. Errors caused by its settings become a failed outcome.

    Raises RunInterrupted after Ctrl-C or SIGTERM, once a checkpoint is saved.
    """
    try:
        config = build_config(job.settings)
        job.trial_folder.mkdir(parents=True, exist_ok=True)
        folds = [(i, job.folds) for i in range(job.folds)] if job.folds else [None]
        with lock_run(job.trial_folder):
            outcomes = []
            for fold in folds:
                outcomes.append(_train_fold(job, config, bench, fold, notice))
                if outcomes[-1].kind == FAILED:
                    return outcomes[-1]
    except (RunInterrupted, BundleError):
        raise
    except TextuneError as error:
        if isinstance(error, DataError | ModelError):  # of a file that is gone no trial is to blame, and none can go on
            refuse_missing(build_config(job.settings), Path(job.folder), bench.frames)
        return Outcome(FAILED, str(error).replace("\n  ", "; "))
    except OSError as error:  # not caused by the settings, so other trials would fail too
        raise BundleError(f"{job.trial_folder}: {error}") from error
    except Exception as error:  # a library's error caused by these settings
        return Outcome(FAILED, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return outcomes[0] if len(outcomes) == 1 else _join(outcomes)


def _train_fold(job: Job, config: RunConfig, bench: Bench, fold: tuple[int, int] | None, notice: Notice) -> Outcome:
    folder = job.trial_folder if fold is None else job.trial_folder / f"fold-{fold[0]}"
    folder.mkdir(exist_ok=True)
    prepared = prepare(config, Silent(), bench, Sample(fold, hold_test=True))
    training = prepared.config.training
    epochs = training.epochs or 1.0
    until_epoch = None if job.share >= 1 else max(round(job.share * epochs, 9), job.min_epochs)
    plan = read_plan(folder) if has_begun(folder) else None
    fitted = fit(prepared, folder, _Notices(notice), plan, until_epoch=until_epoch, shared=bench)
    fitted.opened.engine.release()
    result = fitted.result
    # Without validation rows the winner will keep its last step, so that is what a fold must score.
    kept = result.steps if fold is not None and not prepared.data.validation_fraction else result.best_step
    scores = read_scores(folder, kept)
    warnings = _read_warnings(folder, result.steps)
    if prepared.dialogues is not None and prepared.validation is not None and prepared.data.validation is not None:
        scores |= {BITS_PER_BYTE: measure_bits(scores["loss"], prepared.validation.tokens, prepared.dialogues)}
        warnings += describe_cut_answers(prepared.data.validation, prepared.validation.tokens, prepared.dialogues)
    if not math.isfinite(scores["loss"]):
        return Outcome(FAILED, f"the validation loss became {scores['loss']}")
    epochs = result.steps / (result.total_steps / epochs) if result.total_steps else 0.0
    return Outcome(
        DONE,
        "",
        score_of(scores, job.metric or training.metric or "accuracy"),
        scores,
        epochs,
        result.steps,
        result.total_steps,
        kept,
        result.seconds,
        not result.paused,
        0,
        warnings,
    )


def read_scores(folder: Path, step: int) -> dict[str, float]:
    """Return the validation scores of a step's weights."""
    log = read_json_lines(folder / "metrics.jsonl")
    line = next(line for line in reversed(log) if line["kind"] == "evaluation" and line["step"] == step)
    return {name: float(line[name]) for name in _SCORES if name in line}


def _read_warnings(folder: Path, step: int) -> tuple[str, ...]:
    """Return the warnings of the last evaluation; earlier ones may no longer apply."""
    log = read_json_lines(folder / "metrics.jsonl")
    return tuple(line["text"] for line in log if line["kind"] == "warning" and line["step"] == step)


def score_of(scores: Mapping[str, float], metric: str) -> float:
    """Return the score that ranks trials, larger is better; the lower loss breaks ties."""
    loss = min(scores["loss"], 1e3)
    return -min(scores[metric], 1e3) if metric in LOSSES else scores[metric] - 1e-6 * loss


def _join(parts: list[Outcome]) -> Outcome:
    """Return the mean scores over folds, the sum of their steps and seconds, and the epochs of one fold."""
    count = len(parts)
    scores = {k: sum(p.scores[k] for p in parts) / count for k in parts[0].scores}
    return replace(
        parts[0],
        score=sum(p.score for p in parts) / count,
        scores=scores,
        epochs=sum(p.epochs for p in parts) / count,
        steps=sum(p.steps for p in parts),
        total_steps=sum(p.total_steps for p in parts),
        seconds=sum(p.seconds for p in parts),
        finished=all(p.finished for p in parts),
        warnings=tuple(dict.fromkeys(w for p in parts for w in p.warnings)),
    )


def drop_checkpoints(trial_folder: Path) -> None:
    """Remove the weights of a trial that is no longer needed; its log and settings stay."""
    for folder in (trial_folder, *trial_folder.glob("fold-*")):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


class _Notices(Silent):
    """Passes on the steps of a training and prints nothing."""

    def __init__(self, notice: Notice) -> None:
        super().__init__()
        self._notice, self._done, self._total = notice, 0, 1

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[_Notices]:
        """Start a new count."""
        self._done, self._total = 0, total
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Pass on the new count."""
        self._done += steps
        self._notice(self._done, self._total)
