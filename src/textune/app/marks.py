"""Labels that a person finds wrong: each click is a row of the review file that `textune train fixes=FILE` takes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textune.bundle import SETTINGS, read_manifest
from textune.data.fixes import CORRECT, KEY, REMOVE, ROW, TABLE, TEXT, TEXT_PAIR, make_key, show_label
from textune.errors import BundleError, show_command
from textune.files import hold_place, write_text_atomically
from textune.inference.writers import escape_formula
from textune.run.predicted_rows import add_own_table, read_stored
from textune.tasks import task_of

_LABEL, _SUGGESTED, _WHY = "label", "suggested_label", "why"
_MARKED_HERE = "marked in the app"


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


def list_wrong_rows(folder: Path) -> list[WrongRow]:
    """Return the rows of a run's evaluation that it gets wrong, the most confident first; raise BundleError."""
    manifest = read_manifest(folder, verify=False)
    task = task_of(manifest)
    if not task.gives_labels:
        return []
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
    return sorted(found, key=lambda row: (-row.probability, row.table, row.row))


def place_review(folder: Path) -> Path:
    """Return where the review file of a run is: beside it, since a finished run is never changed."""
    return folder.with_name(f"{folder.name}-review.csv")


def read_marks(path: Path) -> dict[tuple[str, int], str]:
    """Return what a review file says already: the correct label of each row that has one, by table and row."""
    marks = {}
    for row in _read_rows(path):
        if row.get(CORRECT, "").strip() and row.get(ROW, "").strip().isdecimal():
            marks[row.get(TABLE, ""), int(row[ROW])] = row[CORRECT]
    return marks


def mark_row(path: Path, row: WrongRow, correct: str | None) -> None:
    """Write the correct label of a row into a review file, `-` to remove the row, or None to take the mark back.

    Other rows and columns of the file stay. Raises BundleError for a file that cannot be one, and for a link.
    """
    if path.is_symlink():
        raise BundleError(f"{path}: is a symbolic link, and textune writes through none")
    with hold_place(path):
        rows = _read_rows(path)
        same = [r for r in rows if r.get(TABLE) == row.table and r.get(ROW, "").strip() == str(row.row)]
        for one in same:
            one[CORRECT] = escape_formula(correct) if correct not in (None, *REMOVE) else correct or ""
        if not same and correct is not None:
            rows.append(_describe(row, correct))
        rows = [r for r in rows if r.get(CORRECT, "").strip() or r.get(_WHY) != _MARKED_HERE]
        _write(path, rows)


def _describe(row: WrongRow, correct: str) -> dict[str, str]:
    cells = {
        _LABEL: row.label,
        _SUGGESTED: row.predicted,
        CORRECT: correct if correct in REMOVE else escape_formula(correct),
        "score": f"{row.probability:.4f}",
        _WHY: _MARKED_HERE,
        TEXT: row.text,
    }
    cells |= {} if row.text_pair is None else {TEXT_PAIR: row.text_pair}
    safe = {name: cell if name == CORRECT else escape_formula(cell) for name, cell in cells.items()}
    return {TABLE: row.table, ROW: str(row.row), **safe, KEY: make_key(row.text, row.text_pair)}


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a review file by column; none if there is no file yet."""
    if not path.is_file():
        return []
    limit = csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            rows = [{name: cell for name, cell in row.items() if name is not None} for row in reader]
            header = reader.fieldnames or ()
    finally:
        csv.field_size_limit(limit)  # the whole process has one limit, which the reader of tables sets
    if rows and not {ROW, CORRECT} <= set(header):
        raise BundleError(f"{path}: is not a review file", hint="move it away: the app writes one of that name")
    return rows


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    first = [TABLE, ROW, _LABEL, _SUGGESTED, CORRECT, "score", _WHY, TEXT]
    names = list(dict.fromkeys([*first, *(name for row in rows for name in row if name != KEY), KEY]))
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_text_atomically(path, stream.getvalue(), shared=True)


def show_training(folder: Path, review: Path) -> str:
    """Return the command that trains the same run with the marked labels."""
    name = f"{folder.name}-fixed"
    return show_command("train", folder / SETTINGS, f"fixes={review}", f"name={name}", f"runs_dir={folder.parent}")


def count_marks(marks: Mapping[tuple[str, int], str]) -> str:
    """Return how many labels are marked, as a sentence's beginning."""
    return f"{len(marks):,} {'label' if len(marks) == 1 else 'labels'} marked"
