"""Labels that a person finds wrong: each click is a row of the review file that `textune train fixes=FILE` takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textune.bundle import SETTINGS, read_manifest
from textune.config import build_config, load_settings
from textune.data.fixes import (
    CORRECT,
    KEY,
    REMOVE,
    ROW,
    TABLE,
    TEXT,
    TEXT_PAIR,
    identify_row,
    list_removals,
    make_key,
    show_label,
)
from textune.errors import BundleError, DataError, show_command
from textune.files import hold_place
from textune.inference.writers import escape_formula
from textune.run.places import FRAME, PLACED
from textune.run.predicted_rows import add_own_table, read_own_settings, read_stored
from textune.run.review_file import LABEL, SCORE, SUGGESTED, WHY, Cells, read_earlier_fixes, read_rows, write_rows
from textune.tasks import task_of

_MARKED_HERE = "marked in the app"
_TABLES = ("data", "validation", "test")
MarkKey = tuple[str, int, str]
"""Which row a mark is about: the setting that names its table, its number there and the key of its text."""


@dataclass(frozen=True)
class WrongRow:
    """A row whose label the model does not give. table: the setting that names its table. probability: of its answer.

    label, predicted: in the form that a review file takes.
    """

    table: str
    row: int
    label: str
    predicted: str
    probability: float
    text: str
    text_pair: str | None = None

    @property
    def key(self) -> MarkKey:
        """What its mark is found by."""
        return self.table, self.row, make_key(self.text, self.text_pair)


@dataclass(frozen=True)
class Evaluated:
    """The rows of a run's evaluation. wrong: those that it gets wrong, the most confident first. keys: of all.

    removals: the words that take a row out in a review file; none where all of them are labels of the run.
    """

    wrong: list[WrongRow]
    keys: frozenset[MarkKey]
    removals: tuple[str, ...] = REMOVE

    def list_foreign(self, marks: Collection[MarkKey]) -> list[MarkKey]:
        """Return the marks of rows that have another text here: they are from another table."""
        places = {key[:2] for key in self.keys}
        return [mark for mark in marks if mark[:2] in places and mark not in self.keys]


def read_evaluated(folder: Path) -> Evaluated:
    """Return the rows of a run's evaluation; none where it gives no labels. Raises BundleError."""
    manifest = read_manifest(folder, verify=False)
    task = task_of(manifest)
    if not task.gives_labels:
        return Evaluated([], frozenset())
    rows = add_own_table(read_stored(folder, manifest), folder, manifest)
    examples, names = rows.examples, rows.labels.names
    true = rows.labels.encode_sets(examples.label_sets()) > 0
    predicted = task.decide(rows.probabilities)
    texts, pairs, numbers, sets = examples.texts(), examples.text_pairs(), examples.rows(), examples.label_sets()
    found = []
    for at in np.flatnonzero((true != predicted).any(axis=1)).tolist():
        differing = true[at] != predicted[at]
        sureness = np.where(predicted[at], rows.probabilities[at], 1 - rows.probabilities[at])
        answer = [name for name, mark in zip(names, predicted[at], strict=True) if mark]
        found.append(
            WrongRow(
                rows.table,
                int(numbers[at]),
                show_label(sets[at], examples, names),
                show_label(answer, examples, names),
                float(sureness[predicted[at] if not task.reads_sets else differing].max()),
                texts[at],
                None if pairs is None else pairs[at],
            )
        )
    wrong = sorted(found, key=lambda row: (-row.probability, row.table, row.row))
    seconds = pairs if pairs is not None else [None] * len(texts)
    keys = {
        (rows.table, int(n), make_key(text, second)) for n, text, second in zip(numbers, texts, seconds, strict=True)
    }
    return Evaluated(wrong, frozenset(keys), list_removals((*manifest.labels, *manifest.label_values)))


def place_review(folder: Path) -> Path:
    """Return where the review file of a run is: beside it, since a finished run is never changed."""
    return folder.with_name(f"{folder.name}-review.csv")


def read_marks(path: Path) -> dict[MarkKey, str]:
    """Return what a review file says already: the correct label of each row that has one.

    Raises DataError for a file that is no review file.
    """
    marks: dict[MarkKey, str] = {}
    for cells in _read_rows(path):
        table, row, key = identify_row(cells)
        if cells[CORRECT].strip() and row is not None:
            marks[table, row, key] = cells[CORRECT]
    return marks


