"""Compact hashes of rows: they tell later whether a known text was among the rows, and no text can be read from them.

Per row 8 bytes for its exact text, and 16 bytes for what is nearly the same: 128 MinHash values of its word 3-grams, of
each the last bit (Li and König 2010, b-bit minwise hashing, arXiv:0910.3349).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.data.checks import MAX_NEAR_ROWS, fold_text, list_keys
from textune.data.examples import Examples
from textune.data.shingles import list_tokens, min_hashes, mix_shingles

MOST_EXACT = 1_000_000
"""Of more distinct texts those with the smallest hashes are kept: a sample that does not depend on their order."""
SIGNATURE_BITS = 128
_NEAR_BITS = 117
"""Equal bits from which two rows are near: finds 84% of the pairs at a Jaccard similarity of 0.85, 1% at 0.7."""
_ROWS_AT_ONCE = 2_000
_CELLS_AT_ONCE = 20_000_000
UNSEEN, TRAINING_EXACT, VALIDATION_EXACT, TRAINING_NEAR, VALIDATION_NEAR = range(5)
_PROBE = ("Hashes of one text must not change between versions, or rows would be taken for new ones.", "Straße  12")


@dataclass(frozen=True, eq=False)
class HashedRows:
    """The hashes of some rows.

    exact: uint64 [distinct texts], sorted. near: uint8 [rows with enough words, 16], sorted.
    rows: how many were hashed. complete: whether both kinds have every row.
    """

    exact: NDArray[np.uint64]
    near: NDArray[np.uint8]
    rows: int
    complete: bool = True

    def join(self, other: HashedRows) -> HashedRows:
        """Return the hashes of both."""
        exact, near = np.concatenate([self.exact, other.exact]), np.concatenate([self.near, other.near])
        return _build(exact, near, self.rows + other.rows, self.complete and other.complete)


def hash_rows(examples: Examples, salt: bytes) -> HashedRows:
    """Return the hashes of the rows' texts, of pairs both together. salt: at most 64 bytes; others give others."""
    keys = list_keys(examples.texts(), examples.text_pairs())
    exact = _hash_exact(keys, salt)
    distinct = np.sort(np.unique(exact, return_index=True)[1])
    near = _sign([keys[position] for position in _spread(distinct)], salt)[0]
    return _build(exact, near, len(keys), len(distinct) <= MAX_NEAR_ROWS)


def compute_probe(salt: bytes) -> str:
    """Return what tells whether hashes made elsewhere, or by another version, are made as they are here."""
    content = _hash_exact([fold_text(text) for text in _PROBE], salt).tobytes() + _sign(_PROBE, salt)[0].tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def match_rows(
    hashed: Mapping[str, HashedRows], keys: Sequence[str], salt: bytes
) -> tuple[NDArray[np.int8], tuple[str, ...]]:
    """Return where each row was seen, int8 [rows] of UNSEEN, TRAINING_EXACT and so on, and notes on what is not known.

    hashed: the rows of "training" and "validation". A row that was seen in several ways counts as the first of them.
    keys: of the rows, by `list_keys`.
    """
    exact, found = _hash_exact(keys, salt), np.zeros(len(keys), np.int8)
    for code, name in ((TRAINING_EXACT, "training"), (VALIDATION_EXACT, "validation")):
        if name in hashed:
            found[(found == UNSEEN) & np.isin(exact, hashed[name].exact)] = code
    others = np.flatnonzero(found == UNSEEN)
    compared = _spread(others)
    signatures, signed = _sign([keys[position] for position in compared], salt)
    for code, name in ((TRAINING_NEAR, "training"), (VALIDATION_NEAR, "validation")):
        if name in hashed:
            rows = compared[signed][_find_near(signatures, hashed[name].near)]
            found[rows[found[rows] == UNSEEN]] = code
    notes = [
        f"hashes of {len(part.exact):,} texts and {len(part.near):,} near ones stand for {part.rows:,} {name} rows"
        for name, part in hashed.items()
        if not part.complete
    ]
    if len(compared) < len(others):
        notes.append(f"{len(compared):,} of {len(others):,} rows were compared for near ones")
    return found, tuple(notes)


def _build(exact: NDArray[np.uint64], near: NDArray[np.uint8], rows: int, complete: bool) -> HashedRows:
    exact, near = np.unique(exact), np.unique(near, axis=0)
    complete = complete and len(exact) <= MOST_EXACT and len(near) <= MAX_NEAR_ROWS
    return HashedRows(exact[:MOST_EXACT], near[_spread(np.arange(len(near)))], rows, complete)


def _spread(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at most as many positions as are compared for near rows, evenly spaced."""
    if len(positions) <= MAX_NEAR_ROWS:
        return positions
    return positions[np.linspace(0, len(positions) - 1, MAX_NEAR_ROWS).astype(np.int64)]


def _hash_exact(keys: Sequence[str], salt: bytes) -> NDArray[np.uint64]:
    hashes = (hashlib.blake2b(_encode(key), digest_size=8, key=salt).digest() for key in keys)
    return np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _sign(keys: Sequence[str], salt: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the signatures, uint8 [signed, 16], and the positions of the keys that have enough words for one."""
    parts, positions = [np.zeros((0, SIGNATURE_BITS // 8), np.uint8)], [np.zeros(0, np.int64)]
    words: dict[str, int] = {}
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        shingles = [mix_shingles(list(_number(key, words, salt))) for key in keys[start : start + _ROWS_AT_ONCE]]
        signed = np.array([i for i, found in enumerate(shingles) if len(found)], np.int64)
        if len(signed):
            bits = (min_hashes([shingles[i] for i in signed], SIGNATURE_BITS) & np.uint64(1)).astype(np.uint8)
            parts.append(np.packbits(bits, axis=1))
            positions.append(signed + start)
    return np.concatenate(parts), np.concatenate(positions)


def _number(key: str, words: dict[str, int], salt: bytes) -> Iterator[int]:
    """Yield a number for each word of a text that is the same in every process."""
    for token in list_tokens(key):
        if token not in words:
            digest = hashlib.blake2b(_encode(token), digest_size=8, key=salt).digest()
            words[token] = int.from_bytes(digest, "little")
        yield words[token]


def _find_near(signatures: NDArray[np.uint8], known: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return for each signature whether a known one shares enough bits: bool [signatures]."""
    near = np.zeros(len(signatures), bool)
    if not len(known):
        return near
    against = _as_signs(known).T
    step = max(1, _CELLS_AT_ONCE // len(known))
    for start in range(0, len(signatures), step):
        products = _as_signs(signatures[start : start + step]) @ against  # equal bits minus different ones
        near[start : start + step] = products.max(axis=1) >= 2 * _NEAR_BITS - SIGNATURE_BITS
    return near


def _as_signs(signatures: NDArray[np.uint8]) -> NDArray[np.float32]:
    signs: NDArray[Any] = np.unpackbits(signatures, axis=1).astype(np.float32)
    return signs * 2 - 1
