"""Choose the text and label columns: as set, else by column name, else by their values. The choice is reported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from textune.config import show_names
from textune.data.table import Table
from textune.errors import DataError, suggest

_SAMPLE_ROWS = 10_000
_MUCH_LONGER, _LONG_TEXT = 5, 60
"""A column of texts so many times as long, and at least so many characters, is worth a word."""

# a name in an earlier tier beats all later tiers; two names in one tier are ambiguous
_TEXT_TIERS: tuple[tuple[str, ...], ...] = (
    ("text",),
    (
        "content",
        "sentence",
        "review",
        "reviewtext",
        "body",
        "message",
        "tweet",
        "comment",
        "utterance",
        "document",
        "post",
        "reviewbody",
        "commenttext",
        "texts",
    ),
    ("question", "query", "description", "prompt", "input", "abstract", "article", "sms", "email", "passage"),
    ("title", "headline", "subject", "summary"),
)
_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("texta", "textb"),
    ("text1", "text2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("query", "passage"),
    ("query", "document"),
)
_LABEL_TIERS: tuple[tuple[str, ...], ...] = (
    ("label",),
    ("labels", "class", "category", "target", "sentiment", "intent", "topic", "classes", "categories"),
    ("y", "emotion", "polarity", "stance", "tag", "spam", "labeltext", "labelname", "classname"),
    ("rating", "stars", "score"),
)
_TEXT_NAMES = frozenset().union(*_TEXT_TIERS, *_PAIRS)
_LABEL_NAMES = frozenset().union(*_LABEL_TIERS)


@dataclass(frozen=True)
class Columns:
    """The columns to read; `notes` says how they were chosen.

    indicators: 0/1 label columns, one per label; `label` is then None.
    """

    text: tuple[str, ...]
    text_pair: str | None
    label: str | None
    group: str | None
    joiner: str
    notes: tuple[str, ...]
    indicators: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The label column or columns."""
        return (self.label,) if self.label is not None else self.indicators

    @property
    def chat(self) -> bool:
        """Whether one column holds whole chats, text and label at once."""
        return self.text == (self.label,)


@dataclass(frozen=True)
class Leak:
    """A column other than the text whose values reveal the label.

    agreement: share of rows whose label can be predicted from the other rows with the same value.
    """

    column: str
    agreement: float
    note: str


def choose_columns(
    table: Table,
    *,
    text: Sequence[str] | str | None = None,
    text_pair: str | None = None,
    label: Sequence[str] | str | None = None,
    group: str | None = None,
    joiner: str = " ",
    need_label: bool = True,
) -> Columns:
    """Decide which columns are text, pair, label and group; a role left at None is detected from the table.

    label: several names are 0/1 label columns, one per label.
    need_label: if False (prediction), no label column is detected; a named one is still read.
    Raises DataError if a named column is missing or the choice is ambiguous.
    """
    text_columns = (text,) if isinstance(text, str) else tuple(text or ())
    label_columns = (label,) if isinstance(label, str) else tuple(label or ())
    for setting, names in (
        ("text", text_columns),
        ("text_pair", (text_pair,)),
        ("label", label_columns),
        ("group", (group,)),
    ):
        for name in names:
            _check_exists(table, setting, name)
    for name in label_columns:
        if name in (*text_columns, text_pair):
            raise DataError(
                f"{table.name}: column '{name}' is set as both text and label", hint="choose two different columns"
            )
        if name == group:
            raise _label_as_group(table, name)
    if len(set(label_columns)) < len(label_columns):
        raise DataError(f"{table.name}: a column is set as label twice", hint="name each label column once")
    if len({*text_columns, text_pair}) < len(text_columns) + 1:
        raise DataError(f"{table.name}: a column is set as text twice", hint="name each text column once")

    notes: list[str] = []
    if not label_columns and need_label:
        by_name = _label_by_name(table, {*text_columns, text_pair, group}, notes)
        label_columns = (by_name,) if by_name else ()
        if by_name is None and group is not None and _is_named(group, _LABEL_TIERS):
            raise _label_as_group(table, group)
    if not text_columns:
        text_columns, text_pair = _find_text(table, label_columns, group, text_pair, notes)
    if not label_columns and need_label:
        label_columns = (_label_by_values(table, {*text_columns, text_pair, group}, notes),)
    several = len(label_columns) > 1
    label_column = None if several or not label_columns else label_columns[0]
    indicators = label_columns if several else ()
    return Columns(text_columns, text_pair, label_column, group, joiner, tuple(notes), indicators)


