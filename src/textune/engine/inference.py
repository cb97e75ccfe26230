"""All rows of a split through an engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from textune.batching import EncodedSplit, Padding, collate, plan_inference

_TOKENS_PER_BATCH = 8_192


@torch.inference_mode()
def predict_logits(engine: torch.nn.Module, split: EncodedSplit, padding: Padding) -> np.ndarray[Any, Any]:
    """Returns the logits of every row in the order of the split: float32 [rows, classes]."""
    was_training = engine.training
    engine.eval()
    rows: list[np.ndarray[Any, Any]] = []
    logits: list[np.ndarray[Any, Any]] = []
    sizes, windows = split.tokens.longest_windows, split.tokens.count_windows()
    for chosen in plan_inference(sizes, _TOKENS_PER_BATCH, windows=windows):
        logits.append(engine(collate(split.tokens, chosen, padding)).cpu().numpy())
        rows.append(chosen)
    engine.train(was_training)
    ordered = np.zeros((len(split), logits[0].shape[1] if logits else 0), np.float32)
    if rows:
        ordered[np.concatenate(rows)] = np.concatenate(logits)
    return ordered
