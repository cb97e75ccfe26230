"""Several labels per text: the ways a table can write them, and how textune stores them.

A set of labels is stored as text: a JSON list without spaces, without duplicates, sorted by code point, such as
``["approval","neutral"]``, or ``[]`` for no label. Samples, splits, fingerprints and duplicate checks can then treat a
set like any other label, and equal sets compare equal however the table writes them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from textune.data.cells import TEXT, compact_json
from textune.data.columns import Columns
from textune.data.list_cells import is_marks, parse_bare_list, parse_list
from textune.data.table import Table
from textune.errors import ConfigError, DataError
from textune.printable import count

SINGLE, MULTI = "single_label", "multi_label"
_MIN_JOINED = 2
_MIN_SHARED = 0.8
_OTHER_SEPARATORS = (",", ";", "|", "/", "+", "&", "\t", "\n")
_YES, _NO = ("1", "true", "yes", "1.0"), ("0", "false", "no", "0.0")


@dataclass(frozen=True)
class LabelForm:
    """How a table writes its labels. form: "one", "joined", "lists" or "columns". note: how it was detected.

    column_labels: with "columns", the label of each column if it is not the column's name. task: what the rows are
    labelled for: the task that was set, else the first that reads such labels. warning: why the labels may be written
    in another way than they are read. free: labels are free text, which no split is stratified by; rows with the same
    text stay in one part instead.
    """

    form: str = "one"
    separator: str = "|"
    note: str = ""
    column_labels: tuple[str, ...] = ()
    task: str = SINGLE
    warning: str = ""
    free: bool = False

    @property
    def sets(self) -> bool:
        """Whether a row has a set of labels instead of one."""
        return self.form != "one"


ONE = LabelForm()


def format_set(labels: Iterable[str]) -> str:
    """Return the stored form of a set of labels."""
    return compact_json(sorted(set(labels)))


def parse_set(text: str) -> tuple[str, ...]:
    """Return the labels in a string made by `format_set`."""
    return tuple(json.loads(text))


def join_set(labels: Sequence[str], separator: str, known: Sequence[str]) -> str:
    """Return labels as one cell: joined, or a JSON list if any known label contains the separator."""
    return compact_json(labels) if any(separator in label for label in known) else separator.join(labels)


def choose_form(table: Table, columns: Columns, task: str | None, separator: str) -> LabelForm:
    """Decide how the labels are written.

    task=None detects it: lists and several columns are multi-label. So are joined labels, if their parts also appear
    in other combinations.
    Raises ConfigError for an empty separator, DataError if a column mixes lists and plain labels or the task does not
    fit the columns.
    """
    if not separator:
        raise ConfigError("label_separator= is empty", hint='set it to the separator, such as "|" or ";"')
    sets = None if task is None else task == MULTI  # every other task reads one label in each cell
    if len(columns.indicators) > 1:
        if sets is False:
            raise DataError(
                f"{table.name}: task={task}, but label= names {len(columns.indicators)} columns",
                hint="name one label column, or remove task=",
            )
        note = f"task: multi_label ({len(columns.indicators)} columns, one per label)"
        return LabelForm("columns", separator, note, task=MULTI)
    if columns.label is None:
        return ONE
    if task is not None and not sets:
        return LabelForm("one", separator, f"task: {task} (as set): each cell is one label", task=task)
    cells = table.arrow.column(columns.label)
    filled = [(row, cell) for row, cell in enumerate(cells.to_pylist(), table.first_row) if cell and not cell.isspace()]
    if _find_lists(table, columns.label, filled):
        return LabelForm(
            "lists",
            separator,
            "task: multi_label (the labels are lists); task=single_label reads each list as one label",
            task=MULTI,
        )
    joined = [cell for _, cell in filled if separator in cell]
    cells = f"{count(len(joined), 'cell')} {'has' if len(joined) == 1 else 'have'}"
    warning = describe_joined(columns.label, [cell for _, cell in filled], separator)
    if sets:
        return LabelForm(
            "joined",
            separator,
            f"task: multi_label (as set): {cells} several labels joined by '{separator}'",
            task=MULTI,
            warning="" if joined else warning,
        )
    if _is_joined(joined, [cell for _, cell in filled], separator):
        return LabelForm(
            "joined",
            separator,
            f"task: multi_label ({cells} several labels joined by "
            f"'{separator}'); task=single_label reads each cell as one label",
            task=MULTI,
        )
    more = f"; {len(joined):,} contain '{separator}', task=multi_label would split them" if joined else ""
    return LabelForm("one", separator, f"task: single_label (one label per cell{more})", warning=warning)


def match_label_columns(
    form: LabelForm, table: Table, columns: Columns, trained: Sequence[str], setting: str
) -> LabelForm:
    """Match the label columns of another table to the training labels, by name, else by position.

    trained: the label columns of training, empty if it had none. setting: the setting that names the columns here.
    Raises DataError if the number of columns differs, or names and positions contradict each other.
    """
    names = columns.indicators
    if form.form != "columns" or not trained or set(names) == set(trained):
        return form
    hint = f"name the columns for {', '.join(trained)}, in this order"
    if len(names) != len(trained):
        raise DataError(
            f"{table.name}: {setting}= names {len(names)} label columns, but training had {len(trained)}", hint=hint
        )
    for name, label in zip(names, trained, strict=True):
        if name != label and name in trained:
            raise DataError(f"{table.name}: {setting}= has the column '{name}' in the position of '{label}'", hint=hint)
    matches = ", ".join(f"'{n}' as '{label}'" for n, label in zip(names, trained, strict=True) if n != label)
    return replace(form, note=f"label columns in the order of training: {matches}", column_labels=tuple(trained))


def refuse_part_of_columns(table: Table, trained: Sequence[str], way_out: str) -> None:
    """Raise DataError if another table has only some of training's label columns; way_out: the hint."""
    missing = [name for name in trained if name not in table.columns]
    if missing and len(missing) < len(trained):
        names = ", ".join(f"'{name}'" for name in missing)
        raise DataError(
            f"{table.name}: has some label columns of training, but not {names}",
            hint=f"{way_out} (columns: {', '.join(table.columns)})",
        )


