"""Answers for training rows by models that did not see them, where few rows leave none for validation."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textune.data import split_folds
from textune.errors import DataError, show_resume
from textune.process.interrupt import RunInterrupted, StopRequest
from textune.progress import Progress, Silent
from textune.run.fit import fit
from textune.run.prepare import Prepared

FOLDS = 2
"""Each model learns from one half of the rows: together they take as many steps as the run's own training, but all
contrastive steps each."""


def assign_folds(prepared: Prepared) -> NDArray[np.int64]:
    """Return the fold of each training row: int64 [rows].

    Raises DataError where all rows are of one group, or where groups leave a half without a class of the other.
    """
    config, targets = prepared.config, prepared.train.targets
    grouped = config.data.group is not None
    fold_of = split_folds(prepared.data.train, FOLDS, config.split_seed, grouped=grouped)
    for fold in range(FOLDS if grouped and targets.ndim == 1 else 0):
        if missing := set(targets[fold_of == fold]) - set(targets[fold_of != fold]):
            name = prepared.data.labels.names[min(missing)]
            raise DataError(f"all rows of '{name}' are in one half of the groups")
    return fold_of


def predict_out_of_fold(prepared: Prepared, folder: Path, progress: Progress) -> NDArray[np.float32]:
    """Train once for each fold, on the other rows, and return the logits of all training rows: float32 [rows, classes].

    folder: of the run, which a stop leaves ready to be resumed; these trainings then start anew.
    """
    from textune.engine import predict_logits

    train, fold_of = prepared.data.train, assign_folds(prepared)
    logits = np.zeros((len(fold_of), prepared.classes), np.float32)
    where, hint = "after its training, while it was calibrated", f"continue it with: {show_resume(folder)}"
    with StopRequest() as stop, progress.task("calibration", FOLDS) as task:
        for fold in range(FOLDS):
            inside, outside = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            part = replace(
                prepared, data=replace(prepared.data, train=train.take(inside)), train=prepared.train.take(inside)
            )
            with tempfile.TemporaryDirectory() as place:
                try:
                    fitted = fit(part, Path(place), Silent())
                except RunInterrupted as stopped:
                    raise RunInterrupted(where, stopped.exit_code - 128, hint=hint) from None
                logits[outside] = predict_logits(fitted.opened.engine, prepared.train.take(outside), prepared.padding)
            task.advance(1)
            stop.raise_if_requested(where, hint)
    return logits
