"""Uploaded tables to classify: checked, classified and given back. Each step stores the file only while it reads it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.app.loading import Loaded
from textune.app.options import UPLOAD_MEGABYTES
from textune.app.plain import shorten
from textune.app.uploads import find_ending
from textune.bundle import name_run
from textune.data import ReadOptions, reuse_columns, stream_tables
from textune.data.cells import as_text
from textune.data.list_cells import parse_list
from textune.data.roles import NamedColumns
from textune.errors import DataError
from textune.inference.predictor import Predictor
from textune.inference.writers import escape_formula
from textune.printable import holds_text

if TYPE_CHECKING:
    import pyarrow as pa

    from textune.data import KeptRows, Table

READING = ReadOptions(max_rows=1_000_000, max_bytes=2**30)
"""An upload may unpack to no more than this."""
MOST_SHOWN, _LETTERS, _HEAD_ROWS = 5_000, 300, 5
_LONGEST_NAME = 180
_ROWS_IN_TURN = 250
"""Classified before other visitors get their turn, and before the progress bar moves."""


@dataclass(frozen=True)
class Upload:
    """An uploaded file, as the browser named it. delimiter, encoding: as the visitor says; None: detected."""

    name: str
    content: bytes
    delimiter: str | None = None
    encoding: str | None = None

    @property
    def reading(self) -> ReadOptions:
        """How the file is read."""
        return replace(READING, delimiter=self.delimiter, encoding=self.encoding)

    @property
    def shown(self) -> str:
        """The name without folders."""
        return self.name.replace("\\", "/").rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its ending; only letters of it where it could trouble a file system."""
        stem = self.shown[: -len(find_ending(self.shown))]
        plain = stem.isprintable() and len(stem.encode("utf-8", "replace")) < _LONGEST_NAME
        return stem if plain else name_run(stem)


@contextmanager
def store_briefly(upload: Upload) -> Iterator[Path]:
    """Yield the file in a folder that only this user reads and that is gone afterwards; raise DataError if unfit."""
    ending = find_ending(upload.shown)
    if not upload.content:
        raise DataError(f"{upload.shown}: the file is empty")
    if len(upload.content) > UPLOAD_MEGABYTES * 2**20:
        raise DataError(
            f"{upload.shown}: is larger than {UPLOAD_MEGABYTES} MB",
            hint="classify it on this machine with: textune predict RUN FILE",
        )
    with tempfile.TemporaryDirectory(prefix="textune-batch-") as folder:
        path = Path(folder) / f"{upload.stem}{ending.lower()}"
        path.write_bytes(upload.content)
        path.chmod(0o600)
        yield path


