"""Find the header of a table below other lines: Excel's sep= line, comments, titles and blank rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from textune.data.columns import is_label_name, is_text_name

MOST_LINES = 20
"""A header is looked for in this many lines."""
_SEPARATOR_LINE = re.compile(r'"?sep=(\\t|tab\b|.)?"?[,;|\t ]*', re.IGNORECASE)
Cells = Sequence[str | None]


def read_separator_line(line: str) -> str | None:
    """Return the delimiter that Excel's first line ``sep=;`` names, "" if it names none, None if it is no such line."""
    match = _SEPARATOR_LINE.fullmatch(line.rstrip("\r\n"))
    if match is None:
        return None
    return {"\\t": "\t", "tab": "\t"}.get((match[1] or "").lower(), match[1] or "")


def split_lines(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Return the cells of each line, read on its own."""
    try:
        return [next(csv.reader([line], delimiter=delimiter), []) for line in lines[:MOST_LINES]]
    except csv.Error:
        return []


def find_header(rows: Sequence[Cells]) -> tuple[int, list[str]]:
    """Return the position of the header among the first rows, and what each row above it is.

    A row is above the header if it is blank, a comment, or a title: a single cell above rows of several, or a row above
    one of more cells that names a text and a label column. No row is taken for the header whose cells recur in their
    columns. Where in doubt the first row with a cell is the header.
    """
    kinds: list[str] = []
    for position, cells in enumerate(rows[:MOST_LINES]):
        below = [row for row in rows[position + 1 : MOST_LINES] if any(map(_filled, row))]
        if not any(map(_filled, cells)):
            kinds.append("blank")
        elif _is_comment(cells, below):
            kinds.append("a comment")
        elif _is_title(cells, below):
            kinds.append("a title")
        else:
            return position, kinds
    return 0, []


def has_known_name(cells: Cells) -> bool:
    """Return whether a cell is a usual name of a text or label column."""
    return any(is_text_name(cell or "") or is_label_name(cell or "") for cell in cells)


def describe_skipped(rows: Sequence[Cells], kinds: Sequence[str], what: str, first: int = 1) -> list[str]:
    """Return a note for each row above the header that is not blank; what: "line" or "row"; first: its number."""
    return [
        f"{what} {number} was skipped: it is {kind}, not the header ({_show(cells)})"
        for number, (cells, kind) in enumerate(zip(rows, kinds, strict=False), first)
        if kind != "blank"
    ]


def _is_comment(cells: Cells, below: Sequence[Cells]) -> bool:
    first = cells[0] or ""
    if not first.lstrip().startswith("#") or not below:
        return False
    if has_known_name([first.lstrip(" #"), *cells[1:]]):
        return False
    row = next((row for row in below if not (row[0] or "").lstrip().startswith("#")), below[0])
    narrower = _count(cells) < _count(row) or len(cells) != len(row)  # a row may have empty cells below a header
    if narrower or _is_plain_header(row):
        return True
    return _names_both(row) and any(len((cell or "").split()) > 1 for cell in cells)  # "#id,kind" is no sentence


def _is_title(cells: Cells, below: Sequence[Cells]) -> bool:
    if not below or (has_known_name(cells) and _count(cells) > 1):
        return False
    named = next((place for place, row in enumerate(below) if _names_both(row)), None)
    if named is not None and not _names_both(cells):
        if _count(cells) >= _count(below[named]):
            return named == 0 and _is_plain_header(below[named])  # as wide as the table: it could well be the header
        if _heads(below[named], below[named + 1 :]):
            return not _recurs(below[named], below[named + 1 :])
    alone = _count(cells) == 1 and _filled(cells[0])
    if not alone:
        return False
    padded = len(cells) > 1 and not has_known_name(cells)
    place = next((place for place, row in enumerate(below) if _count(row) > 1), None)
    if place is None:
        return False
    full = below[place]
    if _recurs(full, below[place + 1 :]):
        return False
    if padded and _count(full) == len(full):
        return True
    return not has_known_name(cells) and has_known_name(full) and _heads(full, below[place + 1 :])


def _recurs(cells: Cells, below: Sequence[Cells]) -> bool:
    """Return whether a cell of a row occurs again in its column, as a value does and a name does not."""
    return any(
        _filled(cell) and any((row[place] or "").strip() == (cell or "").strip() for row in below if len(row) > place)
        for place, cell in enumerate(cells)
    )


def _heads(header: Cells, below: Sequence[Cells]) -> bool:
    """Return whether a row is the header of those below: its cells are all usual names, or theirs are as many."""
    return all(is_text_name(cell or "") or is_label_name(cell or "") for cell in header) or is_as_wide(header, below)


def is_as_wide(header: Cells, below: Sequence[Cells]) -> bool:
    """Return whether there are rows below, and all of them but blank ones have as many cells as the header.

    A row is one line here, so only rows above the first cell that goes on in the next line count.
    """
    filled = [row for row in below if any(map(_filled, row))]
    cut = next((place for place, row in enumerate(filled) if any("\n" in (cell or "") for cell in row)), len(filled))
    return bool(filled) and all(len(row) == len(header) for row in filled[:cut])


def _is_plain_header(cells: Cells) -> bool:
    """Return whether a row has the names that textune itself gives: no row of data has both."""
    return {"text", "label"} <= {(cell or "").strip().casefold() for cell in cells}


def _names_both(cells: Cells) -> bool:
    return any(is_text_name(cell or "") for cell in cells) and any(is_label_name(cell or "") for cell in cells)


def _filled(cell: str | None) -> bool:
    return bool(cell and cell.strip())


def _count(cells: Cells) -> int:
    return sum(map(_filled, cells))


def _show(cells: Cells) -> str:
    text = " ".join(cell for cell in cells if cell and cell.strip())
    return repr(text if len(text) <= 60 else text[:57] + "...")
