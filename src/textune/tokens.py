"""Texts to token ids: fast tokenizers in batches, stored once on disk and memory-mapped. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textune import cache
from textune.errors import DataError, ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ROWS_PER_BATCH = 1_000
_CHARACTERS_PER_TOKEN = 64
"""A text is cut to so many characters per token of max_length before it is tokenised: a line of 20 MB costs nothing."""


@dataclass(frozen=True)
class Tokenized:
    """Token ids of many texts, end to end in one array.

    ids: uint16 or int32 [tokens], memory-mapped where they come from the cache.
    offsets: int64 [rows + 1]; row i is ids[offsets[i]:offsets[i + 1]].
    full_lengths: int32 [rows], tokens before the cut to max_length.
    second_starts: int32 [rows], where the second text of a pair begins; None without pairs.
    """

    ids: np.ndarray[Any, Any]
    offsets: np.ndarray[Any, Any]
    full_lengths: np.ndarray[Any, Any]
    second_starts: np.ndarray[Any, Any] | None
    max_length: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        """Tokens per row after the cut: int64 [rows]."""
        return np.diff(self.offsets)

    @property
    def cut_share(self) -> float:
        """Share of the rows that max_length cut."""
        return float((self.full_lengths > self.max_length).mean()) if len(self) else 0.0


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads a fast tokenizer from a model's folder; raises ModelError where there is none.

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
    """Returns the id of a special token ("pad_token") that the tokenizer's settings name, or None."""
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


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int) -> Tokenized:
    """Tokenises in batches; a pair is cut on its longer side. Raises DataError for text that is no Unicode."""
    tokenizer.enable_truncation(max_length=max_length, strategy="longest_first")
    largest = max(max_length * _CHARACTERS_PER_TOKEN, 4_096)
    kind: Any = np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.int32
    pieces: list[np.ndarray[Any, Any]] = []
    lengths = np.zeros(len(texts), np.int64)
    full = np.zeros(len(texts), np.int32)
    starts = np.zeros(len(texts), np.int32) if pairs is not None else None
    special = tokenizer.num_special_tokens_to_add(pairs is not None)
    for begin in range(0, len(texts), _ROWS_PER_BATCH):
        batch = [text[:largest] for text in texts[begin : begin + _ROWS_PER_BATCH]]
        inputs: list[Any] = batch
        if pairs is not None:
            inputs = list(zip(batch, (p[:largest] for p in pairs[begin : begin + len(batch)]), strict=True))
        try:
            encodings = tokenizer.encode_batch_fast(inputs)
        except (UnicodeEncodeError, TypeError) as error:
            rows = zip(batch, batch if pairs is None else pairs[begin : begin + len(batch)], strict=True)
            wrong = next((begin + i for i, both in enumerate(rows) if not all(map(_is_unicode, both))), None)
            if wrong is not None:
                raise DataError(f"text {wrong + 1}: holds a lone surrogate, which is no character") from error
            raise DataError(f"a text is not a string: {error}") from error
        for i, encoding in enumerate(encodings, begin):
            pieces.append(np.asarray(encoding.ids, kind))
            lengths[i] = len(encoding.ids)
            full[i] = _full_length(encoding, special, len(texts[i]) > largest)
            if starts is not None:
                starts[i] = _second_start(encoding)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate(pieces) if pieces else np.zeros(0, kind)
    return Tokenized(ids, offsets, full, starts, max_length)


def _is_unicode(text: str) -> bool:
    return not any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def _full_length(encoding: Any, special: int, was_cut: bool) -> int:
    beyond = sum(len(o.ids) - special for o in encoding.overflowing)
    return len(encoding.ids) + beyond + int(was_cut)


def _second_start(encoding: Any) -> int:
    sequence = encoding.sequence_ids
    return next((i for i, s in enumerate(sequence) if s == 1), len(sequence))


def encode_cached(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    max_length: int,
    data_fingerprint: str,
) -> Tokenized:
    """Like `encode_texts`, but keeps the ids on disk, keyed by data, tokenizer and max_length, and maps them."""
    tokenizer.no_truncation()  # a cut that was set for an earlier call is no part of the tokenizer
    vocabulary = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
    key = hashlib.sha256(f"2|{data_fingerprint}|{vocabulary}|{max_length}|{pairs is not None}".encode()).hexdigest()
    folder = cache.token_cache_dir() / key[:40]
    if (stored := _open_stored(folder, len(texts), max_length)) is not None:
        return stored
    tokenized = encode_texts(tokenizer, texts, pairs, max_length)
    try:
        _store(tokenized, folder)
    except OSError:
        return tokenized  # the cache only saves time: without room for it the run goes on
    cache.clean(cache.LARGEST_BYTES)
    return _open_stored(folder, len(texts), max_length) or tokenized


def _store(tokenized: Tokenized, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        np.save(partial / "ids.npy", tokenized.ids)
        np.save(partial / "offsets.npy", tokenized.offsets)
        np.save(partial / "full_lengths.npy", tokenized.full_lengths)
        if tokenized.second_starts is not None:
            np.save(partial / "second_starts.npy", tokenized.second_starts)
        facts = {"rows": len(tokenized), "max_length": tokenized.max_length, "tokens": len(tokenized.ids)}
        (partial / "tokens.json").write_text(json.dumps(facts), encoding="utf-8")
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not folder.is_dir():  # otherwise another run stored the same ids first
            raise


def _open_stored(folder: Path, rows: int, max_length: int) -> Tokenized | None:
    try:
        facts = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
        ids = np.load(folder / "ids.npy", mmap_mode="r", allow_pickle=False)
        offsets = np.load(folder / "offsets.npy", mmap_mode="r", allow_pickle=False)
        full = np.load(folder / "full_lengths.npy", mmap_mode="r", allow_pickle=False)
        second = folder / "second_starts.npy"
        starts = np.load(second, mmap_mode="r", allow_pickle=False) if second.is_file() else None
        whole = len(offsets) == rows + 1 == facts["rows"] + 1 and len(ids) == int(offsets[-1]) == facts["tokens"]
        if not whole or len(full) != rows:
            raise ValueError("incomplete")
        os.utime(folder)
    except (OSError, ValueError, KeyError, EOFError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return Tokenized(ids, offsets, full, starts, max_length)
