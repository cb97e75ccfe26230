"""Predicting whole files: streamed in pieces, columns kept, the result written complete or not at all."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import TextColumns, expand_home
from textune.data import KeptRows, Location, NamedColumns, ReadOptions, find_types, reuse_columns, stream_kept
from textune.errors import ConfigError, DataError
from textune.files import write_file
from textune.inference.choices import Choices, find_abstained, list_sets
from textune.inference.predictor import Predictor
from textune.inference.sheets import SheetWriter
from textune.inference.writers import WRITERS, CsvWriter, ParquetWriter, Writer
from textune.printable import holds_text
from textune.tasks import Answer, FileCells

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_PER_PIECE = 5_000
_PROMPTS_PER_PIECE = 200  # which are written one token after another


@dataclass(frozen=True)
class FilePrediction:
    """What became of a file. without_text: rows that were passed on with an empty label.

    abstained: rows with text and an empty label; None where abstaining was not asked for. notes: how the file was read,
    and how many texts were cut.
    """

    output: Path
    rows: int
    without_text: int
    label_counts: dict[str, int]
    columns_added: tuple[str, ...]
    escaped_cells: int
    abstained: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileForm:
    """What is read of a file and written to it.

    text, text_pair: columns to read; default: those of training, else found by looking. probabilities: one column per
    class. exact: CSV cells that a spreadsheet would run as formulas are written unchanged, not escaped. choices: a
    column `abstained`, whose rows get an empty label, and a column `set`.
    """

    text: Sequence[str] | None = None
    text_pair: str | None = None
    probabilities: bool = False
    exact: bool = False
    choices: Choices = Choices()


def predict_file(
    predictor: Predictor,
    source: str | Path | Location,
    output: Path,
    *,
    form: FileForm | None = None,
    reading: ReadOptions | None = None,
    advance: Callable[[int], None] = lambda rows: None,
    watch: Callable[[KeptRows, pa.Table], None] | None = None,
) -> FilePrediction:
    """Add label and probability (and one per class) to every row of a table of any size; all columns are kept.

    They keep their values and types in JSON lines and Parquet, and their cells in CSV and spreadsheets.
    With several labels per text `label` holds a list, in CSV and spreadsheets the labels with the run's separator
    between them, and there is no single probability.
    watch: is called with the rows of each piece and the columns that were added to them, once they are written.
    The output appears only when it is whole. Raises DataError for unreadable rows, ConfigError for the output.
    """
    output = check_output(output)
    form, writer_type = form or FileForm(), WRITERS[output.suffix.lower()]
    options, counts = reading or ReadOptions(), dict.fromkeys(predictor.labels, 0)
    piece_rows = _PROMPTS_PER_PIECE if predictor.task.writes else _ROWS_PER_PIECE
    rows = without_text = unanswered = 0
    added: tuple[str, ...] = ()
    notes: Sequence[str] = ()
    predictor.long_texts.take_note()  # what was counted before is not of this file
    if predictor.task.writes:
        _check_prompts(predictor, source, form, options)
    with write_file(output) as partial:
        writer: Writer | None = None
        try:
            for piece in stream_kept(source, options, piece_rows):
                texts, pairs = _texts_of(piece, predictor.manifest.columns, form, tuned=predictor.manifest.is_tuned)
                answers, scores = _predict_piece(predictor, texts, pairs, rows)
                as_text, without_text = writer_type in (CsvWriter, SheetWriter), without_text + answers.count(None)
                listed = _list_columns(predictor, answers, scores, form.probabilities, as_text=as_text)
                answers = _add_choices(predictor, listed, answers, scores, form.choices, as_text=as_text)
                new = _name_columns(listed, piece.columns)
                added, notes = tuple(new.column_names), piece.notes
                if writer is None:
                    untyped = piece.objects is not None and writer_type is ParquetWriter
                    types = find_types(stream_kept(source, options, _ROWS_PER_PIECE)) if untyped else None
                    writer = writer_type(partial, form.exact, types)
                writer.write(piece, new)
                if watch is not None:
                    watch(piece, new)
                rows += len(piece)
                unanswered += answers.count(None)
                for answer in answers:
                    for label in () if answer is None else predictor.task.labels_in(answer):
                        counts[label] += 1
                advance(len(piece))
            if writer is None:
                raise DataError(f"{source}: there are no rows to {'answer' if predictor.task.writes else 'classify'}")
        finally:
            if writer is not None:
                writer.close()
    abstained = None if form.choices.abstain is None else unanswered - without_text
    notes = (*notes, *filter(None, [predictor.long_texts.take_note()]))
    return FilePrediction(output, rows, without_text, counts, added, writer.escaped_cells, abstained, notes)


def check_output(output: Path) -> Path:
    """Return the file that `predict_file` writes; raise ConfigError where it cannot."""
    output = expand_home(output)
    if output.suffix.lower() not in WRITERS:
        raise ConfigError(f"{output}: cannot write '{output.suffix}' files", hint=f"use {', '.join(WRITERS)}")
    if not output.parent.is_dir():
        raise ConfigError(
            f"{output}: its folder does not exist", hint=f"make it: mkdir -p {shlex.quote(str(output.parent))}"
        )
    if output.is_dir():
        raise ConfigError(f"{output}: is a folder, not a file", hint="name another file")
    return output


def check_columns(
    trained: TextColumns,
    source: str | Path | Location,
    *,
    form: FileForm | None = None,
    reading: ReadOptions | None = None,
) -> None:
    """Raise DataError where a table cannot be read or lacks a column, before a model is loaded for it.

    trained: the columns of the run.
    """
    for piece in stream_kept(source, reading or ReadOptions(), 1):
        _texts_of(piece, trained, form or FileForm())
        break


def _texts_of(
    piece: KeptRows, trained: TextColumns, form: FileForm, *, tuned: bool = True
) -> tuple[list[str | None], list[str] | None]:
    """Return each row's text (None where it has none) and second text."""
    named = NamedColumns(form.text, form.text_pair, guess=False, tuned=tuned)
    table = piece.read_texts([*trained.text, *(form.text or ()), *filter(None, (trained.text_pair, form.text_pair))])
    columns = reuse_columns(table, trained, named, need_label=False)
    parts = [table.arrow.column(name).to_pylist() for name in columns.text]
    texts = [trained.joiner.join(p for p in row if p and p.strip()) for row in zip(*parts, strict=True)]
    pairs = None
    if columns.text_pair is not None:
        pairs = [p or "" for p in table.arrow.column(columns.text_pair).to_pylist()]
        texts = [t if holds_text(p) else "" for t, p in zip(texts, pairs, strict=True)]
    return [t if holds_text(t) else None for t in texts], pairs


