"""The columns of training on another table: one rule for validation, test, evaluation and prediction."""

from __future__ import annotations

import pytest

from textune.bundle import TextColumns
from textune.cli.named import name_texts
from textune.config import build_config
from textune.data import Columns, NamedColumns, Table, build_labelled, read_table, reuse_columns
from textune.data.roles import find_columns
from textune.errors import ConfigError, DataError

NOTHING = NamedColumns()
TRAINED = TextColumns(("title", "body"), joiner=" - ", label="mood", group="author")


def table(*columns: str) -> Table:
    return read_table([{name: f"{name} {i % 2}" for name in columns} for i in range(8)])


def test_columns_of_training_are_taken_where_the_table_has_them() -> None:
    found = reuse_columns(table("label", "author", "mood", "body", "title", "text"), TRAINED, NOTHING)
    assert (found.text, found.label, found.group, found.joiner) == (("title", "body"), "mood", "author", " - ")
    as_read = Columns(("title", "body"), None, "mood", "author", " - ", ())
    assert reuse_columns(table("mood", "title", "body", "author"), as_read, NOTHING) == found


def test_columns_that_are_named_come_first_and_others_are_found() -> None:
    named = NamedColumns(("text",), None, ("label",))
    found = reuse_columns(table("title", "body", "mood", "text", "label"), TRAINED, named)
    assert (found.text, found.label, found.group) == (("text",), "label", None)
    found = reuse_columns(table("title", "text", "label"), TRAINED, NOTHING)
    assert (found.text, found.label) == (("text",), "label"), "a part of the text columns is not enough"


def test_prediction_looks_for_no_label_and_takes_no_group_for_the_text() -> None:
    found = reuse_columns(table("author", "words"), TRAINED, NOTHING, need_label=False)
    assert (found.text, found.label, found.group) == (("words",), None, "author")


def test_the_second_text_of_a_pair_must_be_there() -> None:
    pairs = TextColumns(("premise",), text_pair="hypothesis", label="label")
    with pytest.raises(DataError, match="no column 'hypothesis'"):
        reuse_columns(table("premise", "label"), pairs, NOTHING)
    with pytest.raises(DataError, match="no column 'hypothesis', which the run was trained on as text_pair") as caught:
        reuse_columns(table("premise", "label", "claim"), pairs, NamedColumns(guess=False))
    assert caught.value.hint == "name the column with text_pair=, for example text_pair=claim"
    named = NamedColumns(text_pair="claim")
    assert reuse_columns(table("premise", "claim", "label"), pairs, named).text_pair == "claim"


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("label", "name its label columns with label="),
        ("test_label", "name its label columns with test_label="),
        (None, "call its label columns as the training table does"),
    ],
)
def test_a_part_of_the_label_columns_is_refused_with_what_to_do(setting: str | None, hint: str) -> None:
    marks = TextColumns(("text",), indicators=("toxic", "insult"))
    rows = read_table([{"text": f"text {i}", "toxic": i % 2} for i in range(8)])
    with pytest.raises(DataError, match="but not 'insult'") as caught:
        build_labelled(rows, marks, NamedColumns(label_setting=setting), "multi_label", "|")
    assert (caught.value.hint or "").startswith(hint)


def test_labelled_rows_come_with_their_columns_and_their_form() -> None:
    marks = TextColumns(("text",), indicators=("toxic", "insult"))
    rows = read_table([{"text": f"text {i}", "toxic": i % 2, "insult": 0} for i in range(8)])
    examples, columns, form = build_labelled(rows, marks, NOTHING, "multi_label", "|")
    assert (len(examples), columns.indicators, form.form) == (8, ("toxic", "insult"), "columns")


