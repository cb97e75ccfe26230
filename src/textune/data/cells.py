"""Convert values to cell text: numbers keep their spelling, empty values are missing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.errors import DataError

TEXT = pa.large_string()


def cell_text(value: Any) -> str | None:
    """Return a Python value as text, or None if it is missing.

    1 -> "1", 1.0 -> "1.0", True -> "true"; NaN is missing; lists, sets and mappings become compact JSON. Bytes are
    read as UTF-8, as in columns of bytes; `text_array` says in which row they are something else.
    """
    if isinstance(value, str):
        return str(value) or None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8") or None
    if value is None:
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else str(value)
    if isinstance(value, Mapping | Set | list | tuple | np.ndarray):
        return compact_json(value)
    text = str(value)  # pandas prints its missing values as NaT or <NA>
    return None if not text or text in ("NaT", "<NA>") else text


def compact_json(value: Any) -> str:
    """Return a nested value as JSON without spaces; a `Literal` number keeps its spelling.

    A set becomes a sorted list, so that equal sets give equal texts.
    """
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{compact_json(str(k))}:{compact_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple | np.ndarray):
        return "[" + ",".join(compact_json(v) for v in value) + "]"
    if isinstance(value, Set):
        return "[" + ",".join(sorted(compact_json(v) for v in value)) + "]"
    if isinstance(value, str | bool | int | float) or value is None:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bytes):
        raise DataError("a cell contains bytes, not text")
    return json.dumps(cell_text(value), ensure_ascii=False)


class Literal(str):
    """A JSON number spelled as in the file, so that 1.10 and 1e5 do not change."""


WHOLE_ROW = "\0row"
"""The column in which a JSON reader passes on each row unchanged, if `ReadOptions.typed` is set."""


def dump_json(value: Any) -> str:
    """Return parsed JSON as text again; a `Literal` number keeps its spelling."""
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {dump_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dump_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def text_array(values: Iterable[str | None], where: Callable[[int], str]) -> pa.Array:
    """Build a text column.

    `where(position)` locates the cell in the error for a lone surrogate, and for bytes that are not UTF-8, which
    `cell_text` finds while the values are taken.
    """
    texts: list[str | None] = []
    try:
        for value in values:
            texts.append(value)  # one by one: the number of texts is the position of a failure
        return pa.array(texts, TEXT)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where(len(texts))}: contains bytes that are not UTF-8", hint="decode them first, or remove the column"
        ) from error
    except DataError as error:
        raise DataError(f"{where(len(texts))}: {error}", hint="decode them first, or remove the column") from error
    except UnicodeEncodeError:
        for position, value in enumerate(texts):
            if value is not None and (surrogate := _lone_surrogate(value)):
                raise DataError(
                    f"{where(position)}: contains a lone surrogate (\\u{ord(surrogate):04x}), not a valid character",
                    hint="write the whole character, or remove it",
                ) from None
        raise


def refuse_names(names: Iterable[str], place: str) -> None:
    """Raise DataError for a column's name that cannot be kept. place: where it is, such as a file and a line."""
    for name in names:
        if (surrogate := _lone_surrogate(name)) or name == WHOLE_ROW:
            what = f"a lone surrogate (\\u{ord(surrogate):04x})" if surrogate else "a NUL character"
            raise DataError(f"{place}: a column name contains {what}", hint="rename the column")


def _lone_surrogate(value: str) -> str | None:
    return next((char for char in value if "\ud800" <= char <= "\udfff"), None)


