"""The time to start the head: contrastive steps, features of the training rows, and the regression."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.errors import DataError
from textune.plan.forecast import extrapolate_parts, time_growing
from textune.run.fit import Opened, SolvedHead
from textune.run.held_out import FOLDS
from textune.run.prepare import Prepared
from textune.tokens.batches import EncodedSplit
from textune.training.head import MOST_ROWS, MOST_ROWS_ALONE, PROBE
from textune.training.names import add_names, tell_apart

if TYPE_CHECKING:
    from textune.tokens import Tokenized
    from textune.training.head import Network
    from textune.training.probe import Probe

_FEWEST_ROWS, _FEW_ROWS = 8, 32
_GROWTH = 16
"""How many times as many rows the second regression has."""
_BATCHES_DRAWN = 8
_PASSES_TO_CHOOSE, _PASSES_TO_SOLVE = 480, 200
"""How often the regressions read a row: to choose C (six values, three folds of two thirds, 40 steps), then with it."""


@dataclass(frozen=True)
class HeadForecast:
    """The seconds to start the head, 0 if it starts random. calibration: to start the heads of all halves of the rows.

    solved: a head solved on some rows.
    """

    seconds: float = 0.0
    calibration: float = 0.0
    solved: SolvedHead = field(default_factory=SolvedHead)


def rehearse_head(
    prepared: Prepared, opened: Opened, compute_frozen: Callable[[Tokenized, NDArray[Any]], None], budget: float
) -> HeadForecast:
    """Solve the head on some rows and forecast the seconds for all.

    compute_frozen: lets the engine keep the states of frozen layers, which are timed elsewhere. budget: seconds for
    measuring features.
    """
    training, split, network = prepared.config.training, prepared.train, opened.network
    if training.head_init != PROBE or not network.has_output_layer:
        return HeadForecast()
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
    halves = list_halves(prepared)
    calibration = FOLDS * total if halves else 0.0  # at most: it is solved on half of the rows
    if training.contrast_steps:
        # A step costs about three forward passes over its rows: one forward, and a backward as costly as two.
        per_row = training.contrast_steps * 3 * parts[-1][1] / parts[-1][0]
        names = _choose_names(prepared, network, features)
        total += per_row * count_contrast_rows(prepared, split, names, opened.max_tokens)
        for half in halves:
            calibration += per_row * count_contrast_rows(prepared, half, names, opened.max_tokens)
    return HeadForecast(total, calibration, SolvedHead(probe))


def _choose_names(prepared: Prepared, network: Network, features: NDArray[np.float32]) -> EncodedSplit | None:
    """Return the class names if contrastive steps will learn them. features: of some rows."""
    names = prepared.names
    if names is None:
        return None
    targets = _take(prepared.train, len(features)).targets
    return names if tell_apart(network.compute_features(names), features, targets) else None


def list_halves(prepared: Prepared) -> list[EncodedSplit]:
    """Return the rows of each training that calibrates the run; none for a run that needs no such training."""
    if not prepared.calibrates_out_of_fold:
        return []
    try:
        fold_of = prepared.assign_folds().of
    except DataError:  # no half says anything of the other, and the run stays uncalibrated
        return []
    return [prepared.train.take(np.flatnonzero(fold_of != fold)) for fold in range(FOLDS)]


def count_contrast_rows(prepared: Prepared, split: EncodedSplit, names: EncodedSplit | None, max_tokens: int) -> float:
    """Return how many rows a contrastive step has on average, in the first steps that training would take.

    split: the rows to train on. names: class names that are learned as well. max_tokens: of one step.
    """
    from textune.training.contrast import draw_batches, limit_rows

    training = prepared.config.training
    rows = split if names is None else add_names(split, names)
    lengths = rows.tokens.longest_windows * rows.tokens.count_windows()
    batches = draw_batches(rows.targets, min(training.contrast_steps or 0, _BATCHES_DRAWN), training.seed)
    return float(np.mean([len(limit_rows(batch, lengths, max_tokens)) for batch in batches]))


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
