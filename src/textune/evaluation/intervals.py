"""How sure a figure is: bootstrap intervals over the rows, seeded and vectorised."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textune.errors import DataError

Ints = NDArray[np.int64]

RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)
_MOST_DRAWS_AT_ONCE = 2_000_000  # 16 MB of counts, whatever the number of rows and classes


@dataclass(frozen=True)
class Interval:
    """A 95% interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A mean difference with its 95% interval."""

    mean: float


def bootstrap_intervals(true: Ints, predicted: Ints, *, seed: int) -> dict[str, Interval]:
    """Returns 95% percentile-bootstrap intervals of ``accuracy`` and ``macro_f1`` over resampled rows.

    true, predicted: class numbers from 0, int64 [rows]; at least one row.
    Drawing rows with replacement is a multinomial draw of the confusion cells, which needs no row twice.
    """
    classes = np.unique(np.concatenate([true, predicted]))
    size = len(classes)
    keys = np.searchsorted(classes, true) * size + np.searchsorted(classes, predicted)
    cells, counts = np.unique(keys, return_counts=True)
    rows, of_true, of_predicted = len(keys), cells // size, cells % size
    on_diagonal = of_true == of_predicted

    rng = np.random.default_rng(seed)
    block = max(1, _MOST_DRAWS_AT_ONCE // (len(cells) + size))
    accuracy, macro_f1 = np.empty(RESAMPLES), np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, block):
        part = slice(start, min(start + block, RESAMPLES))
        draws = rng.multinomial(rows, counts / rows, size=part.stop - part.start)
        right = _sum_by_class(draws[:, on_diagonal], of_true[on_diagonal], size)
        seen = _sum_by_class(draws, of_true, size) + _sum_by_class(draws, of_predicted, size)
        accuracy[part] = right.sum(axis=1) / rows
        f1 = np.divide(2 * right, seen, out=np.zeros(seen.shape), where=seen > 0)
        macro_f1[part] = f1.sum(axis=1) / (seen > 0).sum(axis=1)

    share_right = counts[on_diagonal].sum() / rows
    if share_right in (0.0, 1.0):
        # Without a single error (or a single hit) every resample is the same, and the bootstrap would claim
        # certainty from any handful of rows; Wilson's interval knows how few rows can tell.
        wilson = wilson_interval(float(share_right), rows)
        return {"accuracy": wilson, "macro_f1": wilson}
    return {"accuracy": percentile_interval(accuracy), "macro_f1": percentile_interval(macro_f1)}


def paired_difference(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], seed: int = 0) -> Difference:
    """Returns by how much A's accuracy exceeds B's on the same rows, with its paired-bootstrap 95% interval.

    correct_a, correct_b: bool [rows], whether each model was right on each row.
    Raises DataError without rows, ValueError where the two differ in length.
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired rows are needed: got shapes {a.shape} and {b.shape}")
    rows = len(a)
    if rows == 0:
        raise DataError("two models cannot be compared on no rows", hint="give rows with labels")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    shares = np.array([only_a, only_b, rows - only_a - only_b]) / rows
    draws = np.random.default_rng(seed).multinomial(rows, shares, size=RESAMPLES)
    interval = percentile_interval((draws[:, 0] - draws[:, 1]) / rows)
    return Difference(interval.low, interval.high, (only_a - only_b) / rows)


def _sum_by_class(draws: Ints, classes: Ints, size: int) -> Ints:
    """Adds up the columns of each class: int64 [resamples, cells] becomes [resamples, size]."""
    sums = np.zeros((len(draws), size), dtype=np.int64)
    if len(classes):
        order = np.argsort(classes, kind="stable")
        present, starts = np.unique(classes[order], return_index=True)
        sums[:, present] = np.add.reduceat(draws[:, order], starts, axis=1)
    return sums


def percentile_interval(values: NDArray[np.float64]) -> Interval:
    """Returns the middle 95% of resampled values."""
    low, high = np.percentile(values, _PERCENTILES)
    return Interval(float(low), float(high))


def wilson_interval(share: float, rows: int) -> Interval:
    """Returns Wilson's 95% score interval of a share (Wilson 1927, JASA 22)."""
    z = 1.959963984540054
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    spread = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return Interval(max(0.0, centre - spread), min(1.0, centre + spread))
