"""The parts of a long text that have the same tokens as in the whole text, so that a huge line costs little.

A tokenizer splits a text into words and each word into tokens. A cut changes the words next to it, and none before the
last white space. So the first tokens of a piece are those of the whole text if they belong to earlier words. Where no
such place is found the piece is made longer, up to the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_GROWTH = 8
_STOPS = r"\s。！？，、；："
_FIRST_WORD = re.compile(f"[{_STOPS}]*+[^{_STOPS}]*+")
_LAST_WORD = re.compile(f"[{_STOPS}]*+[^{_STOPS}]*+[{_STOPS}]*+")
"""Applied to the text backwards."""
_ACROSS_SPACE = re.compile(r"[^\u2581\u0120 ][\u2581\u0120 ]")


@dataclass
class _Content:
    """The text tokens of some windows: ids, first and last character, number of the word; all int64 [tokens]."""

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    words: NDArray[np.int64]


def _content(encodings: Sequence[Encoding]) -> _Content:
    parts = []
    for encoding in encodings:
        text = np.flatnonzero(np.asarray(encoding.special_tokens_mask, np.int64) == 0)
        ids = np.asarray(encoding.ids, np.int64)[text]
        offsets = np.asarray(encoding.offsets, np.int64).reshape(-1, 2)[text]
        words = np.asarray([-1 if word is None else word for word in encoding.word_ids], np.int64)[text]
        parts.append(np.column_stack([ids, offsets, words]))
    table = np.concatenate(parts) if parts else np.zeros((0, 4), np.int64)
    return _Content(*table.T)


class PieceReader:
    """Reads the tokens of long texts with a tokenizer whose truncation is set by the caller.

    characters: of the first piece. shared: tokens that a window shares with the one before, special ones included.
    capacity: tokens of the longest text that is read completely.
    """

    def __init__(self, tokenizer: Tokenizer, characters: int, shared: int, capacity: int) -> None:
        self._tokenizer, self._characters = tokenizer, characters
        self._shared, self._capacity = shared, capacity

    @cached_property
    def _margin(self) -> int:
        """The characters of the longest added token, which may hold spaces."""
        return max((len(t.content) for t in self._tokenizer.get_added_tokens_decoder().values()), default=0)

    @cached_property
    def _keeps_spaces_apart(self) -> bool:
        """Whether no token goes on after a space: then texts fall apart at spaces, also without words."""
        return not any(_ACROSS_SPACE.search(token) for token in self._tokenizer.get_vocab(with_added_tokens=False))

    def read_windows(self, text: str, most: int) -> tuple[list[NDArray[np.int64]], int]:
        """Return the ids of at most `most` windows of the whole text, and how many tokens it has at least."""
        length = self._characters
        while length < len(text):
            encoding = self._tokenizer.encode(text[:length])
            windows = [encoding, *encoding.overflowing]
            if len(windows) > most and self._is_safe_before(text[:length], _content(windows[:most]), windows):
                tokens = max(count_tokens(windows, self._shared), self._capacity) + 1
                return [np.asarray(window.ids) for window in windows[:most]], tokens
            length *= _GROWTH
        encoding = self._tokenizer.encode(text)
        windows = [encoding, *encoding.overflowing]
        return [np.asarray(window.ids) for window in windows[:most]], count_tokens(windows, self._shared)

    def read_pair(self, first: str, second: str, max_length: int) -> tuple[NDArray[np.int64], int, int]:
        """Return the ids of a pair whose longer text is truncated, the second text's position, and how many tokens."""
        room = max_length - sum(map(len, self._pair_specials))
        texts = (first, second)
        starts = [self._read_start(text, room) for text in texts]
        counts = [count for _, count in starts]
        if min(counts) > room and room % 2:  # the longer text gets the odd token
            counts = [sum(len(w.ids) for w in self._all_windows(text)) for text in texts]
        return self._join_pair([ids for ids, _ in starts], counts, room)

    def cut_pair(self, encoding: Encoding, max_length: int) -> tuple[NDArray[np.int64], int, int]:
        """Return the same of a pair that was encoded as a whole."""
        ids, sides = np.asarray(encoding.ids, np.int64), encoding.sequence_ids
        before, between, _ = map(len, self._pair_specials)
        counts = [sides.count(0), sides.count(1)]
        starts = before, before + counts[0] + between
        parts = [ids[start : start + count] for start, count in zip(starts, counts, strict=True)]
        return self._join_pair(parts, counts, max_length - sum(map(len, self._pair_specials)))

    @cached_property
    def _pair_specials(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The special tokens before, between and after the two texts of a pair."""
        layout = self._tokenizer.encode("a", "a")
        sides = np.asarray([-1 if side is None else side for side in layout.sequence_ids])
        ids, first, second = np.asarray(layout.ids, np.int64), np.flatnonzero(sides == 0), np.flatnonzero(sides == 1)
        return ids[: first[0]], ids[first[-1] + 1 : second[0]], ids[second[-1] + 1 :]

    def _join_pair(
        self, texts: Sequence[NDArray[np.int64]], counts: Sequence[int], room: int
    ) -> tuple[NDArray[np.int64], int, int]:
        """Return a pair's ids with its special tokens. texts: ids from each text's start. counts: of the whole ones."""
        before, between, after = self._pair_specials
        lengths = _truncate_longest(counts, room)
        parts = [ids[:length] for ids, length in zip(texts, lengths, strict=True)]
        joined = np.concatenate([before, parts[0], between, parts[1], after])
        begin = len(before) + len(parts[0]) + len(between)
        return joined, begin if lengths[1] else len(joined), sum(counts) + len(before) + len(between) + len(after)

    def _read_start(self, text: str, count: int) -> tuple[NDArray[np.int64], int]:
        """Return the first text tokens, `count` at least if there are so many, and how many were seen."""
        length = self._characters
        while length < len(text):
            windows = self._all_windows(text[:length])
            seen = _content(windows)
            if len(seen.ids) > count and self._is_safe_before(text[:length], _take(seen, slice(count)), windows):
                return seen.ids[:count], len(seen.ids)
            length *= _GROWTH
        seen = _content(self._all_windows(text))
        return seen.ids[:count], len(seen.ids)

    def _all_windows(self, text: str) -> list[Encoding]:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return [encoding, *encoding.overflowing]

    def read_ends(self, text: str, max_length: int, head_fraction: float) -> tuple[NDArray[np.int64], int]:
        """Return the ids that `drop_middle` leaves of the whole text, and how many tokens it has at least."""
        length = self._characters
        while 2 * length < len(text):
            pieces = text[:length], text[-length:]
            first, last = (self._tokenizer.encode(piece) for piece in pieces)
            start, end = _content([first]), _content([last])
            before, after = _special_around(first)
            room = max_length - len(before) - len(after)
            head = round(room * head_fraction)
            tail = room - head
            enough = len(start.ids) > head and len(end.ids) > tail
            if enough and self._is_safe_before(pieces[0], _take(start, slice(head)), [first]):
                chosen = slice(len(end.ids) - tail, None)
                if self._is_safe_after(pieces[1], _take(end, chosen), end):
                    ids = [before, start.ids[:head], end.ids[chosen], after]
                    return np.concatenate(ids), max(len(first.ids) + len(last.ids), self._capacity) + 1
            length *= _GROWTH
        whole = self._tokenizer.encode(text)
        return drop_middle(np.asarray(whole.ids), whole.special_tokens_mask, max_length, head_fraction), len(whole.ids)

    def _is_safe_before(self, piece: str, read: _Content, windows: Sequence[Encoding]) -> bool:
        """Return whether the tokens that are read are those of every text that begins with the piece."""
        settled = piece[: max(len(piece) - self._margin, 0)]
        match = _LAST_WORD.match(settled[::-1])
        limit = len(settled) - (match.end() if match else 0)
        every = _content(windows)
        beyond = every.ends > limit
        if not beyond.any() or not len(read.ids):
            return not len(read.ids)
        if bool((read.words < every.words[beyond].min()).all()):
            return True
        limit = settled.rstrip(" ").rfind(" ")
        limit = len(settled[:limit].rstrip(" ")) if limit > 0 else 0
        return self._keeps_spaces_apart and bool((read.ends <= limit).all())

    def _is_safe_after(self, piece: str, read: _Content, every: _Content) -> bool:
        """Return whether the tokens that are read are those of every text that ends with the piece."""
        if not len(read.ids):
            return True
        match = _FIRST_WORD.match(piece, self._margin)
        limit = match.end() if match else len(piece)
        before = every.starts < limit
        if bool((read.words > every.words[before].max(initial=-1)).all()):
            return True
        limit = piece.find(" ", len(piece) - len(piece[self._margin :].lstrip(" ")))
        return limit >= 0 and self._keeps_spaces_apart and bool((read.starts >= limit).all())


def _truncate_longest(counts: Sequence[int], room: int) -> list[int]:
    """Return how many tokens of each text fit, as the tokenizers library divides them (longest_first)."""
    if sum(counts) <= room:
        return list(counts)
    shorter, longer = sorted(counts)
    longer = shorter if shorter > room else max(shorter, room - shorter)
    if shorter + longer > room:
        shorter, longer = room // 2, room // 2 + room % 2
    return [longer, shorter] if counts[0] > counts[1] else [shorter, longer]


def count_tokens(windows: Sequence[Encoding], shared: int) -> int:
    """Return the tokens of a text, special ones included, from its windows."""
    return len(windows[0].ids) + sum(len(window.ids) - shared for window in windows[1:])


def drop_middle(
    ids: NDArray[np.int64], special: Sequence[int], max_length: int, head_fraction: float
) -> NDArray[np.int64]:
    """Keep the first and last tokens of a text and the special tokens around it (Sun et al. 2019, arXiv:1905.05583).

    special: 1 for each special token.
    """
    if len(ids) <= max_length:
        return ids
    content = np.flatnonzero(np.asarray(special) == 0)
    before, after = int(content[0]), len(ids) - 1 - int(content[-1])
    room = max_length - before - after
    head = round(room * head_fraction)
    return np.concatenate([ids[: before + head], ids[len(ids) - after - (room - head) :]])


def _special_around(encoding: Encoding) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids of the special tokens before and after the text."""
    ids, content = np.asarray(encoding.ids, np.int64), np.flatnonzero(np.asarray(encoding.special_tokens_mask) == 0)
    return (ids[: content[0]], ids[content[-1] + 1 :]) if len(content) else (ids, ids[:0])


def _take(content: _Content, chosen: slice) -> _Content:
    return _Content(content.ids[chosen], content.starts[chosen], content.ends[chosen], content.words[chosen])
