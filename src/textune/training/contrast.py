"""Contrastive tuning of the encoder on few rows: pairs of one class move together, others apart.

Few rows make many pairs, so this learns more from them than a head does (SetFit, Tunstall and others 2022,
arXiv:2209.11055). Here every pair of a batch takes part, over the run's own engine and adapter; the head is solved on
what comes out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.errors import TrainingError
from textune.tokens.batches import EncodedSplit, collate
from textune.training.head import Network

if TYPE_CHECKING:
    import torch


ROWS_PER_STEP = 32
STRENGTH = 0.01
"""The C of the head that follows. The rows lie apart by now, so cross-validation on them would choose no penalty and
make the model sure of everything; on held-out rows this one is close to calibrated (docs/explanation.md)."""
RATE_FACTOR = 2.0
"""Pairs are learned at so many times the rate of the rest: there are few steps, and no head to run away from."""
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

    split: targets int64 [rows], one label per text. max_tokens: of one step, padding included; a step on long texts has
    fewer rows. The same seed gives the same steps, whatever was done before.
    Raises TrainingError where the loss is not finite.
    """
    import torch

    body = [group for group in groups if not str(group["name"]).startswith("head")]
    parameters = [p for group in body for p in group["params"]]
    peaks = [RATE_FACTOR * group["lr"] for group in body]
    optimizer = torch.optim.AdamW([dict(group) for group in body], lr=0.0)
    engine = network.engine
    training, lengths = engine.training, split.tokens.longest_windows * split.tokens.count_windows()
    with network.without_output_layer():
        engine.train()
        for step, rows in enumerate(draw_batches(split.targets, steps, seed)):
            factor = min((step + 1) / max(_WARMUP * steps, 1.0), 1.0) * (1 - step / steps)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            rows = limit_rows(rows, lengths, max_tokens)
            features = engine(collate(split.tokens, rows, network.padding, split.targets))
            loss = measure_pairs(features, torch.from_numpy(split.targets[rows]).to(features.device))
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the contrastive loss became {float(loss.detach())} at step {step + 1}",
                    hint="try a lower learning_rate=, or contrast_steps=0",
                )
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            engine.refresh()
            advance()
    for parameter in engine.parameters():  # the head's hidden layer got gradients, too, which no step takes
        parameter.grad = None
    engine.train(training)


def measure_pairs(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return how far cosines of pairs are from 1 (one class) and 0 (two), squared; both kinds count the same.

    features: float32 [rows, width]. targets: int64 [rows].
    """
    import torch

    directions = torch.nn.functional.normalize(features, dim=1)
    one, other = torch.triu_indices(len(targets), len(targets), 1, device=features.device)
    cosines = (directions @ directions.T)[one, other]
    same = targets[one] == targets[other]
    parts = [(cosines[chosen] - goal).square().mean() for chosen, goal in ((same, 1.0), (~same, 0.0)) if chosen.any()]
    return torch.stack(parts).mean()


def draw_batches(targets: NDArray[np.int64], steps: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of every step: of up to 16 classes, equally many of each as far as there are.

    The classes take turns with two rows each, so that the first rows are pairs and balanced, too.
    """
    random = np.random.default_rng([seed, 3])
    rows_of = [np.flatnonzero(targets == c) for c in np.unique(targets)]
    count = min(len(rows_of), ROWS_PER_STEP // 2)
    each = max(2, ROWS_PER_STEP // count)
    for _ in range(steps):
        chosen = random.permutation(len(rows_of))[:count]
        drawn = [random.permutation(rows_of[c])[:each] for c in chosen]
        yield np.concatenate([rows[i : i + 2] for i in range(0, each, 2) for rows in drawn])


def limit_rows(rows: NDArray[np.int64], lengths: NDArray[Any], max_tokens: int) -> NDArray[np.int64]:
    """Return the first of the rows whose tokens, padded, fit into one pass; four at least. lengths: of all rows."""
    longest = np.maximum.accumulate(lengths[rows]) * np.arange(1, len(rows) + 1)
    return rows[: max(int((longest <= max_tokens).sum()), 4)]
