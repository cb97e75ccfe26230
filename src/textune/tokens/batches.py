"""Group rows of similar length into batches, and pad batches into arrays. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.tokens.tokenize import Tokenized

_BATCHES_PER_BUCKET = 64
"""Rows are shuffled, then sorted by length within buckets of this many batches: little padding, still random."""


@dataclass(frozen=True)
class Batch:
    """One padded batch.

    input_ids, attention_mask, token_type_ids: int64 [windows, tokens]; the windows of a row are adjacent, in row
    order. windows: int64 [rows], windows per row; None: one each.
    rows: int64 [rows], indices into the split.
    targets: int64 [rows]; 0/1 float32 [rows, labels] for multi-label data; None without labels.
    source: the token ids of the split that the rows were taken from, if any.
    columns: int64 [columns], the token positions whose logits are needed; None: one vector for each text.
    position_ids, segments: int64 [windows, tokens], of packed rows (`packed_rows`); None: not packed.
    """

    input_ids: NDArray[Any]
    attention_mask: NDArray[Any]
    token_type_ids: NDArray[Any] | None
    rows: NDArray[Any]
    targets: NDArray[Any] | None = None
    windows: NDArray[Any] | None = None
    source: Tokenized | None = None
    columns: NDArray[Any] | None = None
    position_ids: NDArray[Any] | None = None
    segments: NDArray[Any] | None = None


@dataclass(frozen=True)
class Padding:
    """How a backbone pads short rows."""

    pad_token_id: int
    side: str = "right"
    token_types: bool = False


def plan_epoch(lengths: NDArray[Any], batch_size: int, seed: int, epoch: int) -> list[NDArray[Any]]:
    """Return the row indices of every optimizer step of one epoch, each row once.

    The order depends only on the arguments, so a resumed run needs no stored order.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[NDArray[Any]] = []
    for start in range(0, len(order), batch_size * _BATCHES_PER_BUCKET):
        bucket = order[start : start + batch_size * _BATCHES_PER_BUCKET]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def plan_inference(
    lengths: NDArray[Any], max_tokens: int, max_rows: int = 256, windows: NDArray[Any] | None = None
) -> Iterator[NDArray[Any]]:
    """Yield batches of row indices, shortest texts first; a padded batch has at most max_tokens tokens.

    lengths: tokens in each row's longest window. windows: windows per row; None: one each.
    All windows of a row are in one batch, so a batch of a single row may have more tokens.
    """
    counts = np.ones(len(lengths), np.int64) if windows is None else windows
    order = np.lexsort((lengths, counts))
    start = batch_windows = longest = 0
    for end, row in enumerate(order):
        batch_windows, longest = batch_windows + int(counts[row]), max(longest, int(lengths[row]))
        if end > start and (batch_windows * longest > max_tokens or batch_windows > max_rows):
            yield order[start:end]
            start, batch_windows, longest = end, int(counts[row]), int(lengths[row])
    if start < len(order):
        yield order[start:]


def split_micro_batches(
    rows: NDArray[Any],
    size: int | None,
    windows: NDArray[Any] | None = None,
    lengths: NDArray[Any] | None = None,
    max_tokens: int | None = None,
) -> list[NDArray[Any]]:
    """Split the rows of one optimizer step into micro-batches, one per forward pass.

    windows: windows per row; None: one each. lengths: tokens in each row's longest window.
    A micro-batch has at most `size` windows and, padded, at most `max_tokens` tokens, so long texts need no more
    memory than short ones. A single row may exceed this: its windows stay together.
    """
    counts = np.ones(len(rows), np.int64) if windows is None else windows
    sizes = np.zeros(len(rows), np.int64) if lengths is None else lengths
    window_limit = np.inf if size is None else size
    token_limit = np.inf if max_tokens is None else max_tokens
    batches = []
    start = batch_windows = longest = 0
    for end, (count, length) in enumerate(zip(counts.tolist(), sizes.tolist(), strict=True)):
        total = batch_windows + count
        full = total > window_limit or total * max(longest, length) > token_limit
        if end > start and full:
            batches.append(rows[start:end])
            start, batch_windows, longest = end, 0, 0
        batch_windows, longest = batch_windows + count, max(longest, length)
    return [*batches, rows[start:]]


def collate(
    tokens: Tokenized,
    rows: Sequence[int] | NDArray[Any],
    padding: Padding,
    targets: NDArray[Any] | None = None,
) -> Batch:
    """Pad the windows of the rows to the length of the longest."""
    index = np.asarray(rows, np.int64)
    windows = tokens.list_windows(index)
    starts, ends = tokens.offsets[windows], tokens.offsets[windows + 1]
    lengths = ends - starts
    shape = (len(windows), int(lengths.max(initial=1)))
    input_ids = np.full(shape, padding.pad_token_id, np.int64)
    attention_mask = np.zeros(shape, np.int64)
    token_type_ids = np.zeros(shape, np.int64) if padding.token_types else None
    for i, length in enumerate(lengths):
        span = slice(0, length) if padding.side == "right" else slice(shape[1] - length, shape[1])
        input_ids[i, span] = tokens.ids[starts[i] : ends[i]]
        attention_mask[i, span] = 1
        if token_type_ids is not None and tokens.second_starts is not None:
            token_type_ids[i, span.start + int(tokens.second_starts[index[i]]) : span.stop] = 1
    counts = None if len(windows) == len(index) else tokens.count_windows(index)
    batch_targets = None if targets is None else targets[index]
    return Batch(input_ids, attention_mask, token_type_ids, index, batch_targets, counts, tokens)


@dataclass(frozen=True)
class EncodedSplit:
    """One split ready for an engine.

    targets: int64 [rows], -1 for a label unknown to the model; 0/1 float32 [rows, labels] for multi-label data.
    source_rows: int64 [rows], row numbers in the user's file, for messages.
    """

    tokens: Tokenized
    targets: NDArray[Any]
    source_rows: NDArray[Any]

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, rows: NDArray[Any]) -> EncodedSplit:
        """Return these rows, copied to memory."""
        return EncodedSplit(self.tokens.take(rows), self.targets[rows], self.source_rows[rows])
