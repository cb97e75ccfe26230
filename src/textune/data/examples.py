"""Examples: the rows of a table to train or test on, with their row numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from textune.data.columns import Columns
from textune.data.label_sets import ONE, LabelForm, format_set, parse_set, read_labels
from textune.data.spelling import choose_spellings, count_labels, describe_spellings
from textune.data.table import Table, hash_columns
from textune.errors import ConfigError, DataError
from textune.printable import PRINTS

Array = NDArray[Any]
_SAMPLE_STREAM = 1  # sampling and splitting with the same seed use different random streams


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts and labels, in the order of the source.

    arrow: row int64 (source row, counted from 1), text, and if present text_pair, label and group.
    no_text, no_label: source rows that were skipped because the cell is empty.
    form: how the labels are written. If it has sets, a label cell is a set, in the format of `label_sets`.
    notes: which labels were replaced by another that prints the same, and in how many rows.
    """

    arrow: pa.Table
    name: str
    no_text: tuple[int, ...] = ()
    no_label: tuple[int, ...] = ()
    form: LabelForm = ONE
    notes: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """The name of the task that the rows are labelled for."""
        return self.form.task

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def texts(self) -> list[str]:
        """Return the texts."""
        return list(self.arrow.column("text").to_pylist())

    def places(self) -> list[str]:
        """Return where each row is, for messages."""
        return [f"{self.name}, row {row}" for row in self.rows()]

    def text_pairs(self) -> list[str] | None:
        """Return the second texts, or None without pairs."""
        return self._cells("text_pair")

    def labels(self) -> list[str] | None:
        """Return the labels as written in the data, or None without a label column."""
        return self._cells("label")

    def label_sets(self) -> list[tuple[str, ...]]:
        """Return the labels of each row: one, or any number in multi-label data."""
        labels = self.labels() or []
        if not self.form.sets:
            return [(label,) for label in labels]
        parsed = {label: parse_set(label) for label in set(labels)}
        return [parsed[label] for label in labels]

    def groups(self) -> list[str | None] | None:
        """Return the group of each row (None: no group), or None without a group column."""
        return self._cells("group")

    def _cells(self, column: str) -> list[Any] | None:
        return list(self.arrow.column(column).to_pylist()) if column in self.arrow.column_names else None

    def rows(self) -> Array:
        """Return the source row numbers: int64 [rows]."""
        return np.asarray(self.arrow.column("row").to_numpy(), dtype=np.int64)

    def take(self, indices: Sequence[int] | Array) -> Examples:
        """Return the examples at these positions (counted from 0), in that order."""
        return replace(self, arrow=self.arrow.take(pa.array(np.asarray(indices, dtype=np.int64))))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of texts, pairs and labels in order; row numbers do not matter."""
        return hash_columns(self.arrow.select([c for c in self.arrow.column_names if c not in ("row", "group")]))


def build_examples(table: Table, columns: Columns, form: LabelForm = ONE, known_labels: Sequence[str] = ()) -> Examples:
    """Join the text columns and skip the rows without text or label; merge labels that print the same.

    form: how the labels are written. known_labels: labels that were listed or trained; a label that prints like one of
    them is read as it.
    A row whose text holds nothing that prints has no text. Neither has a pair without its second text.
    Raises DataError if no row is left.
    """
    arrow = table.arrow
    text = (
        arrow.column(columns.text[0]) if len(columns.text) == 1 else _join(arrow.select(columns.text), columns.joiner)
    )
    cells: dict[str, Any] = {
        "row": pa.array(np.arange(table.first_row, table.first_row + len(table), dtype=np.int64)),
        "text": text,
    }
    for role, column in (
        ("text_pair", None if columns.text_pair is None else arrow.column(columns.text_pair)),
        ("label", read_labels(table, columns, form)),
        ("group", None if columns.group is None else arrow.column(columns.group)),
    ):
        if column is not None:
            blank = pa.scalar(None, column.type)
            cells[role] = pc.if_else(_filled(column), column, blank) if role == "group" else column
    full = pa.table(cells)
    has_text = _filled(full["text"])
    if "text_pair" in cells:
        has_text = pc.and_(has_text, _filled(full["text_pair"]))
    has_label = _filled(full["label"]) if "label" in cells else pa.chunked_array([pa.array(np.ones(len(table), bool))])
    no_text = full["row"].filter(pc.invert(has_text)).to_pylist()
    no_label = full["row"].filter(pc.and_(has_text, pc.invert(has_label))).to_pylist()
    usable = full.filter(pc.and_(has_text, has_label))
    if not usable.num_rows:
        raise _no_rows(table, columns, has_text)
    examples = Examples(usable, table.name, tuple(no_text), tuple(no_label), form)
    return examples if form.form == "columns" else _merge_spellings(examples, known_labels)


def _merge_spellings(examples: Examples, known: Sequence[str]) -> Examples:
    """Write labels that print the same in one way."""
    cells = examples.labels()
    if cells is None:
        return examples
    rows = count_labels(examples.label_sets())
    spellings = choose_spellings(rows, known)
    if not spellings:
        return examples
    if examples.form.sets:
        new = {cell: format_set(spellings.get(part, part) for part in parse_set(cell)) for cell in set(cells)}
    else:
        new = spellings
    column = pa.array([new.get(cell, cell) for cell in cells], pa.large_string())
    arrow = examples.arrow.set_column(examples.arrow.column_names.index("label"), "label", column)
    return replace(examples, arrow=arrow, notes=describe_spellings(rows, spellings, examples.name))


def _join(parts: pa.Table, joiner: str) -> pa.ChunkedArray:
    """Join the cells of each row, skipping blank ones."""
    # pc.binary_join_element_wise with null_handling="skip" drops rows whose cells are all null (pyarrow 26)
    rows = zip(*(column.to_pylist() for column in parts.columns), strict=True)
    texts = [joiner.join(cell for cell in row if cell and not cell.isspace()) for row in rows]
    return pa.chunked_array([pa.array(texts, pa.large_string())])


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.match_substring_regex(column, PRINTS), False)


def _no_rows(table: Table, columns: Columns, has_text: pa.ChunkedArray) -> DataError:
    if columns.labels and pc.any(has_text).as_py():
        names = ", ".join(f"'{name}'" for name in columns.labels)
        return DataError(
            f"{table.name}: no row has a label: column {names} is empty",
            hint="set label= to the right column",
        )
    if columns.text_pair is not None:
        pair = _filled(table.arrow.column(columns.text_pair))
        if not pc.any(pair).as_py():
            return DataError(
                f"{table.name}: no row has a second text: column '{columns.text_pair}' is empty",
                hint="set text_pair= to the right column, or leave it out and set text=",
            )
        if any(pc.any(_filled(table.arrow.column(name))).as_py() for name in columns.text):
            return DataError(
                f"{table.name}: no row has both texts: {', '.join(columns.text)} and {columns.text_pair}",
                hint="fill in both columns, or set text= and text_pair= to the right ones",
            )
    names = ", ".join(f"'{name}'" for name in columns.text)
    return DataError(
        f"{table.name}: no row has text: column {names} is empty",
        hint="set text= to the right column",
    )


def sample_examples(examples: Examples, sample: str | None, seed: int) -> Examples:
    """Return "1000" random rows, or the "first:1000", in source order; None returns all.

    Raises ConfigError if the setting is malformed.
    """
    if sample is None:
        return examples
    how, _, count = sample.rpartition(":")
    if how not in ("", "first") or not count.strip().isdecimal() or int(count) < 1:
        raise ConfigError(
            f"sample='{sample}' is not a number of rows", hint="use a number such as sample=1000, or sample=first:1000"
        )
    rows = int(count)
    if rows >= len(examples):
        return examples
    if how == "first":
        return examples.take(np.arange(rows))
    positions = np.random.default_rng([seed, _SAMPLE_STREAM]).choice(len(examples), size=rows, replace=False)
    return examples.take(np.sort(positions))
