"""Which learning rate each parameter gets: the head's own, and rates that differ from layer to layer.

An optimizer policy, not a method: it composes with every method that trains something inside the layers.
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
"""Stands for the layer number of what lies below the first layer."""


@dataclass(frozen=True)
class Rates:
    """Peak learning rates of one run.

    body, head: head is for the new modules on top, which start from random weights.
    layer_decay: each layer learns at this share of the rate of the one above it (Sun et al. 2019, arXiv:1905.05583).
    layer_rates: (layers, rate) pairs; layers are "lower" or "upper" (half), "embeddings", a number from 0, or "0-5".
    """

    body: float
    head: float
    weight_decay: float
    layer_decay: float | None = None
    layer_rates: tuple[tuple[str, float], ...] = ()


def is_inside(parameter: str, modules: Iterable[str]) -> bool:
    """Return whether a parameter's dotted name runs through one of the modules (peft's wrapping included)."""
    dotted = f".{parameter}."
    return any(f".{module}." in dotted for module in modules)


def group_parameters(
    model: torch.nn.Module, family: Family, rates: Rates, factor: Callable[[str], float] = lambda name: 1.0
) -> list[dict[str, Any]]:
    """Group trainable parameters by rate and decay; biases, norms and scaling vectors are never decayed.

    factor: what a method multiplies the rate of a parameter with, by its name.
    Raises ConfigError where the rates by layer fit neither the backbone nor the method.
    """
    rate_of = _LayerRates(model, family, rates)
    groups: dict[tuple[str, float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_head = is_inside(name, family.head_modules)
        part, rate = ("head", rates.head) if in_head else rate_of(name)
        rate *= factor(name)
        decayed = parameter.ndim >= 2 and min(parameter.shape) > 1
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


class _LayerRates:
    """The rate of each parameter of the body, by the layer that it lies in."""

    def __init__(self, model: torch.nn.Module, family: Family, rates: Rates) -> None:
        self._rates, self._family = rates, family
        self._differ = rates.layer_decay is not None or bool(rates.layer_rates)
        self._pattern = re.compile(rf"(?:^|\.){re.escape(family.layers)}\.(\d+)\.")
        if not self._differ:
            return
        if family.shared_layers:
            raise ConfigError(
                f"{family.name} shares one layer's weights among all: no layer has a rate of its own",
                hint="leave layer_decay and layer_rates out",
            )
        if rates.layer_decay is not None and rates.layer_rates:
            raise ConfigError("layer_decay and layer_rates are two ways to say the same", hint="leave one of them out")
        found = {self._layer_of(name) for name, _ in model.named_parameters()} - {None, EMBEDDINGS}
        self._count = 1 + max(n for n in found if n is not None)
        self._given = parse_layer_rates(rates.layer_rates, self._count)
        if any(words == "embeddings" for words, _ in rates.layer_rates) and not any(
            self._layer_of(name) == EMBEDDINGS for name, _ in model.named_parameters()
        ):
            raise ConfigError(
                f"layer_rates: where the embeddings of {family.name} are is not known", hint="leave embeddings out"
            )
        trained = {self._layer_of(n) for n, p in model.named_parameters() if p.requires_grad}
        if trained <= {None}:
            raise ConfigError(
                "rates by layer have no effect here: the method trains nothing inside the layers",
                hint="leave layer_decay and layer_rates out, or choose another method=",
            )

    def __call__(self, name: str) -> tuple[str, float]:
        layer = self._layer_of(name) if self._differ else None
        if layer is None:
            return "body", self._rates.body
        told = "body, embeddings" if layer == EMBEDDINGS else f"body, layer {layer}"
        if self._rates.layer_decay is not None:
            return told, self._rates.body * self._rates.layer_decay ** (self._count - 1 - layer)
        return told, self._given.get(layer, self._rates.body)

    def _layer_of(self, name: str) -> int | None:
        if (found := self._pattern.search(name)) is not None:
            return int(found[1])
        return EMBEDDINGS if is_inside(name, self._family.embeddings) else None


def parse_layer_rates(pairs: Iterable[tuple[str, float]], count: int) -> dict[int, float]:
    """Return the rate of each layer that is named; the lower half takes the embeddings along unless they are named.

    Raises ConfigError for layers that are not there or come twice.
    """
    given: dict[int, float] = {}
    named: dict[int, str] = {}
    half = count // 2
    for words, rate in pairs:
        lower = range(EMBEDDINGS, half)
        spans = {"lower": lower, "upper": range(half, count), "embeddings": range(EMBEDDINGS, 0)}
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", words)
        if words not in spans and found is None:
            raise ConfigError(
                f"layer_rates: '{words}' is not understood",
                hint="name lower, upper, embeddings, a layer counted from 0, or a span such as 0-5",
            )
        span = spans[words] if found is None else range(int(found[1]), int(found[2] or found[1]) + 1)
        if not span or span[-1] >= count:
            raise ConfigError(f"layer_rates: there are no layers '{words}'", hint=f"layers are 0 to {count - 1}")
        for layer in span:
            if layer in named and {named[layer], words} != {"lower", "embeddings"}:
                what = "the embeddings come" if layer == EMBEDDINGS else f"layer {layer} comes"
                raise ConfigError(f"layer_rates: {what} twice, in '{named[layer]}' and in '{words}'")
            if layer not in named or words == "embeddings":
                given[layer], named[layer] = rate, words
    return given
