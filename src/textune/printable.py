"""Whether a text holds anything that prints: the same for tables, which Arrow reads, and for single texts."""

from __future__ import annotations

import unicodedata

PRINTS = r"[^\s\pZ\p{Cc}\p{Cf}\x{34F}\x{115F}\x{1160}\x{2800}\x{3164}\x{FE00}-\x{FE0F}\x{FFA0}]"
"""Arrow's regular expression of a character that prints."""
_FILLERS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0").union(map(chr, range(0xFE00, 0xFE10)))


def holds_text(text: str | None) -> bool:
    """Return whether a text holds anything that prints."""
    return any(map(_prints, text or ""))


def _prints(char: str) -> bool:
    """Return whether a character is one of PRINTS."""
    kind = unicodedata.category(char)
    return not (kind.startswith("Z") or kind in ("Cc", "Cf") or char in _FILLERS)
