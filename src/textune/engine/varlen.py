"""Attention over packed texts on CUDA: PyTorch's flash attention, one launch per layer for texts of any length."""

from __future__ import annotations

from typing import Any

import torch

_LARGEST_HEAD = 256


def has_varlen(device: torch.device, dtype: torch.dtype, head_width: int) -> bool:
    """Return whether flash attention over packed texts is available; it has no fp32 form.

    head_width: features of one head. The kernel takes multiples of 8 only, and pads no others.
    """
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    if head_width % 8 or head_width > _LARGEST_HEAD:
        return False
    return _find_kernel() is not None and torch.cuda.get_device_capability(device) >= (8, 0)


def attend_varlen(
    packed: torch.Tensor, queries: torch.Tensor | None, bounds: torch.Tensor, longest: int, heads: int
) -> torch.Tensor:
    """Return each query's weighted mean of its text's values, like `attention.attend`.

    packed: [tokens, 3 * width] of queries, keys and values; or, with `queries` [texts, width], one for each text,
    [tokens, 2 * width] of keys and values. bounds: int32 [texts + 1], where each text begins and ends in the pack.
    """
    kernel = _find_kernel()
    assert kernel is not None
    kinds = 3 if queries is None else 2
    parts = packed.view(len(packed), kinds, heads, -1)
    key, value = parts[:, -2], parts[:, -1]
    if queries is None:
        query, query_bounds, longest_query = parts[:, 0], bounds, longest
    else:
        query, longest_query = queries.view(len(queries), heads, -1), 1
        query_bounds = torch.arange(len(bounds), dtype=torch.int32, device=bounds.device)
    mixed: torch.Tensor = kernel(query, key, value, query_bounds, bounds, longest_query, longest)
    return mixed.reshape(len(query), -1)


def _find_kernel() -> Any:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # PyTorch before 2.10
        return None
    return varlen_attn
