"""Several labels per text: how a table writes them, and the one form they are kept in.

A set of labels is kept as text, a JSON list without spaces whose labels stand once and in the order of code points:
``["approval","neutral"]``, ``[]`` for no label. So samples, splits, fingerprints and duplicates treat it as they treat
any label, and two ways of writing the same set are the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from textune.data.cells import TEXT, compact_json
from textune.data.columns import Columns
from textune.data.jsonlines import parse_json
from textune.data.table import Table
from textune.errors import ConfigError, DataError

SINGLE, MULTI = "single_label", "multi_label"
_FEWEST_JOINED = 2
_SHARE_SHARED = 0.8
_YES, _NO = ("1", "true", "yes", "1.0"), ("0", "false", "no", "0.0")


@dataclass(frozen=True)
class LabelForm:
    """How a table writes its labels. form: "one", "joined", "lists" or "columns". note: how that was found.

    column_labels: with "columns", the label of each column where it is not the column's name. task: what the rows are
    labelled for: the task that was set, else the first that reads such labels.
    """

    form: str = "one"
    separator: str = "|"
    note: str = ""
    column_labels: tuple[str, ...] = ()
    task: str = SINGLE

    @property
    def sets(self) -> bool:
        """Whether a row has a set of labels instead of one."""
        return self.form != "one"


ONE = LabelForm()


def format_set(labels: Iterable[str]) -> str:
    """Return labels in the form they are kept in."""
    return compact_json(sorted(set(labels)))


def parse_set(text: str) -> tuple[str, ...]:
    """Return the labels of what `format_set` gave."""
    return tuple(json.loads(text))


def join_set(labels: Sequence[str], separator: str, known: Sequence[str]) -> str:
    """Return labels as one cell: joined, or as a JSON list where some known label holds the separator."""
    return compact_json(labels) if any(separator in label for label in known) else separator.join(labels)


def choose_form(table: Table, columns: Columns, task: str | None, separator: str) -> LabelForm:
    """Decide how the labels are written; task=None looks at them: lists and several columns are multi-label, joined
    labels where the parts come back in other combinations.

    Raises ConfigError for an empty separator; DataError where lists and plain labels stand in one column, or a task
    does not fit the columns.
    """
    if not separator:
        raise ConfigError("label_separator= is empty", hint='give what stands between labels, such as "|" or ";"')
    sets = None if task is None else task == MULTI  # every other task reads one label in each cell
    if len(columns.indicators) > 1:
        if sets is False:
            raise DataError(
                f"{table.name}: task={task}, but label= names {len(columns.indicators)} columns",
                hint="name one label column, or leave task out",
            )
        note = f"task: multi_label ({len(columns.indicators)} columns, one per label)"
        return LabelForm("columns", separator, note, task=MULTI)
    if columns.label is None:
        return ONE
    if task is not None and not sets:
        return LabelForm("one", separator, f"task: {task} (as set): each cell is one label", task=task)
    cells = table.arrow.column(columns.label)
    filled = [(row, cell) for row, cell in enumerate(cells.to_pylist(), table.first_row) if cell and not cell.isspace()]
    lists = {cell: _parse_list(cell) is not None for cell in {cell for _, cell in filled}}
    if any(lists.values()):
        _refuse_mixture(table, columns.label, filled, lists)
        return LabelForm(
            "lists",
            separator,
            "task: multi_label (the labels are lists); task=single_label takes each list as one label",
            task=MULTI,
        )
    joined = [cell for _, cell in filled if separator in cell]
    if sets:
        return LabelForm(
            "joined",
            separator,
            f"task: multi_label (as set): {len(joined):,} cells hold several labels joined by '{separator}'",
            task=MULTI,
        )
    if _is_joined(joined, [cell for _, cell in filled], separator):
        return LabelForm(
            "joined",
            separator,
            f"task: multi_label ({len(joined):,} cells hold several labels joined by "
            f"'{separator}'); task=single_label takes each cell as one label",
            task=MULTI,
        )
    more = f"; {len(joined):,} hold '{separator}', task=multi_label would split them" if joined else ""
    return LabelForm("one", separator, f"task: single_label (one label in each cell{more})")


def match_label_columns(
    form: LabelForm, table: Table, columns: Columns, trained: Sequence[str], setting: str
) -> LabelForm:
    """Say which training label each label column of another table stands for: that of its name, else of its place.

    trained: the label columns of training, none where it had no such columns. setting: what names the columns here.
    Raises DataError where there are more or fewer columns, or names and places contradict each other.
    """
    own = columns.indicators
    if form.form != "columns" or not trained or set(own) == set(trained):
        return form
    hint = f"name the columns that stand for {', '.join(trained)}, in this order"
    if len(own) != len(trained):
        raise DataError(
            f"{table.name}: {setting}= names {len(own)} label columns, and training has {len(trained)}", hint=hint
        )
    for name, label in zip(own, trained, strict=True):
        if name != label and name in trained:
            raise DataError(f"{table.name}: {setting}= names the column '{name}' in the place of '{label}'", hint=hint)
    places = ", ".join(f"'{n}' as '{label}'" for n, label in zip(own, trained, strict=True) if n != label)
    return replace(form, note=f"label columns in the order of training: {places}", column_labels=tuple(trained))


def refuse_part_of_columns(table: Table, trained: Sequence[str], way_out: str) -> None:
    """Raise DataError where another table has some of training's label columns, but not all; way_out: the hint."""
    missing = [name for name in trained if name not in table.columns]
    if missing and len(missing) < len(trained):
        names = ", ".join(f"'{name}'" for name in missing)
        raise DataError(
            f"{table.name}: of the label columns of training there is no {names}",
            hint=f"{way_out} (columns: {', '.join(table.columns)})",
        )


