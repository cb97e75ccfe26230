"""95% intervals of one model's figures: Wilson's for shares of rows, a seeded bootstrap for F1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)
_MOST_DRAWS_AT_ONCE = 2_000_000  # 16 MB of counts, whatever the number of rows and classes
_SHRINKAGE = 2.0
"""Rows at the pooled recall that are added to each class before it is simulated."""
_FEW_CLASSES = 20
"""Up to here the simulation keeps a class's errors out of its own column: with many classes that changes nothing."""


@dataclass(frozen=True)
class Interval:
    """A 95% interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A mean difference with its 95% interval, and the p-value of the paired test where there is one."""

    mean: float
    p_value: float | None = None


def bootstrap_intervals(
    true: Ints, predicted: Ints, *, seed: int, known_classes: int | None = None
) -> dict[str, Interval]:
    """Return the 95% intervals of ``accuracy`` (Wilson) and ``macro_f1`` (simulated rows).

    true, predicted: class numbers from 0, int64 [rows]; at least one row.
    known_classes: numbers from here on are labels that the model does not know and so never predicts.
    """
    classes = np.unique(np.concatenate([true, predicted]))
    size, rows = len(classes), len(true)
    of_true, of_predicted = np.searchsorted(classes, true), np.searchsorted(classes, predicted)
    support, answered = np.bincount(of_true, minlength=size), np.bincount(of_predicted, minlength=size)
    hits = np.bincount(of_true[of_true == of_predicted], minlength=size)
    accuracy = wilson_interval(float(hits.sum() / rows), rows)
    if hits.sum() in (0, rows):
        # Without a single error, or a single hit, F1 is a share of the rows as accuracy is.
        return {"accuracy": accuracy, "macro_f1": accuracy}
    known = np.ones(size, dtype=bool) if known_classes is None else classes < known_classes
    return {"accuracy": accuracy, "macro_f1": _simulate_macro_f1(hits, support, answered, known, seed)}


def _simulate_macro_f1(hits: Ints, support: Ints, answered: Ints, known: NDArray[np.bool_], seed: int) -> Interval:
    """Return the 95% interval of macro F1 from rows simulated within each true class.

    hits, support, answered: int64 [classes], rows that are right, that have the class, and that were given it.

    Drawing the rows themselves fails with few rows per class: one row of a class is always itself, and macro F1 of few
    rows lies below that of many. So each class's recall is drawn towards the pooled one (as in empirical Bayes; two
    hits and two misses added, as Agresti and Coull 1998 do), new rows are drawn from that model, and the interval is
    corrected by how far their macro F1 lies from the model's own.
    """
    rows, size = int(support.sum()), len(support)
    pooled = (hits.sum() + 2) / (support[known].sum() + 4)
    recall = np.where(known, (hits + _SHRINKAGE * pooled) / (support + _SHRINKAGE), 0.0)
    wrong_answers = np.where(known, answered - hits + 1.0, 0.0)
    shares = wrong_answers / wrong_answers.sum()
    # A stream for each class: however large the blocks are, the draws are the same.
    hit_draws, *error_draws = (np.random.default_rng([seed, stream]) for stream in range(size + 1))
    block, pieces = max(1, _MOST_DRAWS_AT_ONCE // size), []
    for start in range(0, RESAMPLES, block):
        right = hit_draws.binomial(support, recall, size=(min(block, RESAMPLES - start), size))
        wrong = _draw_wrong_answers(support - right, shares, error_draws)
        pieces.append(_macro_f1(right, support, right + wrong))
    simulated = np.concatenate(pieces)
    # The figure of endless rows is over the classes that have rows: there the others are no longer absent.
    present = support > 0
    expected = support * recall + shares * (rows - (support * recall).sum())
    of_model = _macro_f1((support * recall)[present], support[present], expected[present])
    return recentre(simulated, float(_macro_f1(hits, support, answered)), float(simulated.mean() - of_model), rows)


def _draw_wrong_answers(errors: Ints, shares: Floats, streams: Sequence[np.random.Generator]) -> Ints:
    """Return how often each class is given wrongly. errors: int64 [draws, true classes]; shares: float64 [classes]."""
    size = len(shares)
    if size > _FEW_CLASSES:
        return streams[0].multinomial(errors.sum(axis=1), shares)
    wrong = np.zeros_like(errors)
    for true in range(size):
        others = np.where(np.arange(size) == true, 0.0, shares)
        others = others if others.any() else shares
        wrong += streams[true].multinomial(errors[:, true], others / others.sum())
    return wrong


def _macro_f1(hits: NDArray[Any], support: NDArray[Any], answered: NDArray[Any]) -> Floats:
    """Return the mean F1 of the classes that occur, over the last axis."""
    seen = support + answered
    f1 = np.divide(2 * hits, seen, out=np.zeros(seen.shape), where=seen > 0)
    return np.asarray(f1.sum(axis=-1) / (seen > 0).sum(axis=-1))


def recentre(values: Floats, estimate: float, bias: float, rows: int) -> Interval:
    """Return the interval of simulated shares moved onto the estimate less its bias; it always holds the estimate."""
    if values.min() == values.max():
        return wilson_interval(estimate, rows)
    drawn = percentile_interval(values)
    move = estimate - bias - float(values.mean())
    return _widen_for_few_rows(Interval(min(drawn.low + move, estimate), max(drawn.high + move, estimate)), rows)


def resampled_interval(values: Floats, rows: int) -> Interval:
    """Return the middle 95% of resampled shares, or Wilson's interval where every resample is the same."""
    if values.min() == values.max():
        return wilson_interval(float(values[0]), rows)
    return _widen_for_few_rows(percentile_interval(values), rows)


def _widen_for_few_rows(interval: Interval, rows: int) -> Interval:
    """Return an interval of shares that reaches as far as Wilson's for rows without one error, or without one hit.

    Otherwise a model with one error would have a narrower interval than one with none.
    """
    low, high = min(interval.low, wilson_interval(1.0, rows).low), max(interval.high, wilson_interval(0.0, rows).high)
    return Interval(max(low, 0.0), min(high, 1.0))


def percentile_interval(values: NDArray[np.float64]) -> Interval:
    """Return the middle 95% of resampled values."""
    low, high = np.percentile(values, _PERCENTILES)
    return Interval(float(low), float(high))


def wilson_interval(share: float, rows: int) -> Interval:
    """Return Wilson's 95% score interval of a share (Wilson 1927, JASA 22)."""
    z = 1.959963984540054
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    spread = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return Interval(max(0.0, centre - spread), min(1.0, centre + spread))
