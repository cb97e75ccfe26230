"""Rows into batches of like length, and batches into padded arrays. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.tokens.tokenize import Tokenized

_BATCHES_PER_BUCKET = 64
"""Rows are shuffled, then sorted by length within so many batches: little padding, and still random batches."""


@dataclass(frozen=True)
class Batch:
    """One padded batch.

    input_ids, attention_mask, token_type_ids: int64 [windows, tokens]; the windows of a row stand together, in the
    order of the rows. windows: int64 [rows], how many each row has; None where it is one each.
    rows: int64 [rows], indices into the split.
    targets: int64 [rows]; float32 [rows, labels] of 0 and 1 with several labels per text; None where there is nothing
    to learn from. source: the split's token ids, where the rows were taken from one.
    """

    input_ids: NDArray[Any]
    attention_mask: NDArray[Any]
    token_type_ids: NDArray[Any] | None
    rows: NDArray[Any]
    targets: NDArray[Any] | None = None
    windows: NDArray[Any] | None = None
    source: Tokenized | None = None


@dataclass(frozen=True)
class Padding:
    """How a backbone wants short rows filled up."""

    pad_token_id: int
    side: str = "right"
    token_types: bool = False


def plan_epoch(lengths: NDArray[Any], batch_size: int, seed: int, epoch: int) -> list[NDArray[Any]]:
    """Return the row indices of every optimizer step of one epoch, each row once.

    The order depends on nothing but the arguments, so a resumed run needs no stored order.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[NDArray[Any]] = []
    for begin in range(0, len(order), batch_size * _BATCHES_PER_BUCKET):
        bucket = order[begin : begin + batch_size * _BATCHES_PER_BUCKET]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def plan_inference(
    lengths: NDArray[Any], max_tokens: int, max_rows: int = 256, windows: NDArray[Any] | None = None
) -> Iterator[NDArray[Any]]:
    """Yield row indices, shortest texts first, so that a padded batch has at most max_tokens tokens.

    lengths: tokens of each row's longest window. windows: how many each row has; without them it is one each.
    All windows of a row are in one batch, so a batch of a single row may have more tokens.
    """
    counts = np.ones(len(lengths), np.int64) if windows is None else windows
    order = np.lexsort((lengths, counts))
    begin = held = longest = 0
    for end, row in enumerate(order):
        held, longest = held + int(counts[row]), max(longest, int(lengths[row]))
        if end > begin and (held * longest > max_tokens or held > max_rows):
            yield order[begin:end]
            begin, held, longest = end, int(counts[row]), int(lengths[row])
    if begin < len(order):
        yield order[begin:]


def split_micro_batches(
    rows: NDArray[Any],
    size: int | None,
    windows: NDArray[Any] | None = None,
    lengths: NDArray[Any] | None = None,
    max_tokens: int | None = None,
) -> list[NDArray[Any]]:
    """Cut the rows of one optimizer step into the pieces of its forward passes.

    windows: how many each of the rows has; without them it is one each. lengths: tokens of each row's longest window.
    A piece has at most `size` windows and, padded, at most `max_tokens` tokens, so a step on long texts needs no more
    memory than one on short ones, unless a single row has more: its windows stay together.
    """
    counts = np.ones(len(rows), np.int64) if windows is None else windows
    sizes = np.zeros(len(rows), np.int64) if lengths is None else lengths
    most_windows = np.inf if size is None else size
    most_tokens = np.inf if max_tokens is None else max_tokens
    pieces = []
    begin = held = longest = 0
    for end, (count, length) in enumerate(zip(counts.tolist(), sizes.tolist(), strict=True)):
        full = held + count > most_windows or (held + count) * max(longest, length) > most_tokens
        if end > begin and full:
            pieces.append(rows[begin:end])
            begin, held, longest = end, 0, 0
        held, longest = held + count, max(longest, length)
    return [*pieces, rows[begin:]]


def collate(
    tokens: Tokenized,
    rows: Sequence[int] | NDArray[Any],
    padding: Padding,
    targets: NDArray[Any] | None = None,
) -> Batch:
    """Pad the windows of the rows to the longest of them."""
    index = np.asarray(rows, np.int64)
    windows = tokens.list_windows(index)
    begins, ends = tokens.offsets[windows], tokens.offsets[windows + 1]
    lengths = ends - begins
    shape = (len(windows), int(lengths.max(initial=1)))
    input_ids = np.full(shape, padding.pad_token_id, np.int64)
    attention_mask = np.zeros(shape, np.int64)
    token_type_ids = np.zeros(shape, np.int64) if padding.token_types else None
    for i, length in enumerate(lengths):
        place = slice(0, length) if padding.side == "right" else slice(shape[1] - length, shape[1])
        input_ids[i, place] = tokens.ids[begins[i] : ends[i]]
        attention_mask[i, place] = 1
        if token_type_ids is not None and tokens.second_starts is not None:
            token_type_ids[i, place.start + int(tokens.second_starts[index[i]]) : place.stop] = 1
    counts = None if len(windows) == len(index) else tokens.count_windows(index)
    own = None if targets is None else targets[index]
    return Batch(input_ids, attention_mask, token_type_ids, index, own, counts, tokens)


@dataclass(frozen=True)
class EncodedSplit:
    """One split ready for an engine.

    targets: int64 [rows], -1 for a label that the model does not know; float32 [rows, labels] of 0 and 1 with several
    labels per text.
    source_rows: int64 [rows], row numbers in the person's own file, for messages.
    """

    tokens: Tokenized
    targets: NDArray[Any]
    source_rows: NDArray[Any]

    def __len__(self) -> int:
        return len(self.tokens)
