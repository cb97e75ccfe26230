"""Are probabilities what they say: the calibration error, and the temperature that mends it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

BINS = 15
FEWEST_ROWS = 40
"""Fewer rows say too little about probabilities to change them."""
_LOWEST, _HIGHEST = 0.05, 20.0


def expected_calibration_error(probabilities: Floats, targets: NDArray[Any], bins: int = BINS) -> float:
    """Return the mean gap between probability and share of right answers (Guo and others 2017, arXiv:1706.04599).

    probabilities: float [rows, classes]. targets: int64 [rows], where -1 is never right: the probability of the answer
    is judged, in bins of equal width. With several labels per text, 0 or 1 [rows, labels]: every label's is judged.
    """
    if np.ndim(targets) == 2:
        sure, right = np.asarray(probabilities).ravel(), np.asarray(targets).ravel() > 0
    else:
        sure, right = probabilities.max(1), probabilities.argmax(1) == targets
    bin_of = np.minimum((sure * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(bin_of, weights=sure - right, minlength=bins)
    return float(np.abs(gaps).sum() / max(len(sure), 1))


def fit_temperature(logits: Floats, targets: NDArray[Any]) -> float:
    """Return the number by which to divide logits so that held-out rows are most probable; 1.0 for too few rows.

    logits: [rows, classes], of rows that the model was not trained on. targets: int64 [rows], where -1 does not count,
    or 0 and 1 [rows, labels] with several labels per text. One number for all classes changes no answer.
    """
    known = np.ones(len(targets), bool) if np.ndim(targets) == 2 else np.asarray(targets) >= 0
    if int(known.sum()) < FEWEST_ROWS:
        return 1.0
    return search_temperature(logits[known], targets[known])[0]


def search_temperature(logits: Floats, targets: NDArray[Any]) -> tuple[float, float]:
    """Return the best temperature of rows and their mean log loss at it. targets: as above, but all known.

    Targets are moved towards the other classes as if one more row had each of the other answers (Platt 1999), so that
    rows without a single error do not ask for infinite certainty.
    """
    from scipy.optimize import minimize_scalar

    several, scores = np.ndim(targets) == 2, np.asarray(logits, np.float64)
    rows, classes = scores.shape
    doubt = 1 / (rows + 2)
    if several:
        goal = np.where(np.asarray(targets) > 0, 1 - doubt, doubt)
    else:
        goal = np.full(scores.shape, doubt / max(classes - 1, 1))
        goal[np.arange(rows), np.asarray(targets)] = 1 - doubt

    def measure(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        if several:
            return float((np.logaddexp(0, scaled) - scaled * goal).mean())
        shifted = scaled - scaled.max(1, keepdims=True)
        return float((np.log(np.exp(shifted).sum(1)) - (shifted * goal).sum(1)).mean())

    found = minimize_scalar(measure, bounds=(np.log(_LOWEST), np.log(_HIGHEST)), method="bounded")
    unchanged = measure(0.0)
    return (float(np.exp(found.x)), float(found.fun)) if found.fun < unchanged else (1.0, unchanged)
