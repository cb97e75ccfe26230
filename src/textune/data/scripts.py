"""Which script (Latin, Cyrillic, Han ...) most letters of a text are written in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# first code points of runs of letters; "" marks what is no letter or of no one script
_RUNS: tuple[tuple[int, str], ...] = (
    (0x0000, ""), (0x0041, "Latin"), (0x005B, ""), (0x0061, "Latin"), (0x007B, ""), (0x00C0, "Latin"),
    (0x0250, ""), (0x0370, "Greek"), (0x0400, "Cyrillic"), (0x0530, "Armenian"), (0x0590, "Hebrew"),
    (0x0600, "Arabic"), (0x0700, ""), (0x0750, "Arabic"), (0x0780, ""), (0x08A0, "Arabic"), (0x0900, "Devanagari"),
    (0x0980, "Bengali"), (0x0A00, "Gurmukhi"), (0x0A80, "Gujarati"), (0x0B00, ""), (0x0B80, "Tamil"),
    (0x0C00, "Telugu"), (0x0C80, "Kannada"), (0x0D00, "Malayalam"), (0x0D80, "Sinhala"), (0x0E00, "Thai"),
    (0x0E80, "Lao"), (0x0F00, "Tibetan"), (0x1000, "Myanmar"), (0x10A0, "Georgian"), (0x1100, "Hangul"),
    (0x1200, "Ethiopic"), (0x13A0, ""), (0x1780, "Khmer"), (0x1800, ""), (0x1E00, "Latin"), (0x1F00, "Greek"),
    (0x2000, ""), (0x3040, "Japanese"), (0x3100, ""), (0x3130, "Hangul"), (0x3190, ""), (0x31F0, "Japanese"),
    (0x3200, ""), (0x3400, "Han"), (0x4DC0, ""), (0x4E00, "Han"), (0xA000, ""), (0xAC00, "Hangul"), (0xD7B0, ""),
    (0xF900, "Han"), (0xFB00, ""), (0xFB50, "Arabic"), (0xFE00, ""), (0xFE70, "Arabic"), (0xFF00, ""),
    (0xFF21, "Latin"), (0xFF3B, ""), (0xFF41, "Latin"), (0xFF5B, ""), (0xFF66, "Japanese"), (0xFFA0, ""),
    (0x20000, "Han"), (0x31000, ""),
)  # fmt: skip
_STARTS = np.array([start for start, _ in _RUNS], dtype=np.uint32)
_NAMES = ("", *sorted({name for _, name in _RUNS if name}))
_NUMBERS = np.array([_NAMES.index(name) for _, name in _RUNS])
_LATIN = _NAMES.index("Latin")
_MOST_CHARS = 2_000


def dominant_scripts(texts: Sequence[str]) -> list[str]:
    """Returns the script of most letters of each text, "" where there are no letters."""
    return [_NAMES[_dominant(text[:_MOST_CHARS])] for text in texts]


def _dominant(text: str) -> int:
    if text.isascii():
        return _LATIN if any(map(str.isalpha, text)) else 0
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    counts: np.ndarray[Any, Any] = np.bincount(
        _NUMBERS[np.searchsorted(_STARTS, points, "right") - 1], minlength=len(_NAMES)
    )
    japanese, han = _NAMES.index("Japanese"), _NAMES.index("Han")
    if counts[japanese]:  # Japanese is written with Han characters too
        counts[japanese] += counts[han]
        counts[han] = 0
    counts[0] = 0
    return int(counts.argmax()) if counts.any() else 0
