"""One trial: the very training of `textune train`, without bundle, baselines and report, and with the test set shut."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from textune.bundle import PLAN, has_begun, lock_run
from textune.config import RunConfig, build_config
from textune.errors import BundleError, TextuneError
from textune.files import read_json, read_json_lines
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.run.fit import fit
from textune.run.prepare import Sample, Shared, prepare

T = TypeVar("T")
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


class Bench(Shared):
    """What the trials of one process share: backbones, prepared rows and tokens, solved heads and first scores.

    Weights are loaded anew for each trial: with the page cache warm that takes a twentieth of a second.
    """

    def __init__(self, frames: Mapping[str, Any] | None = None) -> None:
        super().__init__(frames)
        self._kept: dict[str, Any] = {}

    def keep(self, key: str, build: Callable[[], T]) -> T:
        """Return what was built under this key before, or build it."""
        if key not in self._kept:
            self._kept[key] = build()
        kept: T = self._kept[key]
        return kept


def run_job(job: Job, bench: Bench, notice: Notice) -> Outcome:
    """Train, or goes on with, one trial. Never raises what the settings are to blame for.

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
    prepared = prepare(config, Silent(), bench, Sample(fold, hold_test=True))
    training = prepared.config.training
    epochs = training.epochs or 1.0
    until = None if job.share >= 1 else max(round(job.share * epochs, 9), job.min_epochs)
    plan = read_json(place / PLAN, "the trial's plan") if has_begun(place) else None
    fitted = fit(prepared, place, _Notices(notice), plan, until_epoch=until, shared=bench)
    fitted.opened.engine.release()
    result = fitted.result
    scores = read_scores(place, result.best_step)
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
        result.best_step,
        result.seconds,
        not result.paused,
        0,
        _read_warnings(place, result.steps),
    )


def read_scores(place: Path, step: int) -> dict[str, float]:
    """Return the validation figures of the weights of a step."""
    log = read_json_lines(place / "metrics.jsonl")
    line = next(line for line in reversed(log) if line["kind"] == "evaluation" and line["step"] == step)
    return {k: float(line[k]) for k in ("accuracy", "macro_f1", "micro_f1", "loss")}


def _read_warnings(place: Path, step: int) -> tuple[str, ...]:
    """Return what the last evaluation warned of; what was said on the way may hold no more."""
    log = read_json_lines(place / "metrics.jsonl")
    return tuple(line["text"] for line in log if line["kind"] == "warning" and line["step"] == step)


def score_of(scores: Mapping[str, float], metric: str) -> float:
    """Return what trials are ranked by: the larger the better, the lower loss where figures tie."""
    loss = min(scores["loss"], 1e3)
    return -loss if metric == "loss" else scores[metric] - 1e-6 * loss


def _join(parts: list[Outcome]) -> Outcome:
    """Return the mean over folds, and the sum of their work."""
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


def drop_checkpoints(place: Path) -> None:
    """Remove the weights of a trial that is out of the race; its log and settings stay."""
    for folder in (place, *place.glob("fold-*")):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


class _Notices(Silent):
    """Keeps warnings and passes on how far a training is."""

    def __init__(self, notice: Notice) -> None:
        super().__init__()
        self._notice, self._done, self._total = notice, 0, 1

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[_Notices]:
        """Count anew."""
        self._done, self._total = 0, total
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Pass the count on."""
        self._done += steps
        self._notice(self._done, self._total)
