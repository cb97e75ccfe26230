"""McNemar, Holm and paired intervals against known values, and what must hold whatever the answers are."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_ind

from textune.errors import DataError
from textune.evaluation import (
    adjust_holm,
    apply_mcnemar,
    compare_pair,
    count_correct,
    count_labels,
    estimate_interval,
    estimate_macro_f1,
    paired_difference,
)
from textune.evaluation.intervals import Interval
from textune.evaluation.paired import add_seeds, find_p_of_seeds, flip_signs
from textune.report.comparison import Pair

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def make_pair(only_a: int, only_b: int, both: int = 0, neither: int = 0) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


@pytest.mark.parametrize(("only_a", "only_b"), [(5, 0), (1, 9), (12, 12), (30, 11), (400, 310)])
def test_mcnemar_is_the_exact_binomial(only_a: int, only_b: int) -> None:
    found = apply_mcnemar(*make_pair(only_a, only_b, 50, 3))
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p == pytest.approx(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def test_mcnemar_of_five_to_none_is_no_proof() -> None:
    assert apply_mcnemar(*make_pair(5, 0, 100)).p == pytest.approx(2 / 2**5)
    assert apply_mcnemar(*make_pair(0, 0, 100)).p == 1.0


@given(ANSWERS)
def test_mcnemar_is_symmetric(rows: list[tuple[bool, bool]]) -> None:
    a, b = np.array(rows).T
    there, back = apply_mcnemar(a, b), apply_mcnemar(b, a)
    assert there.p == pytest.approx(back.p)
    assert (there.only_a, there.only_b) == (back.only_b, back.only_a)


def test_holm_against_the_worked_example() -> None:
    # 0.01 x 4, 0.02 x 3, then never below what came before, never above 1
    assert adjust_holm([0.04, 0.01, 0.02, 0.9]) == pytest.approx([0.08, 0.04, 0.06, 0.9])
    assert adjust_holm([0.6, 0.7]) == [1.0, 1.0]
    assert adjust_holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(p_values: list[float]) -> None:
    adjusted = adjust_holm(p_values)
    for p, own in zip(p_values, adjusted, strict=True):
        assert p <= own <= min(1.0, p * len(p_values)) or own == pytest.approx(p)
    assert [adjusted[i] for i in np.argsort(p_values)] == sorted(adjusted)


@settings(max_examples=15)
@given(ANSWERS)
def test_a_pair_is_symmetric(rows: list[tuple[bool, bool]]) -> None:
    a, b = (count_correct([right]) for right in np.array(rows).T)
    there, back = compare_pair(a, b, [1], [1]), compare_pair(b, a, [1], [1])
    assert there.p == pytest.approx(back.p)
    assert there.lead.mean == pytest.approx(-back.lead.mean)
    # Two sets of draws: a quantile may fall a step apart, and where the models never agree a step is two rows.
    assert there.lead.low == pytest.approx(-back.lead.high, abs=2 / len(rows) + 1e-9)


def test_one_seed_gives_the_interval_of_the_report_and_mcnemars_p() -> None:
    right_a, right_b = make_pair(60, 30, 800, 110)
    found = compare_pair(count_correct([right_a]), count_correct([right_b]), [42], [42])
    known = paired_difference(right_a, right_b)
    assert found.lead.mean == pytest.approx(known.mean)
    assert found.lead.low == pytest.approx(known.low, abs=0.003)
    assert found.lead.high == pytest.approx(known.high, abs=0.003)
    assert found.p == apply_mcnemar(right_a, right_b).p == found.mcnemar[42].p


def test_randomisation_agrees_with_mcnemar_where_seeds_say_the_same() -> None:
    right_a, right_b = make_pair(30, 12, 500, 58)
    twice = compare_pair(count_correct([right_a] * 2), count_correct([right_b] * 2), [1, 2], [1, 2])
    assert twice.p == pytest.approx(apply_mcnemar(right_a, right_b).p, abs=0.003)
    assert twice.mcnemar[1] == twice.mcnemar[2]


def test_seeds_that_disagree_widen_the_interval() -> None:
    random = np.random.default_rng(0)
    steady = random.random((3, 2_000)) < 0.9
    moving = np.stack([random.random(2_000) < share for share in (0.84, 0.9, 0.96)])
    calm, wild = (estimate_interval(count_correct(list(rights))) for rights in (steady, moving))
    assert wild.high - wild.low > 3 * (calm.high - calm.low)
    found = compare_pair(count_correct(list(moving)), count_correct(list(steady)), [1, 2, 3], [1, 2, 3])
    assert found.lead.low < 0 < found.lead.high


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_few_seeds_of_two_equal_methods_are_seldom_told_apart(seeds: int) -> None:
    """Seeds differ by 1.6 points, rows say nearly nothing: the interval must know how little few seeds say."""
    apart = 0
    for trial in range(120):
        random = np.random.default_rng(trial)
        sides = [
            count_correct([np.arange(4_000) < 4_000 * share for share in random.normal(0.88, 0.016, seeds)])
            for _ in range(2)
        ]
        lead = compare_pair(*sides, range(seeds), range(seeds)).lead
        apart += lead.low > 0 or lead.high < 0
    assert apart <= 12  # 5% of 120 are 6


def test_of_many_equal_methods_with_seeds_none_is_often_called_better() -> None:
    """Holm's correction holds only if the p-values know the seeds: rows alone tell any two of these apart."""
    wrong, methods, seeds = 0, 5, range(3)
    for family in range(30):
        random = np.random.default_rng(family)
        sides = [
            count_correct([np.arange(4_000) < 4_000 * share for share in random.normal(0.85, 0.02, len(seeds))])
            for _ in range(methods)
        ]
        tests = [compare_pair(a, b, seeds, seeds) for a, b in combinations(sides, 2)]
        adjusted = adjust_holm([test.p for test in tests])
        wrong += any(Pair("a", "b", test, p).ahead is not None for test, p in zip(tests, adjusted, strict=True))
    assert wrong <= 3  # 5% of 30 are 1.5; by rows alone it is 8


