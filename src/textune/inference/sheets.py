"""Spreadsheets on their way out: one sheet of an .xlsx file, row by row, whose texts are texts and never formulas."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.data import KeptRows
from textune.data.cells import Literal, cell_text, class_names
from textune.data.jsonlines import parse_json
from textune.errors import DataError, flag

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS, MOST_COLUMNS, LONGEST_CELL = 1_048_576, 16_384, 32_767
"""What Excel opens; it counts characters in UTF-16."""
_LARGEST_INTEGER = 2**53
_FIRST_DAY = datetime.datetime(1900, 3, 1)
"""Before it, Excel counts a day that there never was."""
_LAST_MOMENT = datetime.datetime(9999, 12, 31, 23, 59, 59, 999_000)
_OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_numbers": False,
    "strings_to_urls": False,
    "default_date_format": "yyyy-mm-dd hh:mm:ss",
}


class SheetWriter:
    """An .xlsx file with one sheet. Numbers and dates keep their type; a text stays a text, whatever it begins with."""

    def __init__(self, path: Path, exact: bool, types: pa.Schema | None) -> None:
        from xlsxwriter import Workbook

        self.escaped_cells = 0
        self._rows = 0
        self._book = Workbook(str(path), _OPTIONS)
        self._sheet = self._book.add_worksheet()
        forms = {datetime.date: "yyyy-mm-dd", datetime.time: "hh:mm:ss", datetime.timedelta: "[h]:mm:ss"}
        self._forms = {kind: self._book.add_format({"num_format": form}) for kind, form in forms.items()}

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
        """Finish the file. Raises OSError where it cannot be written, such as on a full disk."""
        from xlsxwriter.exceptions import FileCreateError

        try:
            self._book.close()
        except FileCreateError as error:
            self._book.fileclosed = True  # else it is written once more when it is collected
            if error.args and isinstance(error.args[0], OSError):
                raise error.args[0] from None
            raise

    def _write_row(self, values: Any, where: str) -> None:
        for column, value in enumerate(values):
            self._write_cell(column, value, where)
        self._rows += 1

    def _write_cell(self, column: int, value: Any, where: str) -> None:
        place = self._rows, column
        if value is None or value == "" or value != value:
            return
        if isinstance(value, bool):
            self._sheet.write_boolean(*place, value)
        elif isinstance(value, int | float) and _is_number(value):
            self._sheet.write_number(*place, value)
        elif _is_moment(value):
            self._sheet.write_datetime(*place, value, self._forms.get(type(value)))
        else:
            text = cell_text(value) or ""
            if len(text.encode("utf-16-le")) > 2 * LONGEST_CELL:
                raise _refuse(where, f"a text is longer than the {LONGEST_CELL:,} characters of a spreadsheet's cell")
            self._sheet.write_string(*place, text)


def _is_number(value: float) -> bool:
    """Return whether a spreadsheet holds a number without loss."""
    return abs(value) <= _LARGEST_INTEGER or (isinstance(value, float) and math.isfinite(value))


def _is_moment(value: Any) -> bool:
    """Return whether a spreadsheet has a type for a date, a time or a duration.

    It knows no time zones, no early dates, no time before another, and counts thousandths of a second: the last ones
    of the year 9999 would round to a day that it has not.
    """
    if isinstance(value, datetime.datetime):
        return value.tzinfo is None and _FIRST_DAY <= value <= _LAST_MOMENT
    if isinstance(value, datetime.date):
        return value >= _FIRST_DAY.date()
    if isinstance(value, datetime.timedelta):
        return value >= datetime.timedelta()
    return isinstance(value, datetime.time) and value.tzinfo is None


def _list_kept(rows: KeptRows) -> Iterator[list[Any]]:
    """Yield the values of each column: numbers, dates and times as they are, all else as text.

    In a column with several types, each cell keeps its own.
    """
    import pyarrow as pa

    text, classes = rows.as_text(), class_names(rows.cells.schema)
    objects = None if rows.objects is None else [parse_json(row) for row in rows.objects]
    for name in rows.columns:
        if objects is not None:
            pairs = zip(objects, text[name].to_pylist(), strict=True)
            yield [_read_value(row.get(name), cell) for row, cell in pairs]
            continue
        column = rows.cells[name]
        kind = column.type
        if pa.types.is_timestamp(kind) and kind.tz is None:
            column = column.cast(pa.timestamp("us"), safe=False)
        elif pa.types.is_time64(kind):
            column = column.cast(pa.time64("us"), safe=False)
        elif pa.types.is_duration(kind):
            column = column.cast(pa.duration("us"), safe=False)
        elif name in classes or not any(check(kind) for check in _typed_kinds()):
            column = text[name]
        yield column.to_pylist()


def _read_value(value: Any, text: str | None) -> Any:
    """Return a JSON value as a spreadsheet has it: a truth value, a number that it holds without loss, or its text."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, Literal):
        return text
    exact = Decimal(value)
    number = int(exact) if abs(exact) <= _LARGEST_INTEGER and exact == exact.to_integral_value() else float(value)
    return number if _is_number(number) and Decimal(str(number)) == exact else text


def _typed_kinds() -> tuple[Callable[[Any], bool], ...]:
    """Return what tells the kinds of columns that a spreadsheet has a type for, beside moments."""
    from pyarrow import types

    return (types.is_boolean, types.is_integer, types.is_floating, types.is_date, types.is_time32, types.is_union)


def _refuse(where: str, reason: str) -> DataError:
    return DataError(f"{where}: {reason}", hint=f"write CSV, which can: {flag('output', 'NAME.csv')}")
