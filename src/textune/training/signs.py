"""Signs of trouble while a model trains, each said once: it does not learn, or it overfits."""

from __future__ import annotations

from textune.progress import Progress
from textune.training.log import TrainingLog

_RISE = 1.1
"""A validation loss this many times the lowest one has risen by more than chance."""
_NEARLY_LEARNT = 0.25
"""A training loss below this share of the validation loss: the training rows are nearly known by heart."""


def explain_overfitting(training: list[float], validation: list[float], steps: list[int]) -> str | None:
    """Return the sign of overfitting after the last evaluation, or None: training loss near 0, validation loss rising.

    training, validation: mean losses at each evaluation so far. steps: the step of each.
    """
    if len(validation) < 3:
        return None
    lowest = min(range(len(validation)), key=validation.__getitem__)
    rising = validation[-1] > _RISE * validation[lowest] and validation[-1] > validation[-2] > validation[lowest] - 1e-9
    if not rising or training[-1] > _NEARLY_LEARNT * validation[-1]:
        return None
    return (
        f"The model is overfitting: the training loss is {training[-1]:.3f}, and the validation loss rose from "
        f"{validation[lowest]:.3f} at step {steps[lowest]} to {validation[-1]:.3f}; fewer epochs, a lower "
        "learning rate or dropout=0.1 may help."
    )


class Signs:
    """What was seen and said so far. Every sign is logged each time, and shown once."""

    def __init__(self, progress: Progress, log: TrainingLog) -> None:
        self._progress, self._log = progress, log
        self._shown: set[str] = set()

    def warn_if_overfitting(self) -> None:
        """Warn if the losses of the log's evaluations, which outlive a stop, show overfitting after the last one."""
        steps, training, validation = (list(column) for column in zip(*self._log.evaluations, strict=True))
        self.warn("overfitting", steps[-1], explain_overfitting(training, validation, steps))

    def warn(self, kind: str, step: int, reason: str | None) -> None:
        """Log a sign, and show it if none of its kind was shown before."""
        if reason is None:
            return
        self._log.write({"kind": "warning", "step": step, "text": reason})
        if kind not in self._shown:
            self._shown.add(kind)
            self._progress.warn(reason)
