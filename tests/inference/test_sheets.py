"""Spreadsheets that are written: texts stay texts, numbers and dates keep their types, limits are told."""

from __future__ import annotations

import datetime
import errno
import os
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape
from python_calamine import CalamineWorkbook

from textune.data import list_readable, stream_kept
from textune.data.source import ReadOptions
from textune.errors import DataError
from textune.inference import sheets
from textune.inference.sheets import SheetWriter
from textune.inference.writers import WRITERS, choose_ending

WHEN = datetime.datetime(2024, 5, 6, 7, 8, 9)
FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(1)", "-2+3", "\tx", '=HYPERLINK("http://x")', "007", "1e5", "TRUE"]


def write(source: Any, path: Path, chunk_rows: int = 2) -> Path:
    """Write a table with a column more, in pieces."""
    writer = SheetWriter(path, False, None)
    try:
        for piece in stream_kept(source, ReadOptions(), chunk_rows):
            writer.write(piece, pa.table({"label": ["=good"] * len(piece)}))
    finally:
        writer.close()
    return path


def read_cells(path: Path) -> list[list[Any]]:
    """Return all cells as calamine reads them."""
    return CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(texts=st.lists(TEXTS | st.sampled_from([*FORMULAS, "_x0041_", "a\r\nb", " x ", "<b>&amp;</b>"]), min_size=1))
