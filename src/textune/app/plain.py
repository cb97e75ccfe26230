"""Texts and labels as they are: never as HTML, and never as Markdown."""

from __future__ import annotations

import re

from textune.progress import show_controls

_MARKS = re.compile(r"([!-/:-@\[-`{-~])")
"""ASCII punctuation: whatever Markdown could mean by it, a backslash before it means the character."""


def escape(text: object) -> str:
    """Return a text for a Streamlit call that reads Markdown, such as a label or an error, which then shows the text.

    Lines stay lines. Control characters are shown as escapes.
    """
    escaped = _MARKS.sub(r"\\\1", show_controls(str(text)))
    lines = [line.strip() for line in escaped.split("\n")]
    return "  \n".join(lines)


def shorten(text: object, longest: int = 80) -> str:
    """Return a text on one line of at most so many characters, for a list or a label."""
    line = " ".join(show_controls(str(text)).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