@dataclass(frozen=True)
class Start:
    """The beginning of a table: its columns, and its first rows with long cells cut."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def read_start(upload: Upload) -> Start:
    """Read the beginning of an uploaded table; raise what reading it raises."""
    with store_briefly(upload) as path:
        table = next(iter(stream_tables(path, upload.reading, chunk_rows=50)))
        return Start(tuple(table.columns), tuple(_cut_rows(table, _HEAD_ROWS)))


def _cut_rows(table: Table, count: int) -> Iterator[tuple[str, ...]]:
    cells = [table.arrow.column(name).slice(0, count).to_pylist() for name in table.columns]
    return ((*(shorten(cell or "", _LETTERS) for cell in row),) for row in zip(*cells, strict=True))


def find_columns(start: Start, predictor: Predictor) -> tuple[tuple[str, ...], str | None]:
    """Return the columns that a run was trained on where the table has them: texts, and second text."""
    trained = predictor.manifest.columns
    texts = trained.text if set(trained.text) <= set(start.columns) else ()
    return texts, trained.text_pair if trained.text_pair in start.columns else None


@dataclass(frozen=True)
class Choice:
    """The columns that are read."""

    text: tuple[str, ...]
    text_pair: str | None = None


@dataclass(frozen=True)
class Checks:
    """What is in a table. without_text: rows that get no label. repeated: rows whose text came before."""

    rows: int
    without_text: int
    repeated: int
    longest: int
    notes: tuple[str, ...]

    def list_facts(self) -> list[tuple[str, str]]:
        """Return names and values."""
        return [
            ("rows", f"{self.rows:,}"),
            ("without text", f"{self.without_text:,}"),
            ("repeated texts", f"{self.repeated:,}"),
            ("characters of the longest", f"{self.longest:,}"),
        ]


def check_upload(upload: Upload, predictor: Predictor, choice: Choice) -> Checks:
    """Read an uploaded table to its end; raise what reading it raises."""
    rows = without_text = repeated = longest = 0
    seen: set[int] = set()
    notes: Sequence[str] = ()
    with store_briefly(upload) as path:
        for table in stream_tables(path, upload.reading):
            for text, second in _list_texts(table, predictor, choice):
                rows += 1
                filled, place = holds_text(text) and (second is None or holds_text(second)), hash((text, second))
                without_text += not filled
                repeated += filled and place in seen
                seen.add(place)
                longest = max(longest, len(text), len(second or ""))
            notes = table.notes
    return Checks(rows, without_text, repeated, longest, tuple(notes))


def _list_texts(table: Table, predictor: Predictor, choice: Choice) -> Iterator[tuple[str, str | None]]:
    """Yield each row's text and second text, None where the model reads no pairs."""
    trained = predictor.manifest.columns
    named = NamedColumns(choice.text, choice.text_pair, guess=False, tuned=predictor.manifest.is_tuned)
    columns = reuse_columns(table, trained, named, need_label=False)
    parts = [table.arrow.column(name).to_pylist() for name in columns.text]
    texts = (trained.joiner.join(p for p in row if p and p.strip()) for row in zip(*parts, strict=True))
    if columns.text_pair is None:
        return ((text, None) for text in texts)
    seconds = table.arrow.column(columns.text_pair).to_pylist()
    return ((text, second or "") for text, second in zip(texts, seconds, strict=True))


@dataclass(frozen=True)
class Form:
    """How the result is written. ending: of the file. probabilities: one column per label."""

    ending: str
    probabilities: bool = False


@dataclass(frozen=True)
class Shown:
    """The first rows of a result, with long cells cut.

    answers: the labels of each row. probabilities: of the answers, float64 [rows], NaN where they are not known.
    """

    columns: dict[str, list[str]]
    answers: tuple[tuple[str, ...], ...]
    probabilities: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.answers)

    def filter(self, labels: Collection[str], most: float, words: str) -> NDArray[np.int64]:
        """Return the rows of these labels (none: all), of at most this probability, that hold the words."""
        rows = np.arange(len(self))
        keep = np.ones(len(self), bool)
        if labels:
            keep &= np.array([not set(labels).isdisjoint(answer) for answer in self.answers], bool)
        if most < 1:
            keep &= self.probabilities <= most
        if words.strip():
            wanted = words.casefold().strip()
            cells = zip(*self.columns.values(), strict=True)
            keep &= np.array([any(wanted in cell.casefold() for cell in row) for row in cells], bool)
        return np.asarray(rows[keep], np.int64)


@dataclass(frozen=True)
class Result:
    """A classified file. content: to download as `name`. notes: how it was read, and how many texts were cut."""

    name: str
    ending: str
    content: bytes
    rows: int
    without_text: int
    escaped_cells: int
    label_counts: dict[str, int]
    notes: tuple[str, ...]
    shown: Shown


def classify_upload(
    loaded: Loaded, upload: Upload, choice: Choice, form: Form, advance: Callable[[int], None] = lambda rows: None
) -> Result:
    """Classify an uploaded table as `textune predict` does; raise what that raises.

    advance: is called with the rows that were classified since its last call.
    """
    from textune.inference.files import FileForm, predict_file

    predictor = InTurn(loaded, advance)
    with store_briefly(upload) as path:
        output = path.with_name(f"{upload.stem}.predicted{form.ending}")
        wanted = FileForm(choice.text, choice.text_pair, form.probabilities)
        view = _View(predictor, form.ending)
        done = predict_file(predictor, path, output, form=wanted, reading=upload.reading, watch=view.add)
        return Result(
            output.name,
            form.ending,
            output.read_bytes(),
            done.rows,
            done.without_text,
            done.escaped_cells,
            done.label_counts,
            done.notes,
            view.build(),
        )


