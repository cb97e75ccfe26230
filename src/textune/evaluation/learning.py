"""Whether a run learns at all: one sentence for the person, while there is still time to stop it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    class_weights: Sequence[float] | None = None,
) -> str | None:
    """Returns None where the run learns, else one sentence: the signs that it does not, and the likely cause.

    predicted_counts, target_counts: validation rows of each class, as predicted and as labelled.
    losses: mean loss per row in nats of each step so far, oldest first. learning_rate: the peak.
    trainable_layers: layers of the backbone that are trained (0: none; None: not known).

    class_weights: how much a row of each class counts in the losses.

    The yardstick is the entropy of the labels: the loss of a model that always answers the class shares.
    """
    rows = sum(target_counts)
    if not rows or max(target_counts) == rows:
        return None
    chance = _entropy(target_counts) if class_weights is None else _weighted_entropy(target_counts, class_weights)
    finite = [loss for loss in losses if math.isfinite(loss)]
    if losses and not finite:
        return f"The loss is not a finite number: the learning rate ({learning_rate:g}) is likely too high."
    first, recent = _ends(finite)
    share, of_targets = max(predicted_counts) / max(sum(predicted_counts), 1), max(target_counts) / rows
    # One class for nearly all rows: the others get less than a tenth of the answers that they should.
    collapsed = sum(predicted_counts) >= 10 and share >= 1 - 0.1 * (1 - of_targets)
    same = f"it answers the same class for {_percent(share)} of the validation rows" if collapsed else ""
    sign = _describe(same, recent, f"the {chance:.3f} of always answering the class shares", chance, len(finite))
    if sign is None:
        return None
    cause = _find_cause(finite, first, recent, chance, learning_rate, trainable_layers, head_trainable)
    return f"{sign}; {cause}."


def explain_not_learning_labels(
    given: NDArray[np.bool_],
    targets: NDArray[Any],
    losses: Sequence[float],
    learning_rate: float,
    trainable_layers: int | None = None,
    *,
    positive_weights: NDArray[Any] | None = None,
) -> str | None:
    """Like `explain_not_learning`, for any number of labels per text.

    given, targets (0 or 1): [validation rows, labels]. losses: mean binary cross entropy of each step so far.
    positive_weights: [labels, 2], how much a row without and with each label counts in the losses.
    """
    rows = len(given)
    finite = [loss for loss in losses if math.isfinite(loss)]
    if losses and not finite:
        return f"The loss is not a finite number: the learning rate ({learning_rate:g}) is likely too high."
    if not rows:
        return None
    with_label = np.asarray(targets, np.float64).mean(axis=0)
    shares = np.stack([1 - with_label, with_label], axis=1)
    weights = np.ones_like(shares) if positive_weights is None else np.asarray(positive_weights, np.float64)
    chance = float(np.mean([_weighted_entropy(s.tolist(), w.tolist()) for s, w in zip(shares, weights, strict=True)]))
    same = ""
    if rows >= 10 and (given == given[0]).all():
        what = "the same labels" if given[0].any() else "no label at all"
        same = f"it answers {what} for every validation row"
    first, recent = _ends(finite)
    sign = _describe(same, recent, f"the {chance:.3f} of always answering the labels' shares", chance, len(finite))
    if sign is None:
        return None
    return f"{sign}; {_find_cause(finite, first, recent, chance, learning_rate, trainable_layers, True)}."


def _describe(same: str, recent: float | None, yardstick: str, chance: float, steps: int) -> str | None:
    """Returns the signs that a run does not learn. same: that it answers alike for all rows, or nothing."""
    below_chance = recent is not None and recent < 0.9 * chance
    if below_chance or not (same or steps >= _ENOUGH_STEPS):
        return None
    told = [same] if same else []
    if recent is not None:
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


def _weighted_entropy(counts: Sequence[float], weights: Sequence[float]) -> float:
    """Returns the least weighted loss per row of a model that always answers the same shares."""
    weighted = [c * w for c, w in zip(counts, weights, strict=False) if c and w]
    total = sum(weighted)
    return -sum(v * math.log(v / total) for v in weighted) / sum(counts)


def _percent(share: float) -> str:
    return "100%" if share == 1 else f"{share:.1%}"


def _rounded(rate: float) -> str:
    return f"{rate:.0e}".replace("e-0", "e-").replace("e+00", "")
