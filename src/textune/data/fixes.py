"""A review file: rows whose labels a person checked, and how they are applied when the table is read again.

Each row names a row of a table by its number and by a hash of its text, so that a fix never reaches another text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from textune.data.examples import Examples
from textune.data.label_sets import format_set, join_set
from textune.data.list_cells import parse_list
from textune.data.source import read_table
from textune.data.table import Table
from textune.errors import DataError, suggest

TABLE, ROW, KEY, CORRECT, TEXT, TEXT_PAIR = "table", "row", "key", "correct_label", "text", "text_pair"
TABLES = ("data", "validation", "test")
"""The settings that name a table whose rows can be fixed."""
REMOVE = ("-", "drop")
"""What a person fills in to remove a row."""
_MOST_SHOWN = 5


def list_removals(labels: Collection[str]) -> tuple[str, ...]:
    """Return the words that remove a row: those of REMOVE that are no label. labels: all names and values."""
    return tuple(word for word in REMOVE if word not in labels)


@dataclass(frozen=True)
class Fix:
    """One filled row of a review file. line: its row there. row: the row of the table. label: as it was filled in."""

    line: int
    table: str
    row: int
    key: str
    label: str


@dataclass(frozen=True)
class Fixes:
    """The filled rows of a review file. name: of the file, in messages."""

    name: str
    rows: tuple[Fix, ...]

    def require_tables(self, present: Collection[str]) -> None:
        """Raise DataError for a fix of a table that is not read."""
        for fix in self.rows:
            if fix.table not in present:
                raise DataError(
                    f"{self.name}, row {fix.line}: fixes row {fix.row:,} of {fix.table}=, but no such table is given",
                    hint=f"give the table with {fix.table}=, or take these rows out of {self.name}",
                )

    def warn_about_test_rows(self, table: str, test: Examples | None) -> list[str]:
        """Return a warning where test rows were fixed: a model's answers chose them, and then they are measured on.

        table: the setting that names the table of the test rows.
        """
        if test is None:
            return []
        held_out = set(test.rows().tolist())
        count = sum(fix.table == table and fix.row in held_out for fix in self.rows)
        if not count:
            return []
        counted = f"{count:,} of the {len(test):,} test rows {'was' if count == 1 else 'were'} checked or corrected"
        return [f"{counted} in {self.name}, which chose them by a model's answers; scores will be too optimistic"]


@dataclass(frozen=True)
class FixedRows:
    """What a review file did. changed: rows with another label; removed: rows taken out; confirmed: the same label."""

    name: str = ""
    changed: int = 0
    removed: int = 0
    confirmed: int = 0

    def __add__(self, other: FixedRows) -> FixedRows:
        counts = ((getattr(self, n) + getattr(other, n)) for n in ("changed", "removed", "confirmed"))
        return FixedRows(self.name or other.name, *counts)

    def describe(self) -> str:
        """Return the sentence for notes and the card."""
        same = f", {self.confirmed:,} confirmed" if self.confirmed else ""
        labels, rows = "label" if self.changed == 1 else "labels", "row" if self.removed == 1 else "rows"
        return f"{self.changed:,} {labels} changed, {self.removed:,} {rows} removed{same} by {self.name}"


def make_key(text: str, pair: str | None = None) -> str:
    """Return a hash of a row's text, or of both of a pair; it begins with a letter, so that it stays text."""
    content = text if pair is None else f"{text}\x1f{pair}"
    return "t" + hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_review(path: str | Path, hint: str) -> Table:
    """Return a review file as a table, in whatever encoding and with whatever delimiter a spreadsheet saved it.

    Raises DataError for what has not the columns of one. hint: what to do about it.
    """
    table = read_table(path)
    for needed in (ROW, CORRECT):
        if needed not in table.columns:
            raise DataError(
                f"{table.name}: is not a review file: no column '{needed}'{suggest(needed, table.columns)}", hint=hint
            )
    if KEY not in table.columns and TEXT not in table.columns:
        raise DataError(
            f"{table.name}: is not a review file: it has neither a column '{KEY}' nor '{TEXT}' to identify the rows",
            hint=hint,
        )
    return table


def identify_row(cells: Mapping[str, str | None]) -> tuple[str, int | None, str]:
    """Return which row of which table a row of a review file is about: the setting, the number and the text's key.

    cells: of the row, by column. The number is None for a cell that holds none.
    """
    table = (cells.get(TABLE) or TABLES[0]).strip()
    key = (cells.get(KEY) or "").strip() or make_key(cells.get(TEXT) or "", cells.get(TEXT_PAIR))
    return table, _parse_row(cells.get(ROW)), key