def _find_lists(table: Table, column: str, filled: list[tuple[int, str]]) -> bool:
    """Return whether all cells are lists; raise DataError where only some are, or where they are 0/1 marks."""
    lists = {cell: parse_list(cell) for _, cell in filled}
    is_list = {cell: items is not None for cell, items in lists.items()}
    if not all(is_list.values()) and not any(lists.values()):
        bare = {cell: parse_bare_list(cell) for cell in lists}
        several = any(len(items or ()) > 1 for items in bare.values())
        if several and all(items is not None for items in bare.values()):
            return True
    if not any(is_list.values()):
        return False
    _refuse_mixture(table, column, filled, is_list)
    if is_marks([items for items in lists.values() if items is not None]):
        raise DataError(
            f"{table.name}: column '{column}' holds lists of 0 and 1, such as {_show(filled[0][1])} in row "
            f"{filled[0][0]}: they do not name their labels",
            hint="write one column of 0 and 1 per label and name them with label=A,B,C, or write the labels' names in "
            "the lists; task=single_label reads each list as one label",
        )
    return True


def describe_joined(column: str, cells: list[str], separator: str) -> str:
    """Return a warning if cells look like labels joined by the separator or by a usual one, else nothing."""
    for other in (separator, *_OTHER_SEPARATORS):
        joined = [cell for cell in cells if sum(bool(part.strip()) for part in cell.split(other)) > 1]
        if len(joined) < _MIN_JOINED:
            continue
        cells_with: dict[str, set[str]] = defaultdict(set)
        for cell in set(cells):
            for part in cell.split(other):
                cells_with[part.strip()].add(cell)
        parts = {part.strip() for cell in set(joined) for part in cell.split(other)} - {""}
        shared = sum(len(cells_with[part]) > 1 for part in parts)
        if not parts or (2 * shared < len(parts) and not parts & set(cells)):
            continue
        setting = {"\t": "$'\\t'", "\n": "$'\\n'"}.get(other, f"'{other}'")
        return (
            f"column '{column}': {len(joined):,} cells look like several labels joined by {setting}, such as "
            f"{_show(joined[0])}. Each is read as one label; "
            f"task=multi_label label_separator={setting} reads the {len(parts):,} labels in them"
        )
    return ""


