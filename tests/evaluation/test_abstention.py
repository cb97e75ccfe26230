"""The risk-coverage curve and the confidence to abstain below, against cases done by hand and every cut there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.evaluation.abstention import find_confidence, measure_risk_coverage

ROWS = st.lists(st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.booleans()), min_size=1, max_size=120)


def test_the_curve_of_four_rows():
    curve = measure_risk_coverage(np.array([0.6, 0.9, 0.7, 0.8]), np.array([False, True, False, True]))
    assert curve.coverage == (0.25, 0.5, 0.75, 1.0) and curve.confidence == (0.9, 0.8, 0.7, 0.6)
    assert curve.risk == pytest.approx((0, 0, 1 / 3, 0.5)) and curve.error == 0.5
    assert curve.area == pytest.approx((0 + 0 + 1 / 3 + 0.5) / 4)


@settings(max_examples=25)
@given(ROWS, st.integers(0, 999))
def test_the_area_is_the_mean_over_all_orders_of_ties(rows, seed):
    confidence, right = np.array([c for c, _ in rows]), np.array([r for _, r in rows])
    random, areas = np.random.default_rng(seed), []
    for _ in range(200):
        order = np.lexsort([random.random(len(rows)), -confidence])
        areas.append((np.cumsum(~right[order]) / np.arange(1, len(rows) + 1)).mean())
    curve = measure_risk_coverage(confidence, right)
    assert curve.area == pytest.approx(np.mean(areas), abs=5 * np.std(areas) / 14 + 1e-9)
    assert curve.coverage[-1] == 1 and curve.risk[-1] == curve.error == pytest.approx(1 - right.mean())
    assert list(curve.coverage) == sorted(curve.coverage) and len(curve.coverage) <= 100


@given(ROWS, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_abstaining_leaves_out_as_few_as_the_floor_allows(rows, floor):
    confidence, right = np.array([c for c, _ in rows]), np.array([r for _, r in rows])
    fits = [
        kept.sum()
        for cut in np.unique(confidence)
        if (kept := confidence >= cut).sum() >= 20 and right[kept].mean() >= floor - 1e-9
    ]
    below = find_confidence(confidence, right, floor)
    assert (below is None) == (not fits)
    if below is not None:
        assert (confidence >= below).sum() == max(fits)


@pytest.mark.parametrize("answers", [19, 20, 21])
def test_a_floor_that_is_just_reached_counts_from_twenty_answers_on(answers):
    """Four of five are right among the first, and none of the others."""
    confidence, right = np.linspace(1, 0.5, 60), (np.arange(60) < answers) & (np.arange(60) % 5 != 4)
    share = float(right[:answers].mean())
    below = find_confidence(confidence, right, share)
    assert (below is None) == (answers < 20)
    if below is not None:
        assert (confidence >= below).sum() == answers
        assert find_confidence(confidence, right, share + 1e-6) is None
