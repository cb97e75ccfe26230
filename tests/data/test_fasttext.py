"""fastText's files: labels before each text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textune.data import read_table

LABEL = st.text(st.characters(categories=["L", "N"], include_characters="-_,"), min_size=1, max_size=6)
TEXT = st.lists(LABEL.filter(lambda word: not word.startswith("__label__")), min_size=1, max_size=5).map(" ".join)


def read(folder: Path, *lines: str) -> tuple[list[dict[str, str | None]], list[str]]:
    path = folder / "rows.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = read_table(path)
    return table.arrow.to_pylist(), list(table.notes)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.lists(LABEL, min_size=1, max_size=3), TEXT), min_size=1, max_size=6))
def test_labels_and_texts_come_back_to_the_letter(tmp_path: Path, rows: list[tuple[list[str], str]]) -> None:
    found, notes = read(tmp_path, *(" ".join([*(f"__label__{name}" for name in names), text]) for names, text in rows))
    several = any(len(names) > 1 for names, _ in rows)
    cells = [json.loads(row["label"] or "") if several else [row["label"]] for row in found]
    assert list(zip(cells, (row["text"] for row in found), strict=True)) == rows
    assert any("fastText" in note for note in notes)


def test_a_line_without_label_or_text_has_an_empty_cell(tmp_path: Path) -> None:
    found, _ = read(tmp_path, "no label, three words", "__label__a\ta film", "__label__b", "", "__label__ __label__a b")
    assert [(row["label"], row["text"]) for row in found] == [
        (None, "no label, three words"), ("a", "a film"), ("b", None), (None, None), ("a", "b"),
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["a film with __label__good inside", "label__good a film", "a film"])
def test_other_files_of_texts_stay_so(tmp_path: Path, line: str) -> None:
    found, notes = read(tmp_path, line, "__label__good a film", line)
    assert [list(row) for row in found] == [["text"]] * 3
    assert not any("fastText" in note for note in notes)
