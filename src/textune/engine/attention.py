"""Attention over packed texts, computed in groups of similar length instead of with padding."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from textune import cache
from textune.engine.budget import describe_processor
from textune.engine.packing import Group, build_groups

_BYTES_AT_ONCE = 4 << 20
"""Bytes of one group's attention weights: small enough for the processor's caches, large enough to use all cores."""
_CLEARLY_FASTER = 1.1
"""The speed-up from which PyTorch's fused attention is used."""
_LARGEST_KEPT = 32 << 20
"""The most bytes of a layer's attention weights that are kept for the backward pass; larger ones are recomputed."""


def cells_of_group(heads: int, dtype: torch.dtype) -> int:
    """Return the most cells (texts x length x length) of a group whose products stay in the processor's caches."""
    return _BYTES_AT_ONCE // (heads * dtype.itemsize)


def attend(
    packed: torch.Tensor,
    queries: torch.Tensor | None,
    groups: tuple[Group, ...],
    heads: int,
    *,
    dropout: float = 0.0,
    fused_from: int | None = None,
) -> torch.Tensor:
    """Return each query's weighted mean of its text's values: [tokens, width], or [texts, width].

    packed: [tokens, 3 * width] of queries, keys and values; or, with `queries` [texts, width], one for each text,
    [tokens, 2 * width] of keys and values. fused_from: length in tokens from which PyTorch's fused attention is used.
    """
    longest = max(group.length for group in groups)
    if fused_from is not None and longest >= fused_from and dropout == 0.0:
        return _attend_fused(packed, queries, groups, heads)
    result: torch.Tensor = _Attention.apply(packed, queries, groups, heads, dropout)  # type: ignore[no-untyped-call]
    return result


def _spread(packed: torch.Tensor, group: Group, heads: int, kinds: int) -> torch.Tensor:
    """Return [kinds, texts * heads, length, width of a head] of a group, padded if its texts differ in length."""
    states = packed[group.begin : group.end] if group.index is None else packed[group.index]
    shaped = states.view(group.count, group.length, kinds, heads, -1)
    return shaped.permute(2, 0, 3, 1, 4).reshape(kinds, group.count * heads, group.length, -1)


def _gather(spread: torch.Tensor, group: Group, heads: int) -> torch.Tensor:
    """The inverse of `_spread`: [kinds, texts * heads, length, width of a head] -> [tokens, kinds * width]."""
    kinds, _, length, width = spread.shape
    shaped = spread.view(kinds, group.count, heads, length, width).permute(1, 3, 0, 2, 4)
    flat = shaped.reshape(group.count * length, kinds * heads * width)
    return flat if group.valid is None else flat[group.valid]


def _spread_queries(queries: torch.Tensor, group: Group, heads: int) -> torch.Tensor:
    """Return [texts * heads, 1, width of a head]: one query for each text of the group."""
    return queries[group.first : group.first + group.count].view(group.count * heads, 1, -1)


def _weigh(query: torch.Tensor, key: torch.Tensor, group: Group) -> torch.Tensor:
    scores = torch.bmm(query, key.transpose(1, 2))
    if group.bias is not None:
        scores.view(group.count, -1, *scores.shape[1:]).add_(group.bias)
    return torch.softmax(scores, -1)


