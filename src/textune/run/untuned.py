"""The backbone before tuning, as the ladder of baselines measures it: a linear probe on it, and its new random head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.data import Examples
from textune.run.fit import SolvedHead, build_model, open_engine, solve_head
from textune.run.prepare import Prepared
from textune.tokens.batches import EncodedSplit

if TYPE_CHECKING:
    from textune.training.head import Network
    from textune.training.probe import Probe

Logits = NDArray[np.float32]
_MOST_SETS = 4
"""Of rows whose features are remembered; the app asks for text after text."""


class UntunedBackbone:
    """Answers with frozen features, which are computed once for each set of rows.

    network: with a new head. encode: tokenizes rows. solve: solves the probe where `probe` is not given.
    probe_seconds: how long solving it took.
    """

    def __init__(
        self,
        network: Network,
        encode: Callable[[Examples], EncodedSplit],
        solve: Callable[[Network], Probe],
        probe: Probe | None = None,
        probe_seconds: float = 0.0,
    ) -> None:
        self._network, self._encode, self._solve, self._probe = network, encode, solve, probe
        self.probe_seconds = probe_seconds
        self._features: dict[int, tuple[Examples, Logits]] = {}

    @property
    def has_probe(self) -> bool:
        """Whether the head ends in a linear layer, which a probe can replace."""
        return self._network.has_output_layer

    def base_logits(self, examples: Examples) -> Logits:
        """Return the logits of the random head: float32 [rows, classes]."""
        from textune.engine import predict_logits

        network = self._network
        if not self.has_probe:
            return predict_logits(network.engine, self._encode(examples), network.padding)
        parent, name = network.find_output_layer()
        layer = getattr(parent, name)
        weight = layer.weight.detach().float().cpu().numpy()
        bias = 0.0 if layer.bias is None else layer.bias.detach().float().cpu().numpy()
        return np.asarray(self._compute(examples) @ weight.T + bias, np.float32)

    def probe_logits(self, examples: Examples) -> Logits:
        """Return the logits of the probe: float32 [rows, classes]."""
        probe = self._find_probe()
        return np.asarray(self._compute(examples) @ probe.weight.T + probe.bias, np.float32)

    @property
    def probe_out_of_fold(self) -> tuple[NDArray[np.int64], Logits]:
        """The training rows that chose the probe's C, int64 [chosen], and logits of probes that did not see them."""
        probe = self._find_probe()
        return probe.rows, probe.out_of_fold

    def _find_probe(self) -> Probe:
        if self._probe is None:
            self._probe = self._solve(self._network)
        return self._probe

    def _compute(self, examples: Examples) -> NDArray[Any]:
        if id(examples) not in self._features:
            while len(self._features) >= _MOST_SETS:
                self._features.pop(next(iter(self._features)))
            self._features[id(examples)] = examples, self._network.compute_features(self._encode(examples))
        return self._features[id(examples)][1]


def open_untuned(
    prepared: Prepared, head: SolvedHead, encode: Callable[[Examples], EncodedSplit] | None = None
) -> UntunedBackbone:
    """Return the backbone as it was before tuning. head: how the run's own head started.

    encode: tokenizes the rows that are asked for; default: as those of training.
    """
    from textune.engine import probe_precision
    from textune.inference import choose_device
    from textune.training.head import MOST_ROWS, MOST_ROWS_ALONE, Network

    training = prepared.config.training
    device = choose_device(training.device)
    precision = probe_precision(training.precision, device)
    # The run's own probe was solved on other features than the plain backbone's where virtual tokens precede the text
    # or contrastive steps came first.
    bare, model = bool(prepared.method.virtual_tokens), prepared.config.model
    same = not bare and not training.contrast_steps and model.init is None
    if model.init is not None:  # the run that it was built on is tuned
        prepared = replace(prepared, config=replace(prepared.config, model=replace(model, init=None)))
    module, _ = build_model(prepared, bare=bare)
    engine, _ = open_engine(prepared, module.to(device), precision)
    network = Network(engine, prepared.backbone.family, prepared.classes, prepared.padding)

    def solve(network: Network) -> Probe:
        most = MOST_ROWS if prepared.method.trains_body else MOST_ROWS_ALONE  # as the run's own
        return solve_head(prepared, network, most, choose_strength=True)

    probe, seconds = (head.probe, head.probe_seconds) if same else (None, 0.0)
    return UntunedBackbone(network, encode or prepared.encode, solve, probe, seconds)
