"""Texts that are hardly texts: blanks before the first word, blobs, control characters, lists written as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from textune.data.dialogues import begins_like_a_chat
from textune.data.examples import Examples
from textune.data.jsonlines import is_object
from textune.data.list_cells import parse_list

_SHOWN = 5
_LONG = 1_000
_BLOB = re.compile(rf"[!-~]{{{_LONG}}}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_DAMAGE = "\ufffd"


@dataclass(frozen=True)
class OddTexts:
    """Rows whose texts are odd in one way: how, how many, and the first few row numbers."""

    what: str
    count: int
    rows: tuple[int, ...]

    def __str__(self) -> str:
        """Return the finding as a sentence."""
        rows = ", ".join(map(str, self.rows)) + (", ..." if self.count > len(self.rows) else "")
        plural = "s" if self.count > 1 else ""
        return f"{self.count:,} text{plural} {self.what} (row{plural} {rows})"


def _begins_blank(text: str) -> bool:
    return len(text) > _LONG and len(text) - len(text.lstrip(" \t\r\n\u00a0\u200b\ufeff\u3000")) >= _LONG


def _is_list(text: str) -> bool:
    return text.lstrip()[:1] in "[({" and parse_list(text) is not None


_KINDS: dict[str, Callable[[str], bool]] = {
    f"begin with {_LONG:,} blanks or more, which may be all that is read: strip them": _begins_blank,
    f"hold {_LONG:,} characters or more without a space, such as encoded data: remove them": lambda text: (
        len(text) >= _LONG and _BLOB.search(text) is not None
    ),
    "hold control characters, which a tokenizer drops or does not know: remove them": lambda text: (
        _CONTROL.search(text) is not None
    ),
    "hold U+FFFD, which stands for a letter that was read in a wrong encoding: read the source again": lambda text: (
        _DAMAGE in text
    ),
}


def find_odd_texts(examples: Examples) -> tuple[OddTexts, ...]:
    """Return what is odd about some texts, or about all of them."""
    texts, rows = examples.texts(), examples.rows()
    seconds = examples.text_pairs() or []
    found, writes = [], examples.form.free
    for what, is_odd in _KINDS.items():
        odd = {i for side in (texts, seconds) for i, text in enumerate(side) if is_odd(text)}
        found.append((what, sorted(odd)))
    if texts and all(_is_list(text) and not (writes and begins_like_a_chat(text)) for text in texts):
        what = "are lists written as text, that is all of them: brackets and quotes are read, too. Join their items"
        found.append((what, list(range(len(texts)))))
    if texts and not writes and all(map(is_object, texts)):
        what = "are JSON objects, that is all of them: names and braces are read, too. Give the field that is meant "
        what += "a column of its own"
        found.append((what, list(range(len(texts)))))
    return tuple(OddTexts(what, len(odd), tuple(int(rows[i]) for i in odd[:_SHOWN])) for what, odd in found if odd)
