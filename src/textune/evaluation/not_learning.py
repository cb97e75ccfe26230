"""Detect early that a run does not learn, and explain it in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ENOUGH_STEPS = 30
"""After this many steps, a flat loss is a sign of not learning."""


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
    """Return None if the run learns, else one sentence with the signs and the likely cause.

    predicted_counts, target_counts: validation rows of each class, as predicted and as labelled.
    losses: mean loss per row of each step so far, in nats, oldest first. learning_rate: the peak.
    trainable_layers: number of trained backbone layers (0: none; None: unknown).
    class_weights: the weight of each class in the losses. label_smoothing: as in the losses.

    The reference is the entropy of the labels: the loss of a model that always predicts the class shares. The check is
    how far the loss has moved from there towards its minimum. Class weights and label smoothing shift both.
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
    share, majority_share = max(predicted_counts) / max(sum(predicted_counts), 1), max(target_counts) / rows
    # Collapsed: the other classes get less than a tenth of the predictions that they should.
    collapsed = sum(predicted_counts) >= 10 and share >= 1 - 0.1 * (1 - majority_share)
    same = f"it predicts the same class for {_percent(share)} of the validation rows" if collapsed else ""
    reference = f"the {chance:.3f} of always predicting the class shares"
    signs = _describe(same, recent, reference, (chance, floor), len(finite))
    if signs is None:
        return None
    cause = _find_cause(finite, first, recent, chance, learning_rate, trainable_layers)
    return f"{signs}; {cause}."


def explain_not_learning_labels(
    predicted: NDArray[np.bool_],
    targets: NDArray[Any],
    losses: Sequence[float],
    learning_rate: float,
    trainable_layers: int | None = None,
    *,
    positive_weights: NDArray[Any] | None = None,
    label_smoothing: float = 0.0,
) -> str | None:
    """Do what `explain_not_learning` does, for multi-label runs.

    predicted, targets (0 or 1): [validation rows, labels]. losses: mean binary cross entropy of each step so far.
    positive_weights: [labels, 2], the weights of a row without and with each label in the losses.
    label_smoothing s: the losses' targets are s/2 and 1 - s/2.
    """
    rows = len(predicted)
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
    if rows >= 10 and (predicted == predicted[0]).all():
        what = "the same labels" if predicted[0].any() else "no labels"
        same = f"it predicts {what} for every validation row"
    first, recent = _ends(finite)
    reference = f"the {chance:.3f} of always predicting the label shares"
    signs = _describe(same, recent, reference, (chance, floor), len(finite))
    if signs is None:
        return None
    return f"{signs}; {_find_cause(finite, first, recent, chance, learning_rate, trainable_layers)}."


def _describe(same: str, recent: float | None, reference: str, bounds: tuple[float, float], steps: int) -> str | None:
    """Return the signs that a run does not learn, or None.

    same: a sentence about equal predictions for all rows, or empty. bounds: the losses of predicting the shares, and
    of the best possible model.
    """
    chance, floor = bounds
    below_chance = recent is not None and recent - floor < 0.9 * (chance - floor)
    if below_chance or not (same or steps >= _ENOUGH_STEPS):
        return None
    signs = [same] if same else []
    if recent is not None:
        signs.append(f"the loss is {recent:.3f}, no better than {reference}")
    return "The model is not learning yet: " + " and ".join(signs)


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
                f"the loss rose from {first:.3f} to {_peak(losses):.3f}, so the learning rate "
                f"({learning_rate:g}) is likely too high: try learning_rate={_rounded(learning_rate / 5)}"
            )
    if len(losses) < _ENOUGH_STEPS:
        return f"after {len(losses)} steps it is likely too early to tell: train for more epochs"
    if trainable_layers == 0:
        return "only the head is trained, on a frozen backbone: try a method that trains more, such as lora"
    return (
        f"the loss is flat, so the learning rate ({learning_rate:g}) is likely too low for this method: "
        f"try learning_rate={_rounded(learning_rate * 5)}, or train for longer"
    )


def _ends(losses: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean loss of the first and of the last steps: a tenth of all, at least five if there are."""
    if not losses:
        return None, None
    window = min(len(losses), max(5, len(losses) // 10))
    return sum(losses[:window]) / window, sum(losses[-window:]) / window


def _peak(losses: Sequence[float]) -> float:
    """Return the highest median of five consecutive steps, which one unlucky batch cannot raise."""
    width = min(5, len(losses))
    return max(median(losses[i : i + width]) for i in range(len(losses) - width + 1))


def _bound_loss(counts: Sequence[float], weights: Sequence[float], smoothing: float) -> tuple[float, float]:
    """Return the loss per row of the best constant model and of the best model.

    counts: rows of each class, or their shares; weights: the weight of each class in the loss.
    smoothing: the label smoothing.
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
