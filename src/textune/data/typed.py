"""Columns that keep the types of their cells, whatever stands next to each other in one column."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from textune.data.cells import TEXT, as_text, cell_text, text_array

_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("bool", (bool, np.bool_)),  # before int, of which Python counts it
    ("int", (int, np.integer)),
    ("float", (float, np.floating)),
    ("str", (str,)),
    ("datetime", (datetime.datetime,)),  # before date, likewise
    ("date", (datetime.date,)),
    ("time", (datetime.time,)),
    ("timedelta", (datetime.timedelta,)),
    ("object", (Mapping,)),
    ("list", (list, tuple, np.ndarray)),
    ("bytes", (bytes,)),
)
_MIXABLE = frozenset(kind for kind, _ in _KINDS[:8]) | {"wide"}
_LARGEST_FLOAT_INTEGER = 2**53


def typed_array(values: Iterable[Any], where: Callable[[int], str]) -> pa.Array:
    """Build a column of the type that all cells have. `where` as for `text_array`.

    Arrow alone would turn TRUE next to 0.5 into 1, and a number among dates into a date. Here dates among times of day
    become times at midnight, as spreadsheets have them. Other cells of several types become a union, which keeps the
    type of each. Values without a simple type, such as lists, become text.
    """
    values = [None if _is_missing(value) else value for value in values]
    kinds = [None if value is None else _kind_of(value) for value in values]
    found = list(dict.fromkeys(kind for kind in kinds if kind is not None))
    try:
        if set(found) == {"date", "datetime"}:
            return _shorten(pa.array([_at_midnight(value) for value in values]))
        if len(found) <= 1 or set(found) in ({"int", "wide"}, {"str", "bytes"}):
            return _shorten(pa.array(values, from_pandas=True))
        if set(found) <= _MIXABLE:
            return _unite(values, kinds, found)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        pass  # Arrow has no type for it
    return text_array(map(cell_text, values), where)


def settle_types(table: pa.Table) -> pa.Table:
    """Give every column with cells of several types the one that holds them all: float64 for numbers, else text."""
    for place, field in enumerate(table.schema):
        if not pa.types.is_union(field.type):
            continue
        column: pa.ChunkedArray = table[field.name]
        if {field.type.field(i).name for i in range(field.type.num_fields)} == {"int", "float"}:
            numbers = [None if value is None else float(value) for value in column.to_pylist()]
            column = pa.chunked_array([pa.array(numbers, pa.float64())])
        else:
            column = as_text(table.select([field.name]), field.name)[0][field.name]
        table = table.set_column(place, field.name, column)
    return table


def _is_missing(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    return value is None or type(value).__name__ in ("NaTType", "NAType")  # pandas' missing values


def _kind_of(value: Any) -> str:
    kind = next((name for name, types in _KINDS if isinstance(value, types)), f"other {type(value)}")
    if kind == "int" and abs(int(value)) > _LARGEST_FLOAT_INTEGER:
        return "wide"
    if kind == "datetime" and value.tzinfo is not None:
        return "other moment"
    return kind


def _at_midnight(value: datetime.date | None) -> datetime.datetime | None:
    if value is None or isinstance(value, datetime.datetime):
        return value
    return datetime.datetime.combine(value, datetime.time())


def _unite(values: list[Any], kinds: list[str | None], found: list[str]) -> pa.Array:
    """Build a union with a child for each kind; missing cells are in the first."""
    numbers = {kind: number for number, kind in enumerate(found)} | {None: 0}
    children: list[list[Any]] = [[] for _ in found]
    types, offsets = [], []
    for value, kind in zip(values, kinds, strict=True):
        number = numbers[kind]
        types.append(number)
        offsets.append(len(children[number]))
        children[number].append(value)
    arrays = [pa.array(child, TEXT if kind == "str" else None) for kind, child in zip(found, children, strict=True)]
    return pa.UnionArray.from_dense(pa.array(types, pa.int8()), pa.array(offsets, pa.int32()), arrays, found)


def _shorten(column: pa.Array) -> pa.Array:
    """Count in seconds where nothing shorter is there, so that 12:30:00 is not spelled 12:30:00.000000 as text."""
    for long, short in ((pa.timestamp("us"), pa.timestamp("s")), (pa.time64("us"), pa.time32("s"))):
        if column.type == long:
            try:
                return column.cast(short)
            except pa.ArrowInvalid:
                return column
    return column