class _Attention(torch.autograd.Function):
    """Plain products and softmax, group by group, with a backward pass that reuses their results."""

    @staticmethod
    def forward(
        ctx: Any,
        packed: torch.Tensor,
        queries: torch.Tensor | None,
        groups: tuple[Group, ...],
        heads: int,
        dropout: float,
    ) -> torch.Tensor:
        kinds = 3 if queries is None else 2
        width = packed.shape[1] // kinds
        scale = (width // heads) ** -0.5
        result = packed.new_empty(len(packed) if queries is None else len(queries), width)
        cells = sum(g.count * g.length * (g.length if queries is None else 1) for g in groups)
        save_weights = dropout > 0.0 or cells * heads * packed.element_size() <= _LARGEST_KEPT
        saved: list[torch.Tensor | None] = []
        for group in groups:
            spread = _spread(packed, group, heads, kinds)
            key, value = spread[-2], spread[-1]
            query = spread[0] if queries is None else _spread_queries(queries, group, heads)
            weights = _weigh(query * scale, key, group)
            mask = None
            if dropout > 0.0:
                mask = torch.empty_like(weights).bernoulli_(1.0 - dropout).div_(1.0 - dropout)
            mixed = torch.bmm(weights if mask is None else weights * mask, value)
            if queries is None:
                result[group.begin : group.end] = _gather(mixed[None], group, heads)
            else:
                result[group.first : group.first + group.count] = mixed.view(group.count, width)
            saved += [weights if save_weights else None, mask]
        ctx.save_for_backward(packed, queries, *saved)
        ctx.groups, ctx.heads, ctx.scale = groups, heads, scale
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        packed, queries, *saved = ctx.saved_tensors
        heads, scale, kinds = ctx.heads, ctx.scale, 3 if queries is None else 2
        d_packed = torch.empty_like(packed)
        d_queries = None if queries is None else torch.empty_like(queries)
        for i, group in enumerate(ctx.groups):
            spread = _spread(packed, group, heads, kinds)
            key, value = spread[-2], spread[-1]
            query = (spread[0] if queries is None else _spread_queries(queries, group, heads)) * scale
            weights, mask = saved[2 * i], saved[2 * i + 1]
            if weights is None:
                weights = _weigh(query, key, group)
            d_mixed = (
                _spread(gradient, group, heads, 1)[0] if queries is None else _spread_queries(gradient, group, heads)
            )
            if group.valid is not None and queries is None:
                d_mixed = _zero_padding(d_mixed, group, heads)
            d_spread = torch.empty_like(spread)
            torch.bmm((weights if mask is None else weights * mask).transpose(1, 2), d_mixed, out=d_spread[-1])
            d_weights = torch.bmm(d_mixed, value.transpose(1, 2))
            if mask is not None:
                d_weights.mul_(mask)
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            torch.bmm(d_scores.transpose(1, 2), query, out=d_spread[-2])
            if d_queries is None:
                torch.bmm(d_scores, key, out=d_spread[0])
                d_spread[0].mul_(scale)
            else:
                rows = slice(group.first, group.first + group.count)
                d_queries[rows] = torch.bmm(d_scores, key).mul_(scale).view(group.count, -1)
            d_packed[group.begin : group.end] = _gather(d_spread, group, heads)
        return d_packed, d_queries, None, None, None


def _zero_padding(spread: torch.Tensor, group: Group, heads: int) -> torch.Tensor:
    """Return the gradients with zeros at padding positions, which have no query."""
    assert group.bias is not None
    is_token = (group.bias == 0).view(group.count, 1, group.length, 1)
    return (spread.view(group.count, heads, group.length, -1) * is_token).view_as(spread)


def _attend_fused(
    packed: torch.Tensor, queries: torch.Tensor | None, groups: tuple[Group, ...], heads: int
) -> torch.Tensor:
    """Like `attend`, with PyTorch's fused attention, which never stores all attention weights."""
    results = []
    for group in groups:
        spread = _spread(packed, group, heads, 3 if queries is None else 2)
        shaped = spread.view(len(spread), group.count, heads, group.length, -1)
        query = shaped[0] if queries is None else _spread_queries(queries, group, heads).view(group.count, heads, 1, -1)
        mixed = torch.nn.functional.scaled_dot_product_attention(query, shaped[-2], shaped[-1], attn_mask=group.bias)
        if queries is None:
            results.append(_gather(mixed.reshape(1, group.count * heads, group.length, -1), group, heads))
        else:
            results.append(mixed.reshape(group.count, -1))
    return torch.cat(results)


def probe_attention(heads: int, width: int, longest: int, dtype: torch.dtype, device: torch.device) -> int | None:
    """Return the length in tokens from which PyTorch's fused attention is faster; None: it never is.

    Which is faster depends on processor, dtype and length, so both are timed, forward and backward.
    """
    if device.type != "cpu":
        return 0

    def measure() -> int | None:
        fused_from = None
        for length in (n for n in (448, 128) if n <= max(longest, 128)):
            fused, plain = (_time_form(heads, width, length, dtype, fused=form) for form in (True, False))
            if fused * _CLEARLY_FASTER > plain:
                break
            fused_from = 0 if length == 128 else 256
        return fused_from

    machine = (describe_processor(), torch.get_num_threads(), torch.__version__)
    return cache.recall("attention|" + "|".join(map(str, (*machine, heads, width, dtype, longest >= 448))), measure)


def _time_form(heads: int, width: int, length: int, dtype: torch.dtype, *, fused: bool) -> float:
    """Return the seconds of the fastest of three passes over about 900 tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = np.full(max(1, 896 // length), length)
    groups = build_groups(lengths, cells_of_group(heads, dtype), dtype, torch.device("cpu"))
    packed = torch.randn(int(lengths.sum()), 3 * width, generator=generator).to(dtype).requires_grad_()
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        attend(packed, None, groups, heads, fused_from=0 if fused else None).sum().backward()  # type: ignore[no-untyped-call]
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
