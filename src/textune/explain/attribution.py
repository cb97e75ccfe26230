"""Integrated gradients of a label's log-odds over the word embeddings (Sundararajan et al. 2017, arXiv:1703.01365).

The way leads from the text with every word masked, special tokens kept, to the text. Its windows are one input, so the
attributions of all tokens sum to the difference of the log-odds at both ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.errors import ModelError
from textune.explain.captum_import import import_integrated_gradients
from textune.tokens.batches import Batch

if TYPE_CHECKING:
    import torch

    from textune.engine import ReferenceEngine

FIRST_STEPS, MOST_STEPS = 16, 256
TOLERANCE = 0.05
"""Of the difference of the log-odds, or of 1 where that is smaller."""
_TOKENS_PER_PASS = 1_024
"""Tokens in one pass with gradients: some hundred megabytes with an encoder of base size."""

_WORDS_OF_MEAN = 4_096


@dataclass(frozen=True)
class Attribution:
    """How much each token adds to the log-odds.

    scores: float64 [tokens] for each window. log_odds, empty_log_odds: of the text, and with every word masked.
    """

    scores: list[NDArray[np.float64]]
    log_odds: float
    empty_log_odds: float
    steps: int

    @property
    def gap(self) -> float:
        """How far the sum of the scores misses the difference of the log-odds."""
        total = float(sum(scores.sum() for scores in self.scores))
        return abs(total - (self.log_odds - self.empty_log_odds))

    @property
    def complete(self) -> bool:
        """Whether the gap is within the tolerance."""
        return self.gap <= TOLERANCE * max(abs(self.log_odds - self.empty_log_odds), 1.0)


@dataclass(frozen=True)
class Window:
    """One pass's tokens. ids, types: int64 [tokens]; types: None where the model has none. words: bool [tokens], False
    for special tokens."""

    ids: NDArray[np.int64]
    types: NDArray[np.int64] | None
    words: NDArray[np.bool_]


class Attributor:
    """Attributes a model's log-odds to tokens. engine: in evaluation mode.

    log_odds: logits [rows, labels] and the number of a label -> [rows]. mask_id: the token that stands for no word.
    """

    def __init__(
        self,
        engine: ReferenceEngine,
        log_odds: Callable[[torch.Tensor, int], torch.Tensor],
        mask_id: int,
        most_steps: int = MOST_STEPS,
    ) -> None:
        self._engine, self._log_odds, self._mask_id = engine, log_odds, mask_id
        self._most_steps = most_steps
        self._embedding: Any = engine.model.get_input_embeddings()  # type: ignore[operator]

    def attribute(self, windows: Sequence[Window], label: int) -> Attribution:
        """Return every token's score, with as many steps as completeness needs, or as many as are allowed.

        Raises ModelError where the model has no gradients, or memory runs out.
        """
        try:
            return self._attribute(windows, label)
        except (RuntimeError, NotImplementedError, AttributeError, TypeError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise ModelError(
                f"this model's answers cannot be explained: {type(error).__name__}: {reason}",
                hint="a smaller max_length or another device= may help where memory ran out",
            ) from error

    def _attribute(self, windows: Sequence[Window], label: int) -> Attribution:
        import torch

        IntegratedGradients = import_integrated_gradients()  # noqa: N806
        with torch.inference_mode(False), torch.enable_grad():
            ends = [self._embed(windows, masked) for masked in (False, True)]
            with torch.no_grad():
                log_odds, empty = (float(self._run(windows, label, *states)) for states in ends)

            def forward(*states: torch.Tensor) -> torch.Tensor:
                return self._run(windows, label, *states)

            method, steps = IntegratedGradients(forward), FIRST_STEPS
            size = max(1, _TOKENS_PER_PASS // sum(len(window.ids) for window in windows))
            while True:
                parts = method.attribute(*ends, n_steps=steps, internal_batch_size=size)
                scores = [part[0].sum(-1).double().cpu().numpy() for part in parts]
                found = Attribution(scores, log_odds, empty, steps)
                if found.complete or 2 * steps > self._most_steps:
                    return found
                steps *= 2

    def _embed(self, windows: Sequence[Window], masked: bool) -> tuple[torch.Tensor, ...]:
        """Return the word embeddings of each window, float32 [1, tokens, width]; masked: without its words."""
        import torch

        states = []
        with torch.no_grad():
            for window in windows:
                state = self._look_up(window.ids)
                if masked:
                    state[:, torch.from_numpy(window.words).to(state.device)] = self._empty
                states.append(state)
        return tuple(states)

    def _look_up(self, ids: NDArray[np.int64]) -> torch.Tensor:
        """Return the embeddings of tokens: [1, tokens, width]."""
        import torch

        states: torch.Tensor = self._embedding(torch.from_numpy(ids)[None].to(self._engine.device))
        return states.detach().clone()

    @cached_property
    def _empty(self) -> torch.Tensor:
        """The embedding that stands for no word: [width]. A mask of zeros is replaced by the mean word.

        A zero vector has no direction, so that the norms of decoders jump there.
        """
        mask = self._look_up(np.asarray([self._mask_id]))[0, 0]
        rows = int(self._embedding.weight.shape[0])
        mean = self._look_up(np.arange(0, rows, max(1, rows // _WORDS_OF_MEAN)))[0].mean(0)
        return mask if float(mask.abs().max()) > 1e-6 else mean

    def _run(self, windows: Sequence[Window], label: int, *states: torch.Tensor) -> torch.Tensor:
        """Return the log-odds of points on the way: [rows]. states: for each window, float32 [rows, tokens, width]."""
        total: Any = 0.0
        for window, embedded in zip(windows, states, strict=True):
            rows = len(embedded)
            ids = np.repeat(window.ids[None], rows, 0)
            types = None if window.types is None else np.repeat(window.types[None], rows, 0)
            with _replace_output(self._embedding, embedded):
                total = total + self._engine(Batch(ids, np.ones_like(ids), types, np.arange(rows)))
        return self._log_odds(total / len(windows), label)


@contextmanager
def _replace_output(module: torch.nn.Module, output: torch.Tensor) -> Iterator[None]:
    """Let a module return this, whatever it is given."""
    handle = module.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()
