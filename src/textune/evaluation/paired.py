"""Classifiers on the same rows: how far each one's figure may move, and which difference is more than chance.

Every figure here is a share of sums over rows, ``sum(numerator) / sum(denominator)``: accuracy is right answers over
rows, micro F1 twice the hits over the labels given and true. A model that was trained with several seeds is several
rows of such numbers; its figure is the mean of its seeds' figures.
"""

from __future__ import annotations

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
    wilson_interval,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_RESAMPLES = 10_000
"""So many that a p-value of 1 in 10,000 can be told: over dozens of pairs Holm asks for such."""
_MOST_DRAWS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Counts:
    """What each seed's model earned on each row: numerator, denominator int64 [seeds, rows]; right: bool, wholly right.

    For accuracy the denominator is 1 everywhere; for micro F1 the numerator is twice the hits and the denominator the
    labels given plus the true ones.
    """

    numerator: Ints
    denominator: Ints
    right: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if not self.numerator.shape == self.denominator.shape == self.right.shape or self.numerator.ndim != 2:
            raise ValueError(f"seeds x rows are needed: got {self.numerator.shape} and {self.denominator.shape}")
        if not self.numerator.size:
            raise DataError("models cannot be compared on no rows", hint="give rows with labels")

    @property
    def values(self) -> Floats:
        """The figure of each seed's model: float64 [seeds]."""
        return _divide(self.numerator.sum(1), self.denominator.sum(1))

    @property
    def shares(self) -> bool:
        """Whether each row counts once, as in accuracy."""
        return bool((self.denominator == 1).all())


