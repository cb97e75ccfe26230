"""The dominant script of a text (Latin, Cyrillic, Han ...)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# the first code point of each range; "" for ranges without letters or with mixed scripts
_RUNS: tuple[tuple[int, str], ...] = (
    (0x0000, ""),
    (0x0041, "Latin"),
    (0x005B, ""),
    (0x0061, "Latin"),
    (0x007B, ""),
    (0x00C0, "Latin"),
    (0x0250, ""),
    (0x0370, "Greek"),
    (0x0400, "Cyrillic"),
    (0x0530, "Armenian"),
    (0x0590, "Hebrew"),
    (0x0600, "Arabic"),
    (0x0700, ""),
    (0x0750, "Arabic"),
    (0x0780, ""),
    (0x08A0, "Arabic"),
    (0x0900, "Devanagari"),
    (0x0980, "Bengali"),
    (0x0A00, "Gurmukhi"),
    (0x0A80, "Gujarati"),
    (0x0B00, ""),
    (0x0B80, "Tamil"),
    (0x0C00, "Telugu"),
    (0x0C80, "Kannada"),
    (0x0D00, "Malayalam"),
    (0x0D80, "Sinhala"),
    (0x0E00, "Thai"),
    (0x0E80, "Lao"),
    (0x0F00, "Tibetan"),
    (0x1000, "Myanmar"),
    (0x10A0, "Georgian"),
    (0x1100, "Hangul"),
    (0x1200, "Ethiopic"),
    (0x13A0, ""),
    (0x1780, "Khmer"),
    (0x1800, ""),
    (0x1E00, "Latin"),
    (0x1F00, "Greek"),
    (0x2000, ""),
    (0x3040, "Japanese"),
    (0x3100, ""),
    (0x3130, "Hangul"),
    (0x3190, ""),
    (0x31F0, "Japanese"),
    (0x3200, ""),
    (0x3400, "Han"),
    (0x4DC0, ""),
    (0x4E00, "Han"),
    (0xA000, ""),
    (0xAC00, "Hangul"),
    (0xD7B0, ""),
    (0xF900, "Han"),
    (0xFB00, ""),
    (0xFB50, "Arabic"),
    (0xFE00, ""),
    (0xFE70, "Arabic"),
    (0xFF00, ""),
    (0xFF21, "Latin"),
    (0xFF3B, ""),
    (0xFF41, "Latin"),
    (0xFF5B, ""),
    (0xFF66, "Japanese"),
    (0xFFA0, ""),
    (0x20000, "Han"),
    (0x31000, ""),
)
_NAMES = ("", *sorted({name for _, name in _RUNS if name}))
_STARTS = np.array([start for start, _ in _RUNS], dtype=np.uint32)
_NUMBERS = np.array([_NAMES.index(name) for _, name in _RUNS], dtype=np.int64)
_HAN, _JAPANESE = _NAMES.index("Han"), _NAMES.index("Japanese")
_MAX_CHARS = 2_000
_BATCH_TEXTS = 2_000


def dominant_scripts(texts: Sequence[str]) -> list[str]:
    """Return the most common script among the first 2,000 characters of each text, "" without letters."""
    scripts: list[str] = []
    for start in range(0, len(texts), _BATCH_TEXTS):
        batch = [text[:_MAX_CHARS] for text in texts[start : start + _BATCH_TEXTS]]
        scripts += [_NAMES[number] for number in _dominant(batch)]
    return scripts


def _dominant(texts: list[str]) -> list[int]:
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    numbers = _NUMBERS[np.searchsorted(_STARTS, points, "right") - 1]
    text_of = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    counts = np.bincount(text_of * len(_NAMES) + numbers, minlength=len(texts) * len(_NAMES))
    counts = counts.reshape(len(texts), len(_NAMES))
    japanese = counts[:, _JAPANESE] > 0  # Japanese also uses Han characters
    counts[japanese, _JAPANESE] += counts[japanese, _HAN]
    counts[japanese, _HAN] = 0
    counts[:, 0] = 0  # so that "" wins only for a text without letters
    return [int(number) for number in counts.argmax(axis=1)]
