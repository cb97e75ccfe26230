"""Extrapolation from timed parts to a whole run: arithmetic only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.progress import format_seconds

Floats = NDArray[np.float64]

_LATER_GROWTH, _MOST_DOUBLINGS = 0.7, 4.0


@dataclass(frozen=True)
class Forecast:
    """The predicted time, memory and disk space of one run.

    seconds: by part, in order: start, prepare, load, head, frozen (layers computed once), steps, evaluations,
    calibration (on rows out of fold, where few rows leave none for validation), checkpoints, save, measure.
    disk_mb: of the finished run's folder; disk_while_training_mb: with checkpoints, plus one more if an older one stays
    the best.
    notes: what could change the forecast. rehearsed_seconds: spent on the rehearsal. load: shares of the processors'
    time that went to other programs and to nobody meanwhile, or None where the system does not say.
    """

    method: str
    backbone: str
    seconds: Mapping[str, float]
    peak_memory_mb: float
    disk_mb: float
    disk_while_training_mb: float
    trainable_parameters: int
    total_parameters: int
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    rehearsed_seconds: float = 0.0
    load: Mapping[str, float] | None = None

    def __repr__(self) -> str:
        needs = f"{format_seconds(self.run_seconds)}, {self.peak_memory_mb:,.0f} MB memory, {self.disk_mb:,.0f} MB disk"
        return f"Forecast({self.method} on {self.backbone}: {needs})"

    def __str__(self) -> str:
        """Return time, memory, disk and what could change them, in a few lines."""
        lines = [
            f"{self.method} on {self.backbone}",
            f"time    {format_seconds(self.run_seconds)}, of which training {format_seconds(self.training_seconds)}",
            f"memory  {self.peak_memory_mb:,.0f} MB at most",
            f"disk    {self.disk_mb:,.0f} MB, {self.disk_while_training_mb:,.0f} MB while training",
        ]
        return "\n".join([*lines, *self.notes])

    @property
    def run_seconds(self) -> float:
        """Seconds from the start of the program to its end."""
        return sum(self.seconds.values())

    @property
    def training_seconds(self) -> float:
        """Seconds of training with evaluations, checkpoints and calibration, as a run reports them."""
        parts = ("head", "frozen", "steps", "evaluations", "checkpoints", "calibration")
        return sum(self.seconds.get(part, 0.0) for part in parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the forecast as plain data; `from_dict` reads it."""
        return asdict(self) | {"run_seconds": self.run_seconds, "training_seconds": self.training_seconds}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Forecast:
        """Rebuild a forecast from the result of `to_dict`."""
        fields = {k: v for k, v in content.items() if k not in ("run_seconds", "training_seconds")}
        return cls(**fields | {"notes": tuple(fields["notes"])})


def measure_sizes(lengths: NDArray[Any], longest: NDArray[Any], steps: Sequence[NDArray[Any]]) -> Floats:
    """Return the quantities that determine each step's time: float64 [steps, 3].

    They are 1, the tokens (for all layers but attention), and the tokens times their window's length (for attention).
    lengths, longest: tokens of each row and of its longest window.
    """
    tokens = lengths.astype(np.float64)
    pairs = tokens * longest
    return np.array([[1.0, tokens[rows].sum(), pairs[rows].sum()] for rows in steps]).reshape(-1, 3)


def fit_seconds(sizes: Floats, seconds: Sequence[float]) -> Floats:
    """Return the non-negative cost per unit of `measure_sizes` with the least relative error: float64 [3]."""
    from scipy.optimize import nnls

    times = np.asarray(seconds, np.float64)
    scale = np.maximum(sizes.max(axis=0), 1.0)
    costs, _ = nnls(sizes / scale / times[:, None], np.ones(len(times)))
    return np.asarray(costs / scale)


def extrapolate_growth(peaks: Sequence[float], steps: int) -> float:
    """Return by how many megabytes the memory peak will still grow. steps: of the whole training.

    peaks: the peak after each step taken, in order. Batches of different lengths fragment freed memory, so the peak
    grows like the logarithm of the steps, slowing down: measured on LoRA and full tuning with 29 to 116 steps.
    """
    taken = len(peaks)
    if taken < 2 or steps <= taken:
        return 0.0
    per_doubling = (peaks[-1] - peaks[taken // 2 - 1]) / math.log2(taken / (taken // 2))
    return max(_LATER_GROWTH * per_doubling * min(math.log2(steps / taken), _MOST_DOUBLINGS), 0.0)


def count_evaluations(total_steps: int, every: int) -> int:
    """Return the number of evaluations during training, including the last step."""
    return math.ceil(total_steps / every)


def extrapolate(first: float, small: float, large: float, sizes: tuple[float, float, float]) -> float:
    """Return the seconds of a whole job from the seconds of three parts.

    first, small: the same part twice, which separates one-time costs. large: a larger part.
    sizes: of the small part, the large part and the whole.
    """
    small_size, large_size, whole = sizes
    if large_size <= small_size:
        return first * max(whole / small_size, 1.0) if small_size else first
    slope = max(large - small, 0.0) / (large_size - small_size)
    return first + slope * (whole - small_size)


def spread(count: int) -> list[int]:
    """Return the numbers below count in an order whose first few are evenly spread: the middle, the quarters, ..."""
    fractions = ((2 * i + 1) / 2**level for level in range(1, 13) for i in range(2 ** (level - 1)))
    return list(dict.fromkeys(int(fraction * count) for fraction in fractions)) if count else []


def choose_spread(lengths: NDArray[Any], count: int) -> NDArray[Any]:
    """Return this many rows, evenly spaced from the shortest to the longest, ascending."""
    order = np.argsort(lengths, kind="stable")
    return np.sort(order[((np.arange(count) + 0.5) * len(order) / count).astype(np.int64)])


def time_growing(run: Callable[[int], float], whole: int, budget: float, begin: int = 32) -> list[tuple[int, float]]:
    """Run parts of a job, doubling the size as long as the next part should fit into the budget of seconds.

    run: takes a size and returns the seconds that count. Returns size and seconds of every part.
    """
    parts: list[tuple[int, float]] = []
    size, started_at = min(begin, whole), time.perf_counter()
    while True:
        before = time.perf_counter()
        parts.append((size, run(size)))
        now = time.perf_counter()
        if size == whole or now - started_at + 2 * (now - before) > budget:
            return parts
        size = min(2 * size, whole)


def extrapolate_parts(parts: Sequence[tuple[int, float]], whole: int, work: Callable[[int], float] = float) -> float:
    """Return the seconds of a whole job from those of parts of it; the two largest tell what grows.

    work: of a size, to which the growing part of the seconds is proportional.
    """
    size, seconds = parts[-1]
    if len(parts) == 1:
        return seconds * work(whole) / work(size)
    smaller, fewer_seconds = parts[-2]
    slope = max(seconds - fewer_seconds, 0.0) / (work(size) - work(smaller))
    return seconds + slope * (work(whole) - work(size))
