"""Texts and labels as they are: never as HTML, and never as Markdown."""

from __future__ import annotations

import re

from textune.progress import show_controls

_MARKS = re.compile(r"([!-/:-@\[-`{-~])")
"""ASCII punctuation: whatever Markdown could mean by it, a backslash before it means the character."""

_LINKS = re.compile(r"https?(?=:)|www(?=\.)|@|mailto(?=:)|xmpp(?=:)", re.IGNORECASE)
"""After these, an invisible character that joins words keeps Markdown from making a link."""


def escape(text: object) -> str:
    """Return a text for a Streamlit call that reads Markdown, such as a label or an error, which then shows the text.

    Lines stay lines. Control characters are shown as escapes. Addresses of the web and of mail are no links.
    """
    unlinked = _LINKS.sub(lambda found: f"{found[0]}\u2060", show_controls(str(text)))
    escaped = _MARKS.sub(r"\\\1", unlinked)
    lines = [line.strip() for line in escaped.split("\n")]
    return "  \n".join(lines)


def shorten(text: object, longest: int = 80) -> str:
    """Return a text on one line of at most so many characters, for a list or a label."""
    line = " ".join(show_controls(str(text)).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