@dataclass(frozen=True)
class McNemar:
    """One seed's pair of models: the rows that only one of the two has wholly right, and the exact p-value."""

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same rows.

    lead: A's figure minus B's with its 95% interval. p: that so large a difference comes by chance.
    mcnemar: by seed, for the seeds that both were trained with.
    """

    lead: Difference
    p: float
    mcnemar: dict[int, McNemar]


def count_correct(right: Sequence[NDArray[np.bool_]]) -> Counts:
    """Return the counts of accuracy. right: for each seed bool [rows], whether the answer was right."""
    marks = np.stack([np.asarray(r, bool) for r in right])
    return Counts(marks.astype(np.int64), np.ones(marks.shape, np.int64), marks)


def count_labels(true: NDArray[np.bool_], given: Sequence[NDArray[np.bool_]], missed: Ints | None = None) -> Counts:
    """Return the counts of micro F1.

    true, and for each seed given: bool [rows, labels]. missed: int64 [rows], true labels that no model knows.
    """
    extra = np.zeros(len(true), np.int64) if missed is None else missed
    hits = np.stack([2 * (true & g).sum(1) for g in given]).astype(np.int64)
    marked = np.stack([g.sum(1) + true.sum(1) + extra for g in given]).astype(np.int64)
    return Counts(hits, marked, hits == marked)


def apply_mcnemar(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> McNemar:
    """Test whether two models err equally often on the same rows: bool [rows] each.

    Exact: of the rows that only one of them has right, each is a coin's toss if they are equally good, so p comes from
    the binomial distribution, however few such rows there are (McNemar 1947, Psychometrika 12).
    """
    from scipy.stats import binomtest

    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired rows are needed: got shapes {a.shape} and {b.shape}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, p)


def paired_difference(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], seed: int = 0) -> Difference:
    """Return A's accuracy minus B's on the same rows: paired-bootstrap 95% interval and McNemar's exact p-value.

    correct_a, correct_b: bool [rows], whether each model was right on each row.
    Raises DataError without rows, ValueError where the two differ in length.
    """
    counts = apply_mcnemar(correct_a, correct_b)
    rows = len(correct_a)
    if rows == 0:
        raise DataError("two models cannot be compared on no rows", hint="give rows with labels")
    shares = np.array([counts.only_a, counts.only_b, rows - counts.only_a - counts.only_b]) / rows
    draws = np.random.default_rng(seed).multinomial(rows, shares, size=RESAMPLES)
    interval = percentile_interval((draws[:, 0] - draws[:, 1]) / rows)
    return Difference(interval.low, interval.high, (counts.only_a - counts.only_b) / rows, counts.p)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that may be held against 0.05 each although so many were looked at.

    The smallest is multiplied by their number, the next by one less, and so on, never falling: the chance of one or
    more false claims stays below 5% (Holm 1979, Scandinavian Journal of Statistics 6).
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = largest
    return adjusted


def estimate_interval(counts: Counts, *, seed: int = 0) -> Interval:
    """Return the 95% interval of the mean figure over other rows of the kind and other seeds.

    With one seed nothing is known of others: accuracy has Wilson's interval over rows, micro F1 a bootstrap. With
    several seeds rows are drawn with replacement, the same for all seeds, and seeds too (see `compare_pair`). For
    accuracy the interval is then at least as wide as Wilson's for one model, so that one error never narrows it.
    """
    rows = counts.right.shape[1]
    wilson = wilson_interval(float(counts.values.mean()), rows)
    if counts.shares and len(counts.right) == 1:
        return wilson
    sums = _resample(np.concatenate([counts.numerator, counts.denominator]), seed)
    size = len(counts.numerator)
    random = np.random.default_rng([seed, 1])
    drawn = resampled_interval(_draw_seeds(_divide(sums[:, :size], sums[:, size:]), random), rows)
    if counts.shares:
        drawn = Interval(min(drawn.low, wilson.low), max(drawn.high, wilson.high))
    return drawn


def estimate_macro_f1(
    true: NDArray[np.bool_], given: Sequence[NDArray[np.bool_]], *, seed: int = 0
) -> tuple[float, Interval]:
    """Return the mean over seeds of macro F1, and its 95% bootstrap interval over rows and seeds.

    true, and for each seed given: bool [rows, classes]. A class counts where it occurs as a truth or an answer.
    The interval is corrected for the bias of macro F1, which is too low on few rows per class.
    """
    classes = true.shape[1]
    patterns, counts = np.unique(np.hstack([true, *given]), axis=0, return_counts=True)
    truth, *answers = np.split(patterns, len(given) + 1, axis=1)

    def score(draws: NDArray[Any]) -> Floats:
        """Take how often each pattern was drawn: [draws, patterns]; returns macro F1: float64 [draws, seeds]."""
        support = draws @ truth.astype(np.float64)
        found = []
        for answer in answers:
            seen = support + draws @ answer.astype(np.float64)
            hits = draws @ (truth & answer).astype(np.float64)
            found.append(_divide(2 * hits, seen).sum(1) / np.maximum((seen > 0).sum(1), 1))
        return np.stack(found, axis=1)

    random = np.random.default_rng(seed)
    block = max(1, _MOST_DRAWS_AT_ONCE // (len(counts) + classes))
    sizes = [min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block)]
    scores = np.concatenate([score(random.multinomial(len(true), counts / len(true), size=size)) for size in sizes])
    value = float(score(counts[None]).mean())
    drawn = _draw_seeds(scores, np.random.default_rng([seed, 1]))
    return value, recentre(drawn, value, float(drawn.mean()) - value, len(true))


def compare_pair(a: Counts, b: Counts, seeds_a: Sequence[int], seeds_b: Sequence[int], *, seed: int = 0) -> PairedTest:
    """Test two models, each trained with one or several seeds, on the same rows.

    lead: the difference of the mean figures; its interval is a paired bootstrap: rows are drawn with replacement, the
    same ones for both models and all seeds, and of each model's seeds as many with replacement, their deviations
    widened by sqrt(n / (n - 1)), since a few seeds understate how far seeds differ. With one seed it is over rows
    alone.

    p: with one seed each and accuracy it is McNemar's exact test. Else it is an approximate randomisation test on the
    figure of all seeds together: if the models are alike, whose answers a row's are is a coin's toss (Noreen 1989;
    for F1: Yeh 2000). McNemar's counts of several seeds are never added up: the seeds answer the same rows, and a hard
    row would count as several independent ones. They are given seed by seed instead.
    """
    rows = a.right.shape[1]
    if rows != b.right.shape[1]:
        raise ValueError(f"paired rows are needed: got {rows} and {b.right.shape[1]}")
    index_a, index_b = ({s: i for i, s in enumerate(seeds)} for seeds in (seeds_a, seeds_b))
    matched = {s: apply_mcnemar(a.right[i], b.right[index_b[s]]) for s, i in index_a.items() if s in index_b}
    mean = float(a.values.mean() - b.values.mean())
    if len(seeds_a) == len(seeds_b) == 1 and a.shares and b.shares:
        p = apply_mcnemar(a.right[0], b.right[0]).p
    else:
        p = apply_randomisation(a, b, seed=seed)
    if _are_alike(a.numerator, b.numerator) and _are_alike(a.denominator, b.denominator):
        # Not one row tells them apart: by the rule of three the true share of such rows may still be this large.
        bound = 1 - 0.05 ** (1 / rows)
        return PairedTest(Difference(-bound, bound, 0.0, 1.0), 1.0, matched)
    sizes = [len(a.numerator), len(a.denominator), len(b.numerator), len(b.denominator)]
    sums = _resample(np.concatenate([a.numerator, a.denominator, b.numerator, b.denominator]), seed)
    up_a, down_a, up_b, down_b = np.split(sums, np.cumsum(sizes)[:-1], axis=1)
    random = np.random.default_rng([seed, 1])
    leads = _draw_seeds(_divide(up_a, down_a), random) - _draw_seeds(_divide(up_b, down_b), random)
    interval = percentile_interval(leads)
    return PairedTest(Difference(interval.low, interval.high, mean, p), p, matched)


def _are_alike(a: Ints, b: Ints) -> bool:
    both = np.concatenate([a, b])
    return bool((both == both[0]).all())


def _resample(columns: Ints, seed: int) -> Floats:
    """Return the sums over rows drawn with replacement: int64 [items, rows] becomes float64 [resamples, items].

    Rows alike are drawn together, so a million rows cost no more than their distinct patterns.
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


