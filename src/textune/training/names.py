"""Class names as texts: where rows are few, what a class is called counts as one more text of that class.

A name weighs as much as a row, so it matters less the more rows there are. SetFit's library can add such texts, too
(`get_templated_dataset`); docs/explanation.md has the trials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.tokens import encode_texts
from textune.tokens.batches import EncodedSplit

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_NO_ROW = -1


def encode_names(tokenizer: Tokenizer, names: tuple[str, ...], max_length: int) -> EncodedSplit:
    """Return the names of all classes as texts, each with its class number as target."""
    tokens = encode_texts(tokenizer, names, None, max_length)
    return EncodedSplit(tokens, np.arange(len(names)), np.full(len(names), _NO_ROW))


def add_names(split: EncodedSplit, names: EncodedSplit) -> EncodedSplit:
    """Return the rows of the split and then the names, in memory."""
    targets = np.concatenate([split.targets, names.targets])
    return EncodedSplit(
        split.tokens.join(names.tokens), targets, np.concatenate([split.source_rows, names.source_rows])
    )


def tell_apart(names: NDArray[Any], features: NDArray[Any], targets: NDArray[Any]) -> bool:
    """Return whether names alone tell rows apart better than chance.

    Each row gets the class of the name that lies in the same direction, rows and names each seen from their middle. The
    share of right answers, averaged over the classes, must be above 1 / classes.

    Codes fail this as often as not, and where they pass, one text without a meaning does little harm.
    names: float [classes, width]. features: float [rows, width]. targets: int64 [rows].
    """
    found, counts = np.unique(targets, return_counts=True)
    middle = np.mean([features[targets == c].mean(0, dtype=np.float64) for c in found], axis=0)
    directions = names - names.mean(0, dtype=np.float64)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    right = ((features - middle) @ directions.T).argmax(1) == targets
    shares = np.bincount(np.searchsorted(found, targets), weights=right) / counts
    return bool(shares.mean() > 1 / len(names))
