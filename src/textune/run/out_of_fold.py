"""Answers for training rows by models that did not see them, where few rows leave none for validation."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textune.errors import show_resume
from textune.files import PARTIAL
from textune.process.interrupt import RunInterrupted, StopRequest
from textune.progress import Progress, Silent
from textune.run.fit import fit
from textune.run.held_out import FOLDS
from textune.run.prepare import Prepared

_PLACE = f"{PARTIAL}fold-"
"""A name that counts as textune's own where a killed run is overwritten or removed."""


def predict_out_of_fold(
    prepared: Prepared, folder: Path, progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Train once for each fold, on the other rows; return logits, float32 [judged, classes], and which rows they are.

    folder: of the run, which a stop leaves ready to be resumed; these trainings then start anew.
    """
    from textune.engine import predict_logits

    train, folds = prepared.data.train, prepared.assign_folds()
    for left in folder.glob(f"{_PLACE}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    logits = np.zeros((len(train), prepared.classes), np.float32)
    where, hint = "after its training, while it was calibrated", f"continue it with: {show_resume(folder)}"
    with StopRequest() as stop, progress.task("calibration", FOLDS) as task:
        for fold in range(FOLDS):
            inside, outside = np.flatnonzero(folds.of != fold), np.flatnonzero(folds.of == fold)
            part = replace(
                prepared, data=replace(prepared.data, train=train.take(inside)), train=prepared.train.take(inside)
            )
            with tempfile.TemporaryDirectory(prefix=_PLACE, dir=folder) as place:
                try:
                    fitted = fit(part, Path(place), Silent())
                except RunInterrupted as stopped:
                    raise RunInterrupted(where, stopped.exit_code - 128, hint=hint) from None
                logits[outside] = predict_logits(fitted.opened.engine, prepared.train.take(outside), prepared.padding)
            task.advance(1)
            stop.raise_if_requested(where, hint)
    return logits[folds.judged], folds.judged
