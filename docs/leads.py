"""Leads of one model over another on the same test rows, over several draws of training rows or seeds."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))


@dataclass(frozen=True)
class Lead:
    """A mean difference in points with its 95% interval."""

    mean: float
    low: float
    high: float

    @property
    def is_behind(self) -> bool:
        """Whether it is more than half a point behind, and clearly."""
        return self.mean < -0.5 and self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


def measure_lead(pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> Lead:
    """Return how much more often the first of each pair is right. Pairs: of draws, bool [test rows] each."""
    from textune.evaluation.intervals import Interval
    from textune.evaluation.paired import add_seeds

    leads = np.array([mine.astype(float) - theirs for mine, theirs in pairs])
    each, mean = leads.mean(1), float(leads.mean())
    spread = 1.96 * float(leads.mean(0).std(ddof=1)) / math.sqrt(leads.shape[1])
    found = add_seeds(Interval(mean - spread, mean + spread), mean, each, limits=(-1.0, 1.0))
    return Lead(100 * mean, 100 * found.low, 100 * found.high)


def unpack(text: str, rows: int) -> NDArray[np.bool_]:
    """Return which test rows are right, as the benchmarks keep it."""
    from right_rows import unpack as read

    return read(text, rows)
