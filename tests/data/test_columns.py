"""Which columns are chosen, said and refused; columns that give the label away."""

import random

import pytest

from textune.data import Table, build_table, choose_columns, find_leaks, read_table
from textune.errors import DataError


def table(**columns: list[str | None]) -> Table:
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return read_table(rows)


WORDS = ["the film was good", "the film was bad", "a long and winding story", "nothing to see here at all"]
KINDS = ["pos", "neg", "pos", "neg"]


@pytest.mark.parametrize(
    ("text", "label"),
    [("text", "label"), ("Content", "Category"), ("review_body", "sentiment"), ("Tweet", "Y"), ("SMS", "class")],
)
def test_columns_are_found_by_name_and_said(text, label):
    chosen = choose_columns(table(**{"id": list("1234"), label: KINDS, text: WORDS}))
    assert (chosen.text, chosen.label) == ((text,), label)
    assert any(f"'{text}' (by name)" in note for note in chosen.notes)


def test_a_text_that_is_much_longer_than_the_one_with_a_name_is_told():
    plots = [f"{word} and then, after a long journey, everybody comes home again" for word in WORDS]
    chosen = choose_columns(table(Title=["Up", "It", "Her", "Jaws"], Plot=plots, Genre=KINDS))
    assert chosen.text == ("Title",)
    assert any("'Plot' is longer and not read, text=Title,Plot joins both" in note for note in chosen.notes)
    chosen = choose_columns(table(Title=WORDS, Year=["1990", "1991", "1992", "1993"], Genre=KINDS))
    assert not any("longer" in note for note in chosen.notes)


def test_a_better_name_wins_and_the_other_is_told():
    chosen = choose_columns(table(title=WORDS, content=WORDS, label=KINDS, labels=KINDS))
    assert (chosen.text, chosen.label) == (("content",), "label")
    assert any("text=title,content" in note for note in chosen.notes)


def test_columns_are_found_by_looking():
    rows = [f"{number} things happened on that day" for number in range(30)]
    chosen = choose_columns(table(a=[str(n) for n in range(30)], b=rows, c=["x", "y", "x"] * 10))
    assert (chosen.text, chosen.label) == (("b",), "c")
    assert any("longest text" in note for note in chosen.notes)


def test_a_sentence_pair_is_found():
    chosen = choose_columns(table(premise=WORDS, hypothesis=WORDS, label=KINDS))
    assert (chosen.text, chosen.text_pair) == (("premise",), "hypothesis")


def test_an_empty_column_is_no_second_text():
    chosen = choose_columns(table(premise=WORDS, hypothesis=[None] * 4, label=KINDS))
    assert (chosen.text, chosen.text_pair) == (("premise",), None)


def test_a_group_is_neither_the_label_nor_the_usual_text():
    rows = {"text": WORDS, "label": KINDS, "author": ["a", "a", "b", "b"], "topic": ["x", "x", "y", "y"]}
    for named in ({}, {"label": "label"}):
        with pytest.raises(DataError, match="column 'label' is the label, and group= would keep"):
            choose_columns(table(**{k: v for k, v in rows.items() if k != "topic"}), group="label", **named)
    with pytest.raises(DataError, match="group=text names what looks like the text column"):
        choose_columns(table(**rows), group="text", label="label")
    assert choose_columns(table(**rows), group="topic").label == "label"
    assert choose_columns(table(**rows), group="text", text="text", label="label").group == "text"


def test_a_name_with_a_comma_is_shown_as_it_is_typed():
    full, other = "Review, full", "Review"
    data = table(**{full: WORDS, "kind": KINDS, "c": KINDS})
    with pytest.raises(DataError, match=r"""no column 'Review'(.|\n)*'text=\["Review, full"\]'"""):
        choose_columns(data, text=(other, "full"))
    with pytest.raises(DataError, match=r"""set 'text=\["Content, a"\]', or 'text=\["Content, a", "b"\]' for both"""):
        choose_columns(table(**{"Content, a": WORDS, "b": WORDS[::-1], "label": KINDS}))
    with pytest.raises(DataError, match="text_pair=nope, b"):
        choose_columns(data, text_pair="nope, b")


