"""Tokenize texts in batches with fast tokenizers, and cache the ids on disk, memory-mapped. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune import cache
from textune.config import TRUNCATE, LongText
from textune.errors import ConfigError, DataError, ModelError
from textune.files import hash_file, write_folder
from textune.tokens.pieces import PieceReader, count_tokens, drop_middle

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ROWS_PER_BATCH = 1_000
_CHARACTERS_PER_BATCH = 8_000_000
"""During tokenization a token takes some hundred bytes, so batches of long documents are smaller."""
_CHARACTERS_PER_TOKEN = 64
"""A longer text is tokenized in pieces of this many characters per token read, so a 20 MB line costs nothing."""


VOCABULARY_FILES = (
    "vocab.txt",
    "vocab.json",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
"""What a tokenizer can be made of that has no tokenizer.json."""


@dataclass(frozen=True)
class Tokenized:
    """Token ids of many texts, concatenated in one array.

    A row is a text; a window is what a model reads at once, at most max_length tokens. Usually a row is one window.

    ids: uint16 or int32 [tokens], memory-mapped if they come from the cache.
    offsets: int64 [windows + 1]; window i is ids[offsets[i]:offsets[i + 1]].
    full_lengths: int32 [rows], tokens of the uncut text, with special tokens counted once.
    second_starts: int32 [rows], position of the second text of a pair; None without pairs.
    window_starts: int64 [rows + 1]; row i has the windows window_starts[i] to window_starts[i + 1] - 1;
    None: every row is one window.
    capacity: tokens of the longest text that is read completely; None: max_length.
    learned: bool [tokens], the tokens that a model that writes learns to write; None: it classifies.
    """

    ids: NDArray[Any]
    offsets: NDArray[Any]
    full_lengths: NDArray[Any]
    second_starts: NDArray[Any] | None
    max_length: int
    window_starts: NDArray[Any] | None = None
    capacity: int | None = None
    learned: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.offsets if self.window_starts is None else self.window_starts) - 1

    @property
    def lengths(self) -> NDArray[Any]:
        """Tokens read per row, over all its windows: int64 [rows]."""
        return np.diff(self.offsets if self.window_starts is None else self.offsets[self.window_starts])

    @property
    def longest_windows(self) -> NDArray[Any]:
        """Tokens in each row's longest window, which is its first: int64 [rows]."""
        sizes = np.diff(self.offsets)
        return sizes if self.window_starts is None else sizes[self.window_starts[:-1]]

    @property
    def long_share(self) -> float:
        """Share of rows longer than max_length."""
        return float((self.full_lengths > self.max_length).mean()) if len(self) else 0.0

    @property
    def cut_share(self) -> float:
        """Share of rows that are not read completely."""
        return float((self.full_lengths > (self.capacity or self.max_length)).mean()) if len(self) else 0.0

    def count_windows(self, rows: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the number of windows of these rows, by default of all rows: int64 [rows]."""
        index = np.arange(len(self)) if rows is None else rows
        if self.window_starts is None:
            return np.ones(len(index), np.int64)
        return np.asarray(self.window_starts[index + 1] - self.window_starts[index], np.int64)

    def list_windows(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the window indices of the rows, in row order: int64 [windows]."""
        if self.window_starts is None:
            return rows
        starts = self.window_starts
        pieces = [np.arange(starts[r], starts[r + 1], dtype=np.int64) for r in rows]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def take(self, rows: NDArray[Any]) -> Tokenized:
        """Return these rows, copied to memory."""
        windows = self.list_windows(rows)
        pieces = [self.ids[self.offsets[w] : self.offsets[w + 1]] for w in windows]
        marks = None if self.learned is None else [self.learned[self.offsets[w] : self.offsets[w + 1]] for w in windows]
        return replace(
            self,
            learned=np.concatenate(marks) if marks else self.learned,
            ids=np.concatenate(pieces) if pieces else self.ids[:0],
            offsets=_offsets([len(p) for p in pieces]),
            full_lengths=self.full_lengths[rows],
            second_starts=None if self.second_starts is None else self.second_starts[rows],
            window_starts=None if self.window_starts is None else _offsets(self.count_windows(rows)),
        )

    def join(self, other: Tokenized) -> Tokenized:
        """Return these rows and those of another, in memory; neither has pairs nor learned tokens."""
        windowed = self.window_starts is not None or other.window_starts is not None
        windows = np.concatenate([self.count_windows(), other.count_windows()])
        return replace(
            self,
            ids=np.concatenate([self.ids, other.ids]),
            offsets=_offsets([*np.diff(self.offsets), *np.diff(other.offsets)]),
            full_lengths=np.concatenate([self.full_lengths, other.full_lengths]),
            window_starts=_offsets(windows) if windowed else None,
        )


def _offsets(sizes: Sequence[int] | NDArray[Any]) -> NDArray[Any]:
    """Return the boundaries of concatenated pieces of these sizes: int64 [pieces + 1]."""
    return np.concatenate([[0], np.cumsum(np.asarray(sizes, np.int64))])


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read a fast tokenizer from a model's folder; raise ModelError if there is none.

    Truncation and padding set in the file are switched off: textune sets its own.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.is_file() else _convert_slow_tokenizer(folder)
    except ModelError:
        raise
    except Exception as error:  # the Rust library raises bare Exception
        raise ModelError(f"{path}: the tokenizer cannot be read: {error}") from error
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    if not tokenizer.get_vocab().keys() - special:
        raise ModelError(
            f"{folder}: its tokenizer has {len(special)} special tokens and no word: every text would be unknown",
            hint="save the tokenizer there again: tokenizer.save_pretrained(FOLDER)",
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def find_special_token(folder: Path, name: str) -> int | None:
    """Return the id of a special token, such as "pad_token", from the tokenizer's config, or None."""
    path = folder / "tokenizer_config.json"
    try:
        token = json.loads(path.read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError):
        return None
    content = token.get("content") if isinstance(token, dict) else token
    return load_tokenizer(folder).token_to_id(content) if isinstance(content, str) else None


def _convert_slow_tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    # Without a vocabulary transformers makes an empty one up, in which every word is unknown.
    if not any((folder / name).is_file() for name in VOCABULARY_FILES):
        raise ModelError(
            f"{folder}: no tokenizer: neither tokenizer.json nor a vocabulary ({', '.join(VOCABULARY_FILES)})",
            hint="save the tokenizer there, too: tokenizer.save_pretrained(FOLDER)",
        )
    try:
        import transformers

        fast = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        tokenizer = Tokenizer.from_str(fast.backend_tokenizer.to_str())
    except Exception as error:
        raise ModelError(f"{folder}: no tokenizer.json, and it could not be converted: {error}") from error
    return tokenizer


def encode_texts(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    max_length: int,
    long_text: LongText = TRUNCATE,
) -> Tokenized:
    """Tokenize in batches. In a pair the longer text is truncated; `long_text` says how to read a long single text.

    The ids are those of the whole texts. Raises DataError for invalid Unicode, ConfigError if long_text does not work
    with pairs or with max_length.
    """
    capacity = _set_truncation(tokenizer, pairs is not None, max_length, long_text)
    max_chars = max(capacity * _CHARACTERS_PER_TOKEN, 4_096)
    dtype: Any = np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.int32
    pieces: list[NDArray[Any]] = []
    counts = np.ones(len(texts), np.int64)
    full = np.zeros(len(texts), np.int32)
    starts = np.zeros(len(texts), np.int32) if pairs is not None else None
    shared = tokenizer.num_special_tokens_to_add(pairs is not None) + long_text.overlap
    between = text_between(tokenizer)
    reader = PieceReader(tokenizer, max_chars, shared, capacity)
    for rows in _batch_rows(texts, pairs, max_chars):
        long = [max(len(texts[i]), 0 if pairs is None else len(pairs[i])) > max_chars for i in rows]
        batch = ["" if cut else texts[i] for i, cut in zip(rows, long, strict=True)]
        seconds = (
            None if pairs is None else ["" if cut else between + pairs[i] for i, cut in zip(rows, long, strict=True)]
        )
        encodings = _encode_batch(tokenizer, batch, seconds, rows.start)
        for i, cut, encoding in zip(rows, long, encodings, strict=True):
            if cut and pairs is not None and starts is not None:
                with _named(i):
                    ids, starts[i], full[i] = reader.read_pair(texts[i], between + pairs[i], max_length)
                read = [ids]
            elif starts is not None:
                ids, starts[i], full[i] = reader.cut_pair(encoding, max_length)
                read = [ids]
            elif cut:
                read, full[i] = _read_long(reader, texts[i], i, max_length, long_text)
            else:
                windows = [encoding, *encoding.overflowing]
                full[i] = count_tokens(windows, shared)
                read = [np.asarray(window.ids) for window in windows[: long_text.max_windows]]
                if long_text.form == "head_tail":
                    read = [drop_middle(read[0], encoding.special_tokens_mask, max_length, long_text.head_fraction)]
            pieces += [_shrink(ids, dtype) for ids in read]
            counts[i] = len(read)
    ids = np.concatenate(pieces) if pieces else np.zeros(0, dtype)
    window_starts = _offsets(counts) if long_text.form == "window" else None
    return Tokenized(ids, _offsets([len(p) for p in pieces]), full, starts, max_length, window_starts, capacity)


def _set_truncation(tokenizer: Tokenizer, paired: bool, max_length: int, long_text: LongText) -> int:
    """Set the tokenizer's truncation and return the length in tokens of the longest text that is read completely."""
    if paired and long_text.form != "truncate":
        raise ConfigError(
            f"long_text={long_text.form}: does not support text pairs",
            hint="remove long_text=; the longer text of a pair is truncated",
        )
    room = max_length - tokenizer.num_special_tokens_to_add(paired)
    if paired or long_text.form == "head_tail":
        if room < 1:
            raise ConfigError(
                f"max_length={max_length}: leaves no room for text next to the special tokens",
                hint="use a larger max_length",
            )
        tokenizer.no_truncation()  # of a pair, it would make a part for each two parts of both texts
        return max_length
    if long_text.form == "window" and long_text.overlap >= room:
        raise ConfigError(
            f"window_overlap={long_text.overlap}: must be smaller than the {max(room, 0)} text tokens in a window of "
            f"max_length={max_length}",
            hint="use a smaller window_overlap or a larger max_length",
        )
    tokenizer.enable_truncation(max_length, stride=long_text.overlap, strategy="longest_first")
    return max_length + (long_text.max_windows - 1) * (room - long_text.overlap)


def _batch_rows(texts: Sequence[str], pairs: Sequence[str] | None, max_chars: int) -> Iterator[range]:
    """Yield the rows in batches of bounded size; max_chars: characters tokenized per text."""
    start = characters = 0
    for i, text in enumerate(texts):
        characters += min(len(text), max_chars) + (0 if pairs is None else min(len(pairs[i]), max_chars))
        if i + 1 - start == _ROWS_PER_BATCH or characters >= _CHARACTERS_PER_BATCH or i + 1 == len(texts):
            yield range(start, i + 1)
            start, characters = i + 1, 0


def text_between(tokenizer: Tokenizer) -> str:
    """Return the prefix of the second text of a pair: a line break if the tokenizer adds no separator.

    The tokenizers of GPT-2 and Qwen add none, so the last word of one text would merge with the first of the other.
    """
    alone, both = (tokenizer.num_special_tokens_to_add(pair) for pair in (False, True))
    return "" if both > alone else "\n"


def _read_long(
    reader: PieceReader, text: str, row: int, max_length: int, long_text: LongText
) -> tuple[list[NDArray[Any]], int]:
    """Return the ids of a long text's windows, and how many tokens the text has at least."""
    with _named(row):
        if long_text.form == "head_tail":
            ids, tokens = reader.read_ends(text, max_length, long_text.head_fraction)
            return [ids], tokens
        return reader.read_windows(text, long_text.max_windows)


@contextmanager
def _named(row: int) -> Iterator[None]:
    """Name the row of a text that the tokenizer refuses."""
    try:
        yield
    except (UnicodeEncodeError, TypeError) as error:
        raise DataError(f"text {row + 1}: contains a lone surrogate, not a valid character") from error


def _encode_batch(tokenizer: Tokenizer, texts: list[str], pairs: list[str] | None, first: int) -> list[Any]:
    """Encode a batch whose first text has index `first`; raise DataError for an invalid text."""
    inputs: Any = texts if pairs is None else list(zip(texts, pairs, strict=True))
    try:
        return list(tokenizer.encode_batch_fast(inputs))
    except (UnicodeEncodeError, TypeError) as error:
        both = zip(texts, pairs or texts, strict=True)
        invalid = next((first + i for i, row in enumerate(both) if not all(map(_is_unicode, row))), None)
        if invalid is not None:
            raise DataError(f"text {invalid + 1}: contains a lone surrogate, not a valid character") from error
        raise DataError(f"a text is not a string: {error}") from error


def _is_unicode(text: str) -> bool:
    return not any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def _shrink(ids: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Return the ids in a small type, or in int32 where one does not fit: a vocabulary may have gaps."""
    return ids.astype(dtype if ids.max(initial=0) <= np.iinfo(dtype).max else np.int32)


def encode_cached(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    max_length: int,
    data_fingerprint: str,
    long_text: LongText = TRUNCATE,
) -> Tokenized:
    """Like `encode_texts`, but cache the ids on disk, keyed by data, tokenizer, max_length and long_text."""
    tokenizer.no_truncation()  # truncation set by an earlier call must not change the hash
    vocabulary = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
    parts = ("6", data_fingerprint, vocabulary, max_length, pairs is not None, *vars(long_text).values())
    key = hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()
    folder = cache.token_cache_dir() / key[:40]
    if (stored := _open_stored(folder, len(texts), max_length)) is not None:
        return stored
    tokenized = encode_texts(tokenizer, texts, pairs, max_length, long_text)
    try:
        _store(tokenized, folder)
    except OSError:
        return tokenized  # the cache only saves time, so the run works without it
    cache.clean(cache.LARGEST_BYTES)
    return _open_stored(folder, len(texts), max_length) or tokenized


_ARRAYS = ("ids", "offsets", "full_lengths", "second_starts", "window_starts")
"""The arrays of a cache entry, one file each; the last two only if not None."""


def _store(tokenized: Tokenized, folder: Path) -> None:
    arrays = {name: getattr(tokenized, name) for name in _ARRAYS if getattr(tokenized, name) is not None}
    facts: dict[str, Any] = {
        "rows": len(tokenized),
        "tokens": len(tokenized.ids),
        "arrays": list(arrays),
        "capacity": tokenized.capacity,
    }
    with write_folder(folder, shared=True) as partial:
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array)
        facts["sha256"] = {name: hash_file(partial / f"{name}.npy") for name in arrays}
        (partial / "tokens.json").write_text(json.dumps(facts), encoding="utf-8")


def _open_stored(folder: Path, rows: int, max_length: int) -> Tokenized | None:
    try:
        facts = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
        arrays: dict[str, Any] = dict.fromkeys(_ARRAYS)
        for name in facts["arrays"]:
            if hash_file(folder / f"{name}.npy") != facts["sha256"][name]:
                raise ValueError("damaged")  # another word would train other weights, unnoticed
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        stored = Tokenized(**arrays, max_length=max_length, capacity=facts["capacity"])
        complete = len(stored) == rows == facts["rows"] and len(stored.full_lengths) == rows
        if stored.window_starts is not None:
            complete = complete and int(stored.window_starts[-1]) == len(stored.offsets) - 1
        if not complete or not len(stored.ids) == int(stored.offsets[-1]) == facts["tokens"]:
            raise ValueError("incomplete")
        os.utime(folder)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return stored
