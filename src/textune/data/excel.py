"""Spreadsheets (.xlsx, .xls, .ods): the first sheet, or the one named after a '#'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from textune.data.archives import check_spreadsheet
from textune.data.cells import cell_text, text_array
from textune.data.delimited import refuse_duplicates
from textune.data.header import MOST_LINES, describe_skipped, find_header
from textune.data.source import Location, Reading, ReadOptions, file_source, sources
from textune.data.typed import typed_array
from textune.errors import DataError, suggest


def _open(location: Location, options: ReadOptions, chunk_rows: int) -> Reading:
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    if not location.path.stat().st_size:
        raise DataError(f"{location.name}: the file is empty", hint="give a sheet with a header and at least one row")
    with location.path.open("rb") as stream:
        is_compound = stream.read(4) == b"\xd0\xcf\x11\xe0"
    if is_compound and location.suffix != ".xls":
        raise DataError(
            f"{location.name}: is password-protected, or an .xls file with the wrong suffix",
            hint="save it without a password, or rename it to .xls",
        )
    if location.suffix != ".xls":
        check_spreadsheet(location.path, location.name, options)
    try:
        with CalamineWorkbook.from_path(location.path) as book:
            name, note = _choose_sheet(location, book.sheet_names)
            rows = _rows(book.get_sheet_by_name(name).iter_rows(), _value if options.typed else _cell)
            notes = [note] if note else []
            tables = list(_chunks(list(rows), location.name, chunk_rows, options.typed, notes))
    except PasswordError as error:
        raise DataError(f"{location.name}: is password-protected", hint="save it without a password") from error
    except CalamineError as error:
        raise DataError(f"{location.name}: damaged, or not a spreadsheet: {error}", hint="save it again") from error
    return Reading(location.name, iter(tables), notes)


sources.register("excel")(file_source((".xlsx", ".xlsm", ".xls", ".ods"), _open, parts=True))


def _choose_sheet(location: Location, names: list[str]) -> tuple[str, str | None]:
    if location.part is not None:
        if location.part not in names:
            raise DataError(
                f"{location.name}: no sheet '{location.part}'{suggest(location.part, names)}",
                hint=f"sheets: {', '.join(names)}",
            )
        return location.part, None
    if not names:
        raise DataError(f"{location.name}: has no sheets")
    if len(names) == 1:
        return names[0], None
    return names[0], f"reading sheet '{names[0]}' of {len(names)}; {location.path.name}#{names[1]} reads another"


def _rows(cells: Iterator[list[Any]], convert: Callable[[Any], Any]) -> Iterator[list[Any]]:
    for row in cells:
        yield [convert(value) for value in row]


def _value(value: Any) -> Any:
    """Return a value as it is, a whole number as an integer: spreadsheets store a 1 as 1.0."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return None if value == "" else value


def _cell(value: Any) -> str | None:
    return cell_text(_value(value))


def _filled(row: list[Any]) -> bool:
    return any(value is not None for value in row)


def _chunks(rows: list[list[Any]], name: str, chunk_rows: int, typed: bool, notes: list[str]) -> Iterator[pa.Table]:
    shown = [[cell_text(value) for value in row] for row in rows[:MOST_LINES]]
    position, kinds = find_header(shown)
    start = next((i for i in range(position, len(rows)) if _filled(rows[i])), None)
    if start is None:
        raise DataError(f"{name}: the sheet is empty", hint="give a sheet with a header and at least one row")
    notes += describe_skipped(shown, kinds, "row")
    header, body = rows[start], rows[start + 1 :]
    while body and not _filled(body[-1]):
        body.pop()
    names = [(cell_text(cell) or "").strip() for cell in header]
    unnamed = {position for position, column in enumerate(names) if not column}
    names = [column or f"column_{position + 1}" for position, column in enumerate(names)]
    empty = {position for position in unnamed if not _filled([row[position] for row in body])}
    used = [position for position in range(len(names)) if position not in empty]
    refuse_duplicates([names[position] for position in used], name)
    if typed:  # of the whole sheet: a column's type must not change from chunk to chunk
        columns = [typed_array((row[position] for row in body), lambda i: f"{name}, row {i + 1}") for position in used]
        yield pa.table(columns, names=[names[position] for position in used])
        return
    start = 0
    remaining = iter(body)
    while batch := list(islice(remaining, chunk_rows)):

        def where(position: int, start: int = start) -> str:
            return f"{name}, row {start + position + 1}"

        arrays = [text_array([row[position] for row in batch], where) for position in used]
        yield pa.table(arrays, names=[names[position] for position in used])
        start += len(batch)
