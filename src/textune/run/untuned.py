"""The backbone before tuning, as the ladder of baselines measures it: a linear probe on it, and its new random head."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from textune.data import Examples
from textune.training.head import compute_features, find_output_layer, has_output_layer, start_head

if TYPE_CHECKING:
    from textune.backbones.families import Family
    from textune.engine import Engine
    from textune.tokens.batches import EncodedSplit, Padding
    from textune.training.probe import Loss, Probe

Array = np.ndarray[Any, Any]


class UntunedBackbone:
    """Answers with frozen features, which are computed once for each set of rows.

    engine: over a model whose head is new. encode: tokenises rows. train: rows to solve the probe on, unless `probe` is
    given. probe_seconds: what solving it took.
    """

    def __init__(
        self, engine: Engine, family: Family, classes: int, padding: Padding,
        encode: Callable[[Examples], EncodedSplit], train: EncodedSplit, loss: Loss, seed: int,
        probe: Probe | None = None, probe_seconds: float = 0.0,
    ) -> None:  # fmt: skip
        self._engine, self._family, self._classes, self._padding = engine, family, classes, padding
        self._encode, self._train, self._loss, self._seed, self._probe = encode, train, loss, seed, probe
        self.probe_seconds = probe_seconds
        self._features: dict[int, tuple[Examples, Array]] = {}

    @property
    def has_probe(self) -> bool:
        """Whether the head ends in a linear layer, which a probe can stand for."""
        return has_output_layer(self._engine.model, self._family, self._classes)

    def base_logits(self, examples: Examples) -> Array:
        """Returns the logits of the random head: float32 [rows, classes]."""
        from textune.engine import predict_logits

        if not self.has_probe:
            return predict_logits(self._engine, self._encode(examples), self._padding)
        parent, name = find_output_layer(self._engine.model, self._family, self._classes)
        layer = getattr(parent, name)
        weight = layer.weight.detach().float().cpu().numpy()
        bias = 0.0 if layer.bias is None else layer.bias.detach().float().cpu().numpy()
        return np.asarray(self._compute(examples) @ weight.T + bias, np.float32)

    def probe_logits(self, examples: Examples) -> Array:
        """Returns the logits of the probe: float32 [rows, classes]."""
        if self._probe is None:
            self._probe = start_head(
                self._engine, self._family, self._classes, self._train, self._padding, self._loss, seed=self._seed
            )
        return np.asarray(self._compute(examples) @ self._probe.weight.T + self._probe.bias, np.float32)

    def _compute(self, examples: Examples) -> Array:
        if id(examples) not in self._features:
            split = self._encode(examples)
            features = compute_features(self._engine, self._family, self._classes, split, self._padding)
            self._features[id(examples)] = examples, features
        return self._features[id(examples)][1]