def _check_prompts(predictor: Predictor, source: str | Path | Location, form: FileForm, options: ReadOptions) -> None:
    """Raise DataError for a chat that cannot be written, before the answers, which may take hours."""
    assert predictor.generator is not None
    for piece in stream_kept(source, options, _ROWS_PER_PIECE):
        prompts, _ = _texts_of(piece, predictor.manifest.columns, form, tuned=predictor.manifest.is_tuned)
        filled = [(text, f"{piece.name}, row {row}") for row, text in enumerate(prompts, piece.first_row) if text]
        predictor.generator.check_prompts([text for text, _ in filled], [place for _, place in filled])


def _predict_piece(
    predictor: Predictor, texts: list[str | None], pairs: list[str] | None, start: int
) -> tuple[list[Answer | None], NDArray[Any]]:
    """Return the answer for each row (None without text) and the probabilities, NaN where there is no text.

    start: rows of the file before these.
    """
    chosen = [i for i, t in enumerate(texts) if t is not None]
    scores = np.full((len(texts), len(predictor.labels)), np.nan)
    answers: list[Answer | None] = [None] * len(texts)
    if chosen:
        found = [texts[i] or "" for i in chosen]
        chosen_pairs = None if pairs is None else [pairs[i] for i in chosen]
        answered, scores[chosen] = predictor.answer_texts(found, chosen_pairs, start)
        for i, answer in zip(chosen, answered, strict=True):
            answers[i] = answer
    return answers, scores


