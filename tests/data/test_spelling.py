"""Labels that look alike: merged where no reader can see the difference, said where it may be meant."""

import unicodedata

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from textune.config import build_config
from textune.data import (
    NamedColumns,
    build_examples,
    build_labelled,
    choose_columns,
    choose_form,
    describe_twins,
    find_label_twins,
    read_table,
)
from textune.data.spelling import choose_spellings, folded_form, visible_form
from textune.errors import ConfigError, DataError
from textune.run.tables import prepare_data
from textune.sklearn import TextClassifier

SAME = {
    "decomposed": unicodedata.normalize("NFD", "caf\u00e9"),
    "zero width space": "caf\u00e9\u200b",
    "byte order mark": "\ufeffcaf\u00e9",
    "soft hyphen": "ca\u00adf\u00e9",
    "direction mark": "caf\u00e9\u200e",
    "joiner between Latin letters": "ca\u200df\u00e9",
    "trailing space": "caf\u00e9 ",
    "no-break space": "caf\u00e9\u00a0",
    "ideographic space": "\u3000caf\u00e9",
    "tab": "\tcaf\u00e9",
    "control character": "caf\u00e9\x01",
    "variation selector": "caf\u00e9\ufe0f",
}
ALIKE = {
    "case": "CAF\u00e9",
    "full width": "\uff43\uff41\uff46\u00e9",
    "Cyrillic letter": "c\u0430f\u00e9",
}
SOURCES = ("csv", "jsonl", "parquet", "xlsx", "frame", "records")


def write(folder, source, labels, name="rows"):
    """Return a table with these labels in the form of a source."""
    rows = [{"text": f"text number {i}", "label": label} for i, label in enumerate(labels)]
    frame, path = pd.DataFrame(rows), folder / f"{name}.{source}"
    if source == "frame":
        return frame
    if source == "records":
        return rows
    if source == "csv":
        frame.to_csv(path, index=False)
    elif source == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif source == "parquet":
        pq.write_table(pa.Table.from_pandas(frame), path)
    else:
        sheet = Workbook()
        for cells in [list(frame), *frame.to_numpy().tolist()]:
            sheet.active.append(cells)
        sheet.save(path)
    return path


def prepare(source, **settings):
    return prepare_data(build_config({"data": "rows", "validation_fraction": 0.2} | settings), {"data": source})


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("other", SAME.values(), ids=SAME)
def test_labels_that_print_the_same_are_one_class_whatever_the_source(tmp_path, source, other):
    if source == "xlsx":
        other = other.replace("\x01", "\u2060")  # a sheet cannot hold control characters
    data = prepare(write(tmp_path, source, ["caf\u00e9", "tea"] * 10 + [other] * 3))
    assert data.labels.values == ("caf\u00e9", "tea")
    assert data.facts.label_counts == {"caf\u00e9": 13, "tea": 10}
    assert [note for note in data.notes if "3 rows have the label" in note and "caf\u00e9" in note]


@pytest.mark.parametrize("other", ALIKE.values(), ids=ALIKE)
@pytest.mark.parametrize("source", SOURCES)
def test_labels_that_look_alike_stay_and_are_named_with_their_counts(tmp_path, source, other):
    data = prepare(write(tmp_path, source, ["caf\u00e9", "tea"] * 10 + [other] * 5))
    assert len(data.labels) == 3
    (warning,) = [line for line in data.warnings if "differ only in" in line]
    assert "(10 rows)" in warning and "(5 rows)" in warning and "labels=" in warning
    assert data.facts.label_twins == (tuple(sorted(["caf\u00e9", other])),)


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ("Positive", "positive", "only in case, "),
        (" neg", "NEG", "only in case and in what does not print, "),
        ("1", "1.0", "how a number is written"),
        ("non-fiction", "non\u2013fiction", "look the same"),
        ("it's", "it\u2019s", "look the same"),
    ],
)
def test_what_labels_differ_in_is_said(one, other, what):
    (warning,) = describe_twins({one: 2, other: 1, "x": 1})
    assert what in warning and "(2 rows)" in warning and "(1 row)" in warning
    assert describe_twins({one: 2, other: 1}, [one, other]) == [], "both were listed, so both are meant"


