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

_TOKENS_PER_BATCH = 8_192
Collate = Callable[..., Batch]


def predict_logits(
    engine: torch.nn.Module | OnnxEngine, split: EncodedSplit, padding: Padding, task: Task | None = None
) -> NDArray[Any]:
    """Return the logits of every row, in the split's order: float32 [rows, classes].

    task: makes the batches and sums up what the engine gives; None: a text is classified.
    """
    if isinstance(engine, OnnxEngine):
        return _run_sorted(engine.forward, split, padding)
    import torch

    was_training = engine.training
    engine.eval()
    with torch.inference_mode():
        if task is None:
            logits = _run_sorted(lambda batch: engine(batch).cpu().numpy(), split, padding)
        else:
            sums = lambda batch: task.sum_up(task.call_engine(engine, batch), batch).cpu().numpy()  # noqa: E731
            logits = _run_sorted(sums, split, padding, task.collate, task.defaults.most_tokens)
    engine.train(was_training)
    return logits


def _run_sorted(
    forward: Callable[[Batch], NDArray[Any]],
    split: EncodedSplit,
    padding: Padding,
    build: Collate = collate,
    max_tokens: int | None = None,
) -> NDArray[Any]:
    rows: list[NDArray[Any]] = []
    logits: list[NDArray[Any]] = []
    sizes, windows = split.tokens.longest_windows, split.tokens.count_windows()
    for batch in plan_inference(sizes, max_tokens or _TOKENS_PER_BATCH, windows=windows):
        logits.append(forward(build(split.tokens, batch, padding)))
        rows.append(batch)
    ordered = np.zeros((len(split), logits[0].shape[1] if logits else 0), np.float32)
    if rows:
        ordered[np.concatenate(rows)] = np.concatenate(logits)
    return ordered
