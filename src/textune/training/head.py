"""The head's first weights: solved on frozen features, so that tuning starts from the linear probe.

Features are what the head's last layer reads, asked of the engine itself: that layer is taken out for one pass over
the training rows. So they are pooled, and averaged over the windows of a long text, as the model does it. A hidden
layer below it (RoBERTa, ELECTRA, DistilBERT, MPNet, DeBERTa, ModernBERT) that the checkpoint lacks starts as a scaled
identity whose activation works in its straight part; the probe is solved on what that layer gives, so the model gives
the probe's logits exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.backbones.families import Family
from textune.errors import ModelError
from textune.methods import is_inside
from textune.tasks import ProbeLoss
from textune.tokens.batches import EncodedSplit, Padding
from textune.training.probe import Probe, solve_probe

if TYPE_CHECKING:
    import torch

    from textune.engine import Engine

PROBE = "probe"
MOST_ROWS = 20_000
"""Training rows that a probe is solved on; of more, so many are drawn, with some of every class."""
MOST_ROWS_ALONE = 50_000
"""The same where nothing but the head is trained."""
_ROWS_OF_EVERY_CLASS = 8
_STRAIGHT_PART = {"tanh": (0.25, 0.0), "relu": (1.0, 4.0), "gelu": (1.0, 4.0)}
"""Activation -> scale and shift that keep features of variance 1 where the activation is almost straight."""


@dataclass(frozen=True)
class Network:
    """An engine, and what is needed to take the features of a text out of it. classes: of its head."""

    engine: Engine
    family: Family
    classes: int
    padding: Padding

    @property
    def has_output_layer(self) -> bool:
        """Whether the head ends in a trained linear layer; that of an unknown architecture may not."""
        try:
            self.find_output_layer()
        except ModelError:
            return False
        return True

    def find_output_layer(self) -> tuple[torch.nn.Module, str]:
        """Return the module that holds the head's last layer, and its name there; raises ModelError."""
        return find_output_layer(self.engine.model, self.family, self.classes)

    @contextmanager
    def without_output_layer(self) -> Iterator[None]:
        """Let the engine return the features of a text instead of its logits."""
        import torch

        parent, name = self.find_output_layer()
        layer = getattr(parent, name)
        setattr(parent, name, torch.nn.Identity())
        self.engine.refresh()
        try:
            yield
        finally:
            setattr(parent, name, layer)
            self.engine.refresh()

    def compute_features(self, split: EncodedSplit) -> NDArray[np.float32]:
        """Return what the head's last layer reads of every row: float32 [rows, width]."""
        from textune.engine import predict_logits

        with self.without_output_layer():
            return predict_logits(self.engine, split, self.padding)


def find_output_layer(model: torch.nn.Module, family: Family, classes: int) -> tuple[torch.nn.Module, str]:
    """Return the module that holds the trained head's last layer, and its name there; raise ModelError."""
    import torch

    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and is_inside(name, family.head_modules)
        and module.out_features == classes
        and module.weight.requires_grad
    ]
    if not found:
        raise ModelError("the head has no trained linear layer that gives the classes", hint="set head_init=random")
    parent, _, name = found[-1].rpartition(".")
    return model.get_submodule(parent), name


def straighten_hidden_layer(model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> None:
    """Make a new hidden layer of the head a scaled identity; leave one that came with the checkpoint unchanged."""
    import torch

    name, activation = family.hidden_layer
    if not name or name not in new_modules:
        return
    layer = model.get_submodule(name)
    assert isinstance(layer, torch.nn.Linear)
    if layer.in_features != layer.out_features:
        return
    scale, shift = _STRAIGHT_PART[activation]
    with torch.no_grad():
        torch.nn.init.eye_(layer.weight).mul_(scale)
        if layer.bias is not None:
            layer.bias.fill_(shift)


def choose_rows(targets: NDArray[Any], most: int, seed: int) -> NDArray[np.int64]:
    """Return the rows to solve a probe on, ascending: all, or a random part that has some rows of every class."""
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.random.default_rng([seed, 2]).permutation(len(targets))
    shuffled = targets[order]
    if targets.ndim == 1:
        first = [np.flatnonzero(shuffled == c)[:_ROWS_OF_EVERY_CLASS] for c in np.unique(targets)]
    else:
        first = [np.flatnonzero(shuffled[:, c] > 0)[:_ROWS_OF_EVERY_CLASS] for c in range(targets.shape[1])]
    places = np.concatenate([*first, np.arange(len(targets))])
    _, once = np.unique(places, return_index=True)
    return np.sort(order[places[np.sort(once)][:most]])


def start_head(
    network: Network,
    split: EncodedSplit,
    loss: ProbeLoss,
    *,
    seed: int,
    most_rows: int = MOST_ROWS,
    strength: float | None = None,
) -> Probe:
    """Solve the head on the features of training rows. strength: its C; None: chosen by cross-validation."""
    rows = choose_rows(split.targets, most_rows, seed)
    part = EncodedSplit(split.tokens.take(rows), split.targets[rows], split.source_rows[rows])
    if len(rows) == len(split):
        part = split  # the same tokens, so that the states of frozen layers are found in the cache
    parent, name = network.find_output_layer()
    loss = replace(loss, intercept=getattr(parent, name).bias is not None)
    return solve_probe(network.compute_features(part), part.targets, network.classes, loss, seed, strength=strength)


def set_head(network: Network, probe: Probe) -> None:
    """Write solved weights into the head's last layer."""
    import torch

    parent, name = network.find_output_layer()
    layer = getattr(parent, name)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(probe.weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(probe.bias))
    network.engine.refresh()


def set_starting_bias(model: torch.nn.Module, new_modules: Sequence[str], bias: NDArray[Any] | None) -> None:
    """Give the last layer of a new head its first bias; a head that the checkpoint brought stays as it is."""
    import torch

    layers = [
        module
        for name, module in model.named_modules()
        if name in new_modules
        and isinstance(module, torch.nn.Linear)
        and bias is not None
        and module.out_features == len(bias)
        and module.bias is not None
    ]
    if layers:
        with torch.no_grad():
            layers[-1].bias.copy_(torch.from_numpy(bias))