def test_a_difference_is_as_likely_as_seeds_make_it() -> None:
    a, b = np.array([0.80, 0.82, 0.84]), np.array([0.85, 0.86, 0.90])
    expected = ttest_ind(a, b, equal_var=False).pvalue
    assert find_p_of_seeds(float(a.mean() - b.mean()), a, b) == pytest.approx(expected)
    assert find_p_of_seeds(0.1, a[:1], b[:1]) == 0.0
    assert find_p_of_seeds(0.1, a[:1].repeat(3), b[:1]) < 1e-12, "seeds that do not differ explain nothing"
    alone = find_p_of_seeds(0.1, a, b[:1])
    assert 0 < alone < 1


def test_what_other_seeds_bring_is_students_t_and_stays_within_limits() -> None:
    rows = Interval(0.8, 0.9)
    assert add_seeds(rows, 0.85, np.array([0.85]), limits=(0, 1)) == rows
    wide = add_seeds(rows, 0.85, np.array([0.84, 0.86]), limits=(0, 1))
    assert wide.low == pytest.approx(0.85 - np.hypot(0.05, 12.7062 * 0.01), abs=1e-4) and wide.high < 1
    far = compare_pair(
        count_correct([np.ones(10, bool), np.arange(10) < 5]), count_correct([np.zeros(10, bool)] * 2), [1, 2], [1, 2]
    ).lead
    assert -1 <= far.low < far.mean == 0.75 < far.high == 1


def test_no_interval_of_a_share_passes_what_can_be() -> None:
    near_all = [np.arange(100) >= 5, np.ones(100, bool)]
    near_none = [~right for right in near_all]
    assert estimate_interval(count_correct(near_all)).high == 1.0
    assert estimate_interval(count_correct(near_none)).low == 0.0
    true = np.tile(np.array([[True, False], [False, True]]), (50, 1))
    value, interval = estimate_macro_f1(true, [true, np.where(np.arange(100)[:, None] < 5, ~true, true)])
    assert 0 <= interval.low <= value <= interval.high == 1.0


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_more_error_never_narrows_the_interval_of_accuracy(seeds: int) -> None:
    lows = [estimate_interval(count_correct([np.arange(50) >= errors] * seeds)).low for errors in range(6)]
    assert lows == sorted(lows, reverse=True)


