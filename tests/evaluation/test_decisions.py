"""Figures of floors and costs, against scikit-learn, plain loops and the spread that many samples have."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score

from textune.evaluation.abstention import measure_risk_coverage
from textune.evaluation.decisions import (
    AbstainFigures,
    DecisionFigures,
    SetFigures,
    describe_decisions,
    list_costs,
    measure_costs,
    measure_ratio,
    measure_rule,
    measure_share,
    read_decision_figures,
)
from textune.evaluation.intervals import wilson_interval


@given(st.integers(0, 999), st.integers(1, 4), st.sampled_from(["precision>=0.9", "recall>=0.9", "f1"]))
def test_precision_and_recall_are_scikit_learns(seed, labels, rule):
    random = np.random.default_rng(seed)
    true, answers = random.random((2, 30, labels)) < 0.4
    figures = measure_rule(rule, "a", true, answers, seed)
    scores = [score(true.ravel(), answers.ravel(), zero_division=np.nan) for score in (precision_score, recall_score)]
    counts = [int(answers.sum()), int(true.sum())]
    if rule.startswith("recall"):
        scores, counts = scores[::-1], counts[::-1]
    for share, score, count in zip((figures.reached, figures.other), scores, counts, strict=True):
        assert (share.value is None) == np.isnan(score) and share.rows == count
        assert share.value is None or share.value == pytest.approx(score)


def test_a_ratio_of_sums_is_no_mean_of_ratios():
    share = measure_ratio(np.array([1, 0, 9]), np.array([1, 1, 10]), 0)
    assert share.value == pytest.approx(10 / 12) and share.rows == 12
    random = np.random.default_rng(2)
    wholes = random.integers(0, 9, 500)
    parts = random.binomial(wholes, 0.7)
    share = measure_ratio(parts, wholes, 0)
    assert share.value == pytest.approx(parts.sum() / wholes.sum()) and share.interval is not None
    assert share.interval.low < 0.7 < share.interval.high
    assert share.interval.high - share.interval.low == pytest.approx(2 * 1.96 * (0.21 / wholes.sum()) ** 0.5, rel=0.25)


def test_the_interval_of_a_ratio_counts_rows_and_not_decisions():
    """Ten decisions of a row that are all right or all wrong are one."""
    right = np.random.default_rng(3).random(200) < 0.8
    once, tenfold = (measure_ratio(k * right, np.full(200, k), 0).interval for k in (1, 10))
    assert once is not None and tenfold is not None
    assert tenfold.high - tenfold.low == pytest.approx(once.high - once.low, rel=0.1)


def test_shares_have_wilsons_interval():
    share = measure_share(np.arange(40) < 30)
    assert (share.value, share.rows, share.interval) == (0.75, 40, wilson_interval(0.75, 40))


@pytest.mark.parametrize("prices", [(0.0, 1.0), (0.0, 1.0, 20.0)])
def test_the_mean_cost_is_covered_about_95_times_in_100(prices):
    random, covered, widths = np.random.default_rng(4), 0, []
    shares = np.array([0.8, 0.15, 0.05])[: len(prices)] / sum([0.8, 0.15, 0.05][: len(prices)])
    for seed in range(200):
        each = random.choice(prices, 400, p=shares)
        found = measure_costs(each, each + 1, seed, dearest=5.0)
        assert found.mean == pytest.approx(each.mean()) and found.without == pytest.approx(each.mean() + 1)
        covered += found.interval.low <= np.dot(prices, shares) <= found.interval.high
        widths.append(found.interval.high - found.interval.low)
    spread = np.sqrt(np.dot(np.square(prices), shares) - np.dot(prices, shares) ** 2)
    assert 0.90 <= covered / 200 <= 0.99 and np.mean(widths) == pytest.approx(2 * 1.96 * spread / 20, rel=0.1)


@given(st.integers(0, 999))
def test_every_answer_costs_what_the_table_says(seed):
    random = np.random.default_rng(seed)
    table = random.random((3, 3))
    true, answers = random.integers(-1, 3, 20), random.integers(0, 3, 20)
    expected = [table.max() if t < 0 else table[t][a] for t, a in zip(true, answers, strict=True)]
    assert list_costs(table.tolist(), true, answers).tolist() == pytest.approx(expected)
    sets, given_sets = random.random((2, 20, 3)) < 0.4
    expected = [
        sum(table[i][0] if t[i] and not g[i] else table[i][1] if g[i] and not t[i] else 0 for i in range(3))
        for t, g in zip(sets, given_sets, strict=True)
    ]
    assert list_costs(table[:, :2].tolist(), sets, given_sets).tolist() == pytest.approx(expected)
    unknown = np.arange(len(sets)) % 3
    beyond = list_costs(table[:, :2].tolist(), sets, given_sets, unknown) - expected
    assert beyond == pytest.approx(unknown * table[:, 0].max())


def test_figures_are_kept_as_plain_data_and_told_in_words():
    right = np.arange(100) < 80
    share = measure_share(right)
    figures = DecisionFigures(
        measure_risk_coverage(np.linspace(1, 0, 100), right),
        (SetFigures(0.9, share, 1.25, 0.75),),
        AbstainFigures("accuracy>=0.9", 0.6, measure_share(np.arange(100) < 90), share),
        measure_rule("recall>=0.7", "a", right[:, None], (np.arange(100) < 60)[:, None], 0),
        measure_costs(np.where(right, 0.0, 5.0), np.where(right, 1.0, 5.0), 0, dearest=5.0),
    )
    assert read_decision_figures(json.loads(json.dumps({"decision_figures": asdict(figures)}))) == figures
    told = describe_decisions(figures)
    assert told[0].startswith("recall of 'a': 75.0% (") and "floor 70.0%), precision 100% (" in told[0]
    assert told[1].startswith("mean cost per row: 1 (95% interval ") and told[1].endswith("without costs 1.8")
    assert told[2].startswith("abstaining below a confidence of 60.0% answers 90.0% (") and "floor 90.0%" in told[2]
    assert told[3].startswith("sets of 90.0% coverage hold the true label in 80.0% (")
    assert "1.25 labels on average; 75.0% hold one label" in told[3]
    assert describe_decisions(None) == [] == describe_decisions(None)
