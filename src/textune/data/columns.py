"""Which columns hold text and label: as named, else found by name, else by looking; always said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from textune.data.table import Table
from textune.errors import DataError, suggest

_LOOK_ROWS = 10_000

# names in tiers: a name in an earlier tier wins over all later ones, two in one tier are ambiguous
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


@dataclass(frozen=True)
class Columns:
    """The columns that are read; `notes` says how they were found.

    indicators: several label columns of 0 and 1, one per label; then there is no `label`.
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
        """The label column, or the several."""
        return (self.label,) if self.label is not None else self.indicators


@dataclass(frozen=True)
class Leak:
    """A column outside the text whose values give the label away.

    agreement: share of the rows whose label the other rows with the same value predict.
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
    """Decide which columns are text, pair, label and group; what is None is found in the table.

    label: several are label columns of 0 and 1, one per label.
    need_label: where False (prediction), no label is looked for; one that is named is still read.
    Raises DataError where a named column is missing or the choice is ambiguous.
    """
    named = (text,) if isinstance(text, str) else tuple(text or ())
    marked = (label,) if isinstance(label, str) else tuple(label or ())
    for setting, names in (
        ("text", named),
        ("text_pair", (text_pair,)),
        ("label", marked),
        ("group", (group,)),
    ):
        for name in names:
            _check_named(table, setting, name)
    for name in marked:
        if name in (*named, text_pair):
            raise DataError(f"{table.name}: column '{name}' is named as text and as label", hint="name two columns")
    if len(set(marked)) < len(marked):
        raise DataError(f"{table.name}: a column is named as label twice", hint="name each label column once")
    if len({*named, text_pair}) < len(named) + 1:
        raise DataError(f"{table.name}: a column is named as text twice", hint="name each text column once")

    notes: list[str] = []
    if not marked and need_label and (found := _find_label(table, {*named, text_pair, group}, notes)):
        marked = (found,)
    if not named:
        named, text_pair = _find_text(table, {*marked, group}, text_pair, notes)
    if not marked and need_label:
        marked = (_label_by_look(table, {*named, text_pair, group}, notes),)
    several = len(marked) > 1
    own = None if several or not marked else marked[0]
    return Columns(named, text_pair, own, group, joiner, tuple(notes), marked if several else ())


def _check_named(table: Table, setting: str, name: str | None) -> None:
    if name is not None and name not in table.columns:
        raise DataError(
            f"{table.name}: there is no column '{name}' ({setting}={name}){suggest(name, table.columns)}",
            hint=f"columns: {', '.join(table.columns)}",
        )


def _plain(name: str) -> str:
    return "".join(char for char in name.casefold() if char not in " _-.")


def _find_by_name(
    table: Table, tiers: tuple[tuple[str, ...], ...], taken: Iterable[str | None], setting: str
) -> str | None:
    for tier in tiers:
        found = [c for c in table.columns if _plain(c) in tier and c not in taken and not _is_empty(table, c)]
        if len(found) > 1:
            raise _ambiguous(table, found, setting)
        if found:
            return found[0]
    return None


def _ambiguous(table: Table, found: Sequence[str], setting: str) -> DataError:
    both = f", or {setting}={','.join(found[:2])} for both" if setting == "text" else ""
    return DataError(
        f"{table.name}: the {setting} column could be {' or '.join(repr(c) for c in found)}",
        hint=f"set {setting}={found[0]}{both} (columns: {', '.join(table.columns)})",
    )


def _is_empty(table: Table, column: str) -> bool:
    return int(table.arrow.column(column).null_count) == len(table)


def _find_label(table: Table, taken: set[str | None], notes: list[str]) -> str | None:
    found = _find_by_name(table, _LABEL_TIERS, taken, "label")
    if found is not None:
        notes.append(f"label column: '{found}' (by its name)")
    return found


def _find_text(
    table: Table, taken: set[str | None], pair: str | None, notes: list[str]
) -> tuple[tuple[str, ...], str | None]:
    plain = {_plain(column): column for column in reversed(table.columns) if column not in taken}
    if pair is None and "text" not in plain:
        for first, second in _PAIRS:
            if first in plain and second in plain:
                notes.append(f"sentence pair: '{plain[first]}' and '{plain[second]}' (by their names)")
                return (plain[first],), plain[second]
    found = _find_by_name(table, _TEXT_TIERS, {*taken, pair}, "text")
    if found is not None:
        notes.append(f"text column: '{found}' (by its name){_other_texts(table, found, {*taken, pair})}")
        return (found,), pair
    _refuse_missing_header(table)
    return (_text_by_look(table, {*taken, pair}, notes),), pair


def _other_texts(table: Table, found: str, taken: set[str | None]) -> str:
    names = {name for tier in _TEXT_TIERS for name in tier}
    others = [c for c in table.columns if _plain(c) in names and c != found and c not in taken]
    return f"; '{others[0]}' is not read, text={others[0]},{found} joins both" if others else ""


def _refuse_missing_header(table: Table) -> None:
    """A column whose own name is one of its values: the first row is data, not a header."""
    known = {name for tier in (*_TEXT_TIERS, *_LABEL_TIERS) for name in tier}
    if any(_plain(column) in known for column in table.columns):
        return
    for position, column in enumerate(table.columns, 1):
        if pc.any(pc.equal(_looked_at(table, column), column)).as_py():
            raise DataError(
                f"{table.name}: has no header: '{column[:40]}' names column {position} and is also one of its values",
                hint="put a line with column names on top, such as label,text",
            )


def _looked_at(table: Table, column: str) -> pa.ChunkedArray:
    return table.arrow.column(column).slice(0, _LOOK_ROWS).drop_null()


def _text_by_look(table: Table, taken: set[str | None], notes: list[str]) -> str:
    candidates = [c for c in table.columns if c not in taken and len(_looked_at(table, c))]
    if len(candidates) == 1:
        notes.append(f"text column: '{candidates[0]}' (the only one)")
        return candidates[0]
    score: dict[str, float] = {}
    for column in candidates:
        cells = _looked_at(table, column)
        mean_length = pc.mean(pc.utf8_length(cells)).as_py()
        score[column] = mean_length * pc.count_distinct(cells).as_py() / len(cells)
    ranked = sorted(score, key=lambda c: -score[c])
    if not ranked:
        raise DataError(f"{table.name}: no column holds text", hint=f"set text= (columns: {', '.join(table.columns)})")
    if score[ranked[1]] > 0.6 * score[ranked[0]]:
        raise _ambiguous(table, ranked[:2], "text")
    notes.append(f"text column: '{ranked[0]}' (the longest text)")
    return ranked[0]


def _label_by_look(table: Table, taken: set[str | None], notes: list[str]) -> str:
    candidates = [c for c in table.columns if c not in taken and _could_be_label(_looked_at(table, c))]
    if len(candidates) > 1:
        raise _ambiguous(table, candidates, "label")
    if not candidates:
        raise DataError(
            f"{table.name}: no column looks like a label",
            hint=f"set label= (columns: {', '.join(table.columns)})",
        )
    notes.append(f"label column: '{candidates[0]}' (the only one with few values)")
    return candidates[0]


def _could_be_label(cells: pa.ChunkedArray) -> bool:
    if not len(cells):
        return False
    distinct = pc.count_distinct(cells).as_py()
    short = pc.max(pc.utf8_length(cells)).as_py() <= 100
    return bool(short and 2 <= distinct <= max(2, min(500, len(cells) // 3)))


def find_leaks(table: Table, columns: Columns) -> list[Leak]:
    """Find columns outside the text that tell the label of nearly every row, such as a rating beside a sentiment.

    A value's label is guessed from the other rows with that value, so that near-unique columns do not count.
    """
    read = {*columns.text, columns.text_pair, columns.label}
    if columns.label is None:
        return []
    labelled = table.arrow.filter(pc.is_valid(table.arrow.column(columns.label)))
    if not labelled.num_rows:
        return []
    majority = pc.max(labelled.group_by(columns.label).aggregate([([], "count_all")])["count_all"]).as_py()
    majority_share = majority / labelled.num_rows
    leaks = []
    for column in (c for c in table.columns if c not in read):
        agreement = _agreement(labelled.select([column, columns.label]).rename_columns(["value", "label"]))
        if agreement >= 0.95 and agreement - majority_share > 0.5 * (1 - majority_share):
            note = (
                f"column '{column}' gives the label away in {agreement:.1%} of the rows; it is not read, but a text "
                "that holds the same would be too easy"
            )
            leaks.append(Leak(column, agreement, note))
    return leaks


def _agreement(pairs: pa.Table) -> float:
    """Return the share of rows whose label is that of most other rows with the same value (a tie counts as wrong)."""
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
    right = sum(count for value, count in first.items() if count - 1 > second.get(value, 0))
    return float(right / pairs.num_rows)
