"""Prediction sets: the labels that cannot be ruled out, so that a stated share of true labels is among them.

Split conformal prediction (Vovk, Gammerman and Shafer 2005): the score of a label is 1 minus its probability, and a set
holds the labels whose score is at most a quantile of the calibration rows' true labels. crepes computes the quantile;
a bundle keeps that number alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

COVERAGES = (0.8, 0.9, 0.95, 0.99)
"""The coverages whose quantiles a run keeps, where its rows suffice, beside the one that was asked for."""
_EXPECTED_OUTSIDE = 10


def count_needed_rows(coverage: float) -> int:
    """Return how many calibration rows a coverage needs: ten true labels must be expected outside of their sets.

    With fewer, the coverage on new rows would differ a lot from one calibration to the next: at 90% and 100 rows, its
    standard deviation is 3 percentage points.
    """
    return math.ceil(round(_EXPECTED_OUTSIDE / (1 - coverage), 6))


def find_quantile(scores: Floats, coverage: float) -> float:
    """Return the largest score that the sets of this coverage still hold, by crepes.

    scores: 1 minus the probability of a true label, of each calibration row; at least `count_needed_rows`.
    """
    from crepes import ConformalClassifier

    classifier, candidates = ConformalClassifier().fit(np.asarray(scores, np.float64)), np.unique(scores)
    inside, outside = 0, len(candidates)  # the smallest score is always inside: its p-value is 1
    while outside - inside > 1:
        middle = (inside + outside) // 2
        one = candidates[middle : middle + 1, None]
        if classifier.predict_set(one, confidence=coverage, smoothing=False)[0, 0]:
            inside = middle
        else:
            outside = middle
    return float(candidates[inside])


def find_label_quantiles(probabilities: Floats, true: Bools, coverage: float) -> tuple[float, ...]:
    """Return each label's quantile over the rows that have it, so that each label is covered for itself.

    probabilities, true: [rows, labels]. Labels with too few rows share one quantile over all true labels of all rows,
    or over their own true labels together where those suffice. Empty where all true labels together are too few.
    """
    scores, needed = 1 - np.asarray(probabilities, np.float64), count_needed_rows(coverage)
    support = true.sum(axis=0)
    if support.sum() < needed:
        return ()
    rare = support < needed
    shared = rare if support[rare].sum() >= needed else np.ones(len(rare), bool)
    common = find_quantile(scores[:, shared][true[:, shared]], coverage) if rare.any() else 0.0
    return tuple(
        common if rare[label] else find_quantile(scores[true[:, label], label], coverage) for label in range(len(rare))
    )


def find_sets(probabilities: NDArray[Any], quantiles: Sequence[float], *, never_empty: bool) -> Bools:
    """Return which labels are in each row's set: bool [rows, labels].

    quantiles: one for all labels, or one each. never_empty: the most probable label is always in the set, which can
    only add to the coverage.
    """
    scores = 1 - np.asarray(probabilities, np.float64)
    inside = scores <= np.asarray(quantiles, np.float64)
    if never_empty and len(inside):
        inside[np.arange(len(inside)), scores.argmin(axis=1)] = True
    return np.asarray(inside)


def name_coverage(coverage: float) -> str:
    """Return the name under which the quantiles of a coverage are kept: ``0.9``."""
    return f"{coverage:g}"