def _draw_seeds(values: Floats, random: np.random.Generator) -> Floats:
    """Return the mean figure of seeds drawn with replacement: float64 [resamples, seeds] becomes [resamples]."""
    resamples, seeds = values.shape
    mean = values.mean(axis=1)
    if seeds == 1:
        return np.asarray(mean)
    weights = random.multinomial(seeds, [1 / seeds] * seeds, size=resamples) / seeds
    return np.asarray(mean + ((values * weights).sum(axis=1) - mean) * np.sqrt(seeds / (seeds - 1)))


def apply_randomisation(a: Counts, b: Counts, *, seed: int = 0) -> float:
    """Return the p-value of the difference under random swaps of the two models' answers, row by row."""
    # the mean over seeds, kept whole by multiplying with the other's number of seeds
    each = [
        part.sum(0) * len(other.numerator)
        for part, other in ((a.numerator, b), (a.denominator, b), (b.numerator, a), (b.denominator, a))
    ]
    patterns, counts = np.unique(np.stack(each), axis=1, return_counts=True)
    up_a, down_a, up_b, down_b = patterns
    random = np.random.default_rng([seed, 2])

    def lead(swapped: NDArray[Any]) -> Floats:
        """Take how many of each pattern's rows change sides: int64 [..., patterns]."""
        up, down = swapped @ (up_b - up_a), swapped @ (down_b - down_a)
        mine = _divide(counts @ up_a + up, counts @ down_a + down)
        return mine - _divide(counts @ up_b - up, counts @ down_b - down)

    observed = abs(float(lead(np.zeros(len(counts), np.int64))))
    block, reached = max(1, _MOST_DRAWS_AT_ONCE // len(counts)), 0
    for start in range(0, _RESAMPLES, block):
        swapped = random.binomial(counts, 0.5, size=(min(block, _RESAMPLES - start), len(counts)))
        reached += int((np.abs(lead(swapped)) >= observed - 1e-12).sum())
    return (reached + 1) / (_RESAMPLES + 1)


def _divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    return np.asarray(np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator > 0))
