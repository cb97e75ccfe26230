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
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> str | None:
    """Return None where the run learns, else one sentence: the signs that it does not, and the likely cause.

    predicted_counts, target_counts: validation rows of each class, as predicted and as labelled.
    losses: mean loss per row in nats of each step so far, oldest first. learning_rate: the peak.
    trainable_layers: layers of the backbone that are trained (0: none; None: not known).

    class_weights: how much a row of each class counts in the losses. label_smoothing: the share of each target that
        the losses spread over all classes.

    The yardstick is the entropy of the labels: the loss of a model that always answers the class shares. What counts is
    how far the loss has come from there to its floor, which weights and label smoothing move too.
    """
    rows = sum(target_counts)
    if not rows or max(target_counts) == rows:
        return None
    weights = [1.0] * len(target_counts) if class_weights is None else class_weights
    chance, floor = _bound_loss(target_counts, weights, label_smoothing)
    finite = [loss for loss in losses if math.isfinite(loss)]
    if losses and not finite:
        return f"The loss is not a finite number: the learning rate ({learning_rate:g}) is likely too high."
    first, recent = _ends(finite)
    share, of_targets = max(predicted_counts) / max(sum(predicted_counts), 1), max(target_counts) / rows
    # One class for nearly all rows: the others get less than a tenth of the answers that they should.
    collapsed = sum(predicted_counts) >= 10 and share >= 1 - 0.1 * (1 - of_targets)
    same = f"it answers the same class for {_percent(share)} of the validation rows" if collapsed else ""
    yardstick = f"the {chance:.3f} of always answering the class shares"
    sign = _describe(same, recent, yardstick, (chance, floor), len(finite))
    if sign is None:
        return None
    cause = _find_cause(finite, first, recent, chance, learning_rate, trainable_layers)
    return f"{sign}; {cause}."


def explain_not_learning_labels(
    given: NDArray[np.bool_],
    targets: NDArray[Any],
    losses: Sequence[float],
    learning_rate: float,
    trainable_layers: int | None = None,
    *,
    positive_weights: NDArray[Any] | None = None,
    label_smoothing: float = 0.0,
) -> str | None:
    """Do what `explain_not_learning` does, for any number of labels per text.

    given, targets (0 or 1): [validation rows, labels]. losses: mean binary cross entropy of each step so far.
    positive_weights: [labels, 2], how much a row without and with each label counts in the losses.
    label_smoothing s: the losses' targets are s/2 and 1 - s/2.
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
    bounds = [_bound_loss(s.tolist(), w.tolist(), label_smoothing) for s, w in zip(shares, weights, strict=True)]
    chance, floor = (float(bound) for bound in np.mean(bounds, axis=0))
    if chance - floor < 1e-9:  # no label varies, so there is nothing to learn
        return None
    same = ""
    if rows >= 10 and (given == given[0]).all():
        what = "the same labels" if given[0].any() else "no label at all"
        same = f"it answers {what} for every validation row"
    first, recent = _ends(finite)
    yardstick = f"the {chance:.3f} of always answering the labels' shares"
    sign = _describe(same, recent, yardstick, (chance, floor), len(finite))
    if sign is None:
        return None
    return f"{sign}; {_find_cause(finite, first, recent, chance, learning_rate, trainable_layers)}."


def _describe(same: str, recent: float | None, yardstick: str, bounds: tuple[float, float], steps: int) -> str | None:
    """Return the signs that a run does not learn.

    same: that it answers alike for all rows, or nothing. bounds: the losses of answering the shares, and of the best
    possible model.
    """
    chance, floor = bounds
    below_chance = recent is not None and recent - floor < 0.9 * (chance - floor)
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
) -> str:
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
    """Return the mean loss of the first and of the last steps: a tenth of all, but five if there are."""
    if not losses:
        return None, None
    window = min(len(losses), max(5, len(losses) // 10))
    return sum(losses[:window]) / window, sum(losses[-window:]) / window


def _peak(losses: Sequence[float]) -> float:
    """Return the highest median of five steps in a row, which one unlucky batch cannot lift."""
    width = min(5, len(losses))
    return max(median(losses[i : i + width]) for i in range(len(losses) - width + 1))


def _bound_loss(counts: Sequence[float], weights: Sequence[float], smoothing: float) -> tuple[float, float]:
    """Return the loss per row of the best model that always answers the same, and that of the best model.

    counts: rows of each class, or their shares; weights: how much a row of each class counts in the loss.
    smoothing: the share of each target that is spread over all classes.
    """
    size, total = len(counts), sum(counts)
    weighted = [count * weight for count, weight in zip(counts, weights, strict=False)]
    whole = sum(weighted)
    shares = [(1 - smoothing) * part / whole + smoothing / size for part in weighted]
    one_row = [1 - smoothing + smoothing / size, *[smoothing / size] * (size - 1)]
    return whole / total * _entropy(shares), whole / total * _entropy(one_row)


def _entropy(shares: Sequence[float]) -> float:
    return -sum(share * math.log(share) for share in shares if share)


def _percent(share: float) -> str:
    return "100%" if share == 1 else f"{share:.1%}"


def _rounded(rate: float) -> str:
    return f"{rate:.0e}".replace("e-0", "e-").replace("e+00", "")
