"""The head's first weights: solved on frozen features, so that tuning starts from the linear probe.

Features are the input of the head's last layer. The engine computes them: that layer is replaced by the identity for
one pass over the training rows, so features are pooled, and averaged over windows, exactly as in the model. If the head
has a hidden layer (RoBERTa, ELECTRA, DistilBERT, MPNet, DeBERTa, ModernBERT) that is not in the checkpoint, it starts
as a scaled identity in the almost linear part of its activation. The probe is solved on that layer's output, so the
model gives exactly the probe's logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.backbones.families import Family
from textune.errors import ModelError, TrainingError
from textune.methods import is_inside
from textune.tasks import ProbeLoss
from textune.tokens.batches import EncodedSplit, Padding
from textune.training.names import tell_apart
from textune.training.probe import Probe, solve_probe

if TYPE_CHECKING:
    import torch

    from textune.engine import Engine

PROBE = "probe"
MOST_ROWS = 20_000
"""The most training rows for solving a probe; from larger sets this many are drawn, with some of every class."""
MOST_ROWS_ALONE = 50_000
"""The same limit when only the head is trained."""
_ROWS_OF_EVERY_CLASS = 8
_STRAIGHT_PART = {"tanh": (0.25, 0.0), "relu": (1.0, 4.0), "gelu": (1.0, 4.0), "gelu, norm": (1 / 16, 0.0)}
"""Activation -> scale and shift that keep features of variance 1 where the activation is almost linear. Near 0, gelu is
nearly straight, too: where a norm follows, which restores the size, no shift is needed (ModernBERT's has no bias)."""


@dataclass(frozen=True)
class Network:
    """An engine and what is needed to compute features with it. classes: of its head."""

    engine: Engine
    family: Family
    classes: int
    padding: Padding

    @property
    def has_output_layer(self) -> bool:
        """Whether the head ends in a trained linear layer; on an unknown architecture it may not."""
        try:
            self.find_output_layer()
        except ModelError:
            return False
        return True

    def find_output_layer(self) -> tuple[torch.nn.Module, str]:
        """Return the parent of the head's last layer and the layer's name in it; raise ModelError."""
        return find_output_layer(self.engine.model, self.family, self.classes)

    @contextmanager
    def without_output_layer(self) -> Iterator[None]:
        """Make the engine return features instead of logits."""
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
        """Return the input of the head's last layer for every row: float32 [rows, width]."""
        from textune.engine import predict_logits

        with self.without_output_layer():
            return predict_logits(self.engine, split, self.padding)


def find_output_layer(model: torch.nn.Module, family: Family, classes: int) -> tuple[torch.nn.Module, str]:
    """Return the parent of the trained head's last layer and the layer's name in it; raise ModelError."""
    import torch

    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and is_inside(name, family.head_modules)
        and module.out_features == classes
        and module.weight.requires_grad
    ]
    if not names:
        raise ModelError("the head has no trained linear layer with one output per class", hint="set head_init=random")
    parent, _, name = names[-1].rpartition(".")
    return model.get_submodule(parent), name


def straighten_hidden_layer(model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> None:
    """Make a new hidden layer of the head a scaled identity; leave a pretrained one unchanged."""
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


def find_shift(network: Network) -> float:
    """Return what a straightened hidden layer adds to every feature; 0 without such a layer, or once it is trained."""
    import torch

    name, activation = network.family.hidden_layer
    scale, shift = _STRAIGHT_PART.get(activation, (0.0, 0.0))
    for path, layer in network.engine.model.named_modules():
        path = path.replace(".modules_to_save.default", "")  # where peft puts a head
        if "original_module" in path:  # peft keeps what the head was before
            continue
        if shift and isinstance(layer, torch.nn.Linear) and is_inside(path, [name]):
            wanted = scale * torch.eye(*layer.weight.shape, device=layer.weight.device)
            return shift if torch.equal(layer.weight.float(), wanted) else 0.0
    return 0.0


def choose_rows(targets: NDArray[Any], most: int, seed: int) -> NDArray[np.int64]:
    """Return the rows for solving a probe, ascending: all, or a random sample with some rows of every class."""
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.random.default_rng([seed, 2]).permutation(len(targets))
    shuffled = targets[order]
    if targets.ndim == 1:
        of_class = [np.flatnonzero(shuffled == c)[:_ROWS_OF_EVERY_CLASS] for c in np.unique(targets)]
    else:
        of_class = [np.flatnonzero(shuffled[:, c] > 0)[:_ROWS_OF_EVERY_CLASS] for c in range(targets.shape[1])]
    ranks = np.concatenate([np.arange(len(rows)) for rows in of_class])
    guaranteed = np.concatenate(of_class)[np.argsort(ranks, kind="stable")]  # the first row of every class comes first
    positions = np.concatenate([guaranteed, np.arange(len(targets))])
    _, first_indices = np.unique(positions, return_index=True)
    return np.sort(order[positions[np.sort(first_indices)][:most]])


def start_head(
    network: Network,
    split: EncodedSplit,
    loss: ProbeLoss,
    *,
    seed: int,
    most_rows: int = MOST_ROWS,
    strength: float | None = None,
    names: EncodedSplit | None = None,
) -> Probe:
    """Solve the head on features of training rows. strength: its C; None: choose it by cross-validation.

    names: class names, each of which counts as one more row if they alone tell the rows apart.

    The probe's `rows` are numbers of rows of the split.
    """
    rows = choose_rows(split.targets, most_rows, seed)
    part = split.take(rows)
    if len(rows) == len(split):
        part = split  # the same object, so that the engine finds cached states of frozen layers
    parent, name = network.find_output_layer()
    loss = replace(loss.take(rows), intercept=getattr(parent, name).bias is not None)
    features, targets = network.compute_features(part), part.targets
    if names is not None and tell_apart(named := network.compute_features(names), features, targets):
        features, targets = np.concatenate([features, named]), np.concatenate([targets, names.targets])
    used = len(features) - len(part)
    _refuse_odd_features(features[: len(part)], part)
    probe = solve_probe(features, targets, network.classes, loss, seed, strength=strength, names=used)
    return replace(probe, rows=rows[probe.rows])


def _refuse_odd_features(features: NDArray[np.float32], split: EncodedSplit) -> None:
    """Raise TrainingError for features that are NaN or infinite."""
    odd = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(odd):
        raise TrainingError(
            f"the backbone's output is NaN or infinite for {len(odd):,} of {len(features):,} training rows, such as "
            f"row {split.source_rows[odd[0]]}",
            hint="the backbone's files may be damaged; else try precision=fp32",
        )


def set_head(network: Network, probe: Probe) -> None:
    """Copy solved weights into the head's last layer."""
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