def mark_row(path: Path, row: WrongRow, correct: str | None, run: Path | None = None) -> None:
    """Write the correct label of a row into a review file, a word that removes it, or None to take the mark back.

    Other rows and columns of the file stay. run: where the run was trained with fixes, a new file begins with them,
    and a mark that replaced one of them is taken back to it. Raises DataError for a file that is no review file, or
    one of another table, and BundleError for a link.
    """
    if path.is_symlink():
        raise BundleError(f"{path}: is a symbolic link, and textune writes through none")
    with hold_place(path):
        earlier = [] if run is None else read_earlier_fixes(run).put_first([])
        rows = _read_rows(path) if path.is_file() else [dict(cells) for cells in earlier if correct is not None]
        same = [cells for cells in rows if identify_row(cells) == row.key]
        if correct is not None:
            _refuse_other_text(path, rows, row)
        before = next((cells[CORRECT] for cells in earlier if identify_row(cells) == row.key), "")
        for one in same:
            if correct is None:
                one[CORRECT] = before if one[CORRECT] != before else ""
            else:
                one[CORRECT] = _show_mark(correct)
        if not same and correct is not None:
            rows.append(_describe(row, correct))
        rows = [r for r in rows if r[CORRECT].strip() or r.get(WHY) != _MARKED_HERE]
        write_rows(path, rows, shared=True)


def _refuse_other_text(path: Path, rows: list[Cells], row: WrongRow) -> None:
    """Raise DataError if the file marks a row of this table and number with another text: `fixes=` takes one only."""
    for cells in rows:
        if cells[CORRECT].strip() and (found := identify_row(cells))[:2] == row.key[:2] and found != row.key:
            raise DataError(f"{path}: marks row {row.row:,} of {row.table}= with another text", hint=OTHER_TABLE)


OTHER_TABLE = "the file is from another table: move it away, and the next mark begins a new one"
"""What to do about a review file whose rows have other texts."""


def _show_mark(correct: str) -> str:
    return correct if correct in REMOVE else escape_formula(correct)


def _describe(row: WrongRow, correct: str) -> Cells:
    cells = {
        LABEL: row.label,
        SUGGESTED: row.predicted,
        CORRECT: _show_mark(correct),
        SCORE: f"{row.probability:.4f}",
        WHY: _MARKED_HERE,
        TEXT: row.text,
    }
    cells |= {} if row.text_pair is None else {TEXT_PAIR: row.text_pair}
    safe = {name: cell if name == CORRECT else escape_formula(cell) for name, cell in cells.items()}
    return {TABLE: row.table, ROW: str(row.row), **safe, KEY: make_key(row.text, row.text_pair)}


def _read_rows(path: Path) -> list[Cells]:
    """Return the rows of a review file by column; none if there is no file yet, or nothing below its header."""
    if not path.is_file() or _is_blank(path):
        return []
    return read_rows(path, "move it away: the app writes its own file of this name")


def _is_blank(path: Path) -> bool:
    """Return whether a file has at most one line, in any encoding."""
    with path.open("rb") as stream:
        lines = (line for line in stream if line.strip(b"\0 \t\r\n"))
        return next(lines, None) is None or next(lines, None) is None


@dataclass(frozen=True)
class Retraining:
    """A command that trains a run again with the marked labels. missing: tables that no longer exist, by setting.

    warning: that the fixes of the run itself are gone.
    """

    command: str
    missing: Mapping[str, str]
    warning: str | None = None


def plan_training(folder: Path, review: Path) -> Retraining:
    """Return the command that trains the same run with the marked labels, from where its tables are now.

    What no longer exists, such as an upload or a data frame, is PATH in the command. Raises TextuneError for settings
    that cannot be read.
    """
    places, missing = [], {}
    tables = build_config(load_settings(folder / SETTINGS)).data
    for name in _TABLES:
        named = getattr(tables, name)
        try:
            found = getattr(read_own_settings(folder, [other for other in PLACED if other != name]).data, name)
        except BundleError:
            missing[name], found = str(named), "PATH"
        if named == FRAME:
            missing[name], found = FRAME, "PATH"
        if found != named:
            places.append(f"{name}={found}")
    words = [*places, f"fixes={review}", f"name={folder.name}-fixed", f"runs_dir={folder.parent}"]
    return Retraining(show_command("train", folder / SETTINGS, *words), missing, read_earlier_fixes(folder).warning)


def count_marks(marks: Mapping[MarkKey, str]) -> str:
    """Return how many labels are marked, as a sentence's beginning."""
    return f"{len(marks):,} {'label' if len(marks) == 1 else 'labels'} marked"
