"""Duplicates, overlap, conflicting labels, odd scripts, and the facts of a table."""

import json
import random

import pytest

from textune.data import Examples, build_examples, checks, choose_columns, find_overlap, inspect_examples, read_table
from textune.data.scripts import dominant_scripts


def examples(texts: list[str], labels: list[str] | None = None, **pairs: list[str]) -> Examples:
    labels = labels or ["a"] * len(texts)
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    if pairs:
        rows = [row | {"other": other} for row, other in zip(rows, pairs["other"], strict=True)]
    table = read_table(rows)
    return build_examples(
        table, choose_columns(table, text="text", label="label", text_pair="other" if pairs else None)
    )


def sentence(seed: int, words: int = 60) -> str:
    draw = random.Random(seed)
    return " ".join(f"word{draw.randrange(5_000)}" for _ in range(words))


def test_equal_texts_overlap_but_for_case_and_spaces():
    found = find_overlap(examples(["Hello  World", "other", "third"]), examples(["new", "hello world\n", "THIRD"]))
    assert (found.exact, found.near) == (2, 0)
    assert found.examples == ((1, 2, "hello world"), (3, 3, "THIRD"))
    assert found.note == ""


def test_near_duplicates_are_found_and_merely_like_texts_are_not():
    train = [sentence(seed) for seed in range(200)]
    edited = [text.replace(text.split()[30], "changed", 1) for text in train[:50]]  # Jaccard 0.90 or more
    halved = [" ".join(text.split()[:40] + sentence(900 + n, 20).split()) for n, text in enumerate(train[50:100])]
    found = find_overlap(examples(train), examples([*edited, *halved, sentence(9_999)]))
    assert found.exact == 0
    assert found.near == 50
    assert found.examples[0][:2] == (1, 1)


def test_near_duplicates_in_a_script_without_spaces():
    draw = random.Random(1)
    text = "".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(120))
    found = find_overlap(examples([text, "另一個"]), examples([text[:60] + "新" + text[61:]]))
    assert found.near == 1


def test_a_pair_overlaps_only_whole():
    train = examples(["same"], other=["this"])
    assert find_overlap(train, examples(["same"], other=["that"])).exact == 0
    assert find_overlap(train, examples(["same"], other=["This "])).exact == 1


def test_a_large_table_is_sampled_for_near_duplicates_and_says_so(monkeypatch):
    monkeypatch.setattr(checks, "MAX_NEAR_ROWS", 20)
    train = examples([sentence(n) for n in range(50)])
    found = find_overlap(train, examples([sentence(n) for n in range(40, 90)]))
    assert found.exact == 10
    assert "20 of 50" in found.note


def test_form_letters_end_too():
    letters = [sentence(0, 100) + f" dear customer {n}" for n in range(2_000)]
    found = find_overlap(examples(letters), examples([letter + "!" for letter in letters[:500]]))
    assert found.exact + found.near == 500


def test_facts_of_a_table():
    rows = [
        {"text": "good film", "label": "pos", "note": ""},
        {"text": "Good  film", "label": "neg", "note": "x"},
        {"text": "bad film", "label": "neg", "note": ""},
        {"text": "bad film", "label": "neg", "note": ""},
        {"text": "плохой фильм", "label": "Neg", "note": ""},
        {"text": "123 !!", "label": "neg", "note": ""},
        {"text": "", "label": "neg", "note": ""},
        {"text": "three more words", "label": "", "note": ""},
    ]
    table = read_table(rows)
    facts = inspect_examples(build_examples(table, choose_columns(table)), table)
    assert (facts.rows, facts.no_text, facts.no_label) == (6, 1, 1)
    assert facts.label_counts == {"neg": 4, "pos": 1, "Neg": 1}
    assert facts.words == {"mean": 2.0, "median": 2.0, "p95": 2.0, "max": 2.0}
    assert facts.exact_duplicates == 2
    assert facts.conflicting_duplicates == 2
    assert facts.conflicts[0].rows == (1, 2)
    assert facts.conflicts[0].labels == ("pos", "neg")
    assert facts.label_twins == (("Neg", "neg"),)
    assert facts.empty_cells == {"text": 1, "label": 1, "note": 7}
    assert facts.script == "Latin"
    assert [(odd.script, odd.count, odd.rows) for odd in facts.odd_scripts] == [("Cyrillic", 1, (5,))]
    assert json.loads(json.dumps(facts.to_dict()))["label_counts"]["pos"] == 1


def test_facts_without_labels_or_table():
    table = read_table([{"text": "a"}, {"text": "b"}])
    facts = inspect_examples(build_examples(table, choose_columns(table, need_label=False)))
    assert (facts.label_counts, facts.empty_cells, facts.conflicts) == ({}, {}, ())


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("plain words", "Latin"), ("déjà vu ça", "Latin"), ("Привет, world", "Cyrillic"), ("你好世界", "Han"),
        ("これは日本語です", "Japanese"), ("한국어 문장", "Hangul"), ("مرحبا", "Arabic"), ("שלום", "Hebrew"),
        ("नमस्ते", "Devanagari"), ("สวัสดี", "Thai"), ("Γειά", "Greek"), ("123 🤗 !?", ""), ("🤗", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_script_of_a_text(text, script):
    assert dominant_scripts([text]) == [script]
