"""Which test rows a model gets right, as the result files keep it: bits, compressed, as text."""

from __future__ import annotations

import base64
import zlib

import numpy as np
from numpy.typing import NDArray


def pack(right: NDArray[np.bool_]) -> str:
    """Return which rows are right as text."""
    return base64.b64encode(zlib.compress(np.packbits(right).tobytes(), 9)).decode()


def unpack(text: str, rows: int) -> NDArray[np.bool_]:
    """Return what `pack` was given."""
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.unpackbits(bits)[:rows].astype(bool)
