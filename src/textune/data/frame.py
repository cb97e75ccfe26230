"""In-memory tables: polars and pandas frames, Arrow tables, datasets, lists of dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from textune.data.cells import as_text, cell_text, refuse_names, text_array
from textune.data.delimited import refuse_duplicates
from textune.data.source import Reading, ReadOptions, Source, sources
from textune.data.typed import typed_array
from textune.errors import DataError


def _library(source: Any) -> str:
    return type(source).__module__.partition(".")[0]


def _accepts_pandas(source: Any) -> bool:
    return _library(source) == "pandas" and hasattr(source, "columns")


def _open_pandas(frame: Any, options: ReadOptions, chunk_rows: int) -> Reading:
    columns = [str(column) for column in frame.columns]
    refuse_names(columns, "data frame")
    if len(set(columns)) < len(columns):
        raise DataError("data frame: two columns have the same name", hint="rename one of them")
    series = {name: frame.iloc[:, i] for i, name in enumerate(columns)}
    if options.typed:
        arrays = {name: _typed_series(column) for name, column in series.items()}
    else:
        arrays = {name: text_array(map(cell_text, s.tolist()), _where("data frame")) for name, s in series.items()}
    return _reading(pa.table(arrays) if arrays else pa.table({}), "data frame")


def _typed_series(series: Any) -> pa.Array:
    if series.dtype == object:
        return typed_array(series.tolist(), _where("data frame"))
    try:
        return pa.array(series, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return text_array(map(cell_text, series.tolist()), _where("data frame"))


def _accepts_arrow(source: Any) -> bool:
    return isinstance(source, pa.Table) or (
        _library(source) == "polars" and hasattr(source, "to_arrow") and hasattr(source, "columns")
    )


def _open_arrow(source: Any, options: ReadOptions, chunk_rows: int) -> Reading:
    name = "Arrow table" if isinstance(source, pa.Table) else "data frame"
    try:
        arrow = source if isinstance(source, pa.Table) else source.to_arrow()
    except Exception as error:  # polars raises its own PanicException for Python objects
        raise DataError(f"{name}: cannot be read: {error}", hint="cast the columns to text first") from error
    refuse_duplicates(arrow.column_names, name)
    table, notes = (arrow, []) if options.typed else as_text(arrow, name)
    return _reading(table, name, notes)


def _accepts_dataset(source: Any) -> bool:
    return _library(source) == "datasets" and hasattr(source, "with_format") and hasattr(source, "num_rows")


def _open_dataset(dataset: Any, options: ReadOptions, chunk_rows: int) -> Reading:
    if isinstance(dataset.num_rows, Mapping):
        raise DataError(
            f"a DatasetDict has several splits: {', '.join(dataset)}",
            hint="pass one of them, such as data['train']",
        )
    return read_dataset(dataset, "data set", chunk_rows, options)


def read_dataset(dataset: Any, name: str, chunk_rows: int, options: ReadOptions) -> Reading:
    """Read a `datasets.Dataset` in chunks; class numbers become class names."""
    refuse_duplicates(list(dataset.column_names), name)
    reading = Reading(name, iter(()))

    def chunks() -> Iterator[pa.Table]:
        schema = dataset.features.arrow_schema
        rows = 0
        for part in dataset.with_format("arrow").iter(chunk_rows):
            whole = part.replace_schema_metadata(schema.metadata)
            table, notes = (whole, []) if options.typed else as_text(whole, name, rows + 1)
            reading.notes.extend(note for note in notes if note not in reading.notes)
            yield table
            rows += len(part)

    reading.chunks = chunks()
    return reading


def _accepts_records(source: Any) -> bool:
    return isinstance(source, list) and all(isinstance(row, Mapping) for row in source)


def _open_records(records: list[Mapping[Any, Any]], options: ReadOptions, chunk_rows: int) -> Reading:
    columns = list(dict.fromkeys(str(key) for row in records for key in row))
    refuse_names(columns, "list of rows")
    if not columns:
        raise DataError("list of rows: is empty", hint='pass rows such as {"text": "...", "label": "..."}')
    rows = [{str(key): value for key, value in row.items()} for row in records]
    for position, (row, record) in enumerate(zip(rows, records, strict=True)):
        if len(row) < len(record):  # such as 1 and "1"
            refuse_duplicates([str(key) for key in record], _where("list of rows")(position))
    if options.typed:
        arrays = [typed_array((row.get(c) for row in rows), _where("list of rows")) for c in columns]
    else:
        arrays = [text_array((cell_text(row.get(c)) for row in rows), _where("list of rows")) for c in columns]
    return _reading(pa.table(arrays, names=columns), "list of rows")


def _reading(table: pa.Table, name: str, notes: list[str] | None = None) -> Reading:
    return Reading(name, iter((table,)), notes or [])


def _where(name: str) -> Any:
    return lambda position: f"{name}, row {position + 1}"


sources.register("pandas")(Source(_accepts_pandas, _open_pandas))
sources.register("arrow")(Source(_accepts_arrow, _open_arrow))
sources.register("dataset")(Source(_accepts_dataset, _open_dataset))
sources.register("records")(Source(_accepts_records, _open_records))