@pytest.mark.parametrize(
    ("columns", "setting"),
    [
        ({"content": WORDS, "review": WORDS, "label": KINDS}, "text="),
        ({"text": WORDS, "category": KINDS, "topic": KINDS}, "label="),
        ({"text": WORDS, "a": KINDS, "b": KINDS}, "label="),
        ({"text": WORDS, "a": WORDS}, "label="),
        ({"a": WORDS, "b": WORDS[::-1], "label": KINDS}, "text="),
    ],
)
def test_an_ambiguous_choice_is_refused_with_the_setting(columns, setting):
    with pytest.raises(DataError) as caught:
        choose_columns(table(**columns))
    assert setting in str(caught.value)
    assert all(name in str(caught.value) for name in columns)


@pytest.mark.parametrize("setting", ["text", "text_pair", "label", "group"])
def test_a_misspelt_column_gets_advice(setting):
    with pytest.raises(DataError, match=f"{setting}=contnt.*did you mean 'content'"):
        choose_columns(table(content=WORDS, label=KINDS), **{setting: "contnt"})


def test_a_column_cannot_be_two_things():
    with pytest.raises(DataError, match="as both text and label"):
        choose_columns(table(text=WORDS, label=KINDS), text="text", label="text")
    with pytest.raises(DataError, match="twice"):
        choose_columns(table(text=WORDS, label=KINDS), text=("text", "text"))
    with pytest.raises(DataError, match="twice"):
        choose_columns(table(text=WORDS, label=KINDS), text="text", text_pair="text")


def test_a_missing_header_is_noticed():
    with pytest.raises(DataError, match="has no header: column 1 is named 'ham'"):
        choose_columns(build_table(table(ham=["ham", "spam", "ham"], hello=["a b", "b c", "c d"]).arrow, "sms.csv"))


def test_no_label_is_looked_for_where_none_is_needed():
    chosen = choose_columns(table(label=KINDS, text=WORDS), need_label=False)
    assert (chosen.text, chosen.label) == (("text",), None)
    assert choose_columns(table(anything=WORDS), need_label=False).text == ("anything",)
    assert choose_columns(table(label=KINDS, text=WORDS), need_label=False, label="label").label == "label"


def test_a_leak_is_found_and_ids_are_not():
    draw = random.Random(3)
    labels = [draw.choice(["pos", "neg"]) for _ in range(400)]
    leaking = table(
        text=[f"text {n}" for n in range(400)],
        label=labels,
        rating=[draw.choice("45" if label == "pos" else "12") for label in labels],
        noisy=[label if draw.random() < 0.8 else "?" for label in labels],
        domain=[draw.choice("abcd") for _ in labels],
        id=[str(n) for n in range(400)],
        empty=[None] * 400,
    )
    leaks = find_leaks(leaking, choose_columns(leaking))
    assert [leak.column for leak in leaks] == ["rating"]
    assert leaks[0].agreement == 1.0
    assert "'rating'" in leaks[0].note


def test_a_constant_column_beside_a_rare_class_is_no_leak():
    labels = ["ham"] * 97 + ["spam"] * 3
    skewed = table(text=[f"text {n}" for n in range(100)], label=labels, source=["web"] * 100)
    assert find_leaks(skewed, choose_columns(skewed)) == []


def test_values_of_one_row_each_prove_nothing():
    draw = random.Random(5)
    labels = [draw.choice(["pos", "neg"]) for _ in range(190)] + ["neg"] * 210
    ids = [f"id {n}" for n in range(190)] + ["none"] * 210
    some = table(text=[f"text {n}" for n in range(400)], label=labels, order=ids)
    assert find_leaks(some, choose_columns(some)) == []


def test_every_column_but_the_text_is_looked_at_for_leaks_only():
    leaking = table(text=WORDS, label=KINDS, label_text=KINDS)
    assert choose_columns(leaking).text == ("text",)
    assert [leak.column for leak in find_leaks(leaking, choose_columns(leaking))] == ["label_text"]
