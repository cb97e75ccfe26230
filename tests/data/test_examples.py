"""Examples, samples and labels."""

import unicodedata

import numpy as np
import pytest

from textune.data import (
    Examples,
    build_examples,
    build_labels,
    choose_columns,
    find_label_twins,
    read_table,
    sample_examples,
    stream_tables,
)
from textune.errors import ConfigError, DataError
from textune.printable import holds_text


def examples(rows: list[dict[str, object]], **settings: object) -> Examples:
    table = read_table(rows)
    return build_examples(table, choose_columns(table, **settings))


def test_rows_without_text_or_label_are_set_apart_with_their_numbers():
    made = examples(
        [
            {"text": "one", "label": "a"},
            {"text": "", "label": "a"},
            {"text": " \n\t\u00a0", "label": "b"},
            {"text": "four", "label": None},
            {"text": None, "label": None},
            {"text": " six ", "label": "b"},
            {"text": "seven", "label": "  "},
        ]
    )
    assert made.texts() == ["one", " six "]
    assert made.labels() == ["a", "b"]
    assert made.rows().tolist() == [1, 6]
    assert made.no_text == (2, 3, 5)
    assert made.no_label == (4, 7)


def test_one_text_is_as_empty_as_its_row():
    texts = [chr(code) for code in range(0x3400) if unicodedata.category(chr(code)) != "Cn"]
    texts += ["\u200d\u00ad", "\u200b x", "\ufe0f", "\uffa0", "\U0001f600", "\U000e0061"]
    made = examples([{"text": text, "label": "a"} for text in texts])
    assert [holds_text(text) for text in texts] == [row not in made.no_text for row in range(1, len(texts) + 1)]
    assert not holds_text(None)


def test_text_columns_are_joined_without_their_missing_parts():
    rows = [
        {"title": "T", "body": "B", "label": 1},
        {"title": None, "body": "B", "label": 1},
        {"title": " ", "body": "B", "label": 2},
        {"title": None, "body": None, "label": 2},
    ]
    made = examples(rows, text=("title", "body"), joiner=" | ")
    assert made.texts() == ["T | B", "B", "B"]
    assert made.no_text == (4,)


def test_a_pair_needs_both_texts():
    made = examples([{"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "c", "sentence2": "", "label": 2}])
    assert made.text_pairs() == ["b"]
    assert made.no_text == (2,)


def test_row_numbers_go_on_from_piece_to_piece(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" + "".join(f"t{n},l\n" for n in range(5)))
    pieces = [build_examples(p, choose_columns(p, label="label")) for p in stream_tables(path, chunk_rows=2)]
    assert [piece.rows().tolist() for piece in pieces] == [[1, 2], [3, 4], [5]]


def test_the_empty_column_of_a_pair_is_named():
    for first, second, message in (
        ("a", None, "no row has a second text: column 'b' is empty"),
        (None, "b", "no row has text: column 'a' is empty"),
    ):
        table = read_table([{"a": first, "b": second, "label": "x"}, {"a": first, "b": second, "label": "y"}])
        with pytest.raises(DataError, match=message):
            build_examples(table, choose_columns(table, text="a", text_pair="b", label="label"))
    table = read_table([{"a": "one", "b": None, "label": "x"}, {"a": None, "b": "two", "label": "y"}])
    with pytest.raises(DataError, match="no row has both texts: a and b"):
        build_examples(table, choose_columns(table, text="a", text_pair="b", label="label"))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"text": "a", "label": None}, {"text": "b", "label": " "}], "no row has a label"),
        ([{"text": " ", "label": "x"}], "no row has text"),
    ],
)
def test_nothing_to_learn_from_is_said(rows, reason):
    with pytest.raises(DataError, match=reason):
        examples(rows, text="text", label="label")


