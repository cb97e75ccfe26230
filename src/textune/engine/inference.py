"""Logits of a whole split. torch is only imported for engines that need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.engine.onnx import OnnxEngine
from textune.tokens.batches import Batch, EncodedSplit, Padding, collate, plan_inference

if TYPE_CHECKING:
    import torch

_TOKENS_PER_BATCH = 8_192


def predict_logits(engine: torch.nn.Module | OnnxEngine, split: EncodedSplit, padding: Padding) -> NDArray[Any]:
    """Return the logits of every row, in the split's order: float32 [rows, classes]."""
    if isinstance(engine, OnnxEngine):
        return _run_sorted(engine.forward, split, padding)
    import torch

    was_training = engine.training
    engine.eval()
    with torch.inference_mode():
        logits = _run_sorted(lambda batch: engine(batch).cpu().numpy(), split, padding)
    engine.train(was_training)
    return logits


def _run_sorted(forward: Callable[[Batch], NDArray[Any]], split: EncodedSplit, padding: Padding) -> NDArray[Any]:
    rows: list[NDArray[Any]] = []
    logits: list[NDArray[Any]] = []
    sizes, windows = split.tokens.longest_windows, split.tokens.count_windows()
    for batch in plan_inference(sizes, _TOKENS_PER_BATCH, windows=windows):
        logits.append(forward(collate(split.tokens, batch, padding)))
        rows.append(batch)
    ordered = np.zeros((len(split), logits[0].shape[1] if logits else 0), np.float32)
    if rows:
        ordered[np.concatenate(rows)] = np.concatenate(logits)
    return ordered