class _View:
    """Collects the first rows of a result as they are written: read back, a spreadsheet lacks its blank rows."""

    def __init__(self, predictor: Predictor, ending: str) -> None:
        self._predictor = predictor
        self._write = escape_formula if ending in (".csv", ".tsv") else str
        self._columns: dict[str, list[str]] = {}
        self._answers: list[tuple[str, ...]] = []
        self._probabilities: list[float] = []

    def add(self, rows: KeptRows, new: pa.Table) -> None:
        """Take some rows and the columns that were added to them: the answer, and then its probability."""
        count = min(len(rows), MOST_SHOWN - len(self._answers))
        if count <= 0:
            return
        for table in (rows.cells, new):
            for name in table.column_names:
                cells = _list_cells(table.select([name]).slice(0, count))
                shown = (shorten(self._write(cell), _LETTERS) for cell in cells)
                self._columns.setdefault(self._write(name), []).extend(shown)
        answers, *others = (column.slice(0, count).to_pylist() for column in new.columns)
        self._answers += [split_answer(answer or "", self._predictor) for answer in answers]
        single = bool(others) and not self._predictor.task.reads_sets
        shares = others[0] if single else [None] * count
        self._probabilities += [np.nan if share is None else float(share) for share in shares]

    def build(self) -> Shown:
        """Return the rows."""
        return Shown(self._columns, tuple(self._answers), np.array(self._probabilities))


def _list_cells(column: pa.Table) -> list[str]:
    """Return the cells of a table of one column as text; nothing for bytes that are none."""
    try:
        table, _ = as_text(column, "")
    except DataError:
        return [""] * len(column)
    return [cell or "" for cell in table[0].to_pylist()] if table.num_columns else [""] * len(column)


def split_answer(cell: str | Sequence[str], predictor: Predictor) -> tuple[str, ...]:
    """Return the labels in a cell of a result: a list of them, or as one text."""
    if not cell:
        return ()
    if not isinstance(cell, str):
        return tuple(cell)
    if not predictor.task.reads_sets:
        return (cell,)
    listed = parse_list(cell)
    return tuple(map(str, cell.split(predictor.manifest.columns.label_separator) if listed is None else listed))


class InTurn(Predictor):
    """A shared model that answers many texts in small portions, between which others have their turn."""

    def __init__(self, loaded: Loaded, advance: Callable[[int], None]) -> None:
        vars(self).update(vars(loaded.predictor))
        self._loaded, self._advance = loaded, advance

    def predict_proba(self, texts: Any, pairs: Any = None) -> NDArray[Any]:
        """Return probabilities: float64 [texts, labels]."""
        parts = [np.zeros((0, len(self.labels)))]
        for start in range(0, len(texts), _ROWS_IN_TURN):
            rows = slice(start, start + _ROWS_IN_TURN)
            with self._loaded.hold() as predictor:
                parts.append(predictor.predict_proba(texts[rows], None if pairs is None else pairs[rows]))
            self._advance(len(texts[rows]))
        return np.concatenate(parts)

    def answer_texts(self, texts: list[str], pairs: list[str] | None, start: int) -> tuple[Sequence[Any], NDArray[Any]]:
        """Return the answer to each text, and the probabilities. A model that writes has one of its batches a turn."""
        if self.generator is None:
            return super().answer_texts(texts, pairs, start)
        with self._loaded.hold():
            turns = self.generator.plan(texts)
        answers = [""] * len(texts)
        for rows in turns:
            with self._loaded.hold():
                written = self.generator.write([texts[row] for row in rows], start=start + min(rows))
            for row, answer in zip(rows, written, strict=True):
                answers[row] = answer.text
            self._advance(len(rows))
        return answers, np.full((len(texts), len(self.labels)), np.nan)
