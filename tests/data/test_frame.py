"""Tables in memory and saved ones: the same cells give the same texts, whatever holds them, or are refused by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from textune.data import ReadOptions, read_table, stream_kept
from textune.errors import DataError

Columns = dict[str, list[Any]]


def as_records(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


HOLDERS: dict[str, Callable[[Columns], Any]] = {"pandas": pd.DataFrame, "records": as_records, "arrow": pa.table}
ALONE: dict[str, Any] = {"bytes": bytes, "bytearray": bytearray, "memoryview": memoryview}


@pytest.mark.parametrize("holder", HOLDERS)
def test_bytes_are_read_as_the_text_they_hold(holder: str) -> None:
    source = HOLDERS[holder]({"text": ["schön".encode(), b"", None, b"good"], "label": [b"a", b"b", b"a", b"b"]})
    expected = ["schön", None, None, "good"]
    table = read_table(source)
    assert table.arrow["text"].to_pylist() == expected and table.arrow["label"].to_pylist() == ["a", "b", "a", "b"]
    kept = [row for piece in stream_kept(source, ReadOptions(), 3) for row in piece.as_text()["text"].to_pylist()]
    assert kept == expected


@pytest.mark.parametrize("holder", ["pandas", "records"])
@pytest.mark.parametrize("kind", ALONE)
def test_bytes_among_texts_are_read_in_any_form(kind: str, holder: str) -> None:
    source = HOLDERS[holder]({"text": ["good", ALONE[kind]("schön".encode()), 3]})
    assert read_table(source).arrow["text"].to_pylist() == ["good", "schön", "3"]


@pytest.mark.parametrize(
    ("holder", "mixed"),
    [("pandas", False), ("pandas", True), ("records", False), ("records", True), ("arrow", False)],
)
def test_bytes_that_are_no_text_are_refused_by_row(holder: str, mixed: bool) -> None:
    source = HOLDERS[holder]({"text": ["good" if mixed else b"good", "schön".encode("cp1252"), None]})
    with pytest.raises(DataError, match=r"row 2.*bytes that are not UTF-8"):
        read_table(source)
    with pytest.raises(DataError, match=r"row 2.*bytes that are not UTF-8"):
        for piece in stream_kept(source, ReadOptions(), 10):
            piece.as_text()


TWICE = pa.table([["a", "b"], ["x", "y"], ["1", "2"]], names=["text", "label", "label"])


def save(folder: Path) -> Path:
    with pa.OSFile(str(folder / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, TWICE.schema) as stream:
        stream.write_table(TWICE)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    return folder


REPEATED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "arrow": (lambda place: TWICE, "Arrow table: the column name 'label' appears 2 times"),
    "saved": (save, "the column name 'label' appears 2 times"),
    "pandas": (lambda place: pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns have the same name"),
    "pandas, as text": (lambda place: pd.DataFrame([[1, 2]], columns=[1, "1"]), "two columns have the same name"),
    "records, as text": (lambda place: [{"1": "a"}, {1: "b", "1": "c"}], "row 2: the column name '1' appears 2 times"),
}


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("kind", REPEATED)
def test_no_column_hides_another_of_its_name(kind: str, typed: bool, tmp_path: Path) -> None:
    make, message = REPEATED[kind]
    with pytest.raises(DataError, match=message):
        read_table(make(tmp_path), ReadOptions(typed=typed))
