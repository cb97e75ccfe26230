"""Tune one threshold per label on validation rows, cautiously for rare labels.

The best threshold for F1 depends on the label's frequency and is rarely 0.5 (Lipton et al. 2014,
https://arxiv.org/abs/1402.1892). For a rare label it is mostly noise, so it is shrunk towards the best common
threshold of all labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

UNTUNED = 0.5
_PRIOR_ROWS = 10
"""With this many positive rows, a label's own threshold and the common one have equal weight."""
_LOWEST, _HIGHEST = 0.01, 0.99


def tune_thresholds(probabilities: NDArray[np.floating[Any]], targets: NDArray[Any]) -> tuple[float, ...]:
    """Return each label's threshold: the lowest probability at which it is predicted.

    probabilities, targets (0 or 1): [rows, labels]. With n positive rows, a label's threshold is, in log-odds,
    n / (n + 10) of the way from the common threshold (highest micro F1) to its own (highest F1). Without any positive
    rows, all thresholds are 0.5. All are between 0.01 and 0.99.
    """
    scores, true = np.asarray(probabilities, dtype=np.float64), np.asarray(targets) > 0
    common = find_best_threshold(scores.ravel(), true.ravel())
    if common is None:
        return tuple([UNTUNED] * int(scores.shape[1]))
    thresholds = []
    for column in range(scores.shape[1]):
        best, rows = find_best_threshold(scores[:, column], true[:, column]), int(true[:, column].sum())
        share = rows / (rows + _PRIOR_ROWS)
        odds = _log_odds(common) if best is None else share * _log_odds(best) + (1 - share) * _log_odds(common)
        thresholds.append(float(np.clip(1 / (1 + np.exp(-odds)), _LOWEST, _HIGHEST)))
    return tuple(thresholds)


def find_best_threshold(scores: Floats, true: Bools) -> float | None:
    """Return the threshold with the highest F1, midway between two scores; None without positives.

    Of equally good thresholds, the highest one.
    """
    positives = int(true.sum())
    if not positives:
        return None
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    hits = np.cumsum(true[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + positives)
    last_of_ties = np.append(ranked[1:] < ranked[:-1], True)  # equal scores are predicted together
    best = int(np.argmax(np.where(last_of_ties, f1, -1.0)))
    return float(ranked[best] if best + 1 == len(ranked) else (ranked[best] + ranked[best + 1]) / 2)


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, _LOWEST), _HIGHEST)
    return float(np.log(clipped / (1 - clipped)))
