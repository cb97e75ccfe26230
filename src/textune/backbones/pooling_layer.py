"""Mean pooling as an extra layer of a plain BERT-like model, so that `pipeline` loads an export without textune.

A layer whose queries and keys are zero attends to all tokens equally. With identity matrices for values and output and
a zero feed-forward part, its first token becomes `LayerNorm(first + factor * mean)`. The states below are scaled down
and the mean up, by powers of two, until the first token's own share is below rounding error even in half precision.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from textune.backbones.families import Family
from textune.backbones.pooling import MEAN, find_body, find_pooling

if TYPE_CHECKING:
    import torch

_SCALE_DOWN, _SCALE_UP = 2.0**-10, 2.0**7
"""Scales of the states below and of their mean: the mean outweighs the first token by 2 ** 17."""
_POOLER_SCALE = 2.0**-12
"""Scale of the input of BERT's pooler, small enough for its tanh to be linear."""


def can_add_layer(family: Family) -> bool:
    """Return whether mean pooling can be added as a layer to a plain model of this family."""
    return family.name in _PARTS


def needs_layer(model: torch.nn.Module) -> bool:
    """Return whether a hook does the classifier's mean pooling."""
    pooling = find_pooling(find_body(model))
    return pooling is not None and pooling.form == MEAN


def add_pooling_layer(model: Any, family: Family) -> Any:
    """Return a plain transformers model, one layer deeper, with the same logits as the model with mean pooling."""
    import torch

    config = copy.deepcopy(model.config)
    config.num_hidden_layers += 1
    plain = type(model)(config).to(torch.float32).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    layers = list(plain.get_submodule(family.layers))
    parts = _PARTS[family.name]
    with torch.no_grad():
        below = layers[-2].get_submodule(parts["norms"][1])
        below.weight.mul_(_SCALE_DOWN)
        below.bias.mul_(_SCALE_DOWN)
        top = layers[-1]
        for name in (*parts["zero"], *parts["identity"]):
            linear = top.get_submodule(name)
            linear.weight.zero_()
            linear.bias.zero_()
        for name, factor in zip(parts["identity"], (1 / _SCALE_DOWN, _SCALE_UP), strict=True):
            torch.nn.init.eye_(top.get_submodule(name).weight).mul_(factor)
        for name in parts["norms"]:
            torch.nn.init.ones_(top.get_submodule(name).weight)
            torch.nn.init.zeros_(top.get_submodule(name).bias)
        pooler = getattr(find_body(plain), "pooler", None)
        if pooler is not None:
            torch.nn.init.eye_(pooler.dense.weight).mul_(_POOLER_SCALE)
            torch.nn.init.zeros_(pooler.dense.bias)
            plain.classifier.weight.div_(_POOLER_SCALE)
    return plain


_BERT_PARTS = {
    "zero": ("attention.self.query", "attention.self.key", "intermediate.dense", "output.dense"),
    "identity": ("attention.self.value", "attention.output.dense"),
    "norms": ("attention.output.LayerNorm", "output.LayerNorm"),
}
_PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "bert": _BERT_PARTS,
    "roberta": _BERT_PARTS,
    "xlm-roberta": _BERT_PARTS,
    "electra": _BERT_PARTS,
    "distilbert": {
        "zero": ("attention.q_lin", "attention.k_lin", "ffn.lin1", "ffn.lin2"),
        "identity": ("attention.v_lin", "attention.out_lin"),
        "norms": ("sa_layer_norm", "output_layer_norm"),
    },
}
