"""States that frozen layers computed once, read in the place of those layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textune.tokens import Tokenized


@dataclass(frozen=True)
class Prefix:
    """The states of one split above the lowest `layers` layers.

    states: [tokens, width], in the order of the split's token ids, where uint16 holds the bits of bfloat16. Above the
    last layer only what the head reads of each window is kept, float32 [windows, width].
    """

    tokens: Tokenized
    layers: int
    states: NDArray[Any]

    def read(self, windows: NDArray[Any]) -> torch.Tensor:
        """Return the states of these windows end to end, copied out of the file."""
        offsets = self.tokens.offsets
        if len(self.states) == len(offsets) - 1:
            found = self.states[windows]
        else:
            found = np.concatenate([self.states[offsets[w] : offsets[w + 1]] for w in windows])
        tensor = torch.from_numpy(np.ascontiguousarray(found))
        return tensor.view(torch.bfloat16) if found.dtype == np.uint16 else tensor
