"""Texts that are hardly texts are found whatever the source, and said with their rows."""

import base64

import pandas as pd
import pytest

from data.test_spelling import prepare
from textune.data import read_table

ODD = {
    "blanks": (" " * 5_000 + "a film", "begin with 1,000 blanks"),
    "lines": ("\n" * 5_000 + "a film", "begin with 1,000 blanks"),
    "no-break spaces": ("\u00a0" * 5_000 + "a film", "begin with 1,000 blanks"),
    "zero width": ("\u200b" * 5_000 + "a film", "begin with 1,000 blanks"),
    "base64": ("see " + base64.b64encode(bytes(9_000)).decode(), "without a space"),
    "one token": ("x" * 100_000, "without a space"),
    "NUL": ("a\x00 film", "control characters"),
    "escape": ("a \x1b[31mfilm", "control characters"),
    "wrong encoding": ("a f\ufffdlm", "wrong encoding"),
}


def rows_of(text):
    return [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(20)] + [{"text": text, "label": "a"}] * 2


@pytest.mark.parametrize(("text", "what"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("source", ["records", "frame", "jsonl", "parquet"])
def test_odd_texts_are_said_with_their_rows(tmp_path, source, text, what):
    frame, path = pd.DataFrame(rows_of(text)), tmp_path / f"rows.{source}"
    if source == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif source == "parquet":
        frame.to_parquet(path)
    data = prepare({"records": rows_of(text), "frame": frame}.get(source, path))
    (warning,) = [line for line in data.warnings if what in line]
    assert "2 texts" in warning and "(rows 21, 22)" in warning
    assert data.facts.to_dict()["odd_texts"][0]["rows"] == (21, 22)


def test_texts_that_are_all_lists_are_said():
    rows = [{"text": str(["word", f"number {i}"]), "label": "ab"[i % 2]} for i in range(20)]
    assert any("are lists written as text" in line for line in prepare(rows).warnings)
    assert not any("lists" in line for line in prepare([{"text": "plain", "label": "a"}, *rows]).warnings)


@pytest.mark.parametrize("source", ["records", "frame", "jsonl", "parquet"])
def test_nested_fields_taken_for_text_or_label_are_said(tmp_path, source):
    rows = [{"review": {"text": f"text {i}"}, "annotation": {"label": "ab"[i % 2]}} for i in range(20)]
    frame, path = pd.DataFrame(rows), tmp_path / f"rows.{source}"
    if source == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif source == "parquet":
        frame.to_parquet(path)
    data = prepare({"records": rows, "frame": frame}.get(source, path), text="review", label="annotation")
    assert any("20 texts are JSON objects" in line for line in data.warnings)
    assert any("2 labels are JSON objects, such as" in line for line in data.warnings)


def test_a_text_in_braces_is_no_object():
    rows = [{"text": f"{{text {i}}}", "label": "ab"[i % 2]} for i in range(20)]
    assert not any("JSON" in line for line in prepare(rows).warnings)
    rows = [{"text": f'{{"text": {i}}}', "label": "ab"[i % 2]} for i in range(20)]
    assert any("20 texts are JSON" in line for line in prepare(rows).warnings)
    assert not any("JSON" in line for line in prepare([{"text": "plain", "label": "a"}, *rows]).warnings)


def test_usual_texts_are_not_odd():
    texts = [
        "\u4e16\u754c" * 2_000,
        "\U0001f468\u200d\U0001f469 and \u0645\u06cc\u200c\u062e",
        "a\tb\nc",
        " x ",
        "word " * 3_000,
    ]
    rows = [{"text": text, "label": label} for text in texts for label in "ab"]
    assert prepare(rows).facts.odd_texts == ()
    assert len(read_table(rows)) == 10
