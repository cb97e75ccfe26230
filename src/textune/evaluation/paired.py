"""Paired comparison of classifiers on the same rows: intervals and significance tests.

Every score here is a ratio of sums over rows, ``sum(numerator) / sum(denominator)``: accuracy is correct rows over all
rows, micro F1 is twice the true positives over the predicted plus the true labels. A model trained with several seeds
has one row of such numbers per seed; its score is the mean over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.errors import DataError
from textune.evaluation.intervals import (
    RESAMPLES,
    Difference,
    Interval,
    percentile_interval,
    recentre,
    resampled_interval,
    rule_of_three,
    widen,
    wilson_interval,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_RESAMPLES = 10_000
"""Enough for p-values down to 1 in 10,000, which Holm's correction needs for dozens of pairs."""
_MOST_DRAWS_AT_ONCE = 2_000_000
_MOST_ROWS_EXACT = 12
_ROUNDING = 1e-12
"""Relative to the scores: a difference this much below the observed one counts as equal to it."""


@dataclass(frozen=True)
class Counts:
    """Each row's contribution to the score: numerator, denominator int64 [seeds, rows]; right: bool, fully correct.

    For accuracy the denominator is 1 everywhere. For micro F1 the numerator is twice the true positives and the
    denominator the number of predicted plus true labels.
    """

    numerator: Ints
    denominator: Ints
    right: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if not self.numerator.shape == self.denominator.shape == self.right.shape or self.numerator.ndim != 2:
            raise ValueError(f"expected [seeds, rows], got {self.numerator.shape} and {self.denominator.shape}")
        if not self.numerator.size:
            raise DataError("no rows to compare the models on", hint="give rows with labels")

    @property
    def values(self) -> Floats:
        """The score of each seed's model: float64 [seeds]."""
        return score_sums(self.numerator.sum(1), self.denominator.sum(1))

    @property
    def shares(self) -> bool:
        """Whether each row counts once, as in accuracy."""
        return bool((self.denominator == 1).all())


