"""How a review file is read and written, and how it goes on from the one that the run was trained with."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textune.bundle import SETTINGS
from textune.config import build_config, load_settings
from textune.data.fixes import CORRECT, KEY, ROW, TABLE, TEXT, identify_row, read_review
from textune.errors import TextuneError
from textune.files import write_text_atomically
from textune.printable import count
from textune.run.places import PLACED
from textune.run.predicted_rows import read_own_settings

LABEL, SUGGESTED, SCORE, WHY = "label", "suggested_label", "score", "why"
Cells = dict[str, str]
"""A row of a review file by column."""


def read_rows(path: str | Path, hint: str) -> list[Cells]:
    """Return the rows of a review file; raise DataError for any other file. hint: what to do about that."""
    table = read_review(path, hint)
    return [{name: cell or "" for name, cell in cells.items()} for cells in table.arrow.to_pylist()]


def write_rows(path: Path, rows: Sequence[Mapping[str, str]], *, shared: bool = False) -> None:
    """Write a review file, separated by tabs if its name ends in .tsv; columns of a person's own stay.

    shared: whether others may read and write it, as `write_text_atomically` takes it.
    """
    first = [TABLE, ROW, LABEL, SUGGESTED, CORRECT, SCORE, WHY, TEXT]
    names = list(dict.fromkeys([*first, *(name for row in rows for name in row if name != KEY), KEY]))
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, names, restval="", delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    writer.writeheader()
    writer.writerows(rows)
    write_text_atomically(path, stream.getvalue(), shared=shared)


@dataclass(frozen=True)
class EarlierFixes:
    """What a run was trained with. name: the value of its fixes=, if it has one. rows: the filled rows of that file.

    warning: that the file is gone, for who trains again without its rows.
    """

    name: str | None = None
    rows: tuple[Cells, ...] = ()
    warning: str | None = None

    def describe(self, *, written: bool) -> tuple[str, ...]:
        """Return what a reader of a new review file must know. written: whether it begins with the rows."""
        if self.warning is not None:
            return (self.warning,)
        if not self.rows:
            return ()
        rows = f"{count(len(self.rows), 'row')} of {self.name}, which the run was trained with"
        if written:
            return (f"the review file begins with {rows}",)
        return (f"the review file lacks {rows}: it is about another table",)

    def put_first(self, rows: Sequence[Cells]) -> list[Cells]:
        """Return the filled rows, then the new ones. What is in both comes once, filled as it was."""
        new = {identify_row(row): row for row in rows}
        filled = {identify_row(row): row for row in self.rows}
        again = {place: {**row, **new[place], CORRECT: row[CORRECT]} for place, row in filled.items() if place in new}
        return list((filled | again | {place: row for place, row in new.items() if place not in filled}).values())


def read_earlier_fixes(folder: Path) -> EarlierFixes:
    """Return the fixes that a finished run was trained with: a training takes one file, so the next one needs them.

    Raises TextuneError for settings that cannot be read.
    """
    name = build_config(load_settings(folder / SETTINGS)).data.fixes
    if name is None:
        return EarlierFixes()
    try:
        path = read_own_settings(folder, [other for other in PLACED if other != "fixes"]).data.fixes or name
        rows = read_rows(path, "fixes= takes a review file of textune errors")
    except TextuneError:
        warning = (
            f"{folder.name} was trained with fixes={name}, which can no longer be read: "
            "its corrections are lost unless the new review file has them, too"
        )
        return EarlierFixes(name, warning=warning)
    return EarlierFixes(name, tuple(row for row in rows if row[CORRECT].strip()))