@pytest.mark.parametrize("other", SAME.values(), ids=SAME)
def test_other_tables_take_the_spelling_of_training(tmp_path, other):
    train = [{"text": f"text {i}", "label": label} for i, label in enumerate([other, "tea"] * 10)]
    test = [{"text": f"new {i}", "label": label} for i, label in enumerate(["caf\u00e9", "tea"] * 4)]
    data = prepare_data(build_config({"data": "rows", "validation_fraction": 0.2}), {"data": train, "test": test})
    assert data.test.labels() == [other, "tea"] * 4
    assert any(note.startswith("test: ") and "4 rows" in note for note in data.notes)
    assert any("do not print" in line for line in data.warnings), "the class has a hidden character"
    table = read_table(test)
    columns = choose_columns(table)
    examples, _, _ = build_labelled(table, columns, NamedColumns(), "single_label", "|", (other, "tea"))
    assert examples.labels() == [other, "tea"] * 4 and examples.notes


def test_a_test_table_in_another_case_is_named():
    train = [{"text": f"text {i}", "label": label} for i, label in enumerate(["good", "bad"] * 10)]
    test = [{"text": f"new {i}", "label": label} for i, label in enumerate(["Good", "bad"] * 4)]
    config = build_config({"data": "rows", "validation_fraction": 0.2})
    data = prepare_data(config, {"data": train, "test": test})
    assert any("'Good' differs from 'good' only in case" in line for line in data.warnings)
    with pytest.raises(DataError, match="'Good' differs from 'good' only in case"):
        prepare_data(config, {"data": train, "test": test[::2]})


def test_listed_labels_decide():
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(["yes", "no", "yes\u200b"] * 6)]
    assert len(prepare(rows, labels=[("yes", "a"), ("yes\u200b", "b"), ("no", "c")]).labels) == 3
    data = prepare(rows, labels=[("yes", "a"), ("no", "c")])
    assert data.facts.label_counts == {"yes": 12, "no": 6}


def test_sets_of_labels_are_merged_too():
    labels = ["joy|love", "joy\u200b|fear", "love", "fear|love ", "joy"]
    table = read_table([{"text": f"text {i}", "label": label} for i, label in enumerate(labels)])
    columns = choose_columns(table, text="text", label="label")
    examples = build_examples(table, columns, choose_form(table, columns, "multi_label", "|"))
    assert {part for row in examples.label_sets() for part in row} == {"joy", "love", "fear"}


def test_labels_and_texts_that_do_not_print_are_missing():
    rows = [
        {"text": "fine", "label": "a"},
        {"text": "\u200b\ufeff \x00", "label": "a"},
        {"text": "fine", "label": "\u200b"},
        {"text": "\u2800\u3164", "label": "b"},
    ]
    table = read_table(rows)
    examples = build_examples(table, choose_columns(table, text="text", label="label"))
    assert (examples.no_text, examples.no_label) == ((2, 4), (3,))


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=12))
def test_forms_are_stable_and_nothing_else_is_replaced(label):
    assert visible_form(visible_form(label)) == visible_form(label)
    assert folded_form(visible_form(label)) == folded_form(label)
    assert choose_spellings([label, "other label"]) == {}, "a label without a twin stays to the letter"


@pytest.mark.parametrize(
    "labels",
    [
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\U0001f469\U0001f467"),  # a family, and three people
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"),  # Persian
        ("\U0001f3f4\U000e0067\U000e007f", "\U0001f3f4"),  # a flag
        ("résumé", "resume"),
    ],
)
def test_characters_that_change_what_is_seen_stay(labels):
    assert choose_spellings(labels) == {} and find_label_twins(labels) == []


@pytest.mark.parametrize("other", SAME.values(), ids=SAME)
def test_the_estimator_refuses_labels_that_print_the_same(other):
    with pytest.raises(ValueError, match="do not print"):
        TextClassifier().fit(["a", "b", "c", "d"], ["caf\u00e9", other, "tea", "tea"])


def test_the_estimator_warns_of_labels_that_look_alike_and_refuses_lists():
    broken = {"settings": {"no_such_setting": 1}}  # so that nothing is trained
    with pytest.warns(UserWarning, match="only in case"), pytest.raises(ConfigError):
        TextClassifier(**broken).fit(["a", "b", "c"], ["Yes", "yes", "no"])
    with pytest.warns(UserWarning, match="joined by ','"), pytest.raises(ConfigError):
        TextClassifier(**broken).fit(["a", "b", "c", "d"], ["joy, love", "joy", "love", "love, joy"])
    with pytest.raises(ValueError, match="a list written as text"):
        TextClassifier().fit(["a", "b", "c"], ["['joy', 'love']", "['joy']", "[]"])