@dataclass(frozen=True)
class McNemar:
    """McNemar's test for one seed: the rows that only one of the two models gets fully right, and the exact p-value."""

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same rows.

    lead: A's score minus B's with its 95% interval. p: the two-sided p-value.
    mcnemar: by seed, for the seeds that both were trained with.
    """

    lead: Difference
    p: float
    mcnemar: dict[int, McNemar]


def count_correct(right: Sequence[NDArray[np.bool_]]) -> Counts:
    """Return the counts of accuracy. right: for each seed bool [rows], whether the prediction was correct."""
    marks = np.stack([np.asarray(r, bool) for r in right])
    return Counts(marks.astype(np.int64), np.ones(marks.shape, np.int64), marks)


def count_labels(true: NDArray[np.bool_], predicted: Sequence[NDArray[np.bool_]], missed: Ints | None = None) -> Counts:
    """Return the counts of micro F1.

    true, and for each seed predicted: bool [rows, labels]. missed: int64 [rows], true labels that no model knows.
    """
    extra = np.zeros(len(true), np.int64) if missed is None else missed
    hits = np.stack([2 * (true & p).sum(1) for p in predicted]).astype(np.int64)
    marked = np.stack([p.sum(1) + true.sum(1) + extra for p in predicted]).astype(np.int64)
    return Counts(hits, marked, hits == marked)


def apply_mcnemar(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> McNemar:
    """Test whether two models err equally often on the same rows: bool [rows] each.

    If the models are equally good, each row that only one gets right is a coin toss, so the exact p-value comes from
    the binomial distribution, for any number of such rows (McNemar 1947, Psychometrika 12).
    """
    from scipy.stats import binomtest

    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"the rows must be paired: got shapes {a.shape} and {b.shape}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, p)


def paired_difference(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], seed: int = 0) -> Difference:
    """Return A's accuracy minus B's on the same rows: paired-bootstrap 95% interval and McNemar's exact p-value.

    correct_a, correct_b: bool [rows], whether each model was correct on each row.
    Raises DataError without rows, ValueError if the lengths differ.
    """
    counts = apply_mcnemar(correct_a, correct_b)
    rows = len(correct_a)
    if rows == 0:
        raise DataError("no rows to compare the models on", hint="give rows with labels")
    if not counts.only_a + counts.only_b:
        return bound_equal(rows)
    shares = np.array([counts.only_a, counts.only_b, rows - counts.only_a - counts.only_b]) / rows
    draws = np.random.default_rng(seed).multinomial(rows, shares, size=RESAMPLES)
    lead = (counts.only_a - counts.only_b) / rows
    interval = widen(percentile_interval((draws[:, 0] - draws[:, 1]) / rows), rows)
    return Difference(interval.low, interval.high, lead, counts.p)


def bound_equal(rows: int) -> Difference:
    """Return the difference of two models that are alike on all rows; some of other rows may still differ."""
    bound = rule_of_three(rows)
    return Difference(-bound, bound, 0.0, 1.0)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple comparisons, so that each can be compared with 0.05.

    The smallest is multiplied by their number, the next by one less, and so on, never decreasing: the chance of any
    false positive stays below 5% (Holm 1979, Scandinavian Journal of Statistics 6).
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = largest
    return adjusted


def estimate_interval(counts: Counts, *, seed: int = 0) -> Interval:
    """Return the 95% interval of the mean score over rows and seeds.

    With one seed, the interval is over rows only: Wilson's for accuracy, a bootstrap for micro F1. With several seeds
    it holds rows, the same for all seeds, and seeds, see `add_seeds`. For accuracy the interval is then at least as
    wide as Wilson's for one model, so that one error never narrows it.
    """
    value = float(counts.values.mean())
    wilson = wilson_interval(value, counts.right.shape[1])
    if counts.shares and len(counts.right) == 1:
        return wilson
    sums = _resample(np.concatenate([counts.numerator, counts.denominator]), seed)
    size, rows = len(counts.numerator), int((counts.denominator > 0).any(axis=0).sum())
    defined = sums[(sums[:, size:] > 0).all(axis=1)]  # in other draws the score is undefined
    scores = _divide(defined[:, :size], defined[:, size:]).mean(axis=1)
    drawn = resampled_interval(scores, rows) if len(scores) else Interval(0.0, 1.0)
    if counts.shares:
        drawn = Interval(min(drawn.low, wilson.low), max(drawn.high, wilson.high))
    return add_seeds(drawn, value, counts.values, limits=(0.0, 1.0))


def estimate_macro_f1(
    true: NDArray[np.bool_], predicted: Sequence[NDArray[np.bool_]], *, seed: int = 0
) -> tuple[float, Interval]:
    """Return the mean over seeds of macro F1, and its 95% bootstrap interval over rows and seeds.

    true, and for each seed predicted: bool [rows, classes]. A class counts if it occurs as true or predicted.
    The interval is corrected for the bias of macro F1, which is too low with few rows per class.
    """
    classes = true.shape[1]
    patterns, counts = np.unique(np.hstack([true, *predicted]), axis=0, return_counts=True)
    true_patterns, *predicted_patterns = np.split(patterns, len(predicted) + 1, axis=1)

    def score(draws: NDArray[Any]) -> Floats:
        """Return macro F1: float64 [draws, seeds]. draws: the count of each pattern, [draws, patterns]."""
        support = draws @ true_patterns.astype(np.float64)
        scores = []
        for marks in predicted_patterns:
            total = support + draws @ marks.astype(np.float64)
            hits = draws @ (true_patterns & marks).astype(np.float64)
            scores.append(_divide(2 * hits, total).sum(1) / np.maximum((total > 0).sum(1), 1))
        return np.stack(scores, axis=1)

    random = np.random.default_rng(seed)
    block = max(1, _MOST_DRAWS_AT_ONCE // (len(counts) + classes))
    sizes = [min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block)]
    scores = np.concatenate([score(random.multinomial(len(true), counts / len(true), size=size)) for size in sizes])
    by_seed = score(counts[None])[0]
    value, drawn = float(by_seed.mean()), scores.mean(axis=1)
    interval = recentre(drawn, value, float(drawn.mean()) - value, len(true), true.sum(axis=0))
    return value, add_seeds(interval, value, by_seed, limits=(0.0, 1.0))


def compare_pair(a: Counts, b: Counts, seeds_a: Sequence[int], seeds_b: Sequence[int], *, seed: int = 0) -> PairedTest:
    """Test two models, each trained with one or several seeds, on the same rows.

    lead: the difference of the mean scores with a paired bootstrap interval, for which rows are drawn with replacement,
    the same for both models and all seeds; and, with several seeds, what other seeds may bring (`add_seeds`).

    p: with one seed each and accuracy, McNemar's exact test. Otherwise an approximate randomisation test on the mean
    score: if the models are equally good, swapping their predictions on a row is a coin toss (Noreen 1989; for F1: Yeh
    2000). McNemar's counts are never summed over seeds: all seeds predict the same rows, so one hard row would count
    as several independent ones. They are reported per seed instead.
    """
    rows = a.right.shape[1]
    if rows != b.right.shape[1]:
        raise ValueError(f"the rows must be paired: got {rows} and {b.right.shape[1]}")
    index_a, index_b = ({s: i for i, s in enumerate(seeds)} for seeds in (seeds_a, seeds_b))
    matched = {s: apply_mcnemar(a.right[i], b.right[index_b[s]]) for s, i in index_a.items() if s in index_b}
    mean = float(a.values.mean() - b.values.mean())
    if len(seeds_a) == len(seeds_b) == 1 and a.shares and b.shares:
        p = apply_mcnemar(a.right[0], b.right[0]).p
    else:
        p = max(apply_randomisation(a, b, seed=seed), find_p_of_seeds(mean, a.values, b.values))
    if _are_equal(a.numerator, b.numerator) and _are_equal(a.denominator, b.denominator):
        return PairedTest(bound_equal(rows), 1.0, matched)
    sizes = [len(a.numerator), len(a.denominator), len(b.numerator), len(b.denominator)]
    sums = _resample(np.concatenate([a.numerator, a.denominator, b.numerator, b.denominator]), seed)
    up_a, down_a, up_b, down_b = np.split(sums, np.cumsum(sizes)[:-1], axis=1)
    leads = score_sums(up_a, down_a).mean(axis=1) - score_sums(up_b, down_b).mean(axis=1)
    interval = add_seeds(widen(percentile_interval(leads), rows), mean, a.values, b.values, limits=(-1.0, 1.0))
    return PairedTest(Difference(interval.low, interval.high, mean, p), p, matched)


def _are_equal(a: Ints, b: Ints) -> bool:
    both = np.concatenate([a, b])
    return bool((both == both[0]).all())


def _resample(columns: Ints, seed: int) -> Floats:
    """Return the sums over rows drawn with replacement: int64 [items, rows] becomes float64 [resamples, items].

    Equal rows are drawn together, so the cost depends on the number of distinct rows.
    """
    patterns, counts = np.unique(columns, axis=1, return_counts=True)
    random = np.random.default_rng(seed)
    block = max(1, _MOST_DRAWS_AT_ONCE // len(counts))
    shares = counts / counts.sum()
    pieces = [
        random.multinomial(counts.sum(), shares, size=min(block, _RESAMPLES - start)).astype(np.float64)
        @ patterns.T.astype(np.float64)
        for start in range(0, _RESAMPLES, block)
    ]
    return np.concatenate(pieces)


def add_seeds(interval: Interval, value: float, *models: Floats, limits: tuple[float, float]) -> Interval:
    """Return an interval over rows, widened by what other seeds may bring; it stays within the limits.

    value: the mean, or a difference of means. models: for each of them the scores of its seeds. Student's t times the
    standard error over seeds, by Welch and Satterthwaite's degrees of freedom, is added to each side in quadrature: two
    or three seeds say little of how far seeds differ. A model with one seed adds nothing.
    """
    from scipy.stats import t

    error, freedom = _measure_seeds(models)
    reach = float(t.ppf(0.975, freedom)) * error if error else 0.0
    low = value - math.hypot(max(value - interval.low, 0.0), reach)
    high = value + math.hypot(max(interval.high - value, 0.0), reach)
    return Interval(max(min(low, interval.low), limits[0]), min(max(high, interval.high), limits[1]))


def find_p_of_seeds(difference: float, *models: Floats) -> float:
    """Return the p-value of a difference of means if other seeds alone could have brought it: Welch's t-test.

    models: as for `add_seeds`. 0 where no model has several seeds, or they do not differ: then seeds explain nothing.
    """
    from scipy.stats import t

    error, freedom = _measure_seeds(models)
    return float(2 * t.sf(abs(difference) / error, freedom)) if error else 0.0


def _measure_seeds(models: Sequence[Floats]) -> tuple[float, float]:
    """Return the standard error that seeds bring to a difference of means, and its degrees of freedom."""
    errors = [(float(scores.var(ddof=1)) / len(scores), len(scores) - 1) for scores in models if len(scores) > 1]
    total = sum(error for error, _ in errors)
    if total <= 0:
        return 0.0, 1.0
    return math.sqrt(total), total**2 / sum(error**2 / count for error, count in errors)


def apply_randomisation(a: Counts, b: Counts, *, seed: int = 0) -> float:
    """Return the p-value of the difference under random swaps of the two models' predictions, row by row."""
    # Multiplying by the other's number of seeds keeps the mean over seeds in integers.
    each = [
        part.sum(0) * len(other.numerator)
        for part, other in ((a.numerator, b), (a.denominator, b), (b.numerator, a), (b.denominator, a))
    ]
    patterns, counts = np.unique(np.stack(each), axis=1, return_counts=True)
    up_a, down_a, up_b, down_b = patterns
    random = np.random.default_rng([seed, 2])

    def lead(swapped: NDArray[Any]) -> Floats:
        """Return the lead after swaps. swapped: the number of swapped rows of each pattern, int64 [..., patterns]."""
        up, down = swapped @ (up_b - up_a), swapped @ (down_b - down_a)
        score_a = score_sums(counts @ up_a + up, counts @ down_a + down)
        return score_a - score_sums(counts @ up_b - up, counts @ down_b - down)

    scale = max(1.0, float(np.abs(np.concatenate([a.values, b.values])).max()))  # costs may be large
    observed = abs(float(lead(np.zeros(len(counts), np.int64)))) - _ROUNDING * scale
    block, reached = max(1, _MOST_DRAWS_AT_ONCE // len(counts)), 0
    for start in range(0, _RESAMPLES, block):
        swapped = random.binomial(counts, 0.5, size=(min(block, _RESAMPLES - start), len(counts)))
        reached += int((np.abs(lead(swapped)) >= observed).sum())
    return (reached + 1) / (_RESAMPLES + 1)


def flip_signs(parts: Floats, counts: Ints, seed: int) -> float:
    """Return the p-value of a sum whose parts are as likely negative as positive if two models are equally good.

    parts: float64 [patterns], what one row of each pattern adds. counts: int64 [patterns], the rows of each. All signs
    are tried for up to 12 rows that add anything, and drawn for more (Fisher 1935, The Design of Experiments).
    """
    parts, counts = parts[parts != 0], counts[parts != 0]
    scale = max(1.0, float(counts @ np.abs(parts)))
    rows, observed = int(counts.sum()), abs(float(counts @ parts)) - _ROUNDING * scale
    if rows <= _MOST_ROWS_EXACT:
        signs = 1 - 2 * (np.arange(2**rows)[:, None] >> np.arange(rows) & 1)
        return float((np.abs(signs @ parts.repeat(counts)) >= observed).mean())
    random = np.random.default_rng([seed, 2])
    block, reached = max(1, _MOST_DRAWS_AT_ONCE // len(counts)), 0
    for start in range(0, _RESAMPLES, block):
        flipped = random.binomial(counts, 0.5, size=(min(block, _RESAMPLES - start), len(counts)))
        reached += int((np.abs((counts - 2 * flipped) @ parts) >= observed).sum())
    return (reached + 1) / (_RESAMPLES + 1)


def score_sums(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Return scores of summed counts; 1 where there is nothing to find and nothing was found, as in the evaluation."""
    return np.where(denominator > 0, _divide(numerator, denominator), 1.0)


def _divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    return np.asarray(np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator > 0))
