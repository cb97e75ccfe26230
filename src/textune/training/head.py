"""The head's first weights: solved on frozen features, so that tuning starts from the linear probe.

Features are what the head's last layer reads, asked of the engine itself: that layer is taken out for one pass over
the training rows. So they are pooled, and averaged over the windows of a long text, as the model does it. A hidden
layer below it (RoBERTa, ELECTRA, DistilBERT, MPNet, DeBERTa, ModernBERT) that the checkpoint lacks starts as a scaled
identity whose activation works in its straight part; the probe is solved on what that layer gives, so the model gives
the probe's logits exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.backbones.families import Family
from textune.errors import ModelError
from textune.methods import is_inside
from textune.tokens.batches import EncodedSplit, Padding
from textune.training.probe import Loss, Probe, solve_probe

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


def find_output_layer(model: torch.nn.Module, family: Family, classes: int) -> tuple[torch.nn.Module, str]:
    """Returns the module that holds the trained head's last layer, and its name there; raises ModelError."""
    import torch

    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and is_inside(name, family.head_modules)
        and module.out_features == classes and module.weight.requires_grad
    ]  # fmt: skip
    if not found:
        raise ModelError("the head has no trained linear layer that gives the classes", hint="set head_init=random")
    parent, _, name = found[-1].rpartition(".")
    return model.get_submodule(parent), name


def has_output_layer(model: torch.nn.Module, family: Family, classes: int) -> bool:
    """Returns whether `find_output_layer` finds one; of an unknown architecture it may not."""
    try:
        find_output_layer(model, family, classes)
    except ModelError:
        return False
    return True


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


@contextmanager
def without_output_layer(engine: Engine, family: Family, classes: int) -> Iterator[None]:
    """Lets the engine give the features of a text in the place of its logits."""
    import torch

    parent, name = find_output_layer(engine.model, family, classes)
    layer = getattr(parent, name)
    setattr(parent, name, torch.nn.Identity())
    engine.refresh()
    try:
        yield
    finally:
        setattr(parent, name, layer)
        engine.refresh()


def compute_features(
    engine: Engine, family: Family, classes: int, split: EncodedSplit, padding: Padding
) -> NDArray[np.float32]:
    """Returns what the head's last layer reads of every row: float32 [rows, width]."""
    from textune.engine import predict_logits

    with without_output_layer(engine, family, classes):
        return predict_logits(engine, split, padding)


def choose_rows(targets: NDArray[Any], most: int, seed: int) -> NDArray[np.int64]:
    """Returns the rows to solve a probe on, ascending: all, or a random part that has some rows of every class."""
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
    engine: Engine, family: Family, classes: int, split: EncodedSplit, padding: Padding, loss: Loss, *, seed: int,
    most_rows: int = MOST_ROWS, strength: float | None = None,
) -> Probe:  # fmt: skip
    """Solves the head on the features of training rows. strength: its C; None: chosen by cross-validation."""
    rows = choose_rows(split.targets, most_rows, seed)
    part = EncodedSplit(split.tokens.take(rows), split.targets[rows], split.source_rows[rows])
    if len(rows) == len(split):
        part = split  # the very tokens that frozen layers may be kept of
    parent, name = find_output_layer(engine.model, family, classes)
    intercept = getattr(parent, name).bias is not None
    features = compute_features(engine, family, classes, part, padding)
    return solve_probe(features, part.targets, classes, loss, seed, intercept=intercept, strength=strength)


def set_head(engine: Engine, family: Family, probe: Probe) -> None:
    """Writes solved weights into the head's last layer."""
    import torch

    parent, name = find_output_layer(engine.model, family, len(probe.bias))
    layer = getattr(parent, name)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(probe.weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(probe.bias))
    engine.refresh()
