"""Prediction sets: the quantile is crepes' own, and new rows of the same kind are covered as stated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from crepes import ConformalClassifier
from hypothesis import given
from hypothesis import strategies as st

from textune.evaluation import sigmoid, softmax
from textune.evaluation.conformal import (
    COVERAGES,
    count_needed_rows,
    find_label_quantiles,
    find_quantile,
    find_sets,
    name_coverage,
)

Array = np.ndarray[Any, Any]


def draw(rows: int, labels: int, seed: int) -> tuple[Array, Array]:
    """Return probabilities that are too sure, and true labels."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(rows, labels))
    return softmax(3 * logits), (logits + random.gumbel(size=logits.shape)).argmax(1)


@given(st.integers(0, 10_000), st.integers(10, 300), st.sampled_from(COVERAGES), st.sampled_from([1, 2, 12]))
def test_the_quantile_is_the_largest_score_in_crepes_sets(seed, rows, coverage, decimals):
    random = np.random.default_rng(seed)
    scores, others = np.round(random.random(rows), decimals), np.round(random.random(200), decimals)
    quantile = find_quantile(scores, coverage)
    classifier = ConformalClassifier().fit(scores)
    candidates = np.concatenate([scores, [0.0]])
    inside = classifier.predict_set(candidates[:, None], confidence=coverage, smoothing=False)[:, 0] == 1
    assert quantile == max(candidates[inside], default=0.0) or quantile == scores.max()
    if rows >= count_needed_rows(coverage):  # then there is a label outside, and sets of other rows are crepes' own
        theirs = classifier.predict_set(others[:, None], confidence=coverage, smoothing=False)[:, 0] == 1
        between = np.setdiff1d(others[theirs], others[others <= quantile])
        assert not (others[~theirs] <= quantile).any()
        assert not len(between) or between.min() > quantile  # crepes ends at the next score, which no row had


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95, 0.99])
def test_sets_cover_new_rows_as_stated(coverage):
    """Over many calibrations, coverage is the one stated, to within its own chance."""
    rows, shares = count_needed_rows(coverage), []
    for seed in range(60):
        probabilities, true = draw(rows + 500, 4, seed)
        scores = 1 - probabilities[np.arange(len(true)), true]
        quantile = find_quantile(scores[:rows], coverage)
        raw = find_sets(probabilities[rows:], (quantile,), never_empty=False)
        filled = find_sets(probabilities[rows:], (quantile,), never_empty=True)
        hit = raw[np.arange(500), true[rows:]]
        shares.append(hit.mean())
        assert (
            filled.any(1).all() and (filled >= raw).all() and filled[np.arange(500), true[rows:]].mean() >= hit.mean()
        )
    spread = math.sqrt(coverage * (1 - coverage) / rows + coverage * (1 - coverage) / 500)
    assert abs(np.mean(shares) - coverage) < 4 * spread / math.sqrt(60) + 1 / rows


def test_each_label_is_covered_for_itself():
    random, seen = np.random.default_rng(0), []
    for _ in range(25):
        logits = random.normal(size=(1_500, 3)) * 2 + np.array([0.0, -1.0, -5.0])
        true = random.random(logits.shape) < sigmoid(logits)
        probabilities = sigmoid(2 * logits + np.array([1.0, -1.0, 0.0]))
        quantiles = find_label_quantiles(probabilities[:900], true[:900], 0.9)
        inside = find_sets(probabilities[900:], quantiles, never_empty=False)
        hits = (inside & true[900:]).sum(0) / np.maximum(true[900:].sum(0), 1)
        seen.append(hits)
    assert np.abs(np.mean(seen, axis=0)[:2] - 0.9).max() < 0.015


def test_rare_labels_share_a_quantile_and_too_few_rows_have_none():
    random = np.random.default_rng(1)
    probabilities = random.random((600, 4))
    true = random.random((600, 4)) < np.array([0.5, 0.1, 0.1, 0.01])
    common, *_ = (find_label_quantiles(probabilities, true, 0.9)[i] for i in (1, 2, 3))
    quantiles = find_label_quantiles(probabilities, true, 0.9)
    assert quantiles[1] == quantiles[2] == quantiles[3] == common != quantiles[0]
    assert quantiles[0] == find_quantile(1 - probabilities[true[:, 0], 0], 0.9)
    rare = true.copy()
    rare[:, 0] = False
    assert common == find_quantile(1 - probabilities[rare], 0.9)
    assert find_label_quantiles(probabilities[:40], true[:40], 0.99) == ()


def test_rows_needed_grow_with_the_coverage():
    assert [count_needed_rows(c) for c in (0.5, 0.8, 0.9, 0.95, 0.99)] == [20, 50, 100, 200, 1000]
    assert [name_coverage(c) for c in (0.8, 0.9, 0.95, 0.123)] == ["0.8", "0.9", "0.95", "0.123"]


def test_no_rows_have_no_sets():
    assert find_sets(np.zeros((0, 3)), (0.5,), never_empty=True).shape == (0, 3)


def test_a_score_that_equals_the_quantile_is_inside():
    probabilities = np.array([[0.25, 0.75], [0.125, 0.875]])
    assert find_sets(probabilities, (0.75,), never_empty=False).tolist() == [[True, True], [False, True]]
    assert find_sets(probabilities, (0.75, 0.2), never_empty=False).tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("second", [69, 70])
def test_which_labels_share_a_quantile_is_decided_by_their_rows(second):
    """At 90%, 100 rows suffice: the first label has them, the other two only together, and not with one row less."""
    random = np.random.default_rng(5)
    probabilities, true = random.random((400, 3)) * [0.2, 0.6, 1.0], np.zeros((400, 3), bool)
    true[:100, 0] = true[100 : 100 + second, 1] = true[200:230, 2] = True
    first, *others = find_label_quantiles(probabilities, true, 0.9)
    scores = 1 - probabilities
    assert first == find_quantile(scores[true[:, 0], 0], 0.9)
    shared = scores[:, 1:][true[:, 1:]] if second == 70 else scores[true]
    assert others == [find_quantile(shared, 0.9)] * 2
