"""From the logits of windows to the logits of texts: every engine ends with it."""

from __future__ import annotations

import torch

from textune.tokens.batches import Batch


def pool_windows(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the mean of the logits of each row's windows, every window alike.

    logits: float32 [windows, classes]. Returns float32 [rows, classes]; where each row is one window, the very same.
    """
    if batch.windows is None:
        return logits
    # Row by row rather than by index_add: the order of the sums, and so every bit, is that of the row alone.
    return torch.stack([own.mean(0) for own in torch.split(logits, batch.windows.tolist())])
