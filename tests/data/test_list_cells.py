"""Cells that are lists: read as several labels, or named where they may be."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.test_spelling import SOURCES, prepare, write
from textune.data import build_examples, choose_columns, choose_form, read_table
from textune.data.list_cells import parse_bare_list, parse_list
from textune.errors import DataError

SETS = [["joy", "love"], ["joy"], [], ["it's", "joy"], ["love", "fear"], ["fear"], ['"so"', "joy"], ["love"]]
WRITERS = {
    "json": json.dumps,
    "python": str,
    "numpy": lambda labels: str(np.array(labels, dtype=object)),
    "numpy repr": lambda labels: repr(np.array(labels, dtype=object)),
    "tuple": lambda labels: str(tuple(labels)),
    "set": lambda labels: str(set(labels)),
    "frozen set": lambda labels: str(frozenset(labels)),
}
JOINED = [["joy", "love"], ["joy"], ["love"], ["fear", "joy"], ["fear"], ["love", "fear"]]


def read(cells, task=None, separator="|"):
    table = read_table([{"text": f"text {i}", "label": cell} for i, cell in enumerate(cells)])
    columns = choose_columns(table, text="text", label="label")
    form = choose_form(table, columns, task, separator)
    return form, build_examples(table, columns, form)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_lists_are_several_labels_whoever_wrote_them(tmp_path, source, writer):
    data = prepare(write(tmp_path, source, [writer(labels) for labels in SETS] * 3))
    assert data.task == "multi_label"
    assert set(data.labels.values) == {label for labels in SETS for label in labels}
    assert any("the labels are lists" in note for note in data.notes)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), max_size=4))
def test_printed_lists_come_back_to_the_letter(labels):
    assert parse_list(repr(labels)) == parse_list(json.dumps(labels)) == labels
    assert parse_list(repr(tuple(labels))) == labels


@pytest.mark.parametrize("cell", ["[URGENT] hi", "(a, b)", "['a'", "['a'] and ['b']", "{'a': 1}", "[None]", "a", "{}"])
def test_other_cells_are_no_lists(cell):
    assert parse_list(cell) is None


def test_lists_without_quotes_need_a_cell_of_several_words():
    form, examples = read(["[joy, love]", "[joy]", "[]", "[fear]"])
    assert form.form == "lists" and examples.label_sets() == [("joy", "love"), ("joy",), (), ("fear",)]
    assert parse_bare_list("[joy] love") is None
    assert read(["[spam]", "[ham]"] * 3)[1].labels()[:2] == ["[spam]", "[ham]"]


@pytest.mark.parametrize("write_cell", [str, json.dumps, lambda marks: str(np.array(marks))])
def test_marks_without_names_are_refused(write_cell):
    with pytest.raises(DataError, match="do not name their labels") as caught:
        read([write_cell(marks) for marks in ([0, 1, 0], [1, 1, 0], [0, 0, 0])])
    assert "label=A,B,C" in str(caught.value)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("separator", [", ", ",", ";", "; ", " / ", "+", " & "])
def test_joined_labels_are_named_with_the_setting_that_reads_them(tmp_path, source, separator):
    cells = [separator.join(labels) for labels in JOINED] * 3
    data = prepare(write(tmp_path, source, cells))
    (warning,) = [line for line in data.warnings if "look like several labels" in line]
    assert f"label_separator='{separator.strip()}'" in warning and "9 cells" in warning
    data = prepare(write(tmp_path, source, cells), task="multi_label", label_separator=separator.strip())
    assert data.labels.values == ("fear", "joy", "love") and not data.warnings


def test_a_set_task_with_another_separator_is_named():
    form, _ = read([";".join(labels) for labels in JOINED], task="multi_label")
    assert "label_separator=';'" in form.warning


@pytest.mark.parametrize(
    "cells",
    [
        ["A+", "A", "B+", "B"] * 3,
        ["New York, NY", "Albany, NY", "Boston, MA"] * 3,
        ["n/a", "spam", "ham"] * 3,
        ["sci/tech", "world", "sports"] * 3,
        ["very good", "good", "bad", "very bad"] * 3,
    ],
)
def test_names_that_hold_a_separator_are_left_alone(cells):
    form, examples = read(cells)
    assert form.warning == "" and examples.labels() == cells
