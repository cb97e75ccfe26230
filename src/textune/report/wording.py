"""How the report and the card write numbers and other people's text."""

from __future__ import annotations

import re

from textune.evaluation.intervals import Interval
from textune.evaluation.text import percent as percent

_NOT_FOR_A_PAGE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean_text(text: str) -> str:
    """Replace the control characters and lone surrogates that no page or UTF-8 file can hold."""
    return _NOT_FOR_A_PAGE.sub("\ufffd", text)


def span(interval: Interval) -> str:
    """Write an interval of shares as ``88.6 to 92.3``, in percent."""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def points(share: float) -> str:
    """Write a difference of shares as signed percentage points: ``+7.5`` or ``−0.4``."""
    rounded = f"{100 * share:+.1f}"
    return "0.0" if rounded in ("+0.0", "-0.0") else rounded.replace("-", "−")


def number(count: int) -> str:
    """Write 12345 as ``12,345``."""
    return f"{count:,}"


def plural(count: int, noun: str) -> str:
    """Write ``1 row`` and ``2 rows``; classes get their ``es``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"


def shorten(text: str, longest: int) -> str:
    """Cut text to so many characters and say how long it was."""
    return text if len(text) <= longest else f"{text[:longest].rstrip()} … ({len(text):,} characters in all)"


def clip(name: str, longest: int) -> str:
    """Cut a name to so many characters."""
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"


def list_names(names: list[str], most: int = 5) -> str:
    """Write the first names with commas, and how many more there are."""
    shown = ", ".join(clip(name, 60) for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown
