"""95% intervals of one model's scores: Wilson's for shares of rows, a seeded bootstrap for F1."""

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
_MOST_DRAWS_AT_ONCE = 2_000_000  # 16 MB of counts for any number of rows and classes
_SHRINKAGE = 2.0
"""Rows at the pooled recall that are added to each class before it is simulated."""
_FEW_CLASSES = 20
"""Up to this many classes, a simulated error is never the true class; with more, that hardly matters."""


@dataclass(frozen=True)
class Interval:
    """A 95% interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A mean difference with its 95% interval, and the p-value of the paired test if there is one."""

    mean: float
    p_value: float | None = None


def rule_of_three(rows: int) -> float:
    """Return how large the share of what none of these rows shows may still be, about 3 / rows."""
    return float(1 - 0.05 ** (1 / rows))


def bootstrap_intervals(
    true: Ints, predicted: Ints, *, seed: int, known_classes: int | None = None
) -> dict[str, Interval]:
    """Return the 95% intervals of ``accuracy`` (Wilson) and ``macro_f1`` (simulated rows).

    true, predicted: class numbers from 0, int64 [rows]; at least one row.
    known_classes: class numbers from this one on are labels that the model does not know and never predicts.
    """
    classes = np.unique(np.concatenate([true, predicted]))
    size, rows = len(classes), len(true)
    true_codes, predicted_codes = np.searchsorted(classes, true), np.searchsorted(classes, predicted)
    support, predictions = np.bincount(true_codes, minlength=size), np.bincount(predicted_codes, minlength=size)
    hits = np.bincount(true_codes[true_codes == predicted_codes], minlength=size)
    accuracy = wilson_interval(float(hits.sum() / rows), rows)
    if hits.sum() in (0, rows):
        return {"accuracy": accuracy, "macro_f1": _widen_for_few_rows(accuracy, rows, support)}
    known = np.ones(size, dtype=bool) if known_classes is None else classes < known_classes
    return {"accuracy": accuracy, "macro_f1": _simulate_macro_f1(hits, support, predictions, known, seed)}


