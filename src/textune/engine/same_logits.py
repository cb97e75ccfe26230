"""The check that two forms of a model give the same logits, on texts of very different length in one batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textune.errors import BundleError, TextuneError

PROBES = ("short", "a text of a few more words, to be padded beside the others", "word " * 300)
TOLERANCE = 1e-4
"""The largest allowed difference, as a share of the largest logit."""


def pair_probes(paired: bool) -> tuple[str, ...] | None:
    """Return the second texts of the probes for a sentence-pair model, else None."""
    return PROBES[::-1] if paired else None


def measure_difference(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> float:
    """Return the largest difference as a share of the largest logit. Both: float32 [rows, classes]."""
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-6))


def require_same(
    expected: NDArray[np.float32],
    actual: NDArray[np.float32],
    message: str,
    *,
    error: type[TextuneError] = BundleError,
    hint: str | None = None,
) -> float:
    """Return the difference; raise `error` with the message if it is too large or not a number."""
    difference = measure_difference(expected, actual)
    if not difference <= TOLERANCE:
        raise error(f"{message} (they differ by {difference:.2g} of the largest logit)", hint=hint)
    return difference