@pytest.mark.parametrize("columns", [("text", "label"), ("text", "mood", "note"), ("label", "text", "mark")])
def test_a_finished_run_measures_no_column_in_place_of_its_label_columns(columns: tuple[str, ...]) -> None:
    marks = TextColumns(("text",), indicators=("toxic", "insult"))
    with pytest.raises(DataError, match="no column 'toxic', which the run was trained on as label") as caught:
        build_labelled(table(*columns), marks, NamedColumns(guess=False), "multi_label", "|")
    assert caught.value.hint == (
        "name the columns for toxic, insult in this order with label=, or one column that lists the labels"
    )
    assert reuse_columns(table("text"), marks, NamedColumns(guess=False), need_label=False).label is None


@pytest.mark.parametrize(
    ("columns", "trained", "named", "advice"),
    [
        (("text", "stars"), TextColumns(("text",), label="label"), {}, ", for example label=stars"),
        (("a", "b", "stars"), TextColumns(("a",), text_pair="b", label="label"), {}, ", for example label=stars"),
        (("author", "text", "stars"), TextColumns(("text",), label="label", group="author"), {}, "label=stars"),
        (("body", "stars"), TextColumns(("text",), label="label"), {"text": ("body",)}, ", for example label=stars"),
        (("text",), TextColumns(("text",), label="label"), {}, "name the column with label="),
        (("label", "body"), TextColumns(("text",), label="label"), {}, ", for example text=body"),
        (("b", "words"), TextColumns(("a",), text_pair="b", label="label"), {}, ", for example text=words"),
        (("toxic", "insult"), TextColumns(("text",), indicators=("toxic", "insult")), {}, "name the column with text="),
    ],
)
def test_advice_names_no_column_of_another_role(
    columns: tuple[str, ...], trained: TextColumns, named: dict[str, tuple[str, ...]], advice: str
) -> None:
    with pytest.raises(DataError) as caught:
        reuse_columns(table(*columns), trained, NamedColumns(guess=False, **named))
    assert (caught.value.hint or "").endswith(advice)


def test_advice_on_prompts_and_answers_names_no_column_of_another_role() -> None:
    from textune.data.roles import GENERATION

    trained = TextColumns(("prompt",), label="completion")
    for columns, advice in ((("prompt", "words"), "completion=words"), (("completion", "words"), "prompt=words")):
        with pytest.raises(DataError) as caught:
            build_labelled(table(*columns), trained, NamedColumns(guess=False), GENERATION, "|")
        assert (caught.value.hint or "").endswith(f", for example {advice}")


def test_only_a_tuned_model_is_said_to_be_trained_on_a_column() -> None:
    for tuned in (True, False):
        with pytest.raises(DataError) as caught:
            reuse_columns(table("body", "id"), TextColumns(), NamedColumns(guess=False, tuned=tuned), need_label=False)
        assert ("trained on" in caught.value.message) == tuned and "'text'" in caught.value.message
        assert (caught.value.hint or "").endswith("for example text=body")
    named = NamedColumns(("body",), guess=False, tuned=False)
    assert reuse_columns(table("body", "id"), TextColumns(), named, need_label=False).text == ("body",)


@pytest.mark.parametrize(("setting", "alias"), [("prompt", "text"), ("completion", "label")])
def test_two_settings_never_name_one_column(setting: str, alias: str) -> None:
    """Wherever a model that writes takes columns: in training, and on the rows of a finished run."""
    rows, flat = table("q", "a", "prompt", "completion"), {"task": "generation", setting: "q", alias: "a"}
    config = build_config(flat)
    named = NamedColumns(config.data.text, None, config.data.label, config.writing, guess=False)
    trained = TextColumns(("prompt",), label="completion")
    calls = [
        lambda: find_columns(rows, config.data, config.writing),
        lambda: build_labelled(rows, trained, named, "generation", "|"),
    ]
    if setting == "prompt":
        calls.append(lambda: name_texts(config))
    for call in calls:
        with pytest.raises(ConfigError, match=rf"{setting}=q and {alias}=a: both name the column of the {setting}s"):
            call()
