"""Contrastive tuning of the encoder on few rows: pairs of the same class move together, other pairs apart.

Few rows make many pairs, so this learns more from them than a head does (SetFit, Tunstall et al. 2022,
arXiv:2209.11055). Every pair of a batch is used, with the run's engine and adapter. The head is solved on the resulting
features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from textune.errors import TrainingError
from textune.tokens.batches import EncodedSplit, collate, split_micro_batches
from textune.training.head import Network, find_shift

if TYPE_CHECKING:
    import torch


ROWS_PER_STEP = 32
STRENGTH = 0.01
"""The C of the head that follows. Contrastive tuning has separated the training rows, so cross-validation on them would
choose almost no penalty and an overconfident model. This C is close to calibrated on held-out rows
(docs/explanation.md)."""
RATE_FACTOR = 2.0
"""Factor on the learning rate: there are few steps, and no head that could diverge."""
_WARMUP = 0.1


def tune_by_contrast(
    network: Network,
    groups: list[dict[str, Any]],
    split: EncodedSplit,
    *,
    steps: int,
    seed: int,
    max_tokens: int,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Take a number of steps on balanced batches of training rows, at the rates of `groups`.

    split: targets int64 [rows], one label per text. max_tokens: of one pass, padding included; steps on long texts have
    fewer rows, and where four do not fit, more passes. Where memory runs out all the same, passes are halved. The same
    seed always gives the same steps.
    Raises TrainingError if the loss is not finite, or memory does not suffice for a single text.
    """
    import torch

    body = [group for group in groups if not str(group["name"]).startswith("head")]
    parameters = [p for group in body for p in group["params"]]
    peaks = [RATE_FACTOR * group["lr"] for group in body]
    optimizer = torch.optim.AdamW([dict(group) for group in body], lr=0.0)
    engine, shift = network.engine, find_shift(network)
    most_at_once = max_tokens
    was_training, lengths = engine.training, split.tokens.longest_windows * split.tokens.count_windows()
    with network.without_output_layer():
        engine.train()
        for step, rows in enumerate(draw_batches(split.targets, steps, seed)):
            factor = min((step + 1) / max(_WARMUP * steps, 1.0), 1.0) * (1 - step / steps)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            rows = limit_rows(rows, lengths, max_tokens)
            loss, most_at_once = _accumulate(network, split, rows, shift, most_at_once)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the contrastive loss became {loss} at step {step + 1}",
                    hint="try a lower learning_rate=, or contrast_steps=0",
                )
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            engine.refresh()
            advance()
    for parameter in engine.parameters():  # the head's hidden layer has gradients that no step uses
        parameter.grad = None
    engine.train(was_training)


def _accumulate(
    network: Network, split: EncodedSplit, rows: NDArray[np.int64], shift: float, max_tokens: int
) -> tuple[float, int]:
    """Accumulate the gradients of one step; return its loss, and the tokens of a pass that memory sufficed for."""
    from textune.engine import is_out_of_memory

    while True:
        try:
            return _take_passes(network, split, rows, shift, max_tokens), max_tokens
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        longest = int((split.tokens.longest_windows * split.tokens.count_windows())[rows].max())
        max_tokens = min(max_tokens, longest * len(rows)) // 2
        if max_tokens < longest // 2:
            raise TrainingError(
                f"memory ran out on a single text of {longest} tokens",
                hint="choose a smaller max_length= or max_windows=, or a smaller backbone=",
            )
        for parameter in network.engine.parameters():
            parameter.grad = None


def _take_passes(
    network: Network, split: EncodedSplit, rows: NDArray[np.int64], shift: float, max_tokens: int
) -> float:
    """Accumulate the gradients of one step, or fail and leave nothing in memory but gradients; return its loss."""
    import torch

    features = _read(network, split, rows, max_tokens)
    # With a shift, every pair's cosine would be near 1, and only pairs of different classes would count.
    loss = measure_pairs(features - shift, torch.from_numpy(split.targets[rows]).to(features.device))
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _read(network: Network, split: EncodedSplit, rows: NDArray[np.int64], max_tokens: int) -> torch.Tensor:
    """Return the features of the rows: float32 [rows, width].

    Rows that do not fit into one pass are read in several, each anew in the backward pass, which keeps one at a time.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    tokens, windows = split.tokens, split.tokens.count_windows(rows)
    passes = split_micro_batches(rows, None, windows, tokens.longest_windows[rows], max_tokens)
    batches = [collate(tokens, some, network.padding, split.targets) for some in passes]
    if len(batches) == 1:
        return cast("torch.Tensor", network.engine(batches[0]))
    return torch.cat([checkpoint(network.engine, batch, use_reentrant=False) for batch in batches])


def measure_pairs(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the squared distance of pairs' cosines from 1 (same class) and 0 (different), both weighted equally.

    features: float32 [rows, width]. targets: int64 [rows].
    """
    import torch

    directions = torch.nn.functional.normalize(features, dim=1)
    first, second = torch.triu_indices(len(targets), len(targets), 1, device=features.device)
    cosines = (directions @ directions.T)[first, second]
    same = targets[first] == targets[second]
    parts = [(cosines[pairs] - goal).square().mean() for pairs, goal in ((same, 1.0), (~same, 0.0)) if pairs.any()]
    return torch.stack(parts).mean()


def draw_batches(targets: NDArray[np.int64], steps: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of every step: up to 16 classes, with equally many rows of each where possible.

    The classes take turns with two rows each, so that any first part is also balanced and made of pairs.
    """
    random = np.random.default_rng([seed, 3])
    rows_of = [np.flatnonzero(targets == c) for c in np.unique(targets)]
    count = min(len(rows_of), ROWS_PER_STEP // 2)
    per_class = max(2, ROWS_PER_STEP // count)
    for _ in range(steps):
        classes = random.permutation(len(rows_of))[:count]
        drawn = [random.permutation(rows_of[c])[:per_class] for c in classes]
        yield np.concatenate([rows[i : i + 2] for i in range(0, per_class, 2) for rows in drawn])


def limit_rows(rows: NDArray[np.int64], lengths: NDArray[Any], max_tokens: int) -> NDArray[np.int64]:
    """Return the first rows whose padded tokens fit into one pass, at least four. lengths: of all rows."""
    padded = np.maximum.accumulate(lengths[rows]) * np.arange(1, len(rows) + 1)
    return rows[: max(int((padded <= max_tokens).sum()), 4)]