def _parse_list(cell: str) -> list[object] | None:
    if not cell.lstrip().startswith("["):
        return None
    try:
        parsed = parse_json(cell)
    except ValueError:
        return None
    return parsed if isinstance(parsed, list) else None


def _refuse_mixture(table: Table, column: str, filled: list[tuple[int, str]], lists: dict[str, bool]) -> None:
    if all(lists.values()):
        return
    first = {kind: next((row, cell) for row, cell in filled if lists[cell] is kind) for kind in (True, False)}
    (row, cell), (other_row, other) = first[True], first[False]
    raise DataError(
        f"{table.name}: column '{column}' mixes lists and plain labels: row {row} is {_show(cell)}, "
        f"row {other_row} is {_show(other)}",
        hint="write them all in one form, or set task=single_label to take every cell as one label",
    )


def _is_joined(joined: list[str], cells: list[str], separator: str) -> bool:
    """Whether the parts are labels of their own: nearly all of them stand in other combinations, too."""
    if len(joined) < _FEWEST_JOINED:
        return False
    wholes_of = defaultdict(set)
    for whole in set(cells):
        for part in whole.split(separator):
            wholes_of[part].add(whole)
    if "" in wholes_of:
        return False
    parts = {part for whole in set(joined) for part in whole.split(separator)}
    shared = sum(len(wholes_of[part]) > 1 for part in parts)
    return shared >= _SHARE_SHARED * len(parts) and len(wholes_of) < len(set(cells))


def read_labels(table: Table, columns: Columns, form: LabelForm) -> pa.ChunkedArray | None:
    """Return the label of every row as it is kept, null where it is missing; None where no label column is read.

    Raises DataError naming the row and the value that the form does not allow.
    """
    if form.form == "columns":
        return _read_columns(table, columns.indicators, form.column_labels or columns.indicators)
    if columns.label is None:
        return None
    column = table.arrow.column(columns.label)
    if form.form == "one":
        return column
    split = _list_labels if form.form == "lists" else _joined_labels(form.separator)
    known: dict[str, str] = {}
    cells: list[str | None] = []
    for row, cell in enumerate(column.to_pylist(), table.first_row):
        if cell is None or not cell.strip():
            cells.append(None)
            continue
        if cell not in known:
            try:
                known[cell] = format_set(split(cell))
            except ValueError as error:
                raise DataError(
                    f"{table.name}, row {row}: column '{columns.label}' holds {_show(cell)}: {error}",
                    hint="correct the cell, or set task=single_label to take every cell as one label",
                ) from None
        cells.append(known[cell])
    return pa.chunked_array([pa.array(cells, TEXT)])


def _joined_labels(separator: str) -> Callable[[str], list[str]]:
    def split(cell: str) -> list[str]:
        parts = cell.split(separator)
        if any(not part.strip() for part in parts):
            raise ValueError("a label is empty")
        return parts

    return split


def _list_labels(cell: str) -> list[str]:
    labels = _parse_list(cell)
    if labels is None:
        raise ValueError("this is no list of labels")
    for label in labels:
        if isinstance(label, list | dict) or label is None or not str(label).strip():
            raise ValueError("a list may hold labels only, none of them empty")
    return [str(label).lower() if isinstance(label, bool) else str(label) for label in labels]


def _read_columns(table: Table, names: Sequence[str], labels: Sequence[str]) -> pa.ChunkedArray:
    values = [table.arrow.column(name).to_pylist() for name in names]
    cells: list[str | None] = []
    for row, marks in enumerate(zip(*values, strict=True), table.first_row):
        if all(mark is None or not mark.strip() for mark in marks):
            cells.append(None)
            continue
        found = zip(names, labels, marks, strict=True)
        cells.append(format_set(label for name, label, mark in found if _is_yes(table, row, name, mark)))
    return pa.chunked_array([pa.array(cells, TEXT)])


def _is_yes(table: Table, row: int, name: str, mark: str | None) -> bool:
    word = (mark or "").strip().lower()
    if word not in (*_YES, *_NO):
        found = f"holds {_show(mark)}" if mark else "is empty"
        raise DataError(
            f"{table.name}, row {row}: column '{name}' {found}; a label's own column holds 0 or 1",
            hint="write 0 or 1, true or false, yes or no; leave all label columns empty in a row without labels",
        )
    return word in _YES


def _show(cell: str) -> str:
    return repr(cell if len(cell) <= 60 else cell[:57] + "...")