def _is_named(column: str, tiers: tuple[tuple[str, ...], ...]) -> bool:
    """Return whether a column has one of the names that are looked for first."""
    return any(_normalize(column) in tier for tier in tiers[:2])


def _label_as_group(table: Table, column: str) -> DataError:
    return DataError(
        f"{table.name}: column '{column}' is the label, and group= would keep all rows of a label in one part",
        hint="name another column with group=; if this one is not the label, set label=",
    )


def _check_exists(table: Table, setting: str, name: str | None) -> None:
    if name is not None and name not in table.columns:
        whole = next((column for column in table.columns if name in map(str.strip, column.split(","))), None)
        raise DataError(
            f"{table.name}: no column '{name}' ({show_names(setting, name)}){suggest(name, table.columns)}",
            hint=f"columns: {', '.join(table.columns)}"
            if whole is None
            else f"a name with a comma is given as a list: {show_names(setting, whole)}",
        )


def _normalize(name: str) -> str:
    return "".join(char for char in name.casefold() if char not in " _-.")


def is_text_name(name: str) -> bool:
    """Return whether a column of this name is usually a text."""
    return _normalize(name.strip()) in _TEXT_NAMES


def is_label_name(name: str) -> bool:
    """Return whether a column of this name is usually a label."""
    return _normalize(name.strip()) in _LABEL_NAMES


def _find_by_name(
    table: Table, tiers: tuple[tuple[str, ...], ...], taken: Iterable[str | None], setting: str
) -> str | None:
    for tier in tiers:
        matches = [c for c in table.columns if _normalize(c) in tier and c not in taken and not _is_empty(table, c)]
        if len(matches) > 1:
            raise _ambiguous(table, matches, setting)
        if matches:
            return matches[0]
    return None


def _ambiguous(table: Table, candidates: Sequence[str], setting: str) -> DataError:
    both = f", or {show_names(setting, *candidates[:2])} for both" if setting == "text" else ""
    return DataError(
        f"{table.name}: the {setting} column could be {' or '.join(repr(c) for c in candidates)}",
        hint=f"set {show_names(setting, candidates[0])}{both} (columns: {', '.join(table.columns)})",
    )


def _is_empty(table: Table, column: str) -> bool:
    return int(table.arrow.column(column).null_count) == len(table)


def _label_by_name(table: Table, taken: set[str | None], notes: list[str]) -> str | None:
    column = _find_by_name(table, _LABEL_TIERS, taken, "label")
    if column is not None:
        notes.append(f"label column: '{column}' (by name)")
    return column


def _find_text(
    table: Table, labels: Sequence[str], group: str | None, pair: str | None, notes: list[str]
) -> tuple[tuple[str, ...], str | None]:
    taken = {*labels, group}
    by_name = {_normalize(column): column for column in reversed(table.columns) if column not in taken}
    if pair is None and "text" not in by_name:
        for first, second in _PAIRS:
            found = [by_name.get(name) for name in (first, second)]
            if all(name is not None and not _is_empty(table, name) for name in found):
                notes.append(f"sentence pair: '{by_name[first]}' and '{by_name[second]}' (by name)")
                return (by_name[first],), by_name[second]
    column = _find_by_name(table, _TEXT_TIERS, {*taken, pair}, "text")
    if column is not None:
        notes.append(f"text column: '{column}' (by name){_other_texts(table, column, {*taken, pair})}")
        return (column,), pair
    if group is not None and _is_named(group, _TEXT_TIERS):
        raise DataError(
            f"{table.name}: group={group} names what looks like the text column", hint="set text= to the text column"
        )
    _refuse_missing_header(table)
    return (_text_by_values(table, {*taken, pair}, notes),), pair


def _other_texts(table: Table, text: str, taken: set[str | None]) -> str:
    names = {name for tier in _TEXT_TIERS for name in tier}
    others = [c for c in table.columns if _normalize(c) in names and c != text and c not in taken]
    if others:
        return f"; '{others[0]}' is not read, {show_names('text', others[0], text)} joins both"
    lengths = {c: _mean_length(table, c) for c in table.columns if c not in taken}
    longest = max(lengths, key=lengths.__getitem__)
    if lengths[longest] < max(_MUCH_LONGER * lengths[text], _LONG_TEXT):
        return ""
    return f"; '{longest}' is longer and not read, {show_names('text', text, longest)} joins both"


def _mean_length(table: Table, column: str) -> float:
    return float(pc.mean(pc.utf8_length(_sample_cells(table, column))).as_py() or 0.0)


