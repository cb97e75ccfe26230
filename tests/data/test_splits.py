"""Splits: disjoint, complete, stratified, the same for the same seed, groups together."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.data import Examples, Splits, build_examples, choose_columns, count_shared_groups, read_table
from textune.data import split_examples as split
from textune.errors import DataError


def examples(labels: list[str], groups: list[str | None] | None = None) -> Examples:
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate(labels)]
    if groups is not None:
        rows = [row | {"user": group} for row, group in zip(rows, groups, strict=True)]
    table = read_table(rows)
    return build_examples(table, choose_columns(table, label="label", group="user" if groups else None))


def rows_of(splits: Splits) -> list[list[int]]:
    return [part.rows().tolist() for part in (splits.train, splits.validation, splits.test) if part is not None]


FRACTIONS = st.floats(0, 0.45)


@settings(max_examples=80, deadline=None)
@given(
    labels=st.lists(st.sampled_from("aaaabbc"), min_size=12, max_size=120),
    validation=FRACTIONS,
    test=FRACTIONS,
    seed=st.integers(0, 5),
)
def test_splits_are_disjoint_complete_ordered_and_stratified(labels, validation, test, seed):
    made = examples(labels)
    splits = split(made, validation_fraction=validation, test_fraction=test, seed=seed, grouped=False)
    parts = rows_of(splits)
    assert sorted(row for part in parts for row in part) == list(range(1, len(labels) + 1))
    assert all(part == sorted(part) and part for part in parts)
    assert (splits.validation is None) == (validation == 0)
    assert set(splits.train.labels()) == set(labels)
    counts = Counter(labels)
    for part, fraction in ((splits.validation, validation), (splits.test, test)):
        if part is None:
            continue
        # one row of each class is kept back for training, which can make a part smaller
        assert -1 - len(counts) <= len(part) - fraction * len(labels) <= 1
        for label, count in Counter(part.labels()).items():
            assert abs(count - fraction * counts[label]) < 2 + len(counts)
    again = split(made, validation_fraction=validation, test_fraction=test, seed=seed, grouped=False)
    assert rows_of(again) == parts


def test_the_shares_of_the_classes_are_kept():
    labels = ["ham"] * 870 + ["spam"] * 120 + ["odd"] * 10
    splits = split(examples(labels), validation_fraction=0.1, test_fraction=0.2, seed=3, grouped=False)
    assert Counter(splits.test.labels()) == {"ham": 174, "spam": 24, "odd": 2}
    assert Counter(splits.validation.labels()) == {"ham": 87, "spam": 12, "odd": 1}
    assert splits.notes == ()
    other = split(examples(labels), validation_fraction=0.1, test_fraction=0.2, seed=4, grouped=False)
    assert rows_of(other) != rows_of(splits)


def test_a_class_of_one_row_stays_in_training_and_is_told():
    labels = ["a"] * 20 + ["b"] * 20 + ["rare"] + ["pair"] * 2
    for seed in range(20):
        splits = split(examples(labels), validation_fraction=0.2, test_fraction=0.2, seed=seed, grouped=False)
        assert {"rare", "pair"} <= set(splits.train.labels())
        assert any("'rare'" in note for note in splits.notes)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([None, *"rstuvwxyz"])), min_size=30, max_size=150),
    seed=st.integers(0, 5),
)
def test_groups_stay_on_one_side(rows, seed):
    labels, groups = [label for label, _ in rows], [group for _, group in rows]
    made = examples(labels, groups)
    if made.groups() is None or len(set(groups) - {None}) + groups.count(None) < 6:
        return
    splits = split(made, validation_fraction=0.2, test_fraction=0.2, seed=seed, grouped=True)
    assert sorted(row for part in rows_of(splits) for row in part) == list(range(1, len(rows) + 1))
    assert count_shared_groups(splits.train, splits.validation) == 0
    assert count_shared_groups(splits.train, splits.test) == 0
    assert count_shared_groups(splits.validation, splits.test) == 0
    assert set(splits.train.labels()) == set(labels)
    assert rows_of(split(made, validation_fraction=0.2, test_fraction=0.2, seed=seed, grouped=True)) == rows_of(splits)


def test_rows_with_a_blank_group_have_none():
    made = examples(["a", "b"] * 30, [" ", "", None, "\u200b", *(f"user {n}" for n in range(56))])
    assert made.groups()[:5] == [None, None, None, None, "user 0"]
    splits = split(made, validation_fraction=0.2, test_fraction=0.2, seed=1, grouped=True)
    assert sum(count_shared_groups(splits.train, part) for part in (splits.validation, splits.test)) == 0


def test_grouped_splits_are_nearly_stratified():
    draw = np.random.default_rng(0)
    groups = [f"user {g}" for g in draw.integers(0, 200, size=2_000)]
    labels = ["pos" if draw.random() < 0.3 else "neg" for _ in groups]
    splits = split(examples(labels, groups), validation_fraction=0.1, test_fraction=0.2, seed=1, grouped=True)
    assert abs(len(splits.test) - 400) < 20
    assert abs(len(splits.validation) - 200) < 20
    assert abs(Counter(splits.test.labels())["pos"] / len(splits.test) - labels.count("pos") / 2_000) < 0.03


def test_a_class_of_one_group_stays_in_training():
    labels = ["a"] * 100 + ["b"] * 100 + ["rare"] * 6
    groups = [f"user {n // 5}" for n in range(200)] + ["last"] * 6
    for seed in range(5):
        splits = split(examples(labels, groups), validation_fraction=0.45, test_fraction=0.4, seed=seed, grouped=True)
        assert "rare" in splits.train.labels()
        assert any("'rare'" in note for note in splits.notes)


@pytest.mark.parametrize(("groups", "rows"), [(5, 200), (4, 250), (3, 300), (10, 100)])
@pytest.mark.parametrize("validation", [0.05, 0.1])
def test_few_large_groups_are_split_if_each_part_can_have_one(groups, rows, validation):
    users = [n // rows for n in range(groups * rows)]
    labels = ["ab"[user % 2] if groups == 10 else "ab"[n % 2] for n, user in enumerate(users)]
    made = examples(labels, [f"user {user}" for user in users])
    for seed in range(3):
        splits = split(made, validation_fraction=validation, test_fraction=0.1, seed=seed, grouped=True)
        assert sorted(row for part in rows_of(splits) for row in part) == list(range(1, len(labels) + 1))
        assert set(splits.train.labels()) == {"a", "b"}
        for one, other in ((splits.train, splits.validation), (splits.train, splits.test)):
            assert count_shared_groups(one, other) == 0
        assert len(splits.validation) >= rows and len(splits.test) >= rows


def test_the_smallest_group_that_training_can_spare_is_held_out():
    users = ["x"] * 100 + ["y"] * 90 + ["only b"] * 3
    labels = ["a"] * 190 + ["b"] * 3
    splits = split(examples(labels, users), validation_fraction=0, test_fraction=0.1, seed=0, grouped=True)
    assert set(splits.test.groups()) == {"y"} and set(splits.train.groups()) == {"x", "only b"}


def test_too_few_groups_for_three_parts_name_the_part_to_leave_out():
    made = examples(["a", "b"] * 20, ["one"] * 20 + ["two"] * 20)
    with pytest.raises(DataError, match="too few groups") as caught:
        split(made, validation_fraction=0.1, test_fraction=0.2, seed=1, grouped=True)
    assert "validation_fraction=0" in (caught.value.hint or "")
    splits = split(made, validation_fraction=0, test_fraction=0.2, seed=1, grouped=True)
    assert len(splits.train) == len(splits.test) == 20


def test_groups_split_apart_are_counted():
    made = examples(["a", "b"] * 50, [f"user {n // 4}" for n in range(100)])
    splits = split(made, validation_fraction=0.0, test_fraction=0.3, seed=1, grouped=False)
    assert count_shared_groups(splits.train, splits.test) > 5
    assert splits.validation is None


@pytest.mark.parametrize(
    ("labels", "groups", "validation", "test", "reason"),
    [
        (["a", "b"], None, 0.4, 0.4, "2 rows: too few rows of each label for all parts, none left for"),
        (["a", "b"] * 5, None, 0.5, 0.5, "none left"),
        (["a", "b"] * 5, ["one"] * 10, 0.2, 0.2, "too few groups"),
        (["a", "b"] * 5, None, -0.1, 0.2, "fractions"),
    ],
)
def test_too_little_to_split_is_said(labels, groups, validation, test, reason):
    with pytest.raises(DataError) as caught:
        made = examples(labels, groups)
        split(made, validation_fraction=validation, test_fraction=test, seed=1, grouped=groups is not None)
    assert reason in str(caught.value)


def test_grouping_without_a_group_column_is_refused():
    with pytest.raises(DataError, match="no group column"):
        split(examples(["a", "b"] * 5), validation_fraction=0.2, test_fraction=0.2, seed=1, grouped=True)
