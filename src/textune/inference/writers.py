"""Tables on their way out: the rows of a source with columns added, as CSV, JSON lines, Parquet or a spreadsheet."""

from __future__ import annotations

import csv
import datetime
import decimal
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from textune.data import KeptRows, refuse_bytes
from textune.data.cells import Literal, as_text, cell_text, dump_json
from textune.data.typed import settle_types
from textune.errors import DataError, flag
from textune.inference.sheets import SheetWriter

if TYPE_CHECKING:
    import pyarrow as pa

_FORMULA = re.compile(r"[=+\-@\t\r]")
_TIMES = (datetime.date, datetime.time, datetime.timedelta)
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?%?")


class Writer(Protocol):
    """Writes pieces of a table. new: the columns that are added, of which `rows` has none by the same name."""

    escaped_cells: int

    def write(self, rows: KeptRows, new: pa.Table) -> None:
        """Write some rows."""

    def close(self) -> None:
        """Finish the file."""


class CsvWriter:
    """CSV for spreadsheets: a cell that would run as a formula gets an apostrophe in front, unless `exact`."""

    def __init__(self, path: Path, exact: bool, types: pa.Schema | None) -> None:
        self.escaped_cells = 0
        self._exact, self._begun = exact, False
        self._stream = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")

    def write(self, rows: KeptRows, new: pa.Table) -> None:
        """Write some rows, and the header above the first."""
        if not self._begun:
            self._begun = True
            self._writer.writerow([self._cell(name) for name in (*rows.columns, *new.column_names)])
        columns = [column.to_pylist() for column in (*rows.as_text().columns, *new.columns)]
        for row in zip(*columns, strict=True):
            self._writer.writerow([self._cell(value) for value in row])

    def close(self) -> None:
        """Finish the file."""
        self._stream.close()

    def _cell(self, value: Any) -> Any:
        if isinstance(value, float):
            return f"{value:.6g}"
        if self._exact or not value:
            return value
        safe = escape_formula(value)
        self.escaped_cells += safe != value
        return safe


def escape_formula(cell: str) -> str:
    """Return a cell with an apostrophe in front if a spreadsheet would run it as a formula."""
    return "'" + cell if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


class JsonLinesWriter:
    """JSON lines: rows of JSON keep their keys, their order and how their numbers are spelled."""

    def __init__(self, path: Path, exact: bool, types: pa.Schema | None) -> None:
        self.escaped_cells = 0
        self._stream = path.open("w", encoding="utf-8")

    def write(self, rows: KeptRows, new: pa.Table) -> None:
        """Write some rows."""
        objects = _list_objects(rows.cells, rows.name) if rows.objects is None else rows.objects
        for row, added in zip(objects, _list_objects(new, rows.name), strict=True):
            self._stream.write((added if row == "{}" else f"{row[:-1]}, {added[1:]}") + "\n")

    def close(self) -> None:
        """Finish the file."""
        self._stream.close()


class ParquetWriter:
    """Parquet. types: those of the columns, where the source does not have them itself."""

    def __init__(self, path: Path, exact: bool, types: pa.Schema | None) -> None:
        self.escaped_cells = 0
        self._path, self._types = path, types
        self._writer: Any = None

    def write(self, rows: KeptRows, new: pa.Table) -> None:
        """Write some rows; the first decide on the types."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = settle_types(rows.cells) if self._types is None else rows.as_types(self._types)
        for name in new.column_names:
            table = table.append_column(new.schema.field(name), new[name])
        try:
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._path, table.schema)
            self._writer.write_table(table.cast(self._writer.schema))
        except pa.ArrowException as error:
            raise DataError(
                f"{rows.name}: its columns cannot be written as Parquet: {error}",
                hint=f"write JSON lines: {flag('output', 'NAME.jsonl')}",
            ) from error

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()


def _list_objects(table: pa.Table, name: str) -> Iterator[str]:
    """Yield each row as JSON."""
    columns = [_list_values(table, column, name) for column in table.column_names]
    for row in zip(*columns, strict=True):
        yield dump_json(dict(zip(table.column_names, row, strict=True)))


def _list_values(table: pa.Table, column: str, name: str) -> list[Any]:
    """Return a column's values as JSON has them; times become text."""
    import pyarrow as pa

    kind = table.schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_temporal(kind):
        table = as_text(table.select([column]), name)[0]
    try:
        values = table[column].to_pylist()
        if pa.types.is_union(kind):  # cells of several types, of which times become text as in a column of their own
            values = [cell_text(value) if isinstance(value, _TIMES) else value for value in values]
        return [_plain(value) for value in values]
    except UnicodeDecodeError:
        raise refuse_bytes(name, column) from None
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"{name}: column '{column}' ({kind}) cannot be written as JSON: {error}",
            hint=f"write Parquet, which can: {flag('output', 'NAME.parquet')}",
        ) from error


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, decimal.Decimal):
        return Literal(value)
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if not isinstance(value, float):
        return str(value)
    return value if math.isfinite(value) else None


WRITERS: dict[str, type[CsvWriter] | type[JsonLinesWriter] | type[ParquetWriter] | type[SheetWriter]] = {
    ".csv": CsvWriter,
    ".tsv": CsvWriter,
    ".jsonl": JsonLinesWriter,
    ".parquet": ParquetWriter,
    ".xlsx": SheetWriter,
}
_ALIKE = {
    ".tab": ".tsv",
    ".ndjson": ".jsonl",
    ".json": ".jsonl",
    ".xlsm": ".xlsx",
    ".xls": ".xlsx",
    ".ods": ".xlsx",
}
"""What is read but not written, and what is written instead."""


def choose_ending(source: str) -> str:
    """Return the ending of a result for a table with this ending: the same, the closest that is written, or CSV."""
    plain = source.lower().removesuffix(".gz")
    ending = _ALIKE.get(plain, plain)
    return ending if ending in WRITERS else ".csv"
