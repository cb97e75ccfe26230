"""Between logits and answers: a temperature, thresholds, and what else decides on answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.data.row_hashes import UNSEEN
from textune.errors import DataError
from textune.evaluation.calibration import describe_limit
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
    rows they are; None for all.
    """

    logits: NDArray[np.float32]
    targets: NDArray[Any]
    source: str = ""
    seconds: float = 0.0
    rows: NDArray[np.int64] | None = None


def calibrate(prepared: Prepared, fitted: Fitted, folder: Path, progress: Progress) -> Calibration:
    """Fit the temperature, and thresholds for several labels per text, on rows that training did not see."""
    if prepared.task.writes:
        return Calibration()
    held_out = predict_held_out(prepared, fitted, folder, progress)
    found = fit_calibration(prepared.task, held_out, progress, prepared.data.labels.names)
    return replace(found, seconds=held_out.seconds)


def predict_held_out(prepared: Prepared, fitted: Fitted, folder: Path, progress: Progress) -> HeldOut:
    """Return the logits of validation rows; without them, those of training rows out of fold; or of no rows.

    Rows that the run of init= has seen are left out, since answers to them say nothing about answers to new rows.
    Decisions that need many rows keep them, with a warning. folder: of the run, for what a stopped run says.
    """
    data, init = prepared.data, prepared.config.model.init
    unseen = find_seen_by_init(init, data.train if data.validation is None else data.validation) == UNSEEN
    if unseen.all():
        return _predict_held_out(prepared, fitted, folder, progress)
    if _needs_rows(prepared.task):
        progress.warn(
            f"the run of init= has seen {(~unseen).sum():,} of the {len(unseen):,} rows that decisions are tuned on: "
            "they will look better than they are"
        )
        return _predict_held_out(prepared, fitted, folder, progress)
    if not unseen.any():
        progress.say("the probabilities are not calibrated: the run of init= has seen all rows held out")
        nothing = np.zeros((0, prepared.classes), np.float32)
        return HeldOut(nothing, nothing)
    found = _predict_held_out(prepared, fitted, folder, progress)
    if not len(found.logits):
        return found
    kept = unseen if found.rows is None else unseen[found.rows]
    source = f"{found.source} that the run of init= has not seen"
    return replace(found, logits=found.logits[kept], targets=found.targets[kept], source=source)


def _predict_held_out(prepared: Prepared, fitted: Fitted, folder: Path, progress: Progress) -> HeldOut:
    from textune.engine import predict_logits
    from textune.training.head import MOST_ROWS_ALONE

    opened, validation, probe = fitted.opened, prepared.validation, fitted.head.probe
    if validation is not None:
        logits = predict_logits(opened.engine, validation, prepared.padding)
        return HeldOut(logits, validation.targets, "validation rows")
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
    found = find_decisions(tuned, probabilities, held_out.targets)
    for note in found.notes:
        progress.say(note)
    for warning in (*tuned.describe_tuning(probabilities, held_out.targets, labels), *found.warnings):
        progress.warn(warning)
    decisions = {} if found.decisions == Decisions() else found.decisions.to_dict()
    return Calibration(temperature, tuned.thresholds, decisions)
