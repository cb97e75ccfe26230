"""Calibration: the expected calibration error, and temperature scaling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

BINS = 15
FEWEST_ROWS = 16
"""Below this many rows the temperature stays 1."""
_DOUBT = 0.5
"""Rows of other classes that a fitted temperature assumes beside those seen. With a whole one, 25 rows without an
error make an easy task too modest; with none, too sure (docs/explanation.md)."""
_SPREAD = 0.5
"""Standard deviation of the logarithm of a fitted temperature around 0, as assumed before any row is seen. Few rows
that are answered no better than chance would otherwise ask for the highest temperature (docs/explanation.md)."""
_LOWEST, _HIGHEST = 0.05, 20.0


def expected_calibration_error(probabilities: Floats, targets: NDArray[Any], bins: int = BINS) -> float:
    """Return the expected calibration error, in bins of equal width (Guo et al. 2017, arXiv:1706.04599).

    probabilities: float [rows, classes]. targets: int64 [rows], where -1 is always wrong: the predicted class's
    probability counts. Multi-label: 0 or 1 [rows, labels], and every label's probability counts.
    """
    if np.ndim(targets) == 2:
        confidence, correct = np.asarray(probabilities).ravel(), np.asarray(targets).ravel() > 0
    else:
        confidence, correct = probabilities.max(1), probabilities.argmax(1) == targets
    bin_of = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(bin_of, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / max(len(confidence), 1))


def fit_temperature(logits: Floats, targets: NDArray[Any]) -> float:
    """Return the temperature that fits held-out rows, near 1 until they say otherwise; 1.0 for too few rows.

    logits: [rows, classes], of rows that the model was not trained on. targets: int64 [rows], where -1 is ignored,
    or 0 and 1 [rows, labels] for multi-label. A single temperature changes no prediction.
    """
    known = np.ones(len(targets), bool) if np.ndim(targets) == 2 else np.asarray(targets) >= 0
    if int(known.sum()) < FEWEST_ROWS:
        return 1.0
    return search_temperature(logits[known], targets[known], _DOUBT, _SPREAD)[0]


def describe_limit(temperature: float) -> str | None:
    """Return what a temperature at the end of its range tells of the probabilities, or None within it."""
    if temperature > 0.99 * _HIGHEST:
        return "the temperature is at its limit, as where answers are close to chance: the probabilities say little"
    if temperature < 1.01 * _LOWEST:
        return "the temperature is at its limit: the probabilities are lower than the held-out answers deserve"
    return None


def search_temperature(
    logits: Floats,
    targets: NDArray[Any],
    doubt: float = 1.0,
    spread: float = math.inf,
    *,
    weights: NDArray[Any] | None = None,
) -> tuple[float, float]:
    """Return the best temperature and the mean log loss at it. targets: as above, but all known.

    Targets are smoothed as if there were as many more rows of other classes as `doubt` says (1: Platt 1999), so that
    rows without errors do not lead to infinite confidence. spread: standard deviation of a normal prior of the log
    temperature around 0; it counts the less, the more rows there are. weights: of each row, or of each row and label.
    """
    from scipy.optimize import minimize_scalar

    several, scores = np.ndim(targets) == 2, np.asarray(logits, np.float64)
    rows, classes = scores.shape
    smoothing = doubt / (rows + 2 * doubt)
    if several:
        each = smoothing / classes  # of all labels together, as with one label per text
        goal = np.where(np.asarray(targets) > 0, 1 - each, each)
    else:
        goal = np.full(scores.shape, smoothing / max(classes - 1, 1))
        goal[np.arange(rows), np.asarray(targets)] = 1 - smoothing

    weighed = None if weights is None else np.asarray(weights, np.float64).reshape(scores.shape if several else rows)

    def measure(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        if several:
            losses = np.logaddexp(0, scaled) - scaled * goal
        else:
            shifted = scaled - scaled.max(1, keepdims=True)
            losses = np.log(np.exp(shifted).sum(1)) - (shifted * goal).sum(1)
        return float(np.average(losses, weights=weighed) + (log_temperature / spread) ** 2 / (2 * losses.size))

    best = minimize_scalar(measure, bounds=(np.log(_LOWEST), np.log(_HIGHEST)), method="bounded")
    unchanged = measure(0.0)
    return (float(np.exp(best.x)), float(best.fun)) if best.fun < unchanged else (1.0, unchanged)