def as_text(arrow: pa.Table, name: str, first_row: int = 1) -> tuple[pa.Table, list[str]]:
    """Cast every column to text; return the table and notes about skipped columns.

    first_row: the number of the first row in messages.

    Class numbers of the `datasets` library become class names. Raises DataError for bytes that are not UTF-8.
    """
    names = class_names(arrow.schema)
    columns: dict[str, pa.ChunkedArray] = {}
    notes = []
    for field, column in zip(arrow.schema, arrow.columns, strict=True):
        if _holds_bytes(field.type) and not _is_binary(field.type):
            notes.append(f"column '{field.name}' was skipped: it contains bytes (images or audio)")
            continue
        try:
            columns[field.name] = _column_text(column, names.get(field.name))
        except (pa.ArrowException, ValueError, OverflowError) as error:
            if (row := _undecodable_row(column)) is not None:
                raise DataError(
                    f"{name}, row {first_row + row}: column '{field.name}' contains bytes that are not UTF-8",
                    hint="save the column as UTF-8 text, or remove it",
                ) from error
            raise DataError(
                f"{name}: column '{field.name}' ({field.type}) cannot be read as text: {error}",
                hint="convert the column to UTF-8 text, or remove it",
            ) from error
    return pa.table(columns) if columns else arrow.select([]), notes


def _undecodable_row(column: pa.ChunkedArray) -> int | None:
    if not (_is_string(column.type) or _is_binary(column.type)):
        return None
    for row, value in enumerate(column.cast(pa.large_binary()).to_pylist()):
        try:
            (value or b"").decode("utf-8")
        except UnicodeDecodeError:
            return row
    return None


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the class names that `datasets` stored in a schema, by column; lists of classes count too."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        inner = {column: f.get("feature", f) if isinstance(f, dict) else f for column, f in features.items()}
        return {
            column: [str(n) for n in feature["names"]]
            for column, feature in inner.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}


def _column_text(column: pa.ChunkedArray, names: list[str] | None) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _column_text(column.cast(kind.value_type), names)
    if names is not None and pa.types.is_integer(kind):
        return _map_values(column, lambda v: names[v] if 0 <= v < len(names) else None)
    if names is not None and _is_list(kind) and pa.types.is_integer(kind.value_type):
        numbers = range(len(names))
        lists = [
            None if cell is None or any(v not in numbers for v in cell) else [names[v] for v in cell]
            for cell in column.to_pylist()
        ]
        return pa.chunked_array([pa.array([cell_text(cell) for cell in lists], TEXT)])
    if pa.types.is_floating(kind):
        # Arrow writes 1.0 as "1"; Python keeps the decimal point. Adding 0 makes 0.0 of -0.0, which equals it, so that
        # both are one value
        number = np.float32 if pa.types.is_float32(kind) else float
        return _map_values(column, lambda v: cell_text(number(v) + number(0)))
    if pa.types.is_nested(kind) or not _can_cast(kind):
        return pa.chunked_array([pa.array([cell_text(v.as_py()) for v in c], TEXT) for c in column.chunks], TEXT)
    text = column.cast(TEXT)
    text.validate(full=True)  # a cast between string types does not check that bytes are UTF-8
    return empty_as_missing(text)


def empty_as_missing(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Turn empty strings of a text column into nulls."""
    empty = pc.equal(pc.binary_length(column), 0)
    return pc.if_else(empty, pa.scalar(None, TEXT), column) if pc.any(empty).as_py() else column


def _map_values(column: pa.ChunkedArray, convert: Callable[[Any], str | None]) -> pa.ChunkedArray:
    converted = {value: convert(value) for value in column.unique().to_pylist() if value is not None}
    chunks = [pa.array([converted.get(value) for value in chunk.to_pylist()], TEXT) for chunk in column.chunks]
    return pa.chunked_array(chunks, TEXT)


def _can_cast(kind: pa.DataType) -> bool:
    if pa.types.is_duration(kind):
        return False  # Arrow would write the number of its units
    checks = (
        pa.types.is_integer,
        pa.types.is_boolean,
        pa.types.is_temporal,
        pa.types.is_decimal,
        pa.types.is_null,
    )
    return _is_string(kind) or _is_binary(kind) or any(check(kind) for check in checks)


def _is_list(kind: pa.DataType) -> bool:
    return any(check(kind) for check in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _is_string(kind: pa.DataType) -> bool:
    return any(check(kind) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_binary(kind: pa.DataType) -> bool:
    checks = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    )
    return any(check(kind) for check in checks)


def _holds_bytes(kind: pa.DataType) -> bool:
    if _is_binary(kind):
        return True
    return any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields)) if kind.num_fields else False
