"""Between logits and answers: a temperature, thresholds, and what else decides on answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.data import find_copies
from textune.data.row_hashes import TRAINING_EXACT, TRAINING_NEAR
from textune.errors import DataError
from textune.evaluation.calibration import FEWEST_ROWS, describe_limit
from textune.evaluation.decisions import Decisions
from textune.progress import Progress
from textune.run.fit import Fitted, solve_head
from textune.run.out_of_fold import predict_out_of_fold
from textune.run.prepare import Prepared
from textune.run.row_hashes import find_seen_by_init
from textune.tasks import Task, find_decisions


@dataclass(frozen=True)
class Calibration:
    """temperature: logits are divided by it. thresholds: of each label, with several labels per text.

    decisions: as the manifest keeps them. seconds: of further trainings, where answers out of fold needed them.
    """

    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    decisions: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class HeldOut:
    """Logits float32 [rows, classes] and targets of rows that training did not see.

    source: what they are called. seconds: of the trainings that were needed for them. rows: int64, which of the split's
    rows they are; None for all. unknown: int64 [rows], labels of each row that the model does not know; None: it knows
    all.
    """

    logits: NDArray[np.float32]
    targets: NDArray[Any]
    source: str = ""
    seconds: float = 0.0
    rows: NDArray[np.int64] | None = None
    unknown: NDArray[np.int64] | None = None


def calibrate(prepared: Prepared, fitted: Fitted, folder: Path, progress: Progress) -> Calibration:
    """Fit the temperature, and thresholds for several labels per text, on rows that training did not see."""
    if prepared.task.writes:
        return Calibration()
    held_out = predict_held_out(prepared, fitted, folder, progress)
    found = fit_calibration(prepared.task, held_out, progress, prepared.data.labels.names)
    return replace(found, seconds=held_out.seconds)


def predict_held_out(prepared: Prepared, fitted: Fitted, folder: Path, progress: Progress) -> HeldOut:
    """Return the logits of validation rows; without them, those of training rows out of fold; or of no rows.

    Rows that were learned, by the run of init= or as copies among the training rows, are left out: answers to them say
    nothing about answers to new rows. Decisions that need many rows keep them, with a warning. folder: of the run, for
    what a stopped run says.
    """
    data, init = prepared.data, prepared.config.model.init
    rows = data.train if data.validation is None else data.validation
    learned = np.isin(find_seen_by_init(init, rows), (TRAINING_EXACT, TRAINING_NEAR))
    who = "the run of init=" if learned.any() else "training"
    if data.validation is not None:  # training rows out of fold are kept apart from their copies
        learned |= find_copies(data.train, rows) >= 0
    if not learned.any():
        return _predict_held_out(prepared, fitted, folder, progress)
    if _needs_rows(prepared.task):
        progress.warn(
            f"{who} has seen {learned.sum():,} of the {len(rows):,} rows that decisions are tuned on: "
            "they will look better than they are"
        )
        return _predict_held_out(prepared, fitted, folder, progress)
    fresh = int((~learned).sum())
    if fresh < FEWEST_ROWS:
        which = "all" if not fresh else f"all but {fresh:,} of the"
        progress.say(f"the probabilities are not calibrated: {who} has seen {which} rows held out")
        nothing = np.zeros((0, prepared.classes), np.float32)
        return HeldOut(nothing, nothing)
    found = _predict_held_out(prepared, fitted, folder, progress)
    if not len(found.logits):
        return found
    kept = ~learned if found.rows is None else ~learned[found.rows]
    source = f"{found.source} that {who} has not seen"
    unknown = None if found.unknown is None else found.unknown[kept]
    return replace(found, logits=found.logits[kept], targets=found.targets[kept], source=source, unknown=unknown)


def _predict_held_out(prepared: Prepared, fitted: Fitted, folder: Path, progress: Progress) -> HeldOut:
    from textune.engine import predict_logits
    from textune.training.head import MOST_ROWS_ALONE

    opened, validation, probe = fitted.opened, prepared.validation, fitted.head.probe
    if validation is not None:
        logits = predict_logits(opened.engine, validation, prepared.padding)
        examples = prepared.data.validation
        beyond = [] if examples is None else prepared.task.find_unknown(prepared.data.labels, examples)
        unknown = np.array([len(names) for names in beyond], np.int64) if len(beyond) == len(logits) else None
        return HeldOut(logits, validation.targets, "validation rows", unknown=unknown)
    if prepared.is_probe:
        if probe is None and opened.network.has_output_layer:  # resumed after the head was saved
            probe = solve_head(prepared, opened.network, MOST_ROWS_ALONE)
        if prepared.is_one_group:
            progress.say("the probabilities are not calibrated: all rows are of one group")
        elif probe is not None and len(probe.rows):
            targets = prepared.train.targets[probe.rows]
            return HeldOut(probe.out_of_fold, targets, "out-of-fold rows", rows=probe.rows)
        elif probe is not None:
            progress.say("the probabilities are not calibrated: no row could be held out from the head")
    if prepared.calibrates_out_of_fold:
        started_at = time.monotonic()
        try:
            logits, rows = predict_out_of_fold(prepared, folder, progress)
            seconds = time.monotonic() - started_at
            return HeldOut(logits, prepared.train.targets[rows], "out-of-fold rows", seconds, rows)
        except DataError as error:  # no half says anything of the other
            progress.say(f"the probabilities are not calibrated: {str(error).splitlines()[0]}")
    elif not prepared.is_probe:
        progress.say("the probabilities are not calibrated: no rows were held out (see validation_fraction=)")
    nothing = np.zeros((0, prepared.classes), np.float32)
    return HeldOut(nothing, nothing)


def _needs_rows(task: Task) -> bool:
    """Return whether a setting asks for what only held-out rows can tell; costs alone need probabilities only."""
    return replace(task.decisions, costs=None) not in (Decisions(), Decisions("costs"))


def fit_calibration(task: Task, held_out: HeldOut, progress: Progress, labels: Sequence[str] = ()) -> Calibration:
    """Fit the temperature by the log loss of the rows (Guo and others 2017, arXiv:1706.04599), then the decisions."""
    rows = len(held_out.logits)
    if not rows and task.gives_labels and _needs_rows(task):
        progress.warn("no rows were held out: the run has no thresholds, no confidence to abstain below and no sets")
    temperature = task.fit_temperature(held_out.logits, held_out.targets) if rows else 1.0
    where = f"{rows:,} {held_out.source}"
    if temperature != 1.0:
        progress.say(f"temperature: {temperature:.2f} (fitted on {where})")
    if limit := describe_limit(temperature):
        progress.say(limit)
    if not task.gives_labels:
        return Calibration(temperature, task.thresholds)
    probabilities = task.probabilities(held_out.logits / temperature)
    tuned = task.tune(lambda: probabilities, held_out.targets)
    if tuned.thresholds is not None:
        tuned_on = f"tuned on {where}" if rows else "there are no held-out rows to tune them on"
        how = tuned_on if task.tunes else "as set"
        progress.say(f"thresholds: {min(tuned.thresholds):.2f} to {max(tuned.thresholds):.2f} ({how})")
    elif tuned.decisions.cutoff is not None:
        name = labels[tuned.decisions.label or 0]
        progress.say(
            f"threshold of '{name}': {tuned.decisions.cutoff:.2f} (tuned for {task.decisions.rule} on {where})"
        )
    found = find_decisions(tuned, probabilities, held_out.targets, held_out.unknown)
    for note in found.notes:
        progress.say(note)
    for warning in (*tuned.describe_tuning(probabilities, held_out.targets, labels), *found.warnings):
        progress.warn(warning)
    decisions = {} if found.decisions == Decisions() else found.decisions.to_dict()
    return Calibration(temperature, tuned.thresholds, decisions)
