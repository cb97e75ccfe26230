"""Rows with the values and types of their source, for whoever copies a table and adds columns to it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.data.cells import TEXT, WHOLE_ROW, Literal, as_text, dump_json
from textune.data.jsonlines import parse_json
from textune.data.source import ReadOptions, check_cells, open_source, stream_parts
from textune.data.table import Table, build_table
from textune.errors import DataError, flag

_INTEGER, _LONGEST_INTEGER = re.compile(r"-?\d+"), 20
_MOST_FIELDS = 1_000


@dataclass(frozen=True)
class KeptRows:
    """Some rows of a source.

    name, first_row: for messages. columns: the names in the order of the source.
    cells: one Arrow column each, of the type that the source has it in; text where the source is JSON.
    objects: each row as JSON, with its keys in their order and its numbers as they are spelled; None for other sources.
    notes: what the reader detected in the source, whole once its last rows are read.
    """

    name: str
    first_row: int
    cells: pa.Table
    objects: list[str] | None
    max_cell_chars: int
    notes: Sequence[str] = ()

    @property
    def columns(self) -> list[str]:
        """The column names."""
        return list(self.cells.column_names)

    def __len__(self) -> int:
        return int(self.cells.num_rows)

    def read_texts(self, names: Sequence[str]) -> Table:
        """Return a table of the named columns as text; the others are there, and empty. Raises DataError."""
        wanted = [name for name in self.columns if name in names]
        text, _ = as_text(self.cells.select(wanted), self.name, self.first_row)
        check_cells(text, self.name, self.first_row - 1, self.max_cell_chars)
        empty = pa.nulls(len(self), TEXT)
        columns = {name: text[name] if name in text.column_names else empty for name in self.columns}
        return build_table(pa.table(columns), self.name, first_row=self.first_row)

    def as_text(self) -> pa.Table:
        """Return all columns as text. Raises DataError where a column holds bytes that are no text."""
        text, _ = as_text(self.cells, self.name, self.first_row)
        if lost := [name for name in self.columns if name not in text.column_names]:
            raise refuse_bytes(self.name, lost[0])
        return text

    def as_types(self, schema: pa.Schema) -> pa.Table:
        """Return JSON rows as columns of these types; see `find_types`."""
        rows = [parse_json(row) for row in self.objects or ()]
        arrays = [pa.array([_convert(row.get(f.name), f.type) for row in rows], f.type) for f in schema]
        return pa.table(arrays, schema=schema)


def refuse_bytes(name: str, column: str) -> DataError:
    """Return the error for bytes that an output of text cannot hold."""
    return DataError(
        f"{name}: column '{column}' contains bytes that are not text, which CSV and JSON lines cannot hold",
        hint=f"write Parquet, which can: {flag('output', 'NAME.parquet')}",
    )


def stream_kept(source: str | Path | Any, options: ReadOptions, chunk_rows: int) -> Iterator[KeptRows]:
    """Yield the rows of any table in pieces of at most `chunk_rows` rows; memory as for `stream_tables`.

    Raises DataError.
    """
    options = replace(options, typed=True)
    reading = open_source(source, options, chunk_rows)
    first_row = 1
    for part in stream_parts(reading, options, chunk_rows):
        objects = part[WHOLE_ROW].to_pylist() if WHOLE_ROW in part.column_names else None
        cells = part if objects is None else part.drop_columns([WHOLE_ROW])
        yield KeptRows(reading.name, first_row, cells, objects, options.max_cell_chars, reading.notes)
        first_row += len(cells)


# ---- the types of JSON rows ---------------------------------------------------------------------------------------


def find_types(pieces: Iterable[KeptRows]) -> pa.Schema:
    """Return one type for each key of JSON rows; values that have none in common become text.

    Whole numbers and others become float64 together, where none of them would lose a digit.
    """
    kinds: dict[str, Any] = {}
    for piece in pieces:
        kinds |= {name: None for name in piece.columns if name not in kinds}
        for row in map(parse_json, piece.objects or ()):
            for name, value in row.items():
                if kinds[name] != "mixed":
                    kinds[name] = _merge_or_mix(kinds[name], value)
    return pa.schema([(name, _type_or_text(kind)) for name, kind in kinds.items()])


class _NoTypeError(Exception):
    """Values have no type in common."""


def _merge_or_mix(kind: Any, value: Any) -> Any:
    try:
        return _merge(kind, _kind_of(value))
    except _NoTypeError:
        return "mixed"


def _kind_of(value: Any) -> Any:
    """Return what a value is: a word, None for null, [kind] for a list, {name: kind} for an object."""
    if isinstance(value, Literal):
        if not _INTEGER.fullmatch(value):
            return _known("float", math.isfinite(float(value)))
        if len(value) > _LONGEST_INTEGER:
            return _known("wide", False)
        return "int" if abs(int(value)) <= 2**53 else _known("wide", -(2**63) <= int(value) < 2**63)
    if isinstance(value, list):
        inner = None
        for each in value:
            inner = _merge(inner, _kind_of(each))
        return [inner]
    if isinstance(value, dict):
        return {name: _kind_of(each) for name, each in value.items()}
    return None if value is None else "bool" if isinstance(value, bool) else "str"


def _known(kind: str, holds: bool) -> str:
    if not holds:
        raise _NoTypeError
    return kind


def _merge(one: Any, other: Any) -> Any:
    if one is None or other is None or one == other:
        return other if one is None else one
    if isinstance(one, list) and isinstance(other, list):
        return [_merge(one[0], other[0])]
    if isinstance(one, dict) and isinstance(other, dict):
        merged = {name: _merge(one.get(name), other.get(name)) for name in {**one, **other}}
        if len(merged) <= _MOST_FIELDS:
            return merged
    if isinstance(one, str) and isinstance(other, str):
        for pair, both in (({"int", "wide"}, "wide"), ({"int", "float"}, "float")):
            if {one, other} == pair:
                return both
    raise _NoTypeError


_TYPES = {"bool": pa.bool_(), "int": pa.int64(), "wide": pa.int64(), "float": pa.float64(), "str": TEXT}


def _type_or_text(kind: Any) -> pa.DataType:
    try:
        return TEXT if kind == "mixed" else _type_of(kind)
    except _NoTypeError:
        return TEXT


def _type_of(kind: Any, inside: bool = False) -> pa.DataType:
    """Return the type of a kind. inside: of a list or an object, where Arrow cannot cast a type of nulls alone."""
    if isinstance(kind, list):
        return pa.list_(_type_of(kind[0], inside=True))
    if isinstance(kind, dict):
        if not kind:  # Parquet has no objects without a key
            raise _NoTypeError
        return pa.struct([(name, _type_of(each, inside=True)) for name, each in kind.items()])
    if kind is None:
        return TEXT if inside else pa.null()
    return _TYPES[kind]


def _convert(value: Any, kind: pa.DataType) -> Any:
    """Return a parsed value as one of this type."""
    if value is None:
        return None
    if kind == TEXT:
        return value if isinstance(value, str) else dump_json(value)
    if pa.types.is_struct(kind):
        return {field.name: _convert(value.get(field.name), field.type) for field in kind}
    if pa.types.is_list(kind):
        return [_convert(each, kind.value_type) for each in value]
    if isinstance(value, Literal):
        return float(value) if pa.types.is_floating(kind) else int(value)
    return value
