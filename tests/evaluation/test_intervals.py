"""Intervals cover what they claim, obey the seed and know how little few rows tell."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from textune.errors import DataError
from textune.evaluation import paired_difference
from textune.evaluation.intervals import bootstrap_intervals


def draw_rows(rng: np.random.Generator, rows: int, accuracy: float) -> tuple[np.ndarray, np.ndarray]:
    true = rng.choice(3, rows, p=[0.5, 0.3, 0.2])
    predicted = np.where(rng.random(rows) < accuracy, true, (true + 1) % 3)
    return true, predicted


def test_accuracy_and_macro_f1_are_covered_about_95_times_in_100():
    rng = np.random.default_rng(0)
    true_f1 = f1_score(*draw_rows(rng, 1_000_000, 0.8), average="macro")
    covered = {"accuracy": 0, "macro_f1": 0}
    trials = 300
    for trial in range(trials):
        intervals = bootstrap_intervals(*draw_rows(rng, 300, 0.8), seed=trial)
        for name, truth in (("accuracy", 0.8), ("macro_f1", true_f1)):
            covered[name] += intervals[name].low <= truth <= intervals[name].high
    for name, hits in covered.items():
        assert 0.91 <= hits / trials <= 0.985, name


def test_the_multinomial_bootstrap_is_the_bootstrap_of_rows():
    rng = np.random.default_rng(1)
    true, predicted = draw_rows(rng, 200, 0.7)
    ours = bootstrap_intervals(true, predicted, seed=0)
    draws = [rng.integers(0, 200, 200) for _ in range(1000)]
    accuracy = [(true[d] == predicted[d]).mean() for d in draws]
    macro_f1 = [f1_score(true[d], predicted[d], average="macro") for d in draws]
    for name, values in (("accuracy", accuracy), ("macro_f1", macro_f1)):
        assert (ours[name].low, ours[name].high) == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.015)


def test_the_seed_decides():
    true, predicted = draw_rows(np.random.default_rng(2), 150, 0.7)
    assert bootstrap_intervals(true, predicted, seed=1) == bootstrap_intervals(true, predicted, seed=1)
    assert bootstrap_intervals(true, predicted, seed=1) != bootstrap_intervals(true, predicted, seed=2)


def test_the_order_of_the_rows_does_not_matter():
    true, predicted = draw_rows(np.random.default_rng(3), 150, 0.7)
    order = np.random.default_rng(4).permutation(150)
    assert bootstrap_intervals(true, predicted, seed=1) == bootstrap_intervals(true[order], predicted[order], seed=1)


@pytest.mark.parametrize(("right", "low", "high"), [(True, 0.8389, 1.0), (False, 0.0, 0.1611)])
def test_twenty_rows_without_an_error_are_no_certainty(right, low, high):
    true = np.arange(20) % 2
    intervals = bootstrap_intervals(true, true if right else 1 - true, seed=0)
    for interval in intervals.values():
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-3)


def test_blocks_do_not_change_shapes(monkeypatch):
    true, predicted = draw_rows(np.random.default_rng(5), 150, 0.7)
    whole = bootstrap_intervals(true, predicted, seed=1)
    monkeypatch.setattr("textune.evaluation.intervals._MOST_DRAWS_AT_ONCE", 100)
    assert bootstrap_intervals(true, predicted, seed=1) == whole  # the generator's stream goes on


def test_paired_difference():
    rng = np.random.default_rng(6)
    a, b = rng.random(1000) < 0.9, rng.random(1000) < 0.8
    difference = paired_difference(a, b, seed=0)
    assert difference.mean == pytest.approx(a.mean() - b.mean())
    assert 0 < difference.low < difference.mean < difference.high
    assert difference == paired_difference(a, b, seed=0) != paired_difference(a, b, seed=1)
    mirrored = paired_difference(b, a, seed=0)
    assert mirrored.mean == pytest.approx(-difference.mean)
    assert (mirrored.low, mirrored.high) == pytest.approx((-difference.high, -difference.low), abs=0.006)


def test_pairing_narrows_the_interval_of_models_that_err_together():
    rng = np.random.default_rng(7)
    a = rng.random(500) < 0.8
    alike = a ^ (rng.random(500) < 0.02)
    together = paired_difference(alike, a, seed=0)
    apart = paired_difference(rng.permutation(alike), a, seed=0)
    assert together.high - together.low < 0.5 * (apart.high - apart.low)


def test_paired_difference_refuses_nothing_and_the_unpaired():
    with pytest.raises(DataError):
        paired_difference(np.array([], bool), np.array([], bool))
    with pytest.raises(ValueError, match="paired"):
        paired_difference(np.array([True]), np.array([True, False]))
