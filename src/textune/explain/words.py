"""Which characters of a text each token stands for, and tokens joined to words.

Tokenizers disagree about words: some split at spaces only, some at punctuation, some not at all. So words are found in
the text itself, and a token that covers several of them joins them. In scripts without spaces each token is a word.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textune.errors import ModelError
from textune.tokens.pieces import drop_middle
from textune.tokens.tokenize import Tokenized, text_between

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from textune.config import LongText

_CHARACTERS_PER_TOKEN = 64
_FEWEST_CHARACTERS = 4_096
_GROWTH = 8
_LONGEST_REACH = 64
"""How many characters beyond its tokens a word is followed, where a text is cut inside it."""
_APOSTROPHES = "'\u2019"
_JOINERS = "\u200c\u200d"
_SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x109F),  # Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3000, 0x30FF),  # Japanese kana and punctuation
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # kana of half width
    (0x20000, 0x3FFFF),
)


@dataclass(frozen=True)
class TokenSpans:
    """Where the tokens of one window lie in the text.

    side: int64 [tokens]; 0 or 1 for a token of the first or second text, -1 for a special token.
    starts, ends: int64 [tokens], characters of that text.
    """

    side: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


@dataclass(frozen=True)
class Words:
    """The words of one text. spans: (start, end) of each, in order. of_token: for each token, the number of its word."""

    spans: list[tuple[int, int]]
    of_token: NDArray[np.int64]


def locate_tokens(
    tokenizer: Tokenizer, text: str, pair: str | None, read: Tokenized, long_text: LongText
) -> list[TokenSpans]:
    """Return the place of every token, for each window that the model reads.

    read: this text alone, just encoded by the same tokenizer, whose truncation is still set. A huge text is tokenized
    in part: in the smallest part that gives the same ids.
    """
    length = max((read.capacity or read.max_length) * _CHARACTERS_PER_TOKEN, _FEWEST_CHARACTERS)
    windows = [read.ids[a:b] for a, b in zip(read.offsets, read.offsets[1:], strict=False)]
    longest = max(len(text), len(pair or ""))
    while True:
        found = _encode_part(tokenizer, text, pair, min(length, longest), long_text, read.max_length)
        if len(found) == len(windows) and all(map(np.array_equal, (ids for ids, _ in found), windows)):
            return [spans for _, spans in found]
        if length >= longest:
            raise ModelError("the tokenizer gives other tokens for the same text each time")
        length *= _GROWTH


def _encode_part(
    tokenizer: Tokenizer, text: str, pair: str | None, length: int, long_text: LongText, max_length: int
) -> list[tuple[NDArray[np.int64], TokenSpans]]:
    """Return ids and places of the tokens of each window, reading `length` characters of the beginning.

    With long_text=head_tail as many of the end are read.
    """
    both_ends = long_text.form == "head_tail" and len(text) > 2 * length
    part = f"{text[:length]} {text[-length:]}" if both_ends else text if length >= len(text) else text[:length]
    if long_text.form == "head_tail" and not both_ends:
        part = text
    between = "" if pair is None else text_between(tokenizer)
    encoding = tokenizer.encode(part) if pair is None else tokenizer.encode(part, between + pair[:length])
    found = []
    for window in [encoding, *encoding.overflowing][: long_text.max_windows]:
        ids = np.asarray(window.ids, np.int64)
        side = np.asarray([-1 if number is None else number for number in window.sequence_ids], np.int64)
        offsets = np.asarray(window.offsets, np.int64).reshape(-1, 2)
        if long_text.form == "head_tail":
            kept = drop_middle(
                np.arange(len(ids)), (side < 0).astype(int).tolist(), max_length, long_text.head_fraction
            )
            ids, side, offsets = ids[kept], side[kept], offsets[kept]
        if both_ends:
            offsets = np.where(offsets > length, offsets + len(text) - 2 * length - 1, offsets)
        shifts = np.where(side == 1, len(between), 0)[:, None]
        starts, ends = np.maximum(offsets - shifts, 0).T
        found.append((ids, TokenSpans(side, starts, ends)))
    return found


def join_words(text: str, starts: Sequence[int], ends: Sequence[int]) -> Words:
    """Join tokens that lie in one word of the text.

    starts, ends: characters of each token, in order of the text or of its windows. A token without visible characters
    counts for the word after it, or else for the word before.
    """
    trimmed = [_trim(text, start, end) for start, end in zip(starts, ends, strict=True)]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(_widen(text, *span) for span in set(trimmed) if span[0] < span[1]):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    if not merged:
        return Words([], np.zeros(len(trimmed), np.int64))
    first_characters = np.asarray([start for start, _ in merged], np.int64)
    of_token = []
    for start, end in trimmed:
        before = int(np.searchsorted(first_characters, start, side="right")) - 1
        inside = before >= 0 and start < end
        of_token.append(before if inside else min(before + 1, len(merged) - 1))
    return Words(merged, np.asarray(of_token, np.int64))


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a token's characters without white space around them."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _widen(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the whole of the words that a token lies in."""
    lowest, highest = max(start - _LONGEST_REACH, 0), min(end + _LONGEST_REACH, len(text))
    while start > lowest and _is_inside_word(text, start):
        start -= 1
    while end < highest and _is_inside_word(text, end):
        end += 1
    return start, end


def _is_inside_word(text: str, place: int) -> bool:
    """Return whether the characters before and after a place belong to one word."""
    before, after = text[place - 1], text[place]
    if before.isspace() or after.isspace():
        return False
    if _continues(after) or before == _JOINERS[1]:
        return True
    if _is_spaceless(before) or _is_spaceless(after):
        return False
    if _is_letter(before) and _is_letter(after):
        return True
    if after in _APOSTROPHES or after in ".,":
        following = text[place + 1 : place + 2]
        return bool(following) and _is_joined(before, after, following)
    if before in _APOSTROPHES or before in ".,":
        return place > 1 and _is_joined(text[place - 2], before, after)
    return before == after


def _is_joined(before: str, sign: str, after: str) -> bool:
    """Return whether a sign between two characters belongs to their word: don't, 3.5."""
    if sign in _APOSTROPHES:
        return all(_is_letter(c) and not _is_spaceless(c) for c in (before, after))
    return before.isdecimal() and after.isdecimal()


def _continues(character: str) -> bool:
    """Return whether a character is shown as part of the one before: an accent, a skin tone."""
    return (
        unicodedata.category(character)[0] == "M" or character in _JOINERS or "\U0001f3fb" <= character <= "\U0001f3ff"
    )


def _is_letter(character: str) -> bool:
    return character == "_" or unicodedata.category(character)[0] in "LMN"


def _is_spaceless(character: str) -> bool:
    code = ord(character)
    return code >= _SPACELESS[0][0] and any(first <= code <= last for first, last in _SPACELESS)
