"""Texts to token ids: fast tokenizers in batches, stored once on disk and memory-mapped. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune import cache
from textune.config import TRUNCATE, LongText
from textune.errors import ConfigError, DataError, ModelError
from textune.files import write_folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ROWS_PER_BATCH = 1_000
_CHARACTERS_PER_BATCH = 8_000_000
"""While it is tokenised a token takes some hundred bytes: a batch of long documents is ended early."""
_CHARACTERS_PER_TOKEN = 64
"""A text is cut to so many characters per token that is read before it is tokenised: a line of 20 MB costs nothing."""


@dataclass(frozen=True)
class Tokenized:
    """Token ids of many texts, end to end in one array.

    A row is a text; a window is what a model reads at once, at most max_length tokens. Most often a row is one window.

    ids: uint16 or int32 [tokens], memory-mapped where they come from the cache.
    offsets: int64 [windows + 1]; window i is ids[offsets[i]:offsets[i + 1]].
    full_lengths: int32 [rows], tokens of the whole text, special ones once.
    second_starts: int32 [rows], where the second text of a pair begins; None without pairs.
    window_starts: int64 [rows + 1]; row i is the windows from window_starts[i] up to window_starts[i + 1];
    None: every row is one window.
    capacity: the longest text, in tokens, of which nothing is left out; None: max_length.
    """

    ids: NDArray[Any]
    offsets: NDArray[Any]
    full_lengths: NDArray[Any]
    second_starts: NDArray[Any] | None
    max_length: int
    window_starts: NDArray[Any] | None = None
    capacity: int | None = None

    def __len__(self) -> int:
        return len(self.offsets if self.window_starts is None else self.window_starts) - 1

    @property
    def lengths(self) -> NDArray[Any]:
        """Tokens per row that are read, over all its windows: int64 [rows]."""
        return np.diff(self.offsets if self.window_starts is None else self.offsets[self.window_starts])

    @property
    def longest_windows(self) -> NDArray[Any]:
        """Tokens of each row's longest window, which is its first: int64 [rows]."""
        sizes = np.diff(self.offsets)
        return sizes if self.window_starts is None else sizes[self.window_starts[:-1]]

    @property
    def long_share(self) -> float:
        """Share of the rows that are longer than max_length."""
        return float((self.full_lengths > self.max_length).mean()) if len(self) else 0.0

    @property
    def cut_share(self) -> float:
        """Share of the rows of which something is left out."""
        return float((self.full_lengths > (self.capacity or self.max_length)).mean()) if len(self) else 0.0

    def count_windows(self, rows: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return how many windows the rows have, or all rows: int64 [rows]."""
        index = np.arange(len(self)) if rows is None else rows
        if self.window_starts is None:
            return np.ones(len(index), np.int64)
        return np.asarray(self.window_starts[index + 1] - self.window_starts[index], np.int64)

    def list_windows(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the numbers of the rows' windows, row after row: int64 [windows]."""
        if self.window_starts is None:
            return rows
        starts = self.window_starts
        pieces = [np.arange(starts[r], starts[r + 1], dtype=np.int64) for r in rows]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def take(self, rows: NDArray[Any]) -> Tokenized:
        """Return some of the rows, in memory."""
        windows = self.list_windows(rows)
        pieces = [self.ids[self.offsets[w] : self.offsets[w + 1]] for w in windows]
        return replace(
            self,
            ids=np.concatenate(pieces) if pieces else self.ids[:0],
            offsets=_ends([len(p) for p in pieces]),
            full_lengths=self.full_lengths[rows],
            second_starts=None if self.second_starts is None else self.second_starts[rows],
            window_starts=None if self.window_starts is None else _ends(self.count_windows(rows)),
        )


def _ends(sizes: Sequence[int] | NDArray[Any]) -> NDArray[Any]:
    """Return where pieces of these sizes begin and end, laid end to end: int64 [pieces + 1]."""
    return np.concatenate([[0], np.cumsum(np.asarray(sizes, np.int64))])


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read a fast tokenizer from a model's folder; raise ModelError where there is none.

    Truncation and padding that the file itself asks for are switched off: textune sets its own.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        return _convert_slow_tokenizer(folder)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises bare Exception
        raise ModelError(f"{path}: the tokenizer cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def find_special_token(folder: Path, name: str) -> int | None:
    """Return the id of a special token ("pad_token") that the tokenizer's settings name, or None."""
    path = folder / "tokenizer_config.json"
    try:
        token = json.loads(path.read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError):
        return None
    content = token.get("content") if isinstance(token, dict) else token
    return load_tokenizer(folder).token_to_id(content) if isinstance(content, str) else None


def _convert_slow_tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        import transformers

        fast = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        tokenizer = Tokenizer.from_str(fast.backend_tokenizer.to_str())
    except Exception as error:
        raise ModelError(f"{folder}: no tokenizer.json, and none could be made: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode_texts(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    max_length: int,
    long_text: LongText = TRUNCATE,
) -> Tokenized:
    """Tokenize in batches; a pair is cut on its longer side, a longer text is read as `long_text` says.

    Raises DataError for text that is no Unicode, ConfigError where the windows or the pairs do not fit long_text.
    """
    capacity = _set_truncation(tokenizer, pairs is not None, max_length, long_text)
    most = max(capacity * _CHARACTERS_PER_TOKEN, 4_096)
    kind: Any = np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.int32
    pieces: list[NDArray[Any]] = []
    counts = np.ones(len(texts), np.int64)
    full = np.zeros(len(texts), np.int32)
    starts = np.zeros(len(texts), np.int32) if pairs is not None else None
    shared = tokenizer.num_special_tokens_to_add(pairs is not None) + long_text.overlap
    between = text_between(tokenizer)
    for rows in _batch_rows(texts, pairs, most):
        batch = [_bound(texts[i], most, long_text) for i in rows]
        seconds = None if pairs is None else [between + _bound(pairs[i], most, TRUNCATE) for i in rows]
        encodings = _encode_batch(tokenizer, batch, seconds, rows.start)
        for i, text, encoding in zip(rows, batch, encodings, strict=True):
            windows = [encoding, *encoding.overflowing]
            full[i] = len(encoding.ids) + sum(len(w.ids) - shared for w in windows[1:])
            if len(text) < len(texts[i]):
                full[i] = max(full[i], capacity) + 1
            read = [np.asarray(window.ids, kind) for window in windows[: long_text.max_windows]]
            if long_text.form == "head_tail":
                read = [_leave_out_middle(read[0], encoding.special_tokens_mask, max_length, long_text.head_fraction)]
            pieces += read
            counts[i] = len(read)
            if starts is not None:
                starts[i] = _second_start(encoding)
    ids = np.concatenate(pieces) if pieces else np.zeros(0, kind)
    window_starts = _ends(counts) if long_text.form == "window" else None
    return Tokenized(ids, _ends([len(p) for p in pieces]), full, starts, max_length, window_starts, capacity)


def _set_truncation(tokenizer: Tokenizer, paired: bool, max_length: int, long_text: LongText) -> int:
    """Set the tokenizer up and return the longest text, in tokens, that is read whole."""
    if paired and long_text.form != "truncate":
        raise ConfigError(
            f"long_text={long_text.form}: is made for single texts, and these are pairs",
            hint="leave long_text out: of a pair the longer text is cut",
        )
    room = max_length - tokenizer.num_special_tokens_to_add(paired)
    if long_text.form == "head_tail":
        if room < 1:
            raise ConfigError(f"max_length={max_length}: leaves no room beside the tokenizer's special tokens")
        tokenizer.no_truncation()
        return max_length
    if long_text.form == "window" and long_text.overlap >= room:
        raise ConfigError(
            f"window_overlap={long_text.overlap}: a window of max_length={max_length} holds {max(room, 0)} tokens of "
            "the text, and the next one must bring something new",
            hint="choose a smaller window_overlap, or a larger max_length",
        )
    tokenizer.enable_truncation(max_length, stride=long_text.overlap, strategy="longest_first")
    return max_length + (long_text.max_windows - 1) * (room - long_text.overlap)


def _batch_rows(texts: Sequence[str], pairs: Sequence[str] | None, most: int) -> Iterator[range]:
    """Yield the rows in batches of bounded size; most: characters of one text that are tokenised at all."""
    begin = characters = 0
    for i, text in enumerate(texts):
        characters += min(len(text), most) + (0 if pairs is None else min(len(pairs[i]), most))
        if i + 1 - begin == _ROWS_PER_BATCH or characters >= _CHARACTERS_PER_BATCH or i + 1 == len(texts):
            yield range(begin, i + 1)
            begin, characters = i + 1, 0


def text_between(tokenizer: Tokenizer) -> str:
    """Return what begins the second text of a pair: a line break where the tokenizer itself puts nothing between.

    GPT-2's and Qwen's do not, and the last word of the one text would run into the first word of the other.
    """
    alone, both = (tokenizer.num_special_tokens_to_add(pair) for pair in (False, True))
    return "" if both > alone else "\n"


def _bound(text: str, most: int, long_text: LongText) -> str:
    """Cut a text before it is tokenised to far more characters than can be read; white space first is none of them."""
    text = text.lstrip() if len(text) > most else text
    if long_text.form == "head_tail" and len(text) > 2 * most:
        return text[:most] + text[-most:]
    return text if long_text.form == "head_tail" else text[:most]


def _encode_batch(tokenizer: Tokenizer, texts: list[str], pairs: list[str] | None, first: int) -> list[Any]:
    """Encode a batch whose first text is number `first` of all; raise DataError naming a text that is none."""
    inputs: Any = texts if pairs is None else list(zip(texts, pairs, strict=True))
    try:
        return list(tokenizer.encode_batch_fast(inputs))
    except (UnicodeEncodeError, TypeError) as error:
        both = zip(texts, pairs or texts, strict=True)
        wrong = next((first + i for i, row in enumerate(both) if not all(map(_is_unicode, row))), None)
        if wrong is not None:
            raise DataError(f"text {wrong + 1}: holds a lone surrogate, which is no character") from error
        raise DataError(f"a text is not a string: {error}") from error


def _leave_out_middle(ids: NDArray[Any], special: Sequence[int], max_length: int, head_fraction: float) -> NDArray[Any]:
    """Keep the first and the last tokens of a text, and the special tokens that stand before and after it.

    special: 1 for each token that the tokenizer put there (Sun and others 2019, arXiv:1905.05583).
    """
    if len(ids) <= max_length:
        return ids
    content = np.flatnonzero(np.asarray(special) == 0)
    before, after = int(content[0]), len(ids) - 1 - int(content[-1])
    room = max_length - before - after
    head = round(room * head_fraction)
    return np.concatenate([ids[: before + head], ids[len(ids) - after - (room - head) :]])


def _is_unicode(text: str) -> bool:
    return not any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def _second_start(encoding: Any) -> int:
    sequence = encoding.sequence_ids
    return next((i for i, s in enumerate(sequence) if s == 1), len(sequence))


def encode_cached(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    max_length: int,
    data_fingerprint: str,
    long_text: LongText = TRUNCATE,
) -> Tokenized:
    """Like `encode_texts`, but keeps the ids on disk, keyed by data, tokenizer, max_length and long_text, mapped."""
    tokenizer.no_truncation()  # a cut that was set for an earlier call is no part of the tokenizer
    vocabulary = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
    parts = ("4", data_fingerprint, vocabulary, max_length, pairs is not None, *vars(long_text).values())
    key = hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()
    folder = cache.token_cache_dir() / key[:40]
    if (stored := _open_stored(folder, len(texts), max_length)) is not None:
        return stored
    tokenized = encode_texts(tokenizer, texts, pairs, max_length, long_text)
    try:
        _store(tokenized, folder)
    except OSError:
        return tokenized  # the cache only saves time: without room for it the run goes on
    cache.clean(cache.LARGEST_BYTES)
    return _open_stored(folder, len(texts), max_length) or tokenized


_ARRAYS = ("ids", "offsets", "full_lengths", "second_starts", "window_starts")
"""What a token cache keeps, one file each; the last two only where they are not None."""


def _store(tokenized: Tokenized, folder: Path) -> None:
    arrays = {name: getattr(tokenized, name) for name in _ARRAYS if getattr(tokenized, name) is not None}
    facts = {
        "rows": len(tokenized),
        "tokens": len(tokenized.ids),
        "arrays": list(arrays),
        "capacity": tokenized.capacity,
    }
    with write_folder(folder, shared=True) as partial:
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array)
        (partial / "tokens.json").write_text(json.dumps(facts), encoding="utf-8")


def _open_stored(folder: Path, rows: int, max_length: int) -> Tokenized | None:
    try:
        facts = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
        arrays: dict[str, Any] = dict.fromkeys(_ARRAYS)
        for name in facts["arrays"]:
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        stored = Tokenized(**arrays, max_length=max_length, capacity=facts["capacity"])
        whole = len(stored) == rows == facts["rows"] and len(stored.full_lengths) == rows
        if stored.window_starts is not None:
            whole = whole and int(stored.window_starts[-1]) == len(stored.offsets) - 1
        if not whole or not len(stored.ids) == int(stored.offsets[-1]) == facts["tokens"]:
            raise ValueError("incomplete")
        os.utime(folder)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return stored
