"""From what was timed to what a whole run will take: arithmetic alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LATER_GROWTH, _MOST_DOUBLINGS = 0.7, 4.0


@dataclass(frozen=True)
class Forecast:
    """What one run will take.

    seconds: by part, in their order: start, prepare, load, frozen (layers computed once), steps,
    evaluations, checkpoints, save, measure.
    disk_mb: of the run's folder when it is finished; disk_while_training_mb: with its
    checkpoints; one more of them where an older one stays the best.
    notes: what could make it otherwise. rehearsed_seconds: spent on finding it out.
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

    @property
    def run_seconds(self) -> float:
        """From the start of the program to its end."""
        return sum(self.seconds.values())

    @property
    def training_seconds(self) -> float:
        """Of training with its evaluations and checkpoints, as a run tells it."""
        return sum(self.seconds[part] for part in ("head", "frozen", "steps", "evaluations", "checkpoints"))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON keeps; `from_dict` reads it back."""
        return asdict(self) | {"run_seconds": self.run_seconds, "training_seconds": self.training_seconds}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Forecast:
        """Rebuild what `to_dict` returned."""
        own = {k: v for k, v in content.items() if k not in ("run_seconds", "training_seconds")}
        return cls(**own | {"notes": tuple(own["notes"])})


def measure_sizes(lengths: NDArray[Any], longest: NDArray[Any], steps: Sequence[NDArray[Any]]) -> Floats:
    """Return what the time of each step depends on: float64 [steps, 3].

    That is 1; its tokens, which all layers but attention work on; and its tokens times their window's length, which
    attention works on. lengths, longest: tokens of each row, and of its longest window.
    """
    tokens = lengths.astype(np.float64)
    pairs = tokens * longest
    return np.array([[1.0, tokens[rows].sum(), pairs[rows].sum()] for rows in steps]).reshape(-1, 3)


def fit_seconds(sizes: Floats, seconds: Sequence[float]) -> Floats:
    """Return the cost of each unit of `measure_sizes`, none below 0, with the least relative error: float64 [3]."""
    from scipy.optimize import nnls

    times = np.asarray(seconds, np.float64)
    scale = np.maximum(sizes.max(axis=0), 1.0)
    found, _ = nnls(sizes / scale / times[:, None], np.ones(len(times)))
    return np.asarray(found / scale)


def extrapolate_growth(peaks: Sequence[float], steps: int) -> float:
    """Return by how many megabytes memory will still grow after the steps that were taken, of so many in all.

    peaks: the peak after each step, in order. Batches of other lengths leave freed memory in other pieces, so the peak
    grows with the logarithm of the steps, and ever more slowly: measured on LoRA and full tuning with 29 to 116 steps.
    """
    taken = len(peaks)
    if taken < 2 or steps <= taken:
        return 0.0
    by_doubling = (peaks[-1] - peaks[taken // 2 - 1]) / math.log2(taken / (taken // 2))
    return max(_LATER_GROWTH * by_doubling * min(math.log2(steps / taken), _MOST_DOUBLINGS), 0.0)


def count_evaluations(total_steps: int, every: int) -> int:
    """Return how often validation rows are measured while training, the last step included."""
    return math.ceil(total_steps / every)


def extrapolate(first: float, small: float, large: float, sizes: tuple[float, float, float]) -> float:
    """Return the seconds of a whole job from three parts of it, which grow with its size.

    first, small: the same part twice, so that what only the first time costs is seen. large: a larger part.
    sizes: of the small part, of the large part, and of the whole.
    """
    part, more, whole = sizes
    if more <= part:
        return first * max(whole / part, 1.0) if part else first
    slope = max(large - small, 0.0) / (more - part)
    return first + slope * (whole - part)


def time_growing(run: Callable[[int], float], whole: int, budget: float, begin: int = 32) -> tuple[int, float]:
    """Run growing parts of a job, each twice as large, while the next should fit the budget of seconds.

    run: takes a size and returns its seconds. Returns size and seconds of the largest part.
    """
    size, spent = min(begin, whole), 0.0
    while True:
        seconds = run(size)
        spent += seconds
        if size == whole or spent + 2 * seconds > budget:
            return size, seconds
        size = min(2 * size, whole)