def test_take_and_fingerprint():
    made = examples([{"text": t, "label": t, "user": "u"} for t in "abcd"], label="label", group="user")
    assert made.take([2, 0]).texts() == ["c", "a"]
    assert made.take(np.array([], dtype=int)).texts() == []
    assert made.groups() == ["u"] * 4
    assert made.take(range(4)).fingerprint == made.fingerprint
    assert made.take([1, 0, 2, 3]).fingerprint != made.fingerprint
    moved = examples([{"text": "z", "label": ""}] + [{"text": t, "label": t} for t in "abcd"], label="label")
    assert moved.fingerprint == made.fingerprint
    shifted = examples([{"text": "ab", "label": "x"}, {"text": "c", "label": "y"}])
    other = examples([{"text": "a", "label": "x"}, {"text": "bc", "label": "y"}])
    assert shifted.fingerprint != other.fingerprint


def test_samples_keep_the_order_and_follow_the_seed():
    made = examples([{"text": f"t{n}", "label": n % 2} for n in range(100)])
    drawn = sample_examples(made, "30", 7)
    assert len(set(drawn.rows().tolist())) == 30
    assert drawn.rows().tolist() == sorted(drawn.rows().tolist())
    assert drawn.rows().tolist() == sample_examples(made, "30", 7).rows().tolist()
    assert drawn.rows().tolist() != sample_examples(made, "30", 8).rows().tolist()
    assert sample_examples(made, "first:3", 7).rows().tolist() == [1, 2, 3]
    assert sample_examples(made, None, 7) is made
    assert len(sample_examples(made, "1000", 7)) == 100


@pytest.mark.parametrize("sample", ["", "0", "-5", "last:3", "first:", "ten", "1.5"])
def test_a_malformed_sample_is_refused(sample):
    with pytest.raises(ConfigError, match="sample="):
        sample_examples(examples([{"text": "a", "label": 1}, {"text": "b", "label": 2}]), sample, 1)


def test_labels_are_ordered_by_number_else_by_code_point_else_as_given():
    assert build_labels(["10", "9", "-1", "9"], None).values == ("-1", "9", "10")
    assert build_labels(["b", "10", "B", "a"], None).values == ("10", "B", "a", "b")
    assert build_labels(["001", "1", "true"], None).values == ("001", "1", "true")
    given = build_labels(["0", "1"], (("1", "positive"), ("0", "negative")))
    assert (given.values, given.names) == (("1", "0"), ("positive", "negative"))


def test_labels_are_known_by_value_then_by_name():
    labels = build_labels(["0", "1"], (("0", "1"), ("1", "0")))
    assert labels.encode(["0", "1", "2"]).tolist() == [0, 1, -1]
    named = build_labels(["1", "neg"], (("0", "neg"), ("1", "pos")))
    assert named.encode(["0", "neg", "pos", "1", "NEG", ""]).tolist() == [0, 0, 1, 1, -1, -1]
    assert named.encode([]).dtype == np.int64


def test_one_class_is_said_plainly():
    with pytest.raises(DataError, match="the training rows have only the label 'pos'"):
        build_labels(["pos", "pos"], None)


def test_labels_beside_the_given_ones_are_named_with_advice():
    with pytest.raises(DataError) as caught:
        build_labels(["pos", "neg", "postive", "postive", "neg "], (("pos", "pos"), ("neg", "neg"), ("positive", "+")))
    assert "2 rows have the label 'postive'" in str(caught.value)
    assert "did you mean 'positive'" in str(caught.value)
    assert "differs from 'neg' only in spaces" in str(caught.value)


def test_labels_that_differ_in_spaces_are_refused_unless_given():
    with pytest.raises(DataError, match=r"'pos' \(2 rows\) and 'pos ' \(1 rows\) differ only in spaces"):
        build_labels(["pos", "pos", "pos ", "neg"], None)
    given = (("pos", "pos"), ("pos ", "pos too"), ("neg", "neg"))
    assert len(build_labels(["pos", "pos ", "neg"], given)) == 3
    assert find_label_twins(["Spam", "spam", "ham"]) == [("Spam", "spam")]
