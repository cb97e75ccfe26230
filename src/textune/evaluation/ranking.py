"""How well probabilities rank rows: average precision, ROC AUC, curves; and Matthews' correlation of answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST_CURVES = 30
"""Of more classes, the ones with the lowest average precision get a curve."""
_MOST_POINTS = 40
_DIGITS = 4


@dataclass(frozen=True)
class Curve:
    """The precision-recall curve of one class against all others, thinned to 40 points; both rounded to 4 digits.

    Each point is the highest precision at which that recall is reached.
    """

    label: int
    recall: tuple[float, ...]
    precision: tuple[float, ...]


@dataclass(frozen=True)
class Ranking:
    """How well each class's probability ranks its rows before all others, and the means over the classes.

    average_precision: of each class, the precision at each of its rows, on average: the area under the
        precision-recall curve without interpolation, as in scikit-learn. None for a class without rows.
    roc_auc: of each class, the probability that one of its rows scores higher than another row; ties count half
        (Hanley and McNeil 1982, Radiology 143). None for a class that no row or every row has.
    """

    average_precision: tuple[float | None, ...]
    roc_auc: tuple[float | None, ...]

    @property
    def mean_average_precision(self) -> float | None:
        """The mean over the classes that have rows; None without any."""
        return _mean(self.average_precision)

    @property
    def mean_roc_auc(self) -> float | None:
        """The mean over the classes that some rows have and others have not; None without any."""
        return _mean(self.roc_auc)


def measure_ranking(probabilities: NDArray[np.floating[Any]], targets: NDArray[Any]) -> Ranking:
    """Return average precision and ROC AUC of every class against all others.

    probabilities: float [rows, classes]. targets: int64 [rows], where -1 belongs to no class and so counts against
    every one, or 0 and 1 [rows, classes]. A class whose probabilities are not all finite gets None.
    """
    ranked = [_rank(probabilities[:, i], _belongs(targets, i)) for i in range(probabilities.shape[1])]
    return Ranking(tuple(area for area, _ in ranked), tuple(auc for _, auc in ranked))


def draw_curves(
    probabilities: NDArray[np.floating[Any]], targets: NDArray[Any], ranking: Ranking, most: int = MOST_CURVES
) -> tuple[Curve, ...]:
    """Return the precision-recall curves of at most `most` classes with rows, lowest average precision first."""
    ranked = sorted((area, label) for label, area in enumerate(ranking.average_precision) if area is not None)
    return tuple(_draw(probabilities[:, i], _belongs(targets, i), i) for _, i in ranked[:most])


def matthews_correlation(
    hits: int, total: int, true: Sequence[int] | NDArray[Any], predicted: Sequence[int] | NDArray[Any]
) -> float | None:
    """Return Matthews' correlation of any number of classes; None where only one is true or predicted.

    hits: correct among `total`. true, predicted: the counts of each class, which both sum to `total`.
    Source: Gorodkin 2004, Computational Biology and Chemistry 28.
    """
    true_counts, predicted_counts = [int(n) for n in true], [int(n) for n in predicted]
    by_chance = sum(t * p for t, p in zip(true_counts, predicted_counts, strict=True))
    spread = (total**2 - sum(t * t for t in true_counts)) * (total**2 - sum(p * p for p in predicted_counts))
    return (hits * total - by_chance) / math.sqrt(spread) if spread else None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _belongs(targets: NDArray[Any], label: int) -> Bools:
    """Return which rows a class has: bool [rows]."""
    return np.asarray(targets[:, label] > 0 if np.ndim(targets) == 2 else targets == label)


def _rank(scores: NDArray[Any], true: Bools) -> tuple[float | None, float | None]:
    """Return average precision and ROC AUC, both from where the class's rows stand among all scores."""
    everything, of_true = np.sort(np.asarray(scores, np.float64)), np.sort(np.asarray(scores, np.float64)[true])
    rows, positives = len(everything), len(of_true)
    if not positives or not math.isfinite(float(everything[0])) or not math.isfinite(float(everything[-1])):
        return None, None
    below = np.searchsorted(everything, of_true, side="left")
    own_below = np.searchsorted(of_true, of_true, side="left")
    area = float(((positives - own_below) / (rows - below)).mean())
    if positives == rows:
        return area, None
    equal = np.searchsorted(everything, of_true, side="right") - below
    own_equal = np.searchsorted(of_true, of_true, side="right") - own_below
    beaten = (below - own_below) + (equal - own_equal) / 2
    return area, float(beaten.mean() / (rows - positives))


def _draw(scores: NDArray[Any], true: Bools, label: int) -> Curve:
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ranked = scores[order]
    last_of_ties = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))  # equal scores are given together
    hits = np.cumsum(true[order])[last_of_ties]
    recall, precision = hits / hits[-1], hits / (last_of_ties + 1)
    wanted = np.unique(np.searchsorted(recall, np.linspace(0, 1, _MOST_POINTS)[1:] - 1e-9))
    return Curve(
        label,
        tuple(np.round(recall[wanted], _DIGITS).tolist()),
        tuple(np.round(precision[wanted], _DIGITS).tolist()),
    )
