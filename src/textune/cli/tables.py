"""Tables, facts and sentences in the width of a terminal: control characters are shown, nothing is cut off."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Collection, Sequence

from textune.progress import show_controls

_GAP = 2
_NARROWEST = 20
_LEAST_COLUMN = 12
"""A column is not wrapped to fewer characters, unless its longest word is shorter."""


def find_width() -> int | None:
    """Return the columns of a line: COLUMNS, or the terminal's; None for a file or a pipe, which has no width."""
    if not os.environ.get("COLUMNS", "").isdigit() and not sys.stdout.isatty():
        return None
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def measure(text: str) -> int:
    """Return the columns that a text takes: East Asian characters take two, marks on other characters none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def show_cell(value: object) -> str:
    """Return one line of text without control characters."""
    return show_controls(str(value)).replace("\n", "\\n").replace("\t", " ")


def layout_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int], width: int | None
) -> list[str]:
    """Return aligned columns; where they do not fit, with wrapped cells, and else one block of lines for each row."""
    names, cells = [show_cell(name) for name in header], [[show_cell(cell) for cell in row] for row in rows]
    widths = [max(map(measure, column)) for column in zip(names, *cells, strict=True)]
    if width is None or _add(widths) <= width:
        return [_join(row, widths, right) for row in (names, *cells)]
    narrow = _shrink([names, *cells], right, width)
    if narrow is None:
        return _list_blocks(names, cells, width)
    lines = _wrap_row(names, narrow, right, at_bottom=True)
    for row in cells:
        lines += _wrap_row(row, narrow, right)
    return lines


def layout_facts(facts: Sequence[tuple[str, str]], whole: Collection[str], width: int | None) -> list[str]:
    """Return a name and its value per line. whole: names of values that stay on one line, such as a command."""
    side = max((measure(show_cell(name)) for name, _ in facts), default=0)
    lines = []
    for name, value in facts:
        start, text = f"{_pad(show_cell(name), side)}  ", show_cell(value)
        if width is None or name in whole or side + _GAP + measure(text) <= width:
            lines.append((start + text).rstrip())
            continue
        first, *more = wrap_words(text, max(width - side - _GAP, _NARROWEST))
        lines += [start + first, *(" " * (side + _GAP) + line for line in more)]
    return lines


def wrap_words(text: str, width: int, *, cut: bool = False) -> list[str]:
    """Return lines of whole words. cut: whether a word that is longer than a line is divided."""
    lines, line = [], ""
    for word in _split(text, width if cut else None):
        both = f"{line} {word}" if line else word
        if line and measure(both) > width:
            lines.append(line)
            both = word
        line = both
    return [*lines, line]


def wrap_sentence(text: str, width: int | None) -> list[str]:
    """Return the lines of a sentence; all of it on one where there is no width."""
    text = show_controls(text)
    return [text] if width is None or measure(text) <= width else wrap_words(text, width)


def _split(text: str, longest: int | None) -> list[str]:
    """Return the words of a text, those that are longer than `longest` in pieces."""
    words = text.split()
    if longest is None:
        return words
    pieces: list[str] = []
    for word in words:
        piece = ""
        for character in word:
            if measure(piece + character) > longest:
                pieces.append(piece)
                piece = ""
            piece += character
        pieces.append(piece)
    return pieces


def _add(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _pad(text: str, width: int, *, right: bool = False) -> str:
    space = " " * (width - measure(text))
    return space + text if right else text + space


def _join(cells: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    padded = [_pad(c, w, right=i in right) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
    return (" " * _GAP).join(padded).rstrip()


def _shrink(rows: Sequence[Sequence[str]], right: Collection[int], width: int) -> list[int] | None:
    """Return widths that fit, taken from the widest columns first; None where some word would not fit.

    Figures stay on one line, headings and texts are wrapped.
    """
    columns = list(zip(*rows, strict=True))
    words = [[max(map(measure, cell.split()), default=0) for cell in column] for column in columns]
    least = []
    for i, column in enumerate(columns):
        longest = max(map(measure, column))
        wrapped = max([words[i][0], *map(measure, column[1:])]) if i in right else max(words[i])
        least.append(wrapped if i in right else min(longest, max(wrapped, _LEAST_COLUMN)))
    if _add(least) > width:
        return None
    widths = [max(map(measure, column)) for column in columns]
    while _add(widths) > width:
        widest = max((i for i in range(len(widths)) if widths[i] > least[i]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _wrap_row(
    cells: Sequence[str], widths: Sequence[int], right: Collection[int], *, at_bottom: bool = False
) -> list[str]:
    wrapped = [wrap_words(cell, w) for cell, w in zip(cells, widths, strict=True)]
    height = max(map(len, wrapped))
    blank = [[""] * (height - len(lines)) for lines in wrapped]
    full = [b + lines if at_bottom else lines + b for b, lines in zip(blank, wrapped, strict=True)]
    return [_join([lines[i] for lines in full], widths, right) for i in range(height)]


def _list_blocks(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the first cell of each row as a heading, and a line for each other cell that is not empty."""
    side = min(max(map(measure, names)), width // 3)
    lines: list[str] = []
    for row in rows:
        lines += [""] if lines else []
        lines += wrap_words(row[0] or names[0], width, cut=True)
        for name, cell in zip(names[1:], row[1:], strict=True):
            if not cell:
                continue
            titles = wrap_words(name, side, cut=True)
            values = wrap_words(cell, width - side - 2 * _GAP, cut=True)
            for i in range(max(len(titles), len(values))):
                title, value = (part[i] if i < len(part) else "" for part in (titles, values))
                lines.append(f"{' ' * _GAP}{_pad(title, side)}{' ' * _GAP}{value}".rstrip())
    return lines
