"""Learning rates by parameter: a separate rate for the head, and rates by layer.

This is an optimizer policy, not a method: it works with every method that trains something inside the layers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textune.backbones.families import Family
from textune.errors import ConfigError

if TYPE_CHECKING:
    import torch

EMBEDDINGS = -1
"""The layer number of everything below the first layer."""


@dataclass(frozen=True)
class Rates:
    """Peak learning rates of one run.

    body, head: head applies to the new modules on top, which start from random weights.
    layer_decay: each layer's rate as a share of the rate of the layer above (Sun et al. 2019, arXiv:1905.05583).
    layer_rates: (layers, rate) pairs; layers are "lower" or "upper" (half), "embeddings", a number from 0, or "0-5".
    """

    body: float
    head: float
    weight_decay: float
    layer_decay: float | None = None
    layer_rates: tuple[tuple[str, float], ...] = ()


def is_inside(parameter: str, modules: Iterable[str]) -> bool:
    """Return whether a parameter is inside one of the modules by its dotted name, also when wrapped by peft."""
    dotted = f".{parameter}."
    return any(f".{module}." in dotted for module in modules)


def group_parameters(
    model: torch.nn.Module, family: Family, rates: Rates, factor: Callable[[str], float] = lambda name: 1.0
) -> list[dict[str, Any]]:
    """Group trainable parameters by rate and decay; biases, norms and scaling vectors are never decayed.

    factor: the method's factor for a parameter's rate, by name.
    Raises ConfigError if the rates by layer do not fit the backbone or the method.
    """
    rate_of = _LayerRates(model, family, rates)
    groups: dict[tuple[str, float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_head = is_inside(name, family.head_modules)
        part, rate = ("head", rates.head) if in_head else rate_of(name)
        rate *= factor(name)
        decayed = parameter.ndim >= 2 and _SCALING not in name
        group = groups.setdefault(
            (part, rate, decayed),
            {
                "name": part + ("" if decayed else ", no decay"),
                "params": [],
                "lr": rate,
                "weight_decay": rates.weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


_SCALING = "ia3_l"
"""In the names of IA3's vectors, which peft keeps as matrices of one row or column; so are matrices of rank 1."""


class _LayerRates:
    """The rate of each parameter of the body, by its layer."""

    def __init__(self, model: torch.nn.Module, family: Family, rates: Rates) -> None:
        self._rates, self._family = rates, family
        self._by_layer = rates.layer_decay is not None or bool(rates.layer_rates)
        self._pattern = re.compile(rf"(?:^|\.){re.escape(family.layers)}\.(\d+)\.")
        if not self._by_layer:
            return
        if family.shared_layers:
            raise ConfigError(
                f"all layers of {family.name} share the same weights: they cannot have separate rates",
                hint="leave layer_decay and layer_rates out",
            )
        if rates.layer_decay is not None and rates.layer_rates:
            raise ConfigError("layer_decay and layer_rates cannot be combined", hint="leave one of them out")
        layers = {self._layer_of(name) for name, _ in model.named_parameters()} - {None, EMBEDDINGS}
        self._count = 1 + max(n for n in layers if n is not None)
        self._layer_rates = parse_layer_rates(rates.layer_rates, self._count)
        if any(words == "embeddings" for words, _ in rates.layer_rates) and not any(
            self._layer_of(name) == EMBEDDINGS for name, _ in model.named_parameters()
        ):
            raise ConfigError(
                f"layer_rates: the embeddings of {family.name} are not known", hint="leave embeddings out"
            )
        trained = {self._layer_of(n) for n, p in model.named_parameters() if p.requires_grad}
        if trained <= {None}:
            raise ConfigError(
                "rates by layer have no effect: the method trains nothing inside the layers",
                hint="leave layer_decay and layer_rates out, or choose another method=",
            )

    def __call__(self, name: str) -> tuple[str, float]:
        layer = self._layer_of(name) if self._by_layer else None
        if layer is None:
            return "body", self._rates.body
        part = "body, embeddings" if layer == EMBEDDINGS else f"body, layer {layer}"
        if self._rates.layer_decay is not None:
            return part, self._rates.body * self._rates.layer_decay ** (self._count - 1 - layer)
        return part, self._layer_rates.get(layer, self._rates.body)

    def _layer_of(self, name: str) -> int | None:
        if (match := self._pattern.search(name)) is not None:
            return int(match[1])
        return EMBEDDINGS if is_inside(name, self._family.embeddings) else None


def parse_layer_rates(pairs: Iterable[tuple[str, float]], count: int) -> dict[int, float]:
    """Return the rate of each named layer; "lower" includes the embeddings unless they are named separately.

    Raises ConfigError for layers that do not exist or are named twice.
    """
    rates: dict[int, float] = {}
    named: dict[int, str] = {}
    half = count // 2
    for words, rate in pairs:
        lower = range(EMBEDDINGS, half)
        spans = {"lower": lower, "upper": range(half, count), "embeddings": range(EMBEDDINGS, 0)}
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", words)
        if words not in spans and match is None:
            raise ConfigError(
                f"layer_rates: unknown layers '{words}'",
                hint="use lower, upper, embeddings, a layer counted from 0, or a span such as 0-5",
            )
        span = spans[words] if match is None else range(int(match[1]), int(match[2] or match[1]) + 1)
        if not span or span[-1] >= count:
            raise ConfigError(f"layer_rates: there are no layers '{words}'", hint=f"layers are 0 to {count - 1}")
        for layer in span:
            if layer in named and {named[layer], words} != {"lower", "embeddings"}:
                what = "the embeddings are" if layer == EMBEDDINGS else f"layer {layer} is"
                raise ConfigError(f"layer_rates: {what} named twice, in '{named[layer]}' and in '{words}'")
            if layer not in named or words == "embeddings":
                rates[layer], named[layer] = rate, words
    return rates