def _refuse_missing_header(table: Table) -> None:
    """Raise DataError if a column's name is one of its values: the first row is data, not a header."""
    if table.columns == [str(position) for position in range(len(table.columns))]:
        return  # pandas numbers the columns of a table without a header
    sure = {name for tier in (*_TEXT_TIERS, *_PAIRS, *_LABEL_TIERS[:2]) for name in tier}
    for position, column in enumerate(table.columns, 1):
        # "spam" and "y" are names, but also labels
        others = [name for name in table.columns if name != column and (is_text_name(name) or is_label_name(name))]
        if others or _normalize(column) in sure:
            continue
        if pc.any(pc.equal(_sample_cells(table, column), column)).as_py():
            raise DataError(
                f"{table.name}: has no header: column {position} is named '{column[:40]}', which is also a value in it",
                hint="add a first line with column names, such as label,text; or set text= and label= to these names",
            )


def _sample_cells(table: Table, column: str) -> pa.ChunkedArray:
    return table.arrow.column(column).slice(0, _SAMPLE_ROWS).drop_null()


def _text_by_values(table: Table, taken: set[str | None], notes: list[str]) -> str:
    candidates = [c for c in table.columns if c not in taken and len(_sample_cells(table, c))]
    if len(candidates) == 1:
        notes.append(f"text column: '{candidates[0]}' (the only candidate)")
        return candidates[0]
    score: dict[str, float] = {}
    for column in candidates:
        cells = _sample_cells(table, column)
        mean_length = pc.mean(pc.utf8_length(cells)).as_py()
        score[column] = mean_length * pc.count_distinct(cells).as_py() / len(cells)
    ranked = sorted(score, key=lambda c: -score[c])
    if not ranked:
        raise DataError(f"{table.name}: no column has text", hint=f"set text= (columns: {', '.join(table.columns)})")
    if score[ranked[1]] > 0.6 * score[ranked[0]]:
        raise _ambiguous(table, ranked[:2], "text")
    notes.append(f"text column: '{ranked[0]}' (the longest texts)")
    return ranked[0]


def _label_by_values(table: Table, taken: set[str | None], notes: list[str]) -> str:
    candidates = [c for c in table.columns if c not in taken and _could_be_label(_sample_cells(table, c))]
    if len(candidates) > 1:
        raise _ambiguous(table, candidates, "label")
    if not candidates:
        raise DataError(
            f"{table.name}: no column looks like a label",
            hint=f"set label= (columns: {', '.join(table.columns)})",
        )
    notes.append(f"label column: '{candidates[0]}' (the only column with few distinct values)")
    return candidates[0]


def _could_be_label(cells: pa.ChunkedArray) -> bool:
    if not len(cells):
        return False
    distinct = pc.count_distinct(cells).as_py()
    short = pc.max(pc.utf8_length(cells)).as_py() <= 100
    return bool(short and 2 <= distinct <= max(2, min(500, len(cells) // 3)))


def find_leaks(table: Table, columns: Columns) -> list[Leak]:
    """Find columns that reveal the label of nearly every row, such as a rating next to a sentiment.

    A row's label is predicted from the other rows with the same value, so near-unique columns do not count.
    """
    read = {*columns.text, columns.text_pair, columns.label}
    if columns.label is None:
        return []
    labeled = table.arrow.filter(pc.is_valid(table.arrow.column(columns.label)))
    if not labeled.num_rows:
        return []
    majority = pc.max(labeled.group_by(columns.label).aggregate([([], "count_all")])["count_all"]).as_py()
    majority_share = majority / labeled.num_rows
    leaks = []
    for column in (c for c in table.columns if c not in read):
        agreement = _agreement(labeled.select([column, columns.label]).rename_columns(["value", "label"]))
        if agreement >= 0.95 and agreement - majority_share > 0.5 * (1 - majority_share):
            note = (
                f"column '{column}' reveals the label in {agreement:.1%} of rows. It is not read, but if the text "
                "contains it too, scores will be too optimistic"
            )
            leaks.append(Leak(column, agreement, note))
    return leaks


def _agreement(pairs: pa.Table) -> float:
    """Return the share of rows with the majority label of the other rows with the same value; a tie is wrong."""
    if pc.count_distinct(pairs["value"]).as_py() > pairs.num_rows // 2:
        return 0.0
    counts = pairs.group_by(["value", "label"]).aggregate([([], "count_all")]).sort_by([("count_all", "descending")])
    first: dict[str | None, int] = {}
    second: dict[str | None, int] = {}
    for value, count in zip(counts["value"].to_pylist(), counts["count_all"].to_pylist(), strict=True):
        if value not in first:
            first[value] = count
        else:
            second.setdefault(value, count)
    correct = sum(count for value, count in first.items() if count - 1 > second.get(value, 0))
    return float(correct / pairs.num_rows)
