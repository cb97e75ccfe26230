"""Logits to probabilities: each row summing to 1, or each label for itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return probabilities of logits [rows, classes], each row summing to 1."""
    shifted = np.exp((logits - logits.max(1, keepdims=True)).astype(np.float64))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return probabilities of logits [rows, labels], each for itself."""
    with np.errstate(over="ignore"):  # exp of a large number is infinite, and 1 / infinity the right 0
        return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))))