def read_fixes(path: str | Path) -> Fixes:
    """Return the filled rows of a review file, a CSV or any other table; raise DataError naming file and row."""
    table = read_review(path, "fixes= takes a review file of textune errors")
    found: dict[tuple[str, int], Fix] = {}
    for line, cells in enumerate(table.arrow.to_pylist(), table.first_row):
        label = cells[CORRECT]
        if label is None or not label.strip():
            continue
        part, row, key = identify_row(cells)
        if part not in TABLES:
            raise DataError(f"{table.name}, row {line}: the table '{part}' is none of {', '.join(TABLES)}")
        if row is None:
            cell = cells[ROW] or ""
            raise DataError(f"{table.name}, row {line}: column '{ROW}' holds '{cell}', not a row number")
        fix = Fix(line, part, row, key, label.strip())
        first = found.setdefault((part, row), fix)
        if first.label != fix.label:
            raise DataError(
                f"{table.name}, row {line}: row {row:,} is '{fix.label}' here, but '{first.label}' in row {first.line}",
                hint="keep one of the two",
            )
    return Fixes(table.name, tuple(found.values()))


def _parse_row(cell: str | None) -> int | None:
    """Return a row number, which a spreadsheet may have given decimals or commas; None for anything else."""
    plain = (cell or "").strip().replace(",", "").removesuffix(".0")
    return int(plain) if plain.isdecimal() else None


def apply_fixes(
    fixes: Fixes, table: str, examples: Examples, pairs: Sequence[tuple[str, str]]
) -> tuple[Examples, FixedRows]:
    """Return the rows of one table with their labels fixed and without those to be removed.

    table: the setting that the rows were read for. pairs: value and name of labels beside those of the rows.
    Raises DataError that lists rows that no longer match, and labels that are not known.
    """
    chosen = [fix for fix in fixes.rows if fix.table == table]
    labels = examples.labels()
    if not chosen or labels is None:
        return examples, FixedRows(fixes.name)
    known = {value: value for value, _ in pairs} | {label: label for row in examples.label_sets() for label in row}
    known |= {name: value for value, name in pairs}  # a review file shows names, and one may be another class's value
    removals = list_removals(known)
    texts, seconds = examples.texts(), examples.text_pairs()
    positions = {row: at for at, row in enumerate(examples.rows().tolist())}
    problems, dropped = [], np.zeros(len(examples), bool)
    counts = dict.fromkeys(("changed", "removed", "confirmed"), 0)
    for fix in chosen:
        where = f"{fixes.name}, row {fix.line}"
        at = positions.get(fix.row)
        if at is None or make_key(texts[at], None if seconds is None else seconds[at]) != fix.key:
            problem = "has no such row with text and label" if at is None else "has another text there"
            problems.append(f"{where}: {examples.name} {problem} (row {fix.row:,})")
            continue
        if fix.label in removals:
            dropped[at], counts["removed"] = True, counts["removed"] + 1
            continue
        try:
            label = _read_label(fix.label, examples, known)
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        counts["confirmed" if label == labels[at] else "changed"] += 1
        labels[at] = label
    if problems:
        more = f"\n  and {len(problems) - _MOST_SHOWN:,} more" if len(problems) > _MOST_SHOWN else ""
        raise DataError(
            "\n  ".join(problems[:_MOST_SHOWN]) + more,
            hint=f"write the review file anew with textune errors, or correct these rows, or empty their {CORRECT}",
        )
    column = pa.array(labels, pa.large_string())
    arrow = examples.arrow.set_column(examples.arrow.column_names.index("label"), "label", column)
    fixed = replace(examples, arrow=arrow).take(np.flatnonzero(~dropped))
    return fixed, FixedRows(fixes.name, **counts)


def _read_label(cell: str, examples: Examples, known: Mapping[str, str]) -> str:
    """Return the label of a filled cell as `Examples` keep it; raise ValueError for one that is not known."""
    if not examples.form.sets:
        return _find_known(cell, known)
    listed = parse_list(cell)
    parts = cell.split(examples.form.separator) if listed is None else [str(part) for part in listed]
    return format_set(_find_known(part.strip(), known) for part in parts)


def _find_known(label: str, known: Mapping[str, str]) -> str:
    for form in (label, label.removeprefix("'")):  # written with an apostrophe, so that no spreadsheet runs it
        if form in known:
            return known[form]
    listed = ", ".join(list(known)[:8]) + (", ..." if len(known) > 8 else "")
    removing = "".join(f"; '{word}' removes the row" for word in list_removals(known)[:1])
    raise ValueError(f"no label '{label}'{suggest(label, known)} (known: {listed}{removing})")


def show_label(labels: Sequence[str], examples: Examples, known: Sequence[str]) -> str:
    """Return the labels of a row as one cell of a review file, in the form that is read back."""
    if not examples.form.sets:
        return labels[0] if labels else ""
    return join_set(list(labels), examples.form.separator, known) if labels else json.dumps([])