def test_any_text_comes_back(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(pa.table({"text": texts}), tmp_path_factory.mktemp("sheet") / "out.xlsx")
    sheet = openpyxl.load_workbook(path).active
    cells = [row[0] for row in sheet.iter_rows(min_row=2)]
    assert [unescape(cell.value or "") for cell in cells] == texts
    assert {cell.data_type for cell in cells if cell.value} <= {"s"}


@pytest.mark.parametrize("text", FORMULAS)
def test_what_begins_like_a_formula_is_a_text(text: str, tmp_path: Path) -> None:
    path = write(pa.table({"text": [text], text + " ": [text]}), tmp_path / "out.xlsx")
    assert read_cells(path) == [["text", text + " ", "label"], [text, text, "=good"]]
    with zipfile.ZipFile(path) as archive:
        content = archive.read("xl/worksheets/sheet1.xml").decode()
    assert "<f" not in content and content.count('t="inlineStr"') == 6


def test_numbers_dates_and_texts_keep_their_types(tmp_path: Path) -> None:
    table = pa.table({
        "n": pa.array([1, None, -3]), "big": pa.array([2**53 + 1, 2**63 - 1, 0]), "x": [0.1, float("nan"), 1e300],
        "far": [float("inf"), None, None], "ok": [True, False, None],
        "day": [WHEN.date(), datetime.date(1850, 1, 1), None],
        "when": [WHEN, None, WHEN], "clock": pa.array([WHEN.time(), None, None], pa.time32("s")),
        "code": ["007", "", "1.10"], "tags": [["a", "b"], [], None],
    })  # fmt: skip
    sheet = openpyxl.load_workbook(write(table, tmp_path / "out.xlsx")).active
    columns = {column[0].value: [cell.value for cell in column[1:]] for column in sheet.iter_cols()}
    assert columns.pop("label") == ["=good"] * 3
    assert columns == {
        "n": [1, None, -3], "big": [str(2**53 + 1), str(2**63 - 1), 0], "x": [0.1, None, 1e300],
        "far": ["inf", None, None], "ok": [True, False, None],
        "day": [datetime.datetime(2024, 5, 6), "1850-01-01", None], "when": [WHEN, None, WHEN],
        "clock": [WHEN.time(), None, None], "code": ["007", None, "1.10"], "tags": ['["a","b"]', "[]", None],
    }  # fmt: skip


def test_numbers_of_json_rows_keep_their_types(tmp_path: Path) -> None:
    lines = tmp_path / "in.jsonl"
    long = "1" * 5_000
    rows = [
        '{"n": 4, "x": 1.10, "far": 1e400, "fine": 0.12345678901234567890, "id": 9007199254740993, "ok": true',
        f'{{"n": -3, "x": null, "far": 1e3, "fine": 0.5, "id": {long}, "ok": "true", "tags": [1, "a"]',
    ]
    lines.write_text(f'{rows[0]}, "t": "007"}}\n{rows[1]}, "o": {{"k": 2}}}}\n', encoding="utf-8")
    sheet = openpyxl.load_workbook(write(lines, tmp_path / "out.xlsx")).active
    columns = {column[0].value: [cell.value for cell in column[1:]] for column in sheet.iter_cols()}
    assert columns.pop("label") == ["=good"] * 2
    assert columns == {
        "n": [4, -3], "x": [1.1, None], "far": ["1e400", 1000], "fine": ["0.12345678901234567890", 0.5],
        "id": ["9007199254740993", long], "ok": [True, "true"], "t": ["007", None], "tags": [None, '[1,"a"]'],
        "o": [None, '{"k":2}'],
    }  # fmt: skip


def test_a_spreadsheet_is_the_same_after_it(tmp_path: Path) -> None:
    """What another program wrote is read, written and read again with the same values and types."""
    book = openpyxl.Workbook()
    book.active.append(["text", "n", "x", "ok", "day", "when"])
    book.active.append(["good", 1, 2.5, True, WHEN.date(), WHEN])
    book.active.append(["bad", 2, 0.5, False, None, WHEN])
    book.save(tmp_path / "in.xlsx")
    first, again = (
        pa.concat_tables(piece.cells for piece in stream_kept(path, ReadOptions(), 10))
        for path in (tmp_path / "in.xlsx", write(tmp_path / "in.xlsx", tmp_path / "out.xlsx"))
    )
    assert again.drop_columns(["label"]).to_pylist() == first.to_pylist()
    assert again.drop_columns(["label"]).schema == first.schema


CELLS = {
    "due": [datetime.date(2024, 3, 1), 45000, datetime.datetime(2024, 3, 2, 9, 15)],
    "when": [datetime.datetime(2024, 5, 1, 13, 45), datetime.date(2024, 5, 2), None],
    "share": [0.5, True, 0.25],
    "flag": [True, 1, 0],
    "price": [1, 2.5, 3],
    "at": [datetime.time(12, 30), None, datetime.time(7, 5)],
    "code": [5, "007", "x"],
    "long": [datetime.timedelta(hours=30), datetime.timedelta(minutes=5), None],
}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A spreadsheet whose columns have cells of several types."""
    book = openpyxl.Workbook()
    for row in zip(*([name, *cells] for name, cells in CELLS.items()), strict=True):
        book.active.append(row)
    book.save(tmp_path / "mixed.xlsx")
    return tmp_path / "mixed.xlsx"


@pytest.mark.parametrize("chunk_rows", [1, 2, 10])
def test_cells_of_several_types_in_one_column_keep_theirs(mixed: Path, chunk_rows: int, tmp_path: Path) -> None:
    before, after = (
        [[(type(cell), cell) for cell in row[: len(CELLS)]] for row in openpyxl.load_workbook(path).active.values]
        for path in (mixed, write(mixed, tmp_path / "out.xlsx", chunk_rows))
    )
    assert after == before


@pytest.mark.parametrize(
    ("ending", "rows"),
    {
        ".csv": [
            "due,when,share,flag,price,at,code,long,label",
            '2024-03-01,2024-05-01 13:45:00,0.5,true,1,12:30:00,5,"1 day, 6:00:00",x',
            "45000,2024-05-02 00:00:00,true,1,2.5,,007,0:05:00,x",
            "2024-03-02 09:15:00,,0.25,0,3,07:05:00,x,,x",
        ],
        ".jsonl": [
            '{"due": "2024-03-01", "when": "2024-05-01 13:45:00", "share": 0.5, "flag": true, "price": 1, '
            '"at": "12:30:00", "code": 5, "long": "1 day, 6:00:00", "label": "x"}',
            '{"due": 45000, "when": "2024-05-02 00:00:00", "share": true, "flag": 1, "price": 2.5, "at": null, '
            '"code": "007", "long": "0:05:00", "label": "x"}',
            '{"due": "2024-03-02 09:15:00", "when": null, "share": 0.25, "flag": 0, "price": 3, '
            '"at": "07:05:00", "code": "x", "long": null, "label": "x"}',
        ],
    }.items(),
)
def test_other_forms_spell_each_cell_by_its_own_type(mixed: Path, ending: str, rows: list[str], tmp_path: Path) -> None:
    path = tmp_path / f"out{ending}"
    writer = WRITERS[ending](path, False, None)
    for piece in stream_kept(mixed, ReadOptions(), 2):
        writer.write(piece, pa.table({"label": ["x"] * len(piece)}))
    writer.close()
    assert path.read_text(encoding="utf-8").splitlines() == rows


def test_parquet_has_one_type_for_cells_of_several(mixed: Path, tmp_path: Path) -> None:
    writer = WRITERS[".parquet"](tmp_path / "out.parquet", False, None)
    for piece in stream_kept(mixed, ReadOptions(), 2):
        writer.write(piece, pa.table({"label": ["x"] * len(piece)}))
    writer.close()
    columns = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert columns["price"] == [1.0, 2.5, 3.0] and columns["share"] == ["0.5", "true", "0.25"]
    assert columns["due"] == ["2024-03-01", "45000", "2024-03-02 09:15:00"]
    assert columns["at"] == CELLS["at"] and columns["when"][0] == CELLS["when"][0]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_spreadsheet_that_cannot_be_written_is_an_error_of_the_system(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SheetWriter(tmp_path / "out.xlsx", False, None)

    def fail(*args: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(writer._book, "_store_workbook", fail)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        writer.close()
    assert caught.value.errno == code


@pytest.mark.parametrize(
    ("limit", "value", "table", "words"),
    [
        ("MOST_ROWS", 3, {"text": ["a"] * 3}, "at most 2 rows below its header"),
        ("MOST_COLUMNS", 2, {"text": ["a"], "more": ["b"]}, "at most 2 columns"),
        ("LONGEST_CELL", 5, {"text": ["a", "b", "abcd\U0001f600"]}, "row 3: a text is longer than the 5 characters"),
    ],
)
def test_what_excel_could_not_open_is_refused(
    limit: str, value: int, table: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, limit, value)
    with pytest.raises(DataError, match=words) as refused:
        write(pa.table(table), tmp_path / "out.xlsx")
    assert "CSV" in (refused.value.hint or "")


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", list_readable())
def test_a_result_has_the_form_of_its_source(suffix: str, packed: str) -> None:
    ending = choose_ending(suffix.upper() + packed)
    assert ending in WRITERS and (ending == suffix or suffix not in WRITERS)
    families = (".csv .txt", ".tsv .tab", ".jsonl .ndjson .json", ".parquet", ".xlsx .xlsm .xls .ods")
    assert any({ending, suffix} <= set(family.split()) for family in families)


def test_the_last_moment_of_a_calendar_stays_a_moment_or_becomes_text(tmp_path: Path) -> None:
    last = datetime.datetime(9999, 12, 31, 23, 59, 59)
    moments = [last, last.replace(microsecond=999_000), last.replace(microsecond=999_999)]
    pq.write_table(pa.table({"until": pa.array(moments, pa.timestamp("us"))}), tmp_path / "in.parquet")
    sheet = openpyxl.load_workbook(write(tmp_path / "in.parquet", tmp_path / "out.xlsx")).active
    cells = [row[0] for row in sheet.iter_rows(min_row=2, values_only=True)]
    assert cells[0] == last and isinstance(cells[1], datetime.datetime)
    assert cells[2] == "9999-12-31 23:59:59.999999"
