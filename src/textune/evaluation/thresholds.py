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
PRIOR_ROWS = 10
"""With this many positive rows, a label's own threshold and the common one have equal weight."""
_LOWEST, _HIGHEST = 0.01, 0.99
_TINY = 1e-6


def tune_thresholds(probabilities: NDArray[np.floating[Any]], targets: NDArray[Any]) -> tuple[float, ...]:
    """Return each label's threshold: the lowest probability at which it is predicted.

    probabilities, targets (0 or 1): [rows, labels]. With n positive rows, a label's threshold is, in log-odds,
    n / (n + 10) of the way from the common threshold (highest micro F1) to its own (highest F1). Without any positive
    rows, all thresholds are 0.5. All are between 0.01 and 0.99, unless the common one is not.
    """
    scores, true = np.asarray(probabilities, dtype=np.float64), np.asarray(targets) > 0
    common = find_best_threshold(scores.ravel(), true.ravel())
    if common is None:
        return tuple([UNTUNED] * int(scores.shape[1]))
    bounds, thresholds = (min(_LOWEST, common), max(_HIGHEST, common)), []
    for column in range(scores.shape[1]):
        best, rows = find_best_threshold(scores[:, column], true[:, column]), int(true[:, column].sum())
        thresholds.append(_shrink(common if best is None else best, common, rows, bounds))
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


def _shrink(best: float, prior: float, rows: int, bounds: tuple[float, float]) -> float:
    """Return a threshold between the best one and a prior, by the label's positive rows; both are kept in bounds."""
    share, (low, high) = rows / (rows + PRIOR_ROWS), (_log_odds(bound) for bound in bounds)
    odds = share * np.clip(_log_odds(best), low, high) + (1 - share) * np.clip(_log_odds(prior), low, high)
    return float(1 / (1 + np.exp(-odds)))


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, _TINY), 1 - _TINY)
    return float(np.log(clipped / (1 - clipped)))


def tune_floors(
    probabilities: NDArray[np.floating[Any]], targets: NDArray[Any], figure: str, floor: float
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return each label's threshold for a floor of precision or recall, and the labels that do not reach it.

    probabilities, targets (0 or 1): [rows, labels]. A label with fewer than 10 positive rows gets the threshold that
    reaches the floor over all decisions.
    """
    scores, true = np.asarray(probabilities, dtype=np.float64), np.asarray(targets) > 0
    common, _ = find_floor_threshold(scores.ravel(), true.ravel(), figure, floor)
    thresholds, missed = [], []
    for column in range(scores.shape[1]):
        rare = int(true[:, column].sum()) < PRIOR_ROWS
        found, reached = find_floor_threshold(scores[:, column], true[:, column], figure, floor)
        thresholds.append(common if rare else found)
        if not (reached or rare):
            missed.append(column)
    return tuple(thresholds), tuple(missed)


def find_floor_threshold(scores: Floats, true: Bools, figure: str, floor: float) -> tuple[float, bool]:
    """Return the threshold that reaches a floor and gives up least of the other figure, and whether one reaches it.

    figure: "precision" (then the highest recall) or "recall" (then the highest precision). Of equally good thresholds,
    the highest one. Where no threshold reaches a precision, the one of the highest precision.
    """
    precision, recall, cuts = _list_cuts(scores, true)
    wanted, other = (precision, recall) if figure == "precision" else (recall, precision)
    fits = wanted >= floor - 1e-12
    if fits.any():
        return float(cuts[int(np.argmax(np.where(fits, other, -1.0)))]), True
    return float(cuts[int(np.argmax(wanted))]), False


def _list_cuts(scores: Floats, true: Bools) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and threshold of every cut between different scores, highest threshold first."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(true[order])
    last = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))
    following = np.append(ranked[last[:-1] + 1], ranked[-1])
    positives = max(int(true.sum()), 1)
    return hits[last] / (last + 1), hits[last] / positives, (ranked[last] + following) / 2


def tune_costs(
    probabilities: NDArray[np.floating[Any]], targets: NDArray[Any], costs: NDArray[np.float64]
) -> tuple[float, ...]:
    """Return each label's threshold of the lowest cost.

    costs: float64 [labels, 2], of a label that is missed and of one that is wrongly given. As for F1, a label with few
    positive rows keeps near a prior: the threshold that is best for calibrated probabilities, wrong / (wrong + missed)
    (Elkan 2001, IJCAI).
    """
    scores, true = np.asarray(probabilities, dtype=np.float64), np.asarray(targets) > 0
    thresholds = []
    for column, (missed, wrong) in enumerate(np.asarray(costs, np.float64)):
        prior = wrong / (wrong + missed) if wrong + missed > 0 else UNTUNED
        rows = int(true[:, column].sum())
        best = find_cost_threshold(scores[:, column], true[:, column], missed, wrong) if len(scores) else prior
        # As far from the prior as 0.01 and 0.99 are from 0.5: a cost of 1,000 to 1 asks for thresholds below 0.01.
        bounds = min(_LOWEST, prior * _LOWEST), max(_HIGHEST, 1 - (1 - prior) * _LOWEST)
        thresholds.append(_shrink(best, prior, rows, bounds))
    return tuple(thresholds)


def find_cost_threshold(scores: Floats, true: Bools, missed: float, wrong: float) -> float:
    """Return the threshold with the lowest cost of missed and wrongly given rows; 1 where giving none is cheapest."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(true[order])
    last = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))
    cost = missed * (true.sum() - hits[last]) + wrong * (last + 1 - hits[last])
    best = int(np.argmin(cost))
    if missed * true.sum() <= cost[best]:
        return 1.0
    at = int(last[best])
    return float(ranked[at] if at + 1 == len(ranked) else (ranked[at] + ranked[at + 1]) / 2)
