"""Spreadsheets on their way out: one sheet of an .xlsx file, row by row, whose texts are texts and never formulas."""

from __future__ import annotations

import datetime
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.data import KeptRows
from textune.data.cells import cell_text, class_names
from textune.errors import DataError, flag

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS, MOST_COLUMNS, LONGEST_CELL = 1_048_576, 16_384, 32_767
"""What Excel opens; it counts characters in UTF-16."""
_LARGEST_INTEGER = 2**53
_FIRST_DAY = datetime.datetime(1899, 12, 30)
_LEAP_BUG_ENDS = datetime.datetime(1900, 3, 1)
"""Excel counts a day before it that there never was."""
_NOT_XML = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9a-fA-F]{4}_)")
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_DATE, _MOMENT, _TIME = 1, 2, 3
"""Cell formats of the style sheet below; 0 is none."""
_FORMATS = {_DATE: "yyyy\\-mm\\-dd", _MOMENT: "yyyy\\-mm\\-dd\\ hh:mm:ss", _TIME: "hh:mm:ss"}
_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_KIND}.sheet.main+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_KIND}.worksheet+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_KIND}.styles+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}">'
    '<sheets><sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="rId2" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
    "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><numFmts count="{len(_FORMATS)}">'
    + "".join(f'<numFmt numFmtId="{163 + at}" formatCode="{code}"/>' for at, code in _FORMATS.items())
    + '</numFmts><fonts count="1"><font><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>'
    '</fills><borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
    f'<cellXfs count="{1 + len(_FORMATS)}"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
    + "".join(
        f'<xf numFmtId="{163 + at}" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
        for at in _FORMATS
    )
    + '</cellXfs><cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>',
}
"""The files around the sheet, as ECMA-376 (Office Open XML) wants them."""


class SheetWriter:
    """An .xlsx file with one sheet. Numbers and dates keep their type; a text stays a text, whatever it begins with."""

    def __init__(self, path: Path, exact: bool, types: pa.Schema | None) -> None:
        self.escaped_cells = 0
        self._rows = 0
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        for name, content in _PARTS.items():
            self._archive.writestr(name, _HEAD + content)
        self._sheet = self._archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True)
        self._sheet.write(f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetData>'.encode())

    def write(self, rows: KeptRows, new: pa.Table) -> None:
        """Write some rows, and the header above the first. Raises DataError for what Excel could not open."""
        names = [*rows.columns, *new.column_names]
        if not self._rows:
            if len(names) > MOST_COLUMNS:
                raise _refuse(rows.name, f"a spreadsheet holds at most {MOST_COLUMNS:,} columns")
            self._write_row(names, f"{rows.name}, header")
        if self._rows + len(rows) > MOST_ROWS:
            raise _refuse(rows.name, f"a spreadsheet holds at most {MOST_ROWS - 1:,} rows below its header")
        columns = [*_list_kept(rows), *(column.to_pylist() for column in new.columns)]
        for at, row in enumerate(zip(*columns, strict=True)):
            self._write_row(row, f"{rows.name}, row {rows.first_row + at}")

    def close(self) -> None:
        """Finish the file."""
        self._sheet.write(b"</sheetData></worksheet>")
        self._sheet.close()
        self._archive.close()

    def _write_row(self, values: Any, where: str) -> None:
        cells = "".join(_write_cell(value, where) for value in values)
        self._sheet.write(f"<row>{cells}</row>".encode())
        self._rows += 1


def _write_cell(value: Any, where: str) -> str:
    """Return a cell. Text is an inline string, which no program takes for a formula, a number or a link."""
    if value is None or value == "":
        return "<c/>"
    if isinstance(value, bool):
        return f'<c t="b"><v>{int(value)}</v></c>'
    if isinstance(value, int | float):
        if abs(value) <= _LARGEST_INTEGER or (isinstance(value, float) and math.isfinite(value)):
            return f"<c><v>{value!r}</v></c>"
        if value != value:
            return "<c/>"
    elif (counted := _count_days(value)) is not None:
        return f'<c s="{counted[1]}"><v>{counted[0]!r}</v></c>'
    text = cell_text(value) or ""
    if len(text.encode("utf-16-le")) > 2 * LONGEST_CELL:
        raise _refuse(where, f"a text is longer than the {LONGEST_CELL:,} characters of a spreadsheet's cell")
    return f'<c t="inlineStr"><is><t xml:space="preserve">{_escape(text)}</t></is></c>'


def _count_days(value: Any) -> tuple[float, int] | None:
    """Return a date or time as Excel counts it, in days, with its format; None for what is none or has a time zone."""
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None or value < _LEAP_BUG_ENDS:
            return None
        return (value - _FIRST_DAY) / datetime.timedelta(days=1), _MOMENT
    if isinstance(value, datetime.date):
        moment = datetime.datetime.combine(value, datetime.time())
        return None if moment < _LEAP_BUG_ENDS else ((moment - _FIRST_DAY).days, _DATE)
    if isinstance(value, datetime.time) and value.tzinfo is None:
        return (datetime.datetime.combine(_FIRST_DAY, value) - _FIRST_DAY) / datetime.timedelta(days=1), _TIME
    return None


def _escape(text: str) -> str:
    """Return a text as XML; characters that XML cannot hold are written as Excel does, `_x0007_`."""
    text = _NOT_XML.sub(lambda found: f"_x{ord(found[0]):04X}_", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _list_kept(rows: KeptRows) -> Iterator[list[Any]]:
    """Yield the values of each column: numbers, dates and times as they are, all else as text."""
    import pyarrow as pa

    text, classes = rows.as_text(), class_names(rows.cells.schema)
    for name in rows.columns:
        column = rows.cells[name]
        kind = column.type
        if pa.types.is_timestamp(kind) and kind.tz is None:
            column = column.cast(pa.timestamp("us"), safe=False)
        elif name in classes or not any(check(kind) for check in _typed_kinds()):
            column = text[name]
        yield column.to_pylist()


def _typed_kinds() -> tuple[Callable[[Any], bool], ...]:
    """Return what tells the kinds of columns that a spreadsheet has a type for, beside moments."""
    from pyarrow import types

    return (types.is_boolean, types.is_integer, types.is_floating, types.is_date, types.is_time32)


def _refuse(where: str, reason: str) -> DataError:
    return DataError(f"{where}: {reason}", hint=f"write CSV, which can: {flag('output', 'NAME.csv')}")