def _add_choices(
    predictor: Predictor,
    columns: dict[str, Any],
    answers: list[Answer | None],
    scores: NDArray[Any],
    choices: Choices,
    *,
    as_text: bool,
) -> list[Answer | None]:
    """Add the columns of what was asked for, and empty the labels of abstained rows; return the answers left."""
    import pyarrow as pa

    filled = np.array([answer is not None for answer in answers], bool)
    if (sets := list_sets(predictor.task, scores[filled], predictor.labels, choices)) is not None:
        rest = iter(sets)
        rows = [list(next(rest)) if with_text else None for with_text in filled]
        text = [None if row is None else json.dumps(row, ensure_ascii=False) for row in rows]
        columns["set"] = pa.array(text, pa.large_string()) if as_text else pa.array(rows, pa.list_(pa.large_string()))
    abstained = find_abstained(predictor.task, scores[filled], choices)
    if abstained is None:
        return answers
    left_out = np.zeros(len(filled), bool)
    left_out[filled] = abstained
    cells = [bool(out) if with_text else None for out, with_text in zip(left_out, filled, strict=True)]
    words = [None if cell is None else str(cell).lower() for cell in cells]
    columns["abstained"] = pa.array(words, pa.large_string()) if as_text else pa.array(cells, pa.bool_())
    labels = columns["label"].to_pylist()
    kept = [None if out else label for out, label in zip(left_out, labels, strict=True)]
    columns["label"] = pa.array(kept, columns["label"].type)
    return [None if out else answer for out, answer in zip(left_out, answers, strict=True)]


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


def _name_columns(new: dict[str, Any], taken: Collection[str]) -> pa.Table:
    """Return the new columns under names that the table does not have."""
    import pyarrow as pa

    named: dict[str, Any] = {}
    for name, column in new.items():
        free = name if name not in taken else f"predicted_{name}"
        while free in taken or free in named:
            free += "_"
        named[free] = column
    return pa.table(named)


@dataclass(frozen=True)
class FirstTexts:
    """The first texts of a file, and second texts if it has pairs.

    more: whether there are more rows with a text. notes: how the file was read.
    """

    texts: list[str]
    pairs: list[str] | None
    more: bool
    notes: tuple[str, ...]


def read_first_texts(
    predictor: Predictor,
    source: str | Path | Location,
    count: int,
    *,
    form: FileForm | None = None,
    reading: ReadOptions | None = None,
) -> FirstTexts:
    """Return texts and second texts of the first rows that have a text.

    Raises DataError for unreadable rows, and where there is no text.
    """
    form = form or FileForm()
    texts: list[str] = []
    pairs: list[str] | None = None
    notes: Sequence[str] = ()
    for piece in stream_kept(source, reading or ReadOptions(), _ROWS_PER_PIECE):
        found, seconds = _texts_of(piece, predictor.manifest.columns, form, tuned=predictor.manifest.is_tuned)
        rows = [i for i, text in enumerate(found) if text is not None]
        texts += [found[i] or "" for i in rows]
        if seconds is not None:
            pairs = [*(pairs or []), *(seconds[i] for i in rows)]
        notes = piece.notes
        if len(texts) > count:
            break
    if not texts:
        raise DataError(f"{source}: there are no rows with a text")
    return FirstTexts(texts[:count], None if pairs is None else pairs[:count], len(texts) > count, tuple(notes))


def list_writable() -> tuple[str, ...]:
    """Return the endings of the files that `predict_file` writes."""
    return tuple(WRITERS)
