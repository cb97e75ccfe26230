"""The time to start the head: contrastive steps, features of the training rows, and the regression."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.plan.forecast import extrapolate_parts, time_growing
from textune.run.fit import SolvedHead
from textune.run.prepare import Prepared
from textune.tokens.batches import EncodedSplit
from textune.training.head import MOST_ROWS, MOST_ROWS_ALONE, PROBE

if TYPE_CHECKING:
    from textune.tokens import Tokenized
    from textune.training.head import Network
    from textune.training.probe import Probe

_FEWEST_ROWS, _FEW_ROWS = 8, 32
_GROWTH = 16
"""How many times as many rows the second regression has."""
_PASSES_TO_CHOOSE, _PASSES_TO_SOLVE = 480, 200
"""How often the regressions read a row: to choose C (six values, three folds of two thirds, 40 steps), then with it."""


def rehearse_head(
    prepared: Prepared, network: Network, compute_frozen: Callable[[Tokenized, NDArray[Any]], None], budget: float
) -> tuple[float, SolvedHead]:
    """Return the seconds to solve the head, 0 if it starts random, and a head solved on some rows.

    compute_frozen: lets the engine keep the states of frozen layers, which are timed elsewhere. budget: seconds for
    measuring features.
    """
    training, split = prepared.config.training, prepared.train
    if training.head_init != PROBE:
        return 0.0, SolvedHead()
    all_rows = min(len(split), MOST_ROWS if prepared.method.trains_body else MOST_ROWS_ALONE)
    features = np.zeros((0, 0), np.float32)

    def compute(rows: int) -> float:
        nonlocal features
        part = _take(split, rows)
        if all_rows == len(split):  # the run uses kept states only where it takes every row
            compute_frozen(part.tokens, np.arange(rows))
        started_at = time.perf_counter()
        features = network.compute_features(part)
        return time.perf_counter() - started_at

    compute(min(_FEWEST_ROWS, all_rows))  # what only the first part pays
    parts = time_growing(compute, all_rows, budget, _FEW_ROWS)
    solving, probe = _forecast_solving(prepared, network, features, all_rows)
    total = extrapolate_parts(parts, all_rows) + solving
    if training.contrast_steps:
        # A step costs about three forward passes over 32 rows: one forward, and a backward as costly as two.
        total += training.contrast_steps * 3 * 32 * parts[-1][1] / parts[-1][0]
    return total, SolvedHead(probe)


def _take(split: EncodedSplit, rows: int) -> EncodedSplit:
    """Return this many rows, evenly spaced."""
    return split.take(np.linspace(0, len(split) - 1, rows).astype(np.int64))


def _forecast_solving(
    prepared: Prepared, network: Network, features: NDArray[np.float32], all_rows: int
) -> tuple[float, Probe]:
    """Return the seconds of the regressions on all rows, and a head solved on the rows of these features.

    A regression on few rows takes nearly as long as on a thousand. So it is solved on more rows as well, repeated with
    some noise, and what they add is extrapolated.
    """
    from textune.training.contrast import STRENGTH
    from textune.training.probe import solve_probe

    training = prepared.config.training
    parent, name = network.find_output_layer()
    loss = replace(prepared.probe_loss, intercept=getattr(parent, name).bias is not None, fold_of=None, texts=None)
    targets = _take(prepared.train, len(features)).targets
    probes: list[Probe] = []

    def solve(rows: int) -> float:
        noise = np.random.default_rng(rows).normal(size=(rows, features.shape[1])) * features.std(0) / 2
        some = np.resize(features, noise.shape) + (noise.astype(np.float32) if probes else 0)
        some_targets = np.resize(targets, (rows, *targets.shape[1:]))
        strength = STRENGTH if training.contrast_steps else None
        started_at = time.perf_counter()
        probes.append(solve_probe(some, some_targets, network.classes, loss, training.seed, strength=strength))
        return time.perf_counter() - started_at

    sizes = [len(features), min(_GROWTH * len(features), all_rows)]
    parts = [(rows, solve(rows)) for rows in dict.fromkeys(sizes)]
    return extrapolate_parts(parts, all_rows, _count_passes), probes[0]


def _count_passes(rows: int) -> float:
    """Return how many rows the regressions read in all."""
    from textune.training.probe import MOST_ROWS_TO_CHOOSE

    return _PASSES_TO_CHOOSE * min(rows, MOST_ROWS_TO_CHOOSE) + _PASSES_TO_SOLVE * rows
