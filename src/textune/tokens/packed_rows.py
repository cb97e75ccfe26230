"""Packing: several short examples in one row, without attention across them. No torch here.

Packed equals unpacked: positions restart at every example, a token attends to its own example alone, and no example's
first token is predicted from the last token of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
IGNORED = -100
"""The label of a token that has no loss, as torch and transformers have it."""
ROW_LENGTH = 256
"""Tokens of a packed row in training at most: every token is compared with all others of its row, allowed or not."""
_LENGTHS_TRIED = 12


@dataclass(frozen=True)
class PackedRows:
    """Rows of packed examples, padded on the right.

    input_ids, labels, position_ids, segments: int64 [rows, tokens]. labels: not shifted; IGNORED without a loss.
    segments: which example a token belongs to, counted from 1 in its row; 0 is padding.
    examples: int64 [examples], indices of the examples, row by row from left to right.
    rows, starts: int64 [examples], where each of these begins.
    """

    input_ids: Ints
    labels: Ints
    position_ids: Ints
    segments: Ints
    examples: Ints
    rows: Ints
    starts: Ints


def plan_packing(lengths: Sequence[int] | NDArray[Any], row_length: int) -> list[Ints]:
    """Return the examples of each row, each once: first-fit, the longest examples first.

    lengths: tokens of each example. row_length: tokens of a row at most. No two of the returned rows would fit in one.
    Raises ValueError for an example that is longer than a row.
    """
    sizes = np.asarray(lengths, np.int64)
    if len(sizes) and int(sizes.max()) > row_length:
        raise ValueError(f"an example has {int(sizes.max())} tokens, a row at most {row_length}")
    free, rows = np.zeros(len(sizes), np.int64), list[list[int]]()
    for example in np.argsort(-sizes, kind="stable").tolist():
        fits = free[: len(rows)] >= sizes[example]
        row = int(fits.argmax()) if fits.any() else len(rows)
        if row == len(rows):
            rows.append([])
            free[row] = row_length
        rows[row].append(example)
        free[row] -= sizes[example]
    return [np.array(row, np.int64) for row in rows]


def plan_tightly(lengths: Sequence[int] | NDArray[Any], row_length: int = ROW_LENGTH) -> list[Ints]:
    """Return the examples of each row so that the padded rows have the fewest tokens; one by one where none fewer.

    row_length: tokens of a row at most, or those of the longest example.
    """
    sizes = np.asarray(lengths, np.int64)
    longest = int(sizes.max(initial=0))
    best, fewest = [np.array([example], np.int64) for example in range(len(sizes))], longest * len(sizes)
    for most in np.unique(np.linspace(longest, max(longest, row_length), _LENGTHS_TRIED).astype(np.int64)).tolist():
        plan = plan_packing(sizes, most)
        if (tokens := count_padded(sizes, plan)) < fewest:
            best, fewest = plan, tokens
    return best


def count_padded(lengths: NDArray[Any], plan: Sequence[Ints]) -> int:
    """Return the tokens of the rows of a plan, padding included. lengths: tokens of each example."""
    return len(plan) * max((int(lengths[row].sum()) for row in plan), default=0)


def pack_rows(
    input_ids: Sequence[NDArray[Any]], labels: Sequence[NDArray[Any]], plan: Sequence[Ints], pad_token_id: int
) -> PackedRows:
    """Return the examples as rows, padded to the longest.

    input_ids, labels: int64 [tokens] of each example; labels are those tokens, or IGNORED. plan: of `plan_packing`.
    """
    sizes = [sum(len(input_ids[example]) for example in row) for row in plan]
    shape = (len(plan), max(sizes, default=0))
    ids, targets = np.full(shape, pad_token_id, np.int64), np.full(shape, IGNORED, np.int64)
    positions, segments = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    order, places = [], []
    for row, examples in enumerate(plan):
        start = 0
        for number, example in enumerate(examples.tolist(), start=1):
            end = start + len(input_ids[example])
            ids[row, start:end] = input_ids[example]
            targets[row, start + 1 : end] = labels[example][1:]  # nothing before it predicts the first token
            positions[row, start:end] = np.arange(end - start)
            segments[row, start:end] = number
            order.append(example)
            places.append((row, start))
            start = end
    where = np.array(places, np.int64).reshape(-1, 2)
    return PackedRows(ids, targets, positions, segments, np.array(order, np.int64), where[:, 0], where[:, 1])


def build_block_mask(segments: Ints, window: int | None = None) -> NDArray[np.bool_]:
    """Return which tokens attend to which: bool [rows, 1, queries, keys], True where they do.

    A token attends to itself and the tokens before it in its own example; padding attends to itself, because a softmax
    over nothing is not a number. window: of sliding attention: the last so many tokens, itself included.
    """
    tokens = np.arange(segments.shape[1])
    distance = tokens[:, None] - tokens[None, :]
    near = distance >= 0 if window is None else (distance >= 0) & (distance < window)
    same = (segments[:, :, None] == segments[:, None, :]) & (segments[:, :, None] > 0)
    return np.asarray((same & near) | (distance == 0))[:, None]
