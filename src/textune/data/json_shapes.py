"""The shapes of a JSON document that holds a table: a list of rows, an object of columns, and what pandas writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from textune.data.cells import Literal
from textune.errors import DataError
from textune.printable import count

Row = dict[str, Any]
_SHAPES = (
    'give an array of objects, {"data": [...]}, an object with one list per column, or what DataFrame.to_json writes'
)


def find_rows(document: Any, name: str) -> tuple[list[Row], str | None]:
    """Return the rows of a parsed document, and a note where their shape is not plain to see; name: in messages.

    Raises DataError if it is none of the known shapes.
    """
    if _is_split(document):
        return list(_read_split(document, name)), "read as pandas' orient='split'"
    if isinstance(document, dict) and isinstance(document.get("data"), list) and not _is_columns(document):
        document = document["data"]
    if isinstance(document, list):
        for number, row in enumerate(document, 1):
            if not isinstance(row, dict):
                raise DataError(f"{name}, row {number}: contains {describe_kind(row)}, not an object", hint=_SHAPES)
        return document, None
    if _is_columns(document):
        lengths = {key: len(column) for key, column in document.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{name}: the columns differ in length: {lengths}", hint=_SHAPES)
        return _join_columns(document, zip(*document.values(), strict=True)), None
    if _holds_objects(document):
        keys = dict.fromkeys(chain.from_iterable(document.values()))
        if all(key.isdecimal() for key in keys):
            cells = ([column.get(key) for column in document.values()] for key in keys)
            return _join_columns(document, cells), "read as an object of columns, as pandas writes it"
        if set.intersection(*map(set, document.values())):
            return list(document.values()), "read as an object of rows; their names are left out"
    raise DataError(f"{name}: contains {describe_kind(document)}, not a table", hint=_SHAPES)


def describe_kind(value: Any) -> str:
    """Return what a parsed value is, in words."""
    if isinstance(value, Literal):
        return "a number"
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return kinds.get(type(value), "null")


def _join_columns(names: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[Row]:
    names = list(names)
    return [dict(zip(names, cells, strict=True)) for cells in rows]


def _is_columns(document: Any) -> bool:
    """Return whether the document is an object with one list of plain cells per column."""
    if not isinstance(document, dict) or not document:
        return False
    if not all(isinstance(column, list) for column in document.values()):
        return False
    return list(document) != ["data"] or not any(isinstance(cell, dict) for cell in document["data"][:1])


def _holds_objects(document: Any) -> bool:
    return isinstance(document, dict) and bool(document) and all(isinstance(v, dict) and v for v in document.values())


def _is_split(document: Any) -> bool:
    """Return whether the document has the names of the columns once, and lists of cells."""
    if not isinstance(document, dict) or not {"columns", "data"} <= document.keys():
        return False
    names, rows = document["columns"], document["data"]
    named = isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)
    return named and isinstance(rows, list) and bool(rows) and all(isinstance(row, list) for row in rows)


def _read_split(document: Mapping[str, Any], name: str) -> Iterator[Row]:
    names = document["columns"]
    if twice := next((column for column in names if names.count(column) > 1), None):
        raise DataError(f"{name}: the column name '{twice}' appears {names.count(twice)} times", hint="rename one")
    for number, cells in enumerate(document["data"], 1):
        if len(cells) != len(names):
            raise DataError(
                f"{name}, row {number}: {count(len(cells), 'cell')}, but there are {count(len(names), 'column')}",
                hint="give each row one cell per column; null is a missing one",
            )
        yield dict(zip(names, cells, strict=True))
