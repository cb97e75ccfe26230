"""From which probability on each label is given: found on validation rows, cautiously for rare labels.

The F1 of a label is greatest at a threshold that depends on how frequent it is, seldom at 0.5 (Lipton and others, 2014,
https://arxiv.org/abs/1402.1892). A rare label's own best threshold is mostly luck, so it is drawn towards the one that
suits all labels together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

UNTUNED = 0.5
_ROWS_OF_DOUBT = 10
"""Positive rows at which a label's own threshold and the common one weigh alike."""
_LOWEST, _HIGHEST = 0.01, 0.99


def tune_thresholds(probabilities: NDArray[np.floating[Any]], targets: NDArray[Any]) -> tuple[float, ...]:
    """Return for each label the probability from which it is given.

    probabilities, targets (0 or 1): [rows, labels]. With n positive rows a label's threshold lies, in log-odds,
    n / (n + 10) of the way from the threshold of the greatest micro F1 to its own of the greatest F1; with none it is
    the former. Without any positive row it is 0.5 for all. All lie between 0.01 and 0.99.
    """
    scores, true = np.asarray(probabilities, dtype=np.float64), np.asarray(targets) > 0
    common = find_best_threshold(scores.ravel(), true.ravel())
    if common is None:
        return tuple([UNTUNED] * int(scores.shape[1]))
    found = []
    for column in range(scores.shape[1]):
        own, rows = find_best_threshold(scores[:, column], true[:, column]), int(true[:, column].sum())
        share = rows / (rows + _ROWS_OF_DOUBT)
        odds = _log_odds(common) if own is None else share * _log_odds(own) + (1 - share) * _log_odds(common)
        found.append(float(np.clip(1 / (1 + np.exp(-odds)), _LOWEST, _HIGHEST)))
    return tuple(found)


def find_best_threshold(scores: Floats, true: Bools) -> float | None:
    """Return the threshold of the greatest F1, midway between two scores; None where nothing is true.

    Among equals the one that lets the fewest through.
    """
    positives = int(true.sum())
    if not positives:
        return None
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    hits = np.cumsum(true[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + positives)
    last_of_equals = np.append(ranked[1:] < ranked[:-1], True)  # equal scores are let through together
    best = int(np.argmax(np.where(last_of_equals, f1, -1.0)))
    return float(ranked[best] if best + 1 == len(ranked) else (ranked[best] + ranked[best + 1]) / 2)


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, _LOWEST), _HIGHEST)
    return float(np.log(clipped / (1 - clipped)))
