"""Several labels per text: how they are found in a table, kept, counted, split and encoded."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textune.data import (
    build_examples,
    build_labels,
    choose_columns,
    choose_form,
    inspect_examples,
    join_set,
    read_table,
    split_examples,
)
from textune.data.label_sets import format_set, parse_set
from textune.errors import DataError

BARS = ["joy|love", "joy", "love|anger", None, "anger", "love|joy|joy", "joy|anger", "love"]


def read(labels, task=None, separator="|", label=("label",)):
    """Return form and examples of a table with these label cells, or with several label columns."""
    columns = labels if isinstance(labels, dict) else {"label": labels}
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    table = read_table([{"text": f"text {i}"} | row for i, row in enumerate(rows)])
    chosen = choose_columns(table, text="text", label=label)
    form = choose_form(table, chosen, task, separator)
    return form, build_examples(table, chosen, form)


def test_joined_labels_are_found_said_and_kept_as_sets() -> None:
    form, examples = read(BARS)
    assert form.task == examples.task == "multi_label"
    assert "task=single_label" in form.note
    assert examples.label_sets() == [
        ("joy", "love"), ("joy",), ("anger", "love"), ("anger",), ("joy", "love"), ("anger", "joy"), ("love",),
    ]  # fmt: skip
    assert examples.no_label == (4,), "an empty cell is a row without a label known, not one without labels"


@pytest.mark.parametrize(
    "cells",
    [
        ["arts|culture", "sci|tech", "arts|culture", "sci|tech"] * 3,  # names that hold a bar
        ["books|crime", "books|poems", "films|crime-tv", "films|short"] * 3,  # a hierarchy
        ["a|b", "a", "b"],  # one cell with a bar may be a slip
        ["ham", "spam", "ham"],
    ],
)
def test_bars_that_do_not_clearly_join_labels_are_left_alone(cells: list[str]) -> None:
    form, examples = read(cells)
    assert form.task == "single_label" and examples.labels() == cells
    assert ("task=multi_label" in form.note) == any("|" in cell for cell in cells)


def test_the_task_can_be_set_against_the_looks() -> None:
    form, examples = read(BARS, task="single_label")
    assert form.task == "single_label" and examples.labels()[0] == "joy|love"
    form, examples = read(["a;b", "a", "c"], task="multi_label", separator=";")
    assert examples.label_sets() == [("a", "b"), ("a",), ("c",)]


def test_lists_are_found_and_an_empty_list_is_a_row_without_labels() -> None:
    form, examples = read([["b", "a", "b"], [], ["a"], None, [1.5, True]])
    assert form.form == "lists" and "lists" in form.note
    assert examples.label_sets() == [("a", "b"), (), ("a",), ("1.5", "true")]
    assert examples.no_label == (4,)
    assert read(['["a","001"]', '[ "a" ]', "[]"])[1].label_sets() == [("001", "a"), ("a",), ()]


def test_one_column_per_label() -> None:
    marks = {"toxic": ["1", "0", "Yes", None], "insult": ["0", "false", "TRUE", None]}
    form, examples = read(marks, label=("toxic", "insult"))
    assert form.task == "multi_label"
    assert examples.label_sets() == [("toxic",), (), ("insult", "toxic")]
    assert examples.no_label == (4,)


@pytest.mark.parametrize(
    ("labels", "task", "label", "told"),
    [
        (["a", '["b"]'], None, ("label",), ["mixes lists and plain labels", "row 2", "row 1"]),
        ([["a"], [["b"]]], None, ("label",), ["row 2", "only labels"]),
        ([["a"], [None]], None, ("label",), ["row 2", "only labels"]),
        (["a|b", "b||a"], "multi_label", ("label",), ["row 2", "'b||a'", "a label is empty"]),
        ({"x": ["1", "2"], "y": ["0", "1"]}, None, ("x", "y"), ["row 2", "column 'x'", "'2'", "0 or 1"]),
        ({"x": ["1", "1"], "y": ["0", None]}, None, ("x", "y"), ["row 2", "column 'y'", "is empty"]),
        ({"x": ["1"], "y": ["0"]}, "single_label", ("x", "y"), ["task=single_label", "2 columns"]),
    ],
)
def test_what_is_refused_names_row_and_value(labels, task, label, told) -> None:
    with pytest.raises(DataError) as caught:
        read(labels, task=task, label=label)
    assert all(words in str(caught.value) for words in told), caught.value
    assert caught.value.hint


def test_one_label_alone_is_nothing_to_tell_apart() -> None:
    examples = read([["a"], [], ["a"]])[1]
    with pytest.raises(DataError, match="only the label 'a'"):
        build_labels([v for labels in examples.label_sets() for v in labels], None)


LABEL = st.text(min_size=1, max_size=5)


@given(st.lists(LABEL, max_size=5))
def test_a_set_comes_back_each_label_once(labels: list[str]) -> None:
    text = format_set(labels)
    assert parse_set(text) == tuple(sorted(set(labels)))
    assert format_set(reversed(labels)) == text


@given(st.lists(LABEL, unique=True, max_size=5))
def test_a_joined_cell_can_be_taken_apart_again(labels: list[str]) -> None:
    cell = join_set(labels, "|", labels)
    held = any("|" in label for label in labels)
    assert (json.loads(cell) if held else cell.split("|") if cell else []) == labels


def test_labels_are_encoded_and_unknown_ones_named() -> None:
    examples = read([["b", "x"], [], ["a", "b"], ["z", "x"]])[1]
    labels = build_labels(["a", "b"], (("b", "B"), ("a", "A")))
    marks = labels.encode_examples(examples)
    assert marks.dtype == np.float32
    assert marks.tolist() == [[1, 0], [0, 0], [1, 1], [0, 0]]
    assert labels.find_unknown(examples) == [("x",), (), (), ("x", "z")]


def test_facts_count_labels_and_not_sets() -> None:
    facts = inspect_examples(read(BARS)[1])
    assert facts.label_counts == {"joy": 4, "love": 4, "anger": 3}


def test_the_order_of_labels_makes_no_contradiction() -> None:
    rows = [{"text": "same", "label": cell} for cell in ("a|b", "b|a")] + [{"text": "other", "label": "a|c"}]
    table = read_table(rows)
    chosen = choose_columns(table)
    examples = build_examples(table, chosen, choose_form(table, chosen, "multi_label", "|"))
    facts = inspect_examples(examples)
    assert facts.exact_duplicates == 1 and facts.conflicting_duplicates == 0


def test_a_split_keeps_rare_labels_in_training() -> None:
    rng = np.random.default_rng(0)
    cells = [["common"] + ["often"] * int(rng.random() < 0.3) + ["rare"] * (i in (7, 8)) for i in range(200)]
    examples = read(cells)[1]
    for seed in range(10):
        parts = split_examples(examples, validation_fraction=0.2, test_fraction=0.3, seed=seed, grouped=False)
        counts = Counter(label for labels in parts.train.label_sets() for label in labels)
        assert counts["rare"] >= 1
        expected = 0.5 * sum("often" in cell for cell in cells)
        assert abs(counts["often"] - expected) <= 2
        absent = [p for p in (parts.validation, parts.test) if not any("rare" in s for s in p.label_sets())]
        assert len([note for note in parts.notes if "'rare'" in note]) == len(absent)


def test_lists_of_class_numbers_become_lists_of_names() -> None:
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    features = Features({"text": Value("string"), "labels": Sequence(ClassLabel(names=["joy", "love", "anger"]))})
    numbers = [[1, 0], [], [2], [None, 1], [-1], None]
    made = Dataset.from_dict({"text": list("abcdef"), "labels": numbers}, features=features)
    table = read_table(made)
    chosen = choose_columns(table)
    examples = build_examples(table, chosen, choose_form(table, chosen, None, "|"))
    assert examples.label_sets() == [("joy", "love"), (), ("anger",)]
    assert examples.no_label == (4, 5, 6), "a number without a name is no label, and no row without any"
