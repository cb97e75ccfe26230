"""Packing: a padded batch as one sequence of tokens without padding, and the groups of texts for attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textune.tokens.batches import Batch

_LENGTHS_ALIKE = 1.1
"""The longest text of a group may be this many times as long as the shortest; the difference is masked."""
_FULL_TOKENS, _FULL_TEXTS, _FULL_LENGTHS = 512, 16, 128
"""Filled packs are padded to multiples of these."""


@dataclass(frozen=True)
class Group:
    """Neighboring texts of a pack whose attention is computed in one product.

    first, count: the texts. begin, end: their tokens in the pack. length: tokens of the longest.
    index: int64 [count * length], the pack position of each cell of the padded form; None: all have equal length.
    valid: int64 [tokens], which cells of the padded form are tokens. bias: [count, 1, 1, length], which masks the
    others.
    """

    first: int
    count: int
    begin: int
    end: int
    length: int
    index: torch.Tensor | None = None
    valid: torch.Tensor | None = None
    bias: torch.Tensor | None = None


@dataclass(frozen=True)
class Pack:
    """The texts of a batch, shortest first, without padding.

    ids, positions, types: int64 [tokens]. starts: int64 [texts], each text's first token.
    order: int64 [texts], the batch index of each text in the pack. bounds: int32 [texts + 1], where each text begins
    and ends. longest: an upper bound on the tokens of a text. groups: for attention; empty if not requested.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor
    starts: torch.Tensor
    order: torch.Tensor
    bounds: torch.Tensor
    longest: int
    groups: tuple[Group, ...]

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Pack:
        """Return the pack with a function applied to every tensor outside its groups."""
        return replace(
            self,
            ids=change(self.ids),
            positions=change(self.positions),
            types=change(self.types),
            starts=change(self.starts),
            order=change(self.order),
            bounds=change(self.bounds),
        )


def pack_batch(
    batch: Batch,
    first_position: int,
    cells: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    grouped: bool = True,
    filled: bool = False,
) -> Pack:
    """Pack a batch. cells: the most cells of attention (texts x length x length) of a group.

    filled: append dummy texts, so that packs of similar size get the same size; `order` only covers the batch's texts.
    """
    lengths = batch.attention_mask.sum(1)
    order = np.argsort(lengths, kind="stable")
    lengths, mask = lengths[order], batch.attention_mask[order].astype(bool)
    longest, real = int(lengths[-1]), int(lengths.sum())
    if filled:
        lengths = np.concatenate([lengths, _list_filling(lengths)])
    ends = np.cumsum(lengths)
    starts, total = ends - lengths, int(ends[-1])
    ids, types = np.zeros((2, total), np.int64)
    ids[:real] = batch.input_ids[order][mask]
    if batch.token_type_ids is not None:
        types[:real] = batch.token_type_ids[order][mask]
    positions = np.minimum(np.arange(total) - np.repeat(starts, lengths), longest - 1) + first_position
    unnumbered = ids == first_position - 1  # the padding token, which a text may hold as well
    if first_position and unnumbered[:real].any():
        numbered = np.cumsum(~unnumbered)
        before = np.repeat(np.where(starts > 0, numbered[starts - 1], 0), lengths)
        positions = np.where(
            unnumbered, first_position - 1, np.minimum(numbered - before, longest) + first_position - 1
        )

    def tensor(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    return Pack(
        ids=tensor(ids),
        positions=tensor(positions),
        types=tensor(types),
        starts=tensor(starts),
        order=tensor(order),
        bounds=tensor(np.concatenate([[0], ends]).astype(np.int32)),
        longest=_round_up(int(lengths.max()), _FULL_LENGTHS) if filled else longest,
        groups=build_groups(lengths, cells, dtype, device) if grouped else (),
    )


def _list_filling(lengths: NDArray[Any]) -> NDArray[Any]:
    """Return the lengths of the dummy texts that fill a pack; none is empty, since kernels may not support that."""
    real = int(lengths.sum())
    count = _round_up(len(lengths) + 1, _FULL_TEXTS) - len(lengths)
    tokens = _round_up(real + count, _FULL_TOKENS) - real
    return np.array([1] * (count - 1) + [tokens - count + 1], np.int64)


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def build_groups(lengths: NDArray[Any], cells: int, dtype: torch.dtype, device: torch.device) -> tuple[Group, ...]:
    """Return the groups of packed texts. lengths: ascending."""
    starts = np.cumsum(lengths) - lengths
    return tuple(_build_group(lengths, starts, a, b, dtype, device) for a, b in cut_groups(lengths, cells))


def cut_groups(lengths: NDArray[Any], cells: int) -> list[tuple[int, int]]:
    """Return (first, last + 1) of every group. lengths: ascending. cells: the limit of groups of several texts."""
    groups, first = [], 0
    for i in range(1, len(lengths) + 1):
        full = i == len(lengths) or (i + 1 - first) * int(lengths[i]) ** 2 > cells
        if full or lengths[i] > lengths[first] * _LENGTHS_ALIKE:
            groups.append((first, i))
            first = i
    return groups


def _build_group(
    lengths: NDArray[Any],
    starts: NDArray[Any],
    first: int,
    last: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Group:
    group_lengths, begin = lengths[first:last], int(starts[first])
    end, longest, count = int(starts[last - 1] + lengths[last - 1]), int(group_lengths[-1]), last - first
    if group_lengths[0] == longest:
        return Group(first, count, begin, end, longest)
    column = np.arange(longest)
    is_token = column < group_lengths[:, None]
    index = np.where(is_token, starts[first:last, None] + column, begin)
    bias = torch.zeros(count, 1, 1, longest, dtype=dtype)
    bias[:, 0, 0].masked_fill_(torch.from_numpy(~is_token), torch.finfo(dtype).min / 2)
    return Group(
        first,
        count,
        begin,
        end,
        longest,
        torch.from_numpy(index.ravel()).to(device),
        torch.from_numpy(np.flatnonzero(is_token)).to(device),
        bias.to(device),
    )


def mean_of_texts(states: torch.Tensor, pack: Pack) -> torch.Tensor:
    """Return the mean over the tokens of each text: float32 [texts, width]. states: [tokens, width] of the pack."""
    position = torch.arange(len(states), device=states.device)
    begins, ends = pack.bounds[:-1, None], pack.bounds[1:, None]
    inside = ((position >= begins) & (position < ends)).float()
    return (inside / (ends - begins)) @ states.float()
