"""Predicting whole files: streamed in pieces, columns kept, the result written complete or not at all."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from textune.data import NamedColumns, ReadOptions, Table, reuse_columns, stream_tables
from textune.errors import ConfigError, DataError
from textune.files import write_file
from textune.inference.predictor import Predictor
from textune.tasks import Answer, FileCells

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_PER_PIECE = 5_000
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?%?")


@dataclass(frozen=True)
class FilePrediction:
    """What became of a file. without_text: rows that were passed on with an empty label."""

    output: Path
    rows: int
    without_text: int
    label_counts: dict[str, int]
    columns_added: tuple[str, ...]
    escaped_cells: int


class _Writer(Protocol):
    escaped_cells: int

    def write(self, table: pa.Table) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class FileForm:
    """What is read of a file and written to it.

    text, text_pair: columns to read; default: those of training, else found by looking. probabilities: one column per
    class. exact: CSV cells that a spreadsheet would run as formulas are written unchanged, not escaped.
    """

    text: Sequence[str] | None = None
    text_pair: str | None = None
    probabilities: bool = False
    exact: bool = False


def predict_file(
    predictor: Predictor,
    source: str | Path,
    output: Path,
    *,
    form: FileForm | None = None,
    reading: ReadOptions | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> FilePrediction:
    """Add label and probability (and one per class) to every row of a table of any size; all columns are kept.

    With several labels per text `label` holds a list, in CSV the labels with the run's separator between them, and
    there is no single probability.
    The output appears only when it is whole. Raises DataError for unreadable rows, ConfigError for the output.
    """
    form, writer_type = form or FileForm(), _WRITERS.get(output.suffix.lower())
    if writer_type is None:
        raise ConfigError(f"{output}: cannot write '{output.suffix}' files", hint=f"use {', '.join(_WRITERS)}")
    if not output.parent.is_dir():
        raise ConfigError(f"{output}: its folder does not exist", hint=f"make it: mkdir -p {output.parent}")
    counts = dict.fromkeys(predictor.labels, 0)
    rows = without_text = 0
    added: tuple[str, ...] = ()
    with write_file(output) as partial:
        writer: _Writer | None = None
        for piece in stream_tables(source, reading or ReadOptions(), _ROWS_PER_PIECE):
            texts, pairs = _texts_of(piece, predictor, form.text, form.text_pair)
            answers, scores = _predict_piece(predictor, texts, pairs)
            new = _list_columns(predictor, answers, scores, form.probabilities, as_text=writer_type is _CsvWriter)
            table, added = _add_columns(piece, new)
            writer = writer or writer_type(partial, table.schema, form.exact)
            writer.write(table)
            rows += len(piece)
            for answer in answers:
                without_text += answer is None
                for label in () if answer is None else predictor.task.labels_in(answer):
                    counts[label] += 1
            advance(len(piece))
        if writer is None:
            raise DataError(f"{source}: there are no rows to classify")
        writer.close()
    return FilePrediction(output, rows, without_text, counts, added, writer.escaped_cells)


def _texts_of(
    piece: Table, predictor: Predictor, text: Sequence[str] | None, text_pair: str | None
) -> tuple[list[str | None], list[str] | None]:
    """Return each row's text (None where it has none) and second text."""
    trained = predictor.manifest.columns
    columns = reuse_columns(piece, trained, NamedColumns(text, text_pair, guess=False), need_label=False)
    parts = [piece.arrow.column(name).to_pylist() for name in columns.text]
    texts = [trained.joiner.join(p for p in row if p and p.strip()) for row in zip(*parts, strict=True)]
    pairs = None
    if columns.text_pair is not None:
        pairs = [p or "" for p in piece.arrow.column(columns.text_pair).to_pylist()]
        texts = [t if p.strip() else "" for t, p in zip(texts, pairs, strict=True)]
    return [t if t.strip() else None for t in texts], pairs


def _predict_piece(
    predictor: Predictor, texts: list[str | None], pairs: list[str] | None
) -> tuple[list[Answer | None], NDArray[Any]]:
    """Return the answer for each row (None without text) and the probabilities, NaN where there is no text."""
    chosen = [i for i, t in enumerate(texts) if t is not None]
    scores = np.full((len(texts), len(predictor.labels)), np.nan)
    answers: list[Answer | None] = [None] * len(texts)
    if chosen:
        found = [texts[i] or "" for i in chosen]
        scores[chosen] = predictor.predict_proba(found, None if pairs is None else [pairs[i] for i in chosen])
        for i, answer in zip(chosen, predictor.task.answer(scores[chosen], predictor.labels), strict=True):
            answers[i] = answer
    return answers, scores


def _list_columns(
    predictor: Predictor, answers: list[Answer | None], scores: NDArray[Any], each_class: bool, as_text: bool
) -> dict[str, Any]:
    """Return the new columns by name. as_text: several labels are joined in one cell."""
    import pyarrow as pa

    def shares(values: NDArray[Any]) -> Any:
        return pa.array([None if a is None else float(v) for a, v in zip(answers, values, strict=True)], pa.float64())

    separator = predictor.manifest.columns.label_separator if as_text else None
    new = predictor.task.file_columns(answers, scores, FileCells(predictor.labels, separator))
    if each_class:
        each = predictor.task.probability_columns(scores, predictor.labels)
        new |= {name: shares(column) for name, column in each.items()}
    return new


def _add_columns(piece: Table, new: dict[str, Any]) -> tuple[pa.Table, tuple[str, ...]]:
    table = piece.arrow
    taken = set(piece.columns)
    added = []
    for name, column in new.items():
        free = name if name not in taken else f"predicted_{name}"
        while free in taken:
            free += "_"
        table = table.append_column(free, column)
        added.append(free)
    return table, tuple(added)


class _CsvWriter:
    """CSV for spreadsheets: a cell that would run as a formula gets an apostrophe in front, unless `exact`."""

    def __init__(self, path: Path, schema: pa.Schema, exact: bool) -> None:
        self.escaped_cells = 0
        self._exact = exact
        self._stream = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        self._writer.writerow([self._cell(name) for name in schema.names])

    def write(self, table: pa.Table) -> None:
        columns = [column.to_pylist() for column in table.columns]
        for row in zip(*columns, strict=True):
            self._writer.writerow([self._cell(value) for value in row])

    def close(self) -> None:
        self._stream.close()

    def _cell(self, value: Any) -> Any:
        if isinstance(value, float):
            return f"{value:.6g}"
        if self._exact or not value or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
            return value
        self.escaped_cells += 1
        return "'" + value


class _JsonLinesWriter:
    def __init__(self, path: Path, schema: pa.Schema, exact: bool) -> None:
        self.escaped_cells = 0
        self._stream = path.open("w", encoding="utf-8")

    def write(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._stream.close()


class _ParquetWriter:
    def __init__(self, path: Path, schema: pa.Schema, exact: bool) -> None:
        import pyarrow.parquet as pq

        self.escaped_cells = 0
        self._writer = pq.ParquetWriter(path, schema)

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()


_WRITERS: dict[str, type[Any]] = {
    ".csv": _CsvWriter,
    ".tsv": _CsvWriter,
    ".jsonl": _JsonLinesWriter,
    ".parquet": _ParquetWriter,
}


def list_writable() -> tuple[str, ...]:
    """Return the endings of the files that `predict_file` writes."""
    return tuple(_WRITERS)
