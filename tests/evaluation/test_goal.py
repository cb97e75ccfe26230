"""What a run was tuned for: parts of ratios, paired leads and the cheapest constant answer, against plain loops."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from textune.evaluation import Difference, Interval, count_labels, evaluate_multi_label, paired_f1_difference
from textune.evaluation.decisions import (
    find_dearest,
    list_costs,
    measure_costs,
    measure_ratio,
    measure_rule,
    measure_share,
)
from textune.evaluation.goal import (
    Goal,
    GoalFigure,
    compare_costs,
    compare_ratios,
    count_rule,
    find_cheapest_constant,
    read_goal,
)
from textune.report.leads import is_clear

ROWS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(ROWS, st.sampled_from(["precision>=0.9", "recall>=0.9", "f1"]))
def test_parts_of_a_rule_are_those_of_scikit_learn(rows, rule):
    true, answers = (np.array(column)[:, None] for column in zip(*rows, strict=True))
    best, floored = count_rule(rule, true, answers)
    scores = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    maximized = {"precision>=0.9": "recall", "recall>=0.9": "precision", "f1": "f1"}[rule]
    for parts, name in ((best, maximized), (floored, rule.partition(">=")[0])):
        expected = scores[name](true.ravel(), answers.ravel(), zero_division=0.0)
        assert parts[:, 0].sum() / max(parts[:, 1].sum(), 1) == pytest.approx(expected)


def test_a_lead_has_its_sign_and_covers_the_true_one():
    random, covered = np.random.default_rng(0), 0
    for seed in range(80):
        true = random.random(300) < 0.4
        mine, theirs = (true & (random.random(300) < share) for share in (0.9, 0.8))
        parts = [count_rule("precision>=0.9", true[:, None], each[:, None])[0] for each in (mine, theirs)]
        lead = compare_ratios(*parts, seed)
        assert lead is not None and lead.low <= lead.mean <= lead.high
        assert lead.mean == pytest.approx(recall_score(true, mine) - recall_score(true, theirs))
        covered += lead.low <= 0.1 <= lead.high
    assert covered >= 70
    assert compare_ratios(parts[0], parts[0] * 0, 0) is None, "nothing is given, so it has no precision"


def test_costs_that_go_together_are_compared_row_by_row():
    random = np.random.default_rng(1)
    base = random.integers(0, 9, 400).astype(float)
    lead = compare_costs(base + 0.5, base, 0, dearest=3.0)
    assert (lead.low, lead.mean, lead.high) == pytest.approx((0.5, 0.5, 0.5), abs=0.03), "what varies together cancels"
    assert lead.low < 0.5 < lead.high, "other rows may differ by more"
    apart = compare_costs(random.permutation(base), base + 1, 0, dearest=3.0)
    assert apart.low < -1 < apart.high and apart.mean == pytest.approx(-1)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * (base.std() * 2**0.5) / 20, rel=0.15)


def test_four_rows_to_none_of_forty_are_no_proof():
    errors = np.r_[np.ones(4), np.zeros(36)]
    lead = compare_costs(np.zeros(40), errors, 0, dearest=1.0)
    assert lead.high < 0 and lead.p_value == pytest.approx(0.125, abs=0.02) and not is_clear(lead)
    given = np.stack([1 - errors, np.ones(40)], axis=1).astype(np.int64)
    ratios = compare_ratios(np.ones((40, 2), np.int64), given, 0)
    assert ratios is not None and ratios.low > 0 and ratios.p_value == pytest.approx(0.125, abs=0.02)
    many = compare_costs(np.zeros(400), np.repeat(errors, 10), 0, dearest=1.0)
    assert is_clear(many) and many.p_value is not None and many.p_value < 0.001


def test_answers_that_are_alike_on_these_rows_may_differ_on_others():
    same = compare_costs(np.ones(30), np.ones(30), 0, dearest=5.0)
    assert same.mean == 0 and same.high == -same.low == pytest.approx(5 * (1 - 0.05 ** (1 / 30)))
    ratios = compare_ratios(np.ones((30, 2), np.int64), np.ones((30, 2), np.int64), 0)
    assert ratios is not None and 0.05 < ratios.high == -ratios.low < 0.15
    of_seeds = compare_ratios(*[np.full((30, 2), 5, np.int64)] * 2, 0)
    assert of_seeds is not None and of_seeds.high == ratios.high, "five seeds on the same rows are no more rows"
    free = measure_costs(np.zeros(30), np.zeros(30), 0, dearest=5.0)
    assert free.interval.low == 0 and free.interval.high == pytest.approx(5 * (1 - 0.05 ** (1 / 30)))


def test_equal_precision_is_seldom_called_different():
    """The models give the label to 20 and 300 of 1,000 rows, and are right as often."""
    found, rows = 0, 1_000
    for seed in range(60):
        random, models = np.random.default_rng(seed), []
        for count in (20, 300):
            given = np.zeros(rows, np.int64)
            given[random.choice(rows, count, replace=False)] = 1
            models.append(np.stack([given * (random.random(rows) < 0.8), given], axis=1))
        lead = compare_ratios(*models, seed)
        found += lead is not None and lead.p_value is not None and lead.p_value < 0.05
    assert found <= 8
    apart = [np.stack([given * (np.arange(rows) % 10 < right), given], axis=1) for right in (9, 6)]
    lead = compare_ratios(*apart, 0)
    assert lead is not None and lead.p_value is not None and lead.p_value < 0.001


def test_draws_without_the_label_say_nothing():
    given = np.r_[np.ones(3, np.int64), np.zeros(997, np.int64)]
    share = measure_ratio(given, given, 0)
    assert share.value == 1 and share.interval is not None and share.interval.low == pytest.approx(0.44, abs=0.01)
    other = np.stack([np.arange(1_000) % 8 < 6, np.arange(1_000) % 5 == 0], axis=1).astype(np.int64)
    other[:, 0] *= other[:, 1]
    lead = compare_ratios(np.stack([given, given], axis=1), other, 0)
    assert lead is not None and lead.low > 0


def test_seeds_do_not_multiply_rows():
    right = np.ones(20, np.int64)
    alone, thrice = (measure_ratio(k * right, k * right, 0, copies=k).interval for k in (1, 3))
    assert alone is not None and thrice is not None and thrice.low == pytest.approx(alone.low)


def test_the_dearest_row():
    assert find_dearest([[0, 3], [7, 0]], sets=False) == 7 and find_dearest([[4, 1], [2, 5]], sets=True) == 9


@given(st.integers(0, 999), st.booleans())
def test_no_constant_answer_is_cheaper(seed, several):
    random = np.random.default_rng(seed)
    if several:
        costs, true = random.integers(0, 9, (3, 2)).astype(float), random.random((20, 3)) < 0.3
        options = [np.array([bit >> i & 1 for i in range(3)], bool) for bit in range(8)]
        price = {i: list_costs(costs, true, np.tile(option, (20, 1))).sum() for i, option in enumerate(options)}
        chosen = find_cheapest_constant(costs, true)
        assert price[int(sum(1 << i for i in chosen.tolist()))] == min(price.values())
        return
    costs, true = random.integers(0, 9, (4, 4)).astype(float), random.integers(-1, 4, 20)
    each = [list_costs(costs, true, np.full(20, label)).sum() for label in range(4)]
    assert each[find_cheapest_constant(costs, true)[0]] == min(each)


def test_it_is_kept_as_plain_data_and_knows_its_floor():
    share, none = measure_share(np.arange(50) < 40), measure_share(np.zeros(0, bool))
    own = GoalFigure("tuned model", 0.9, Interval(0.8, 0.95), share)
    others = (
        GoalFigure("low", 0.95, Interval(0.9, 1.0), measure_share(np.arange(50) < 20), Difference(-0.1, 0.1, -0.05)),
        GoalFigure("silent", 0.0, Interval(0.0, 0.1), none, None),
    )
    goal = Goal("precision>=0.8", "spam", own, others)
    assert read_goal(json.loads(json.dumps(asdict(goal)))) == goal and read_goal(None) is None
    assert goal.floor == 0.8 and [goal.reaches(each) for each in (own, *others)] == [True, False, False]
    costs = Goal("costs", None, GoalFigure("tuned model", 0.2, Interval(0.1, 0.3)), ())
    assert costs.floor is None and costs.reaches(costs.model)
    with pytest.raises((KeyError, TypeError)):
        read_goal({"rule": "costs"})


def test_leads_that_never_vary_are_no_certainty():
    every, none = np.ones((8, 1), bool), np.zeros((8, 1), bool)
    none[0] = True
    recall = compare_ratios(*(count_rule("precision>=0.9", every, each)[0] for each in (every, none)), 0)
    f1 = paired_f1_difference(every[:6], every[:6], ~every[:6])
    price = compare_costs(np.zeros(6), np.ones(6), 0, dearest=10.0)
    for lead in (recall, f1, price):
        assert lead.low < lead.mean - 0.05
    assert price.high > 0, "six rows do not rule out that each of ten is the dearer one"


def test_one_cheap_error_narrows_no_interval_of_costs():
    free = np.zeros(200)
    cheap = np.where(np.arange(200) == 0, 1.0, 0.0)
    none, one = (measure_costs(each, each, 0, dearest=100.0).interval for each in (free, cheap))
    assert one.high == pytest.approx(none.high, rel=0.02), "costly errors may be just as frequent"
    random, covered = np.random.default_rng(0), 0
    for seed in range(60):
        each = random.choice([100.0, 1.0, 0.0], 200, p=[0.005, 0.05, 0.945])
        interval = measure_costs(each, each, seed, dearest=100.0).interval
        covered += interval.low <= 0.55 <= interval.high
    assert covered >= 54


def test_large_costs_have_the_same_p_value_as_small_ones():
    mine, theirs = np.full(5, 0.1), 0.1 + 1 + np.arange(5) / 10
    small, large = (compare_costs(mine * scale, theirs * scale, 0, dearest=2.0 * scale) for scale in (1, 1e6))
    assert small.p_value == large.p_value == pytest.approx(2 / 32, abs=0.01)


@pytest.mark.parametrize("rule", ["recall>=0.9", "precision>=0.9", "f1"])
def test_labels_that_the_model_does_not_know_are_missed(rule):
    true, unknown = np.array([[1, 0], [0, 1], [0, 0]]) > 0, np.array([0, 1, 2])
    best, floored = count_rule(rule, true, true, unknown)
    name = {"recall": "precision", "precision": "recall"}.get(rule.partition(">=")[0], "f1")
    reached = {"precision": 1.0, "recall": 2 / 5, "f1": 4 / 7}
    assert best[:, 0].sum() / best[:, 1].sum() == reached[name]
    assert floored[:, 0].sum() / floored[:, 1].sum() == reached[rule.partition(">=")[0]]
    figures = measure_rule(rule, None, true, true, 0, unknown)
    assert {figures.reached.value, figures.other.value} == {1.0, 2 / 5}


@pytest.mark.parametrize(("a", "b", "lead"), [(0, 1, 1.0), (1, 0, -1.0), (0, 0, 0.0)])
def test_nothing_found_where_nothing_is_to_find_is_right(a, b, lead):
    nothing = np.zeros((10, 2), bool)
    one = nothing.copy()
    one[0, 0] = True
    answers = [(nothing, one)[i] for i in (a, b)]
    for answer in answers:
        evaluated = evaluate_multi_label(answer.astype(float), nothing, ("a", "b"), [0.5, 0.5]).micro.f1
        assert count_labels(nothing, [answer]).values[0] == evaluated
    assert paired_f1_difference(nothing, *answers).mean == lead