def _simulate_macro_f1(hits: Ints, support: Ints, predictions: Ints, known: NDArray[np.bool_], seed: int) -> Interval:
    """Return the 95% interval of macro F1 from simulated rows: their true classes, then the answers within each.

    hits, support, predictions: int64 [classes], rows predicted correctly, of the class, and predicted as the class.

    A bootstrap of rows fails with few rows per class: a single row of a class never varies, and macro F1 is biased
    downwards on few rows. So each class's recall is shrunk towards the pooled recall (empirical Bayes, with two hits
    and two misses added as in Agresti and Coull 1998), new rows are simulated from that model, and the interval is
    corrected by the bias of their macro F1 against the model's true macro F1. The classes' rows vary, too: where one
    class is always answered, or labels are unknown, nearly all of the uncertainty is theirs.
    """
    rows, size = int(support.sum()), len(support)
    pooled = (hits.sum() + 2) / (support[known].sum() + 4)
    recall = np.where(known, (hits + _SHRINKAGE * pooled) / (support + _SHRINKAGE), 0.0)
    false_positives = np.where(known, predictions - hits + 1.0, 0.0)
    shares = false_positives / false_positives.sum()
    # One random stream per class makes the draws independent of the block size.
    hit_draws, row_draws, *error_draws = (np.random.default_rng([seed, stream]) for stream in range(size + 2))
    block, pieces = max(1, _MOST_DRAWS_AT_ONCE // size), []
    for start in range(0, RESAMPLES, block):
        drawn = row_draws.multinomial(rows, support / rows, size=min(block, RESAMPLES - start))
        right = hit_draws.binomial(drawn, recall)
        wrong = _draw_errors(drawn - right, shares, error_draws)
        pieces.append(_macro_f1(right, drawn, right + wrong))
    simulated = np.concatenate(pieces)
    # With infinitely many rows, macro F1 averages over the classes that have rows.
    present = support > 0
    expected = support * recall + shares * (rows - (support * recall).sum())
    model_f1 = _macro_f1((support * recall)[present], support[present], expected[present])
    value, bias = float(_macro_f1(hits, support, predictions)), float(simulated.mean() - model_f1)
    return recentre(simulated, value, bias, rows, support)


def _draw_errors(errors: Ints, shares: Floats, streams: Sequence[np.random.Generator]) -> Ints:
    """Return the false positives of each class. errors: int64 [draws, true classes]; shares: float64 [classes]."""
    size = len(shares)
    if size > _FEW_CLASSES:
        return streams[0].multinomial(errors.sum(axis=1), shares)
    wrong = np.zeros_like(errors)
    for true in range(size):
        others = np.where(np.arange(size) == true, 0.0, shares)
        others = others if others.any() else shares
        wrong += streams[true].multinomial(errors[:, true], others / others.sum())
    return wrong


def _macro_f1(hits: NDArray[Any], support: NDArray[Any], predictions: NDArray[Any]) -> Floats:
    """Return the mean F1 of the classes that occur, over the last axis."""
    total = support + predictions
    f1 = np.divide(2 * hits, total, out=np.zeros(total.shape), where=total > 0)
    return np.asarray(f1.sum(axis=-1) / (total > 0).sum(axis=-1))


def recentre(values: Floats, estimate: float, bias: float, rows: int, support: Ints) -> Interval:
    """Return the interval of simulated shares, shifted to the bias-corrected estimate; it contains the estimate.

    support: int64 [classes], the rows of each class over which a share is averaged.
    """
    if values.min() == values.max():
        return _widen_for_few_rows(wilson_interval(estimate, rows), rows, support)
    drawn = percentile_interval(values)
    shift = estimate - bias - float(values.mean())
    shifted = Interval(min(drawn.low + shift, estimate), max(drawn.high + shift, estimate))
    return _widen_for_few_rows(shifted, rows, support)


def resampled_interval(values: Floats, rows: int) -> Interval:
    """Return the middle 95% of resampled shares, or Wilson's interval if all resamples are equal."""
    if values.min() == values.max():
        return wilson_interval(float(values[0]), rows)
    return _widen_for_few_rows(percentile_interval(values), rows)


def _widen_for_few_rows(interval: Interval, rows: int, support: Ints | None = None) -> Interval:
    """Widen an interval of shares to at least Wilson's bounds for rows without errors and without hits.

    Otherwise a model with one error could have a narrower interval than one without errors. support: int64 [classes],
    for a mean over classes: it moves most where all errors to come are in the class with the fewest rows.
    """
    reach = 1 - wilson_interval(1.0, rows).low
    if support is not None and (support > 0).any():
        rarest, classes = float(support[support > 0].min()), int((support > 0).sum())
        reach = max(reach, (1 - wilson_interval(1.0, rarest).low) / classes)
    return Interval(max(min(interval.low, 1 - reach), 0.0), min(max(interval.high, reach), 1.0))


def percentile_interval(values: NDArray[np.float64]) -> Interval:
    """Return the middle 95% of resampled values."""
    low, high = np.percentile(values, _PERCENTILES)
    return Interval(float(low), float(high))


def widen(interval: Interval, rows: int) -> Interval:
    """Return an interval of a difference of shares that says what other rows may show.

    Resamples of rows that are all alike never vary.
    """
    if interval.low != interval.high:
        return interval
    bound = 2 * rule_of_three(rows)  # a row of the opposite kind moves the difference by 2
    return Interval(max(interval.low - bound, -1.0), min(interval.high + bound, 1.0))


def wilson_interval(share: float, rows: float) -> Interval:
    """Return Wilson's 95% score interval of a share (Wilson 1927, JASA 22)."""
    z = 1.959963984540054
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    spread = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    # At the ends the bound is the share itself, which rounding misses.
    low = 0.0 if share == 0 else max(0.0, centre - spread)
    high = 1.0 if share == 1 else min(1.0, centre + spread)
    return Interval(low, high)
