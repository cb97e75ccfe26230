"""Cells that hold a list as text: JSON, and what Python and NumPy print."""

from __future__ import annotations

import ast
import re

from textune.data.jsonlines import parse_json

_ITEM = re.compile(
    r"""\s*(?:b?u?('(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")|(-?[0-9][0-9.eE+-]*+|True|False)(?=[\s,]|\Z))\s*,?""",
    re.DOTALL,
)
_DTYPE = re.compile(r",\s*dtype=\S+\Z")
_WRAPPERS = ("array(", "np.array(", "set(", "frozenset(", "list(", "tuple(", "Index(")
_PAIRS = {"[": "]", "(": ")", "{": "}"}
_EMPTY = ("set()", "frozenset()", "()")
_BARE = re.compile(r"\s*\[([^\[\]{}'\"]*)\]\s*")


def parse_list(cell: str) -> list[object] | None:
    """Return the items of a JSON list, or of a list, tuple, set or array as Python and NumPy print it, or None.

    Items of a printed list are strings, or numbers kept to the letter. ``['joy' 'love']``, without commas, is NumPy's.
    """
    text = cell.strip()
    if text[:1] == "[":
        try:
            parsed = parse_json(text)
        except ValueError:
            return _parse_printed(text)
        return parsed if isinstance(parsed, list) else None
    if text in _EMPTY:
        return []
    wrapper = next((word for word in _WRAPPERS if text.startswith(word) and text.endswith(")")), None)
    if wrapper is not None:
        text = _DTYPE.sub("", text[len(wrapper) : -1].strip())
    return _parse_printed(text) if text[:1] in _PAIRS and (wrapper or text[0] != "[") else None


def _parse_printed(text: str) -> list[object] | None:
    """Return the items between two brackets; words without quotes are no items."""
    if len(text) < 2 or text[-1] != _PAIRS[text[0]]:
        return None
    inside, position, quoted = text[1:-1].rstrip(), 0, False
    items: list[object] = []
    while position < len(inside):
        item = _ITEM.match(inside, position)
        if item is None:
            return None
        quoted = quoted or item[1] is not None
        items.append(_unquote(item[1]) if item[1] is not None else item[2].replace("True", "true").replace("F", "f"))
        position = item.end()
    # only quotes tell a tuple or a set from words in brackets
    return items if quoted or text[0] == "[" else None


def _unquote(literal: str) -> object:
    try:
        return str(ast.literal_eval(literal))
    except (ValueError, SyntaxError):
        return literal[1:-1]


def parse_bare_list(cell: str) -> list[str] | None:
    """Return the items of ``[joy, love]``, whose words have no quotes, or None."""
    match = _BARE.fullmatch(cell)
    if match is None:
        return None
    items = [item.strip() for item in match[1].split(",")]
    return [] if items == [""] else items


def is_marks(lists: list[list[object]]) -> bool:
    """Return whether the lists are 0/1 marks of a fixed number of labels, such as [0, 1, 0]."""
    lengths = {len(items) for items in lists}
    values = {str(item).strip() for items in lists for item in items}
    marks = {"0", "1", "0.0", "1.0", "0.", "1.", "true", "false", "True", "False"}
    if len(lengths) != 1 or max(lengths) < 2 or not values <= marks:
        return False
    repeated = any(len(set(map(str, items))) < len(items) for items in lists)
    return repeated or len({tuple(map(str, items)) for items in lists}) > 1
