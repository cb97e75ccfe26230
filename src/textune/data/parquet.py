"""Parquet: one file, or a folder of files read one after another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.data.cells import TEXT, as_text
from textune.data.lines import FREE_BYTES, check_expansion
from textune.data.source import Location, Reading, ReadOptions, file_source, sources
from textune.errors import DataError

_BATCH_ROWS, _BATCH_BYTES = 1024, 64 << 20
_HEADER_BYTES, _FIELD, _DICTIONARY_PAGE = 16, b"\x15", 2


def _open(location: Location, options: ReadOptions, chunk_rows: int) -> Reading:
    return read_files([location.path], location.name, options, chunk_rows)


def read_files(paths: list[Path], name: str, options: ReadOptions, chunk_rows: int) -> Reading:
    """Read Parquet files one after another as one table."""
    reading = Reading(name, iter(()), find_columns=None if options.typed else lambda: _columns_of(paths, name))
    reading.chunks = _chunks(paths, name, options, chunk_rows, reading.notes)
    return reading


sources.register("parquet")(file_source((".parquet",), _open))


def _columns_of(paths: list[Path], name: str) -> list[str]:
    import pyarrow.parquet as pq

    try:
        schemas = [pq.read_schema(path).empty_table() for path in paths]
    except (OSError, pa.ArrowException):
        return []  # reported when the file is read
    return list(dict.fromkeys(column for schema in schemas for column in as_text(schema, name)[0].column_names))


def _chunks(
    paths: list[Path], name: str, options: ReadOptions, chunk_rows: int, notes: list[str]
) -> Iterator[pa.Table]:
    rows = decoded = 0
    common = _common_schema(paths, name) if options.typed and len(paths) > 1 else None
    packed = sum(path.stat().st_size for path in paths)
    for path in paths:
        for batch in _batches(path, name, rows, options):
            for start in range(0, batch.num_rows, chunk_rows):
                part = batch.slice(start, chunk_rows)
                if not options.typed:
                    table, new_notes = as_text(part, name, rows + start + 1)
                else:
                    table, new_notes = part if common is None else _align(part, common, path.name), []
                notes += [note for note in new_notes if note not in notes]
                # a few bytes can encode gigabytes, so count decoded bytes rather than trust the file's sizes
                decoded += table.nbytes
                check_expansion(name, decoded, max(packed, FREE_BYTES // 16), options)
                yield table
            rows += batch.num_rows


def _batches(path: Path, name: str, rows_before: int, options: ReadOptions) -> Iterator[pa.Table]:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise DataError(f"{name}: two columns have the same name")
            if rows_before + file.metadata.num_rows > options.max_rows:
                raise DataError(f"{name}: has more than {options.max_rows:,} rows", hint="split the table")
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            check_expansion(name, size, max(path.stat().st_size, FREE_BYTES // 16), options)
            largest = max((_dictionary_size(path, group) for group in groups), default=0)
            rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(largest, 1)))
            for batch in file.iter_batches(rows, use_threads=False):
                yield pa.Table.from_batches([batch], file.schema_arrow)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: damaged, or not a Parquet file: {error}", hint="save the file again") from error


def _dictionary_size(path: Path, group: Any) -> int:
    """Return the unpacked size of the largest dictionary of a row group's columns, in bytes: the most of one cell.

    A dictionary of one long value makes each of its rows as long, from a few bits. The page's header is in Thrift's
    compact protocol: its first two fields are the page's type, 2 for a dictionary, and the size.
    """
    largest = 0
    with path.open("rb") as stream:
        for column in map(group.column, range(group.num_columns)):
            offset = column.dictionary_page_offset or column.data_page_offset
            stream.seek(max(offset, 0))
            header = stream.read(_HEADER_BYTES)
            kind, at = _read_varint(header, 1)
            if header[:1] == _FIELD and kind == _DICTIONARY_PAGE and header[at : at + 1] == _FIELD:
                largest = max(largest, _read_varint(header, at + 1)[0])
    return largest


def _read_varint(data: bytes, start: int) -> tuple[int, int]:
    """Return a zigzag-encoded number and the position behind it."""
    value = shift = 0
    for at in range(start, len(data)):
        value |= (data[at] & 0x7F) << shift
        shift += 7
        if data[at] < 0x80:
            return (value >> 1) ^ -(value & 1), at + 1
    return 0, len(data)


def _common_schema(paths: list[Path], name: str) -> pa.Schema:
    """Return a schema that the rows of all files fit; a column whose types have nothing in common becomes text."""
    import pyarrow.parquet as pq

    try:
        schemas = [pq.read_schema(path) for path in paths]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{name}: damaged, or not a Parquet file: {error}", hint="save the file again") from error
    fields: dict[str, pa.Field] = {}
    for field in (field for schema in schemas for field in schema):
        fields[field.name] = _merge(fields.get(field.name, field), field)
    return pa.schema(fields.values(), metadata=schemas[0].metadata)


def _merge(one: pa.Field, other: pa.Field) -> pa.Field:
    try:
        merged = pa.unify_schemas([pa.schema([one]), pa.schema([other])], promote_options="permissive").field(0)
    except pa.ArrowException:
        merged = pa.field(one.name, TEXT)
    return merged.with_nullable(True)


def _align(table: pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
            continue
        column = table[field.name]
        try:
            as_is = column.type == field.type or field.type != TEXT
            columns.append(column.cast(field.type) if as_is else as_text(table.select([field.name]), name)[0].column(0))
        except pa.ArrowException as error:
            raise DataError(
                f"{name}: column '{field.name}' ({column.type}) does not fit that of the other files ({field.type}): "
                f"{error}",
                hint="predict the files one by one, or save the column with one type",
            ) from error
    return pa.table(columns, schema=schema)