def _refuse_mixture(table: Table, column: str, filled: list[tuple[int, str]], is_list: dict[str, bool]) -> None:
    if all(is_list.values()):
        return
    first = {kind: next((row, cell) for row, cell in filled if is_list[cell] is kind) for kind in (True, False)}
    (row, cell), (other_row, other) = first[True], first[False]
    raise DataError(
        f"{table.name}: column '{column}' mixes lists and plain labels: row {row} is {_show(cell)}, "
        f"row {other_row} is {_show(other)}",
        hint="write them all the same way, or set task=single_label to read each cell as one label",
    )


def _is_joined(joined: list[str], cells: list[str], separator: str) -> bool:
    """Return whether the parts are labels themselves: nearly all of them also appear in other combinations."""
    if len(joined) < _MIN_JOINED:
        return False
    cells_with = defaultdict(set)
    for cell in set(cells):
        for part in cell.split(separator):
            cells_with[part].add(cell)
    if "" in cells_with:
        return False
    parts = {part for cell in set(joined) for part in cell.split(separator)}
    shared = sum(len(cells_with[part]) > 1 for part in parts)
    return shared >= _MIN_SHARED * len(parts) and len(cells_with) < len(set(cells))


def read_labels(table: Table, columns: Columns, form: LabelForm) -> pa.ChunkedArray | None:
    """Return the stored label of every row, null if missing; None without a label column.

    Raises DataError, naming the row and the value, for a cell that does not fit the form.
    """
    if form.form == "columns":
        return _read_columns(table, columns.indicators, form.column_labels or columns.indicators)
    if columns.label is None:
        return None
    column = table.arrow.column(columns.label)
    if form.form == "one":
        return column
    split = _list_labels if form.form == "lists" else _joined_labels(form.separator)
    stored: dict[str, str] = {}
    cells: list[str | None] = []
    for row, cell in enumerate(column.to_pylist(), table.first_row):
        if cell is None or not cell.strip():
            cells.append(None)
            continue
        if cell not in stored:
            try:
                stored[cell] = format_set(split(cell))
            except ValueError as error:
                raise DataError(
                    f"{table.name}, row {row}: column '{columns.label}' contains {_show(cell)}: {error}",
                    hint="fix the cell, or set task=single_label to read each cell as one label",
                ) from None
        cells.append(stored[cell])
    return pa.chunked_array([pa.array(cells, TEXT)])


def _joined_labels(separator: str) -> Callable[[str], list[str]]:
    def split(cell: str) -> list[str]:
        parts = cell.split(separator)
        if any(not part.strip() for part in parts):
            raise ValueError("a label is empty")
        return [part.strip() for part in parts]

    return split


def _list_labels(cell: str) -> list[str]:
    labels: Sequence[object] | None = parse_list(cell)
    labels = parse_bare_list(cell) if labels is None else labels
    if labels is None:
        raise ValueError("not a list of labels")
    for label in labels:
        if isinstance(label, list | dict) or label is None or not str(label).strip():
            raise ValueError("a list may contain only labels, and none may be empty")
    return [str(label).lower() if isinstance(label, bool) else str(label) for label in labels]


def _read_columns(table: Table, names: Sequence[str], labels: Sequence[str]) -> pa.ChunkedArray:
    values = [table.arrow.column(name).to_pylist() for name in names]
    cells: list[str | None] = []
    for row, marks in enumerate(zip(*values, strict=True), table.first_row):
        if all(mark is None or not mark.strip() for mark in marks):
            cells.append(None)
            continue
        columns = zip(names, labels, marks, strict=True)
        cells.append(format_set(label for name, label, mark in columns if _is_yes(table, row, name, mark)))
    return pa.chunked_array([pa.array(cells, TEXT)])


def _is_yes(table: Table, row: int, name: str, mark: str | None) -> bool:
    word = (mark or "").strip().lower()
    if word not in (*_YES, *_NO):
        problem = f"contains {_show(mark)}" if mark else "is empty"
        raise DataError(
            f"{table.name}, row {row}: column '{name}' {problem}; a label column must be 0 or 1",
            hint="write 0 or 1, true or false, yes or no; for an unlabeled row, leave all label columns empty",
        )
    return word in _YES


def _show(cell: str) -> str:
    return repr(cell if len(cell) <= 60 else cell[:57] + "...")
