"""Logits of a whole split. torch is only imported for engines that need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.engine.onnx import OnnxEngine
from textune.tasks import Task
from textune.tokens.batches import Batch, EncodedSplit, Padding, collate, plan_inference

if TYPE_CHECKING:
    import torch

_TOKENS_PER_BATCH, _FEWEST_TOKENS = 8_192, 64
Collate = Callable[..., Batch]


def predict_logits(
    engine: torch.nn.Module | OnnxEngine, split: EncodedSplit, padding: Padding, task: Task | None = None
) -> NDArray[Any]:
    """Return the logits of every row, in the split's order: float32 [rows, classes].

    task: makes the batches and sums up what the engine gives; None: a text is classified.
    """
    if isinstance(engine, OnnxEngine):
        return _run_sorted(engine.forward, split, padding, max_tokens=1 if engine.one_by_one else _TOKENS_PER_BATCH)
    import torch

    from textune.engine.budget import is_out_of_memory

    def forward(batch: Batch) -> NDArray[Any]:
        given = engine(batch) if task is None else task.sum_up(task.call_engine(engine, batch), batch)
        return np.asarray(given.cpu().numpy())

    build, most = (collate, None) if task is None else (task.collate, task.defaults.most_tokens)
    tokens, was_training = most or _TOKENS_PER_BATCH, engine.training
    engine.eval()
    try:
        with torch.inference_mode():
            while True:
                try:
                    return _run_sorted(forward, split, padding, build, tokens)
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error) or tokens <= _FEWEST_TOKENS:
                        raise
                tokens //= 2  # outside the handler, which keeps the tensors of the failed pass alive
    finally:
        engine.train(was_training)


def _run_sorted(
    forward: Callable[[Batch], NDArray[Any]],
    split: EncodedSplit,
    padding: Padding,
    build: Collate = collate,
    max_tokens: int = _TOKENS_PER_BATCH,
) -> NDArray[Any]:
    rows: list[NDArray[Any]] = []
    logits: list[NDArray[Any]] = []
    sizes, windows = split.tokens.longest_windows, split.tokens.count_windows()
    for batch in plan_inference(sizes, max_tokens, windows=windows):
        logits.append(forward(build(split.tokens, batch, padding)))
        rows.append(batch)
    ordered = np.zeros((len(split), logits[0].shape[1] if logits else 0), np.float32)
    if rows:
        ordered[np.concatenate(rows)] = np.concatenate(logits)
    return ordered
