"""Thresholds for floors and costs, against every threshold there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textune.evaluation.thresholds import (
    find_cost_threshold,
    find_floor_threshold,
    tune_costs,
    tune_floors,
    tune_thresholds,
)

# round numbers, so that probabilities are often equal
ROWS = st.lists(st.tuples(st.integers(0, 12).map(lambda n: n / 12), st.booleans()), min_size=1, max_size=40)


def score(scores, true, threshold):
    given = scores >= threshold
    hits = (given & true).sum()
    return hits / max(given.sum(), 1), hits / max(true.sum(), 1), int(given.sum())


@given(ROWS, st.sampled_from(["precision", "recall"]), st.sampled_from([0.3, 0.5, 0.8, 0.9, 1.0]))
def test_a_floor_gives_up_least_of_the_other_figure(rows, figure, floor):
    scores, true = np.array([s for s, _ in rows]), np.array([t for _, t in rows])
    threshold, reached = find_floor_threshold(scores, true, figure, floor)
    cuts = [score(scores, true, s) for s in np.unique(scores)]
    first, second = (0, 1) if figure == "precision" else (1, 0)
    fitting = [cut[second] for cut in cuts if cut[first] >= floor - 1e-12]
    mine = score(scores, true, threshold)
    assert reached == bool(fitting)
    if fitting:
        assert mine[first] >= floor - 1e-12 and mine[second] == max(fitting)
    else:
        assert mine[first] == max(cut[first] for cut in cuts)
    assert mine in cuts


@given(ROWS, st.integers(0, 9), st.integers(0, 9))
def test_costs_are_the_lowest_there_are(rows, missed, wrong):
    scores, true = np.array([s for s, _ in rows]), np.array([t for _, t in rows])

    def cost(threshold):
        given = scores >= threshold
        return missed * (true & ~given).sum() + wrong * (given & ~true).sum()

    lowest = min(cost(cut) for cut in [*np.unique(scores), 2.0])
    threshold = find_cost_threshold(scores, true, missed, wrong)
    assert cost(threshold if threshold < 1 or scores.max() < 1 else 2.0) == lowest


def test_labels_with_few_rows_keep_near_a_prior():
    random = np.random.default_rng(0)
    true = random.random((4_000, 2)) < np.array([0.3, 0.0005])
    scores = np.clip(0.6 * true + 0.5 * random.random(true.shape), 0, 1)
    common, missed = tune_floors(scores, true, "precision", 0.9)
    assert missed == () and common[1] == find_floor_threshold(scores.ravel(), true.ravel(), "precision", 0.9)[0]
    assert common[0] == find_floor_threshold(scores[:, 0], true[:, 0], "precision", 0.9)[0]
    cuts = tune_costs(scores, true, np.array([[1.0, 1.0], [9.0, 1.0]]))
    assert 0.1 < cuts[1] < 0.3 and 0.4 < cuts[0] < 0.65
    assert tune_costs(scores[:0], true[:0], np.array([[1.0, 3.0], [9.0, 1.0]])) == pytest.approx((0.75, 0.1))


def test_a_label_that_reaches_no_floor_is_named():
    random = np.random.default_rng(1)
    true = random.random((300, 2)) < 0.2
    scores = np.stack([random.random(300), np.where(true[:, 1], 0.9, 0.1)], axis=1)
    thresholds, missed = tune_floors(scores, true, "precision", 0.99)
    assert 0 in missed or (scores[:, 0] >= thresholds[0]).sum() <= 3  # a few right ones on top may reach it by chance
    assert 1 not in missed


@pytest.mark.parametrize(("missed", "wrong"), [(1000.0, 1.0), (1.0, 500.0), (1.0, 0.0), (0.0, 1.0), (2.0, 1.0)])
def test_costs_far_apart_are_nearly_as_low_as_calibrated_probabilities_allow(missed, wrong):
    random = np.random.default_rng(0)
    scores = random.uniform(0, 0.01 if missed > wrong else 1, 60_000)
    true = random.random(60_000) < scores
    (found,) = tune_costs(scores[:20_000, None], true[:20_000, None], np.array([[missed, wrong]]))

    def price(threshold: float) -> float:
        given = scores[20_000:] >= threshold
        return float((missed * (true[20_000:] & ~given) + wrong * (given & ~true[20_000:])).mean())

    assert price(found) <= 1.2 * price(wrong / (missed + wrong)) + 1e-4


def test_a_label_whose_probabilities_are_all_small_is_still_found():
    scores = np.concatenate([np.full(50, 0.008), np.full(950, 0.001)])[:, None]
    (found,) = tune_thresholds(scores, scores > 0.005)
    assert 0.001 < found < 0.008
