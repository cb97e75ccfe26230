"""Attention masks of one's own in the form that a model of transformers takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def form_masks(config: Any, build: Callable[[int | None], NDArray[np.bool_]], device: torch.device) -> Any:
    """Return the mask of a model's layers; one for each kind of layer where it has two.

    config: the model's. build: returns which tokens attend to which, bool [rows, 1, queries, keys], for a window of
    sliding attention, or None for none. Plain attention adds its mask to the scores, so there it is not of bools.
    """
    eager = getattr(config, "_attn_implementation", None) == "eager"

    def form(window: int | None) -> torch.Tensor:
        mask = torch.from_numpy(build(window)).to(device)
        lowest = torch.finfo(torch.float32).min
        return torch.zeros(mask.shape, device=device).masked_fill(~mask, lowest) if eager else mask

    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return form(window)
    if "sliding_attention" not in kinds:
        return form(None)
    return {"full_attention": form(None), "sliding_attention": form(window)}
