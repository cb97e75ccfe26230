"""Stray quotes: two texts with a plain quote each make one cell of all the rows between them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Lines = Callable[[], Iterator[str]]
_MOST_RECORDS = 1_000
"""So many records of several lines are kept in memory."""


@dataclass(frozen=True)
class Swallowed:
    """A record of several lines, each of which has as many cells as the header and could be a row of its own.

    row, line, lines: its number in the table, its first line, and how many it has. rows: whether its lines also have a
    cell that the same column has elsewhere, as rows have and the lines of a quoted text have not. whole: whether every
    line of the file has as many cells as the header where quotes are plain characters.
    """

    row: int
    line: int
    lines: int
    rows: bool
    whole: bool


def find_swallowed(open_lines: Lines, delimiter: str) -> Swallowed | None:
    """Return the first record that a stray quote may have made of several rows; None if there is none.

    open_lines: opens the lines of the table, from the header on, at each call. A table whose header is quoted is one
    whose writer quotes cells. Raises csv.Error and what the lines raise.
    """
    found, whole = _list_swallowed(open_lines, delimiter)
    if not found:
        return None
    cells = [(_list_cells(record), place) for record, place in found]
    wanted: dict[int, set[str]] = {}
    for columns, _ in cells:
        for column, values in columns.items():
            wanted.setdefault(column, set()).update(values)
    seen = _find_seen(open_lines, delimiter, wanted)
    for columns, place in cells:
        if any(values <= seen[column] for column, values in columns.items()):
            return Swallowed(*place, rows=True, whole=whole)
    return Swallowed(*found[0][1], rows=False, whole=whole)


_Record = list[list[str]]
_Place = tuple[int, int, int]


def _list_swallowed(open_lines: Lines, delimiter: str) -> tuple[list[tuple[_Record, _Place]], bool]:
    """Return the records whose lines could be rows, each as the cells of its lines, and whether all lines could be."""
    found: list[tuple[_Record, _Place]] = []
    whole, width, row = True, 0, 0
    for lines, cells, first in _read(open_lines, delimiter):
        if not cells:
            continue
        if not width:
            width = len(cells)
            if width == 1 or len(lines) > 1 or '"' in lines[0]:
                return [], False
            continue
        row += 1
        split = [line.rstrip("\r\n").split(delimiter) for line in lines if line.strip()]
        if any(len(each) != width for each in split):
            whole = False
        elif len(split) > 1 and len(found) < _MOST_RECORDS:
            found.append((split, (row, first, len(lines))))
    return found, whole


def _list_cells(record: _Record) -> dict[int, set[str]]:
    """Return the cells of each column in which every line has a word of its own, such as a label."""
    columns = enumerate(zip(*record, strict=True))
    return {at: set(cells) for at, cells in columns if all(c and c == c.strip() and '"' not in c for c in cells)}


def _find_seen(open_lines: Lines, delimiter: str, wanted: dict[int, set[str]]) -> dict[int, set[str]]:
    """Return which of the wanted cells each column has where quotes are read as quotes."""
    seen: dict[int, set[str]] = {column: set() for column in wanted}
    for _, cells, _ in _read(open_lines, delimiter):
        for column, values in wanted.items():
            if column < len(cells) and cells[column] in values:
                seen[column].add(cells[column])
    return seen


def _read(open_lines: Lines, delimiter: str) -> Iterator[tuple[list[str], list[str], int]]:
    """Yield the lines of each record, its cells, and the number of its first line."""
    taken: list[str] = []

    def take() -> Iterator[str]:
        for line in open_lines():
            taken.append(line)
            yield line

    first = 1
    for cells in csv.reader(take(), delimiter=delimiter, strict=True):
        yield list(taken), cells, first
        first += len(taken)
        taken.clear()
