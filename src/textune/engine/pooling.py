"""Pooling of window logits into text logits: the last step of every engine."""

from __future__ import annotations

import torch

from textune.tokens.batches import Batch


def pool_windows(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the unweighted mean of the logits of each row's windows.

    logits: float32 [windows, classes]. Returns float32 [rows, classes]; if each row is one window, the same tensor.
    """
    if batch.windows is None:
        return logits
    # Row by row instead of index_add: each sum has the same order, and so the same bits, in any batch.
    return torch.stack([windows.mean(0) for windows in torch.split(logits, batch.windows.tolist())])
