"""Whether a run learns at all: one sentence for the person, while there is still time to stop it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

_ENOUGH_STEPS = 30
"""Steps after which a flat loss means something."""


def explain_not_learning(
    predicted_counts: Sequence[int],
    target_counts: Sequence[int],
    losses: Sequence[float],
    learning_rate: float,
    trainable_layers: int | None = None,
    *,
    head_trainable: bool = True,
) -> str | None:
    """Returns None where the run learns, else one sentence: the signs that it does not, and the likely cause.

    predicted_counts, target_counts: validation rows of each class, as predicted and as labelled.
    losses: mean loss per row in nats of each step so far, oldest first. learning_rate: the peak.
    trainable_layers: layers of the backbone that are trained (0: none; None: not known).

    The yardstick is the entropy of the labels: the loss of a model that always answers the class shares.
    """
    rows = sum(target_counts)
    if not rows or max(target_counts) == rows:
        return None
    chance = _entropy(target_counts)
    finite = [loss for loss in losses if math.isfinite(loss)]
    if losses and not finite:
        return f"The loss is not a finite number: the learning rate ({learning_rate:g}) is likely too high."
    first, recent = _ends(finite)
    sign = _describe(predicted_counts, target_counts, recent, chance, len(finite))
    if sign is None:
        return None
    cause = _find_cause(finite, first, recent, chance, learning_rate, trainable_layers, head_trainable)
    return f"{sign}; {cause}."


def _describe(
    predicted: Sequence[int], targets: Sequence[int], recent: float | None, chance: float, steps: int
) -> str | None:
    share, of_targets = max(predicted) / max(sum(predicted), 1), max(targets) / sum(targets)
    # One class for nearly all rows: the others get less than a tenth of the answers that they should.
    collapsed = sum(predicted) >= 10 and share >= 1 - 0.1 * (1 - of_targets)
    below_chance = recent is not None and recent < 0.9 * chance
    if below_chance or not (collapsed or steps >= _ENOUGH_STEPS):
        return None
    told = [f"it answers the same class for {_percent(share)} of the validation rows"] if collapsed else []
    if recent is not None:
        yardstick = f"the {chance:.3f} of always answering the class shares"
        told.append(f"the loss is at {recent:.3f}, no better than {yardstick}")
    return "The model is not learning yet: " + " and ".join(told)


def _find_cause(
    losses: Sequence[float],
    first: float | None,
    recent: float | None,
    chance: float,
    learning_rate: float,
    trainable_layers: int | None,
    head_trainable: bool,
) -> str:
    if not head_trainable:
        return "the likely cause is that the classification head is frozen"
    if first is not None and recent is not None:
        rising = recent > 1.15 * max(first, chance) or _peak(losses) > 1.5 * max(first, chance)
        if rising:
            return (
                f"the loss has risen (from {first:.3f}, up to {_peak(losses):.3f}), so the learning rate "
                f"({learning_rate:g}) is likely too high: try learning_rate={_rounded(learning_rate / 5)}"
            )
    if len(losses) < _ENOUGH_STEPS:
        return f"after {len(losses)} steps it is likely too early to tell: give it more epochs"
    if trainable_layers == 0:
        return "only the head is trained on a frozen backbone: a method that tunes more, as lora, may learn"
    return (
        f"the loss is flat, so the learning rate ({learning_rate:g}) is likely too low for this method: "
        f"try learning_rate={_rounded(learning_rate * 5)}, or train for longer"
    )


def _ends(losses: Sequence[float]) -> tuple[float | None, float | None]:
    """Returns the mean loss of the first and of the last steps: a tenth of all, but five if there are."""
    if not losses:
        return None, None
    window = min(len(losses), max(5, len(losses) // 10))
    return sum(losses[:window]) / window, sum(losses[-window:]) / window


def _peak(losses: Sequence[float]) -> float:
    """Returns the highest median of five steps in a row, which one unlucky batch cannot lift."""
    width = min(5, len(losses))
    return max(median(losses[i : i + width]) for i in range(len(losses) - width + 1))


def _entropy(counts: Sequence[int]) -> float:
    total = sum(counts)
    return -sum(c / total * math.log(c / total) for c in counts if c)


def _percent(share: float) -> str:
    return "100%" if share == 1 else f"{share:.1%}"


def _rounded(rate: float) -> str:
    return f"{rate:.0e}".replace("e-0", "e-").replace("e+00", "")
