"""Intervals cover what they claim, obey the seed and know how little few rows tell."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from textune.errors import DataError
from textune.evaluation import apply_mcnemar, evaluate_multi_label, paired_difference
from textune.evaluation.intervals import bootstrap_intervals, wilson_interval


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


def macro_f1_of_many_rows(recall: np.ndarray) -> float:
    """Return the macro F1 of equally frequent classes whose errors fall on all others alike, for endless rows."""
    size = len(recall)
    answered = recall + ((1 - recall).sum() - (1 - recall)) / (size - 1)
    return float((2 * recall / (1 + answered)).mean())


@pytest.mark.parametrize("rows_per_class", [1, 3])
def test_macro_f1_is_covered_with_few_rows_per_class(rows_per_class):
    rng, covered = np.random.default_rng(8), 0
    for trial in range(60):
        recall = rng.uniform(0.6, 1, 77)
        true = np.repeat(np.arange(77), rows_per_class)
        others = (true + rng.integers(1, 77, len(true))) % 77
        predicted = np.where(rng.random(len(true)) < recall[true], true, others)
        interval = bootstrap_intervals(true, predicted, seed=trial)["macro_f1"]
        covered += interval.low <= macro_f1_of_many_rows(recall) <= interval.high
    assert covered >= 53


@pytest.mark.parametrize("unknown", [True, False])
def test_macro_f1_is_covered_where_only_the_classes_rows_vary(unknown):
    """A quarter of the labels is unknown and all others are right; or one of two equal classes is always answered."""
    rng, covered = np.random.default_rng(9), 0
    shares = [0.375, 0.375, 0.25] if unknown else [0.5, 0.5]
    known_f1 = 0.375 / (0.375 + 0.125 / 2)  # half of the unknown labels is taken for each known one
    truth = 2 * known_f1 / 3 if unknown else 1 / 3
    for trial in range(60):
        true = rng.choice(len(shares), 400, p=shares)
        predicted = np.where(true == 2, rng.integers(0, 2, 400), true) if unknown else np.zeros(400, np.int64)
        interval = bootstrap_intervals(true, predicted, seed=trial, known_classes=2)["macro_f1"]
        covered += interval.low <= truth <= interval.high
    assert covered >= 53


def test_one_more_error_never_narrows_an_interval():
    true = np.arange(50) % 2
    lows = {"accuracy": [], "macro_f1": []}
    for errors in range(26):
        predicted = np.where(np.arange(50) < errors, 1 - true, true)
        intervals = bootstrap_intervals(true, predicted, seed=0)
        assert intervals["accuracy"] == wilson_interval((50 - errors) / 50, 50)
        for name, interval in intervals.items():
            lows[name].append(interval.low)
    for name, values in lows.items():
        assert values == sorted(values, reverse=True), name


def test_labels_that_the_model_does_not_know_are_never_hit():
    true = np.repeat([0, 1, 2, 3], 25)  # 2 and 3 are unknown
    predicted = np.where(true < 2, true, true % 2)
    predicted[0] = 1
    strict = bootstrap_intervals(true, predicted, seed=0, known_classes=2)["macro_f1"]
    f1 = f1_score(true, predicted, average="macro")
    assert strict.low < f1 < strict.high < 0.4
    assert strict.high < bootstrap_intervals(true, predicted, seed=0)["macro_f1"].high


def test_simulated_intervals_are_close_to_the_bootstrap_of_rows():
    rng = np.random.default_rng(1)
    true, predicted = draw_rows(rng, 200, 0.7)
    ours = bootstrap_intervals(true, predicted, seed=0)
    draws = [rng.integers(0, 200, 200) for _ in range(1000)]
    accuracy = [(true[d] == predicted[d]).mean() for d in draws]
    macro_f1 = [f1_score(true[d], predicted[d], average="macro") for d in draws]
    for name, values in (("accuracy", accuracy), ("macro_f1", macro_f1)):
        assert (ours[name].low, ours[name].high) == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.015)


def test_errors_that_fall_into_one_class_are_simulated_there():
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(21), 30)
    predicted = np.where((true > 0) & (rng.random(630) > 0.8), 0, true)
    ours = bootstrap_intervals(true, predicted, seed=0)["macro_f1"]
    draws = rng.multinomial(630, np.full(630, 1 / 630), size=4_000)
    hits, support, answered = (
        np.stack([draws[:, marks].sum(1) for marks in masks], 1)
        for masks in (
            [(true == c) & (predicted == c) for c in range(21)],
            [true == c for c in range(21)],
            [predicted == c for c in range(21)],
        )
    )
    low, high = np.percentile((2 * hits / (support + answered)).mean(1), [2.5, 97.5])
    assert ours.high - ours.low == pytest.approx(high - low, rel=0.15)


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


def test_all_or_none_of_the_rows_are_certain_at_their_own_end():
    for rows in range(1, 200):
        assert wilson_interval(1.0, rows).high == 1.0
        assert wilson_interval(0.0, rows).low == 0.0


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


def test_a_paired_difference_carries_mcnemars_p_value():
    a, b = np.ones(20, bool), np.arange(20) >= 4
    difference = paired_difference(a, b, seed=0)
    assert difference.low > 0, "the bootstrap alone would call it a difference"
    assert difference.p_value == apply_mcnemar(a, b).p == pytest.approx(0.125)


def test_paired_difference_refuses_nothing_and_the_unpaired():
    with pytest.raises(DataError):
        paired_difference(np.array([], bool), np.array([], bool))
    with pytest.raises(ValueError, match="paired"):
        paired_difference(np.array([True]), np.array([True, False]))


@pytest.mark.parametrize("rare", [1, 2, 5])
def test_macro_f1_without_an_error_knows_how_little_a_rare_class_tells(rare):
    true = (np.arange(200) < rare).astype(int)
    interval = bootstrap_intervals(true, true, seed=0)["macro_f1"]
    assert interval.high == 1 and interval.low <= (1 + wilson_interval(1.0, rare).low) / 2
    scores = np.eye(2)[true] * 0.8 + 0.1
    several = evaluate_multi_label(scores, np.eye(2)[true], ("a", "b"), [0.5, 0.5]).intervals["macro_f1"]
    assert several.low == pytest.approx(interval.low)
