"""The one door through which texts enter a model: whatever holds texts becomes a list of strings, in its order.

A pandas Series is indexed by its labels and not by position: indexed like a list, a shuffled one gives other rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from textune.errors import DataError
from textune.printable import holds_text

_BYTES = (bytes, bytearray, memoryview)


def list_texts(texts: Any, what: str = "text") -> list[str]:
    """Return the texts as a list, in the order in which they are iterated.

    texts: a list, tuple, array, Series or other iterable of strings; a single string counts as one text.
    what: how an item is called in messages. Raises DataError for a table, a mapping, and items that are not text.
    """
    if isinstance(texts, str):
        return _check([texts], what)
    if isinstance(texts, _BYTES):
        raise DataError(f"{what}s are given as bytes", hint="decode them first: text.decode('utf-8')")
    if isinstance(texts, Mapping):
        raise DataError(f"{what}s are given as a {type(texts).__name__}", hint="give a list: one column of it")
    if is_table(texts):
        names = _list_columns(texts)
        raise DataError(
            f"{what}s are given as a table with the columns {', '.join(map(str, names[:8]))}",
            hint=f"give one column, e.g. table[{names[0]!r}]" if names else "give a list of strings",
        )
    if isinstance(texts, set | frozenset):
        raise DataError(f"{what}s are given as a set, which has no order", hint="give a list of strings")
    if getattr(texts, "ndim", 1) == 0:
        texts = [texts.item()]
    elif getattr(texts, "ndim", 1) > 1:
        raise DataError(
            f"{what}s are given as an array of shape {tuple(texts.shape)}", hint="give one column of it: array[:, 0]"
        )
    elif not isinstance(texts, Iterable):
        raise DataError(f"{what}s are given as a {type(texts).__name__}", hint="give a list of strings")
    elif hasattr(texts, "to_pylist"):  # Arrow's own scalars are not strings
        texts = texts.to_pylist()
    return _check(list(texts), what)


def refuse_pairs(pairs: Any) -> None:
    """Raise DataError for second texts where a model writes answers."""
    if pairs is not None:
        raise DataError("a model that writes answers single prompts, but second texts are given", hint="leave them out")


def list_pairs(texts: list[str], pairs: Any) -> list[str] | None:
    """Return the second texts as a list as long as the first; None where there are none."""
    if pairs is None:
        return None
    seconds = list_texts(pairs, "second text")
    if len(seconds) != len(texts):
        raise DataError(f"there are {len(texts):,} texts and {len(seconds):,} second texts", hint="give one for each")
    return seconds


def is_table(data: Any) -> bool:
    """Return whether something is a data frame or an Arrow table: it has named columns."""
    return hasattr(data, "columns") and hasattr(data, "shape")


def is_missing(value: Any) -> bool:
    """Return whether a cell holds nothing: None, a NaN, pandas' NA or NaT."""
    return value is None or (str(value) in ("nan", "<NA>", "NaT") and not isinstance(value, str))


def _check(texts: list[Any], what: str) -> list[str]:
    """Raise DataError that names the first item that is missing, empty or no text."""
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            if is_missing(text):
                raise DataError(f"{what} {number} is missing", hint="leave out the rows without text")
            raise DataError(f"{what} {number} is of type {type(text).__name__}, not str", hint=_suggest_form(text))
        if not holds_text(text):
            raise DataError(f"{what} {number} is empty", hint="leave out the rows without text")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(f"{what} {number}: contains a lone surrogate, not a valid character") from None
    return [str(text) for text in texts]  # NumPy's own strings become plain ones


def _suggest_form(item: Any) -> str:
    """Return what to give instead of an item that is no text."""
    if isinstance(item, _BYTES):
        return "decode it first: text.decode('utf-8')"
    if isinstance(item, Mapping):
        return "give the texts themselves: [row['text'] for row in rows]"
    if isinstance(item, list | tuple):
        return "give a list of strings; of pairs, the first texts and the second texts as two lists"
    return "give strings: str(value)"


def _list_columns(table: Any) -> list[Any]:
    names = table.column_names if hasattr(table, "column_names") else table.columns  # Arrow's columns are data
    return [name if isinstance(name, int) else str(name) for name in names]


def take_column(table: Any) -> Any:
    """Return the only column of a table or of a two-dimensional array, and anything else as it is."""
    if is_table(table):
        names = _list_columns(table)
        if len(names) == 1:
            return table.iloc[:, 0] if hasattr(table, "iloc") else table[names[0]]
    elif getattr(table, "ndim", 1) == 2 and table.shape[1] == 1:
        return table[:, 0]
    return table
