"""What of a text prints: the same for tables, which Arrow reads, and for single texts. And how counts are printed."""

from __future__ import annotations

import unicodedata

PRINTS = r"[^\s\pZ\p{Cc}\p{Cf}\x{34F}\x{115F}\x{1160}\x{2800}\x{3164}\x{FE00}-\x{FE0F}\x{FFA0}]"
"""Arrow's regular expression of a character that prints."""
_FILLERS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0").union(map(chr, range(0xFE00, 0xFE10)))


def holds_text(text: str | None) -> bool:
    """Return whether a text holds anything that prints."""
    return any(map(_prints, text or ""))


def count(number: int, noun: str) -> str:
    """Return a number with what is counted: 1 row, 2,000 rows."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def count_epochs(epochs: float) -> str:
    """Return a number of epochs, which may be a part of one: 1 epoch, 0.5 epochs."""
    return f"{epochs:.3g} {'epoch' if epochs == 1 else 'epochs'}"


def _prints(char: str) -> bool:
    """Return whether a character is one of PRINTS."""
    kind = unicodedata.category(char)
    return not (kind.startswith("Z") or kind in ("Cc", "Cf") or char in _FILLERS)