def test_f1_without_an_error_is_no_certainty() -> None:
    true = np.tile(np.array([[True, False], [False, True]]), (5, 1))
    assert estimate_interval(count_labels(true, [true, true])).low < 0.8
    value, interval = estimate_macro_f1(true, [true, true])
    assert value == 1.0 and interval.low < 0.8


def test_only_shared_seeds_are_paired_by_mcnemar() -> None:
    right_a, right_b = make_pair(3, 1, 20)
    found = compare_pair(count_correct([right_a] * 2), count_correct([right_b] * 2), [1, 2], [2, 3])
    assert list(found.mcnemar) == [2]


def test_no_row_apart_is_not_certainty() -> None:
    right = np.array([True] * 58 + [False] * 2)
    found = compare_pair(count_correct([right]), count_correct([right]), [1], [1])
    assert found.p == 1.0
    assert found.lead.low == pytest.approx(-0.0487, abs=1e-3)  # 1 - 0.05 ** (1 / 60)
    assert found.lead.high == -found.lead.low
    assert estimate_interval(count_correct([np.ones(60, bool)] * 3)).low < 0.95


def test_micro_f1_pairs() -> None:
    random = np.random.default_rng(1)
    true = random.random((300, 4)) < 0.3
    good, poor = (true ^ (random.random(true.shape) < share) for share in (0.05, 0.2))
    a, b = count_labels(true, [good]), count_labels(true, [poor])
    f1 = 2 * (true & good).sum() / (true.sum() + good.sum())
    assert a.values[0] == pytest.approx(f1)
    assert np.array_equal(a.right[0], (true == good).all(1))
    found = compare_pair(a, b, [1], [1])
    assert found.p < 0.001
    assert 0 < found.lead.low < found.lead.mean < found.lead.high
    missed = count_labels(true, [good], np.ones(300, np.int64))
    assert missed.values[0] < f1
    assert not missed.right.any()


@pytest.mark.parametrize("rows", [1, 4, 40])
def test_rows_that_all_speak_for_one_model_leave_room_for_others(rows):
    right, wrong = np.ones(rows, bool), np.zeros(rows, bool)
    bound = 2 * (1 - 0.05 ** (1 / rows))
    alone = paired_difference(right, wrong)
    pair = compare_pair(count_correct([right]), count_correct([wrong]), [0], [0]).lead
    for lead in (alone, pair):
        assert lead.high == lead.mean == 1 and lead.low == pytest.approx(1 - bound)


def test_unequal_rows_and_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="must be paired"):
        compare_pair(count_correct([np.ones(3, bool)]), count_correct([np.ones(4, bool)]), [1], [1])
    with pytest.raises(DataError, match="no rows"):
        count_correct([np.ones(0, bool)])


def test_signs_are_all_tried_where_few_rows_differ() -> None:
    one = flip_signs(np.array([0.5, 0.0]), np.array([6, 100]), seed=0)
    assert one == pytest.approx(2 / 2**6), "rows that add nothing say nothing"
    assert flip_signs(np.array([0.0]), np.array([9]), seed=0) == 1.0


@given(st.lists(st.floats(-1, 1), min_size=20, max_size=40), st.integers(1, 5))
@settings(max_examples=10, deadline=None)
def test_signs_of_equal_rows_are_drawn_together(parts: list[float], times: int) -> None:
    """The same rows, each of its own or counted, have the same p-value but for chance."""
    values, counts = np.array(parts), np.full(len(parts), times)
    counted = flip_signs(values, counts, seed=1)
    listed = flip_signs(values.repeat(times), np.ones(len(parts) * times, np.int64), seed=2)
    assert counted == pytest.approx(listed, abs=0.03)
