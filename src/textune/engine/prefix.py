"""Cached states of frozen layers, read instead of running those layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textune.tokens import Tokenized


@dataclass(frozen=True)
class Prefix:
    """The states of one split after the lowest `layers` layers.

    states: [tokens, width], in the order of the split's token ids; uint16 holds the bits of bfloat16. After the last
    layer, only what the head reads of each window: float32 [windows, width].
    """

    tokens: Tokenized
    layers: int
    states: NDArray[Any]

    def read(self, windows: NDArray[Any]) -> torch.Tensor:
        """Return a copy of these windows' states, end to end."""
        offsets = self.tokens.offsets
        if len(self.states) == len(offsets) - 1:
            states = self.states[windows]
        else:
            states = np.concatenate([self.states[offsets[w] : offsets[w + 1]] for w in windows])
        tensor = torch.from_numpy(np.ascontiguousarray(states))
        return tensor.view(torch.bfloat16) if states.dtype == np.uint16 else tensor
