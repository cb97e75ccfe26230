"""What stands between logits and answers: a temperature, and thresholds where a text may have several labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from textune.evaluation import Task, fit_temperature
from textune.progress import Progress

if TYPE_CHECKING:
    import torch

    from textune.tokens.batches import EncodedSplit, Padding


@dataclass(frozen=True)
class Calibration:
    """temperature: logits are divided by it. thresholds: of each label, with several labels per text."""

    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None


@dataclass(frozen=True)
class HeldOut:
    """Logits float32 [rows, classes] and targets of rows that training did not see. source: what they are called."""

    logits: np.ndarray[Any, Any]
    targets: np.ndarray[Any, Any]
    source: str = ""

    @classmethod
    def nothing(cls, classes: int) -> HeldOut:
        """Returns no rows."""
        return cls(np.zeros((0, classes), np.float32), np.zeros((0, classes), np.float32))

    @classmethod
    def predict(cls, engine: torch.nn.Module, split: EncodedSplit, padding: Padding) -> HeldOut:
        """Returns the logits of validation rows."""
        from textune.engine import predict_logits

        return cls(predict_logits(engine, split, padding), split.targets, "validation rows")


def calibrate(task: Task, held_out: HeldOut, progress: Progress) -> Calibration:
    """Fits the temperature by the log loss of the rows (Guo and others 2017, arXiv:1706.04599), then the thresholds."""
    rows = len(held_out.logits)
    temperature = fit_temperature(held_out.logits, held_out.targets) if rows else 1.0
    where = f"{rows:,} {held_out.source}"
    if temperature != 1.0:
        progress.say(f"temperature: {temperature:.2f} (fitted on {where})")
    tuned = task.tune(lambda: task.probabilities(held_out.logits / temperature), held_out.targets)
    if tuned.thresholds is not None:
        fixed = getattr(task, "fixed", None) is not None
        how = "as set" if fixed else f"tuned on {where}" if rows else "there are no validation rows to tune them on"
        progress.say(f"thresholds: {min(tuned.thresholds):.2f} to {max(tuned.thresholds):.2f} ({how})")
    return Calibration(temperature, tuned.thresholds)
