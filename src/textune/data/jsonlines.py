"""JSON: one object per line (.jsonl, .ndjson), or one document with a table (.json)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, NoReturn

import pyarrow as pa

from textune.data.cells import WHOLE_ROW, Literal, cell_text, compact_json, dump_json, refuse_names, text_array
from textune.data.encodings import Encoding, find_encoding
from textune.data.json_shapes import Row, describe_kind, find_rows
from textune.data.lines import BadLineError, decoded_lines, open_bytes
from textune.data.source import MAX_COLUMNS, Location, Reading, ReadOptions, file_source, sources
from textune.errors import DataError

MAX_DEPTH = 64
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_INNERMOST = re.compile(r"\[\]|\{\}")
_STRING = re.compile(r'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)  # linear even if a quote is never closed


def _open_lines(location: Location, options: ReadOptions, chunk_rows: int) -> Reading:
    encoding = _encoding(location, options)
    notes = [encoding.note] if encoding.note else []

    def find_columns() -> list[str]:
        keys = dict.fromkeys(key for _, row in _line_rows(location, options, encoding) for key in row)
        return [*keys, *_extra(options)]

    rows = _line_rows(location, options, encoding)
    return Reading(location.name, _chunks(rows, location.name, chunk_rows, options, "line"), notes, find_columns)


def _extra(options: ReadOptions) -> tuple[str, ...]:
    return (WHOLE_ROW,) if options.typed else ()


def _open_document(location: Location, options: ReadOptions, chunk_rows: int) -> Reading:
    encoding = _encoding(location, options)
    notes = [encoding.note] if encoding.note else []
    with open_bytes(location.path, options) as stream:
        try:
            content = "".join(decoded_lines(stream, encoding, options, options.max_bytes))
        except BadLineError as error:
            raise DataError(f"{location.name}: {error.reason}", hint=error.hint) from None
    try:
        document = parse_json(content)
    except ValueError as error:
        if str(error).startswith("Extra data") and content.lstrip().startswith("{"):
            reading = _open_lines(location, options, chunk_rows)
            reading.notes.append("read as JSON lines: the file has one object per line")
            return reading
        raise DataError(f"{location.name}: {error}", hint="give an array of objects, or JSON lines as .jsonl") from None
    found, note = find_rows(document, location.name)
    rows = list(enumerate(found, 1))
    notes += [note] if note else []
    columns = [*dict.fromkeys(key for _, row in rows for key in row), *_extra(options)]
    return Reading(
        location.name, _chunks(iter(rows), location.name, chunk_rows, options, "row"), notes, lambda: columns
    )


sources.register("jsonlines")(file_source((".jsonl", ".ndjson"), _open_lines, ("encoding",), gzip=True))
sources.register("json")(file_source((".json",), _open_document, ("encoding",), gzip=True))


def parse_json(text: str) -> Any:
    """Parse JSON, keeping numbers as written; raise ValueError with the reason.

    Refused: nesting deeper than 64, duplicate keys, NaN and Infinity.
    """
    # the parser recurses in C, so check the depth first
    if _is_too_deep(text):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    try:
        return json.loads(
            text,
            object_pairs_hook=_refuse_duplicate_keys,
            parse_int=Literal,
            parse_float=Literal,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None


def is_object(cell: str) -> bool:
    """Return whether a cell is a JSON object, as a nested field of a row becomes."""
    if cell.lstrip()[:1] != "{" or cell.rstrip()[-1:] != "}":
        return False
    try:
        return isinstance(parse_json(cell), dict)
    except ValueError:
        return False


def _is_too_deep(text: str) -> bool:
    """Strip strings, then everything but brackets, then the innermost brackets level by level."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    brackets = _NO_BRACKET.sub("", _STRING.sub("", text))
    for _ in range(MAX_DEPTH):
        shorter = _INNERMOST.sub("", brackets)
        if shorter == brackets:  # empty, or not JSON: the parser reports that, if it need not go too deep
            return max(brackets.count("["), brackets.count("{")) > MAX_DEPTH
        brackets = shorter
    return bool(brackets)


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(k for k in keys if keys.count(k) > 1)}' appears twice in one object")
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON; write null for a missing value")


def _encoding(location: Location, options: ReadOptions) -> Encoding:
    if not location.path.stat().st_size:
        raise DataError(f"{location.name}: the file is empty", hint="give at least one JSON object")
    return find_encoding(lambda: open_bytes(location.path, options), location.name, options.encoding)


def _line_rows(location: Location, options: ReadOptions, encoding: Encoding) -> Iterator[tuple[int, Row]]:
    number = 0
    with open_bytes(location.path, options) as stream:
        lines = decoded_lines(stream, encoding, options)
        while True:
            number += 1
            try:
                line = next(lines, None)
                if line is None:
                    return
                if not line.strip():
                    continue
                row = parse_json(line)
            except BadLineError as error:
                raise DataError(f"{location.name}, line {number}: {error.reason}", hint=error.hint) from None
            except ValueError as error:
                raise DataError(
                    f"{location.name}, line {number}: {_reason(error)}",
                    hint="each line must be one JSON object",
                ) from None
            if not isinstance(row, dict):
                raise DataError(
                    f"{location.name}, line {number}: contains {describe_kind(row)}, not an object",
                    hint='each line must be one JSON object, such as {"text": "...", "label": "..."}',
                )
            yield number, row


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is not valid JSON: {error.msg} at character {error.pos + 1}"
    return str(error)


def _chunks(
    rows: Iterator[tuple[int, Row]], name: str, chunk_rows: int, options: ReadOptions, what: str
) -> Iterator[pa.Table]:
    """Turn objects into tables; a key that a row lacks becomes a missing cell. what: is numbered, line or row."""
    columns: dict[str, None] = {}
    named: set[str] = set()
    while batch := list(islice(rows, chunk_rows)):
        columns |= dict.fromkeys(chain.from_iterable(row for _, row in batch))
        if len(columns) > MAX_COLUMNS:
            raise DataError(f"{name}: the objects have more than {MAX_COLUMNS:,} different keys")

        def where(position: int, batch: list[tuple[int, Row]] = batch) -> str:
            return f"{name}, {what} {batch[position][0]}"

        for position, (_, row) in enumerate(batch):
            if row.keys() - named:
                refuse_names(row, where(position))
                named |= row.keys()
        arrays = [text_array([_cell(row.get(column)) for _, row in batch], where) for column in columns]
        if options.typed:
            arrays.append(text_array([dump_json(row) for _, row in batch], where))
        yield pa.table(arrays, names=[*columns, *_extra(options)])


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, dict | list):
        return compact_json(value)
    return cell_text(value)
