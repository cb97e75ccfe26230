"""Bottleneck adapters: a small network behind a layer's output (Houlsby et al. 2019, arXiv:1902.00751; Pfeiffer et al.
2020, arXiv:2005.00247). peft has none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textune.backbones.families import Family
from textune.config import option
from textune.errors import ModelError
from textune.methods.base import Method, freeze_all_but, layer_pattern, register

if TYPE_CHECKING:
    import torch

_SCALE = 0.01


@dataclass(frozen=True)
class AdapterOptions:
    """Options of `adapter`."""

    placement: str = option(
        "houlsby",
        "behind attention and feed-forward (houlsby), or behind feed-forward alone (pfeiffer)",
        choices=("houlsby", "pfeiffer"),
    )
    reduction_factor: float = option(16.0, "how much narrower the bottleneck is than the layer", low=1, high=4096)
    activation: str = option("relu", "what stands between the two matrices", choices=("relu", "gelu", "tanh", "silu"))


@register("adapter")
class Adapter(Method):
    """Bottleneck adapters inside every layer, and the head."""

    summary = "a narrow two-layer network behind each layer's output"
    paper = "https://arxiv.org/abs/1902.00751"
    when = "as good as LoRA where a little more time per text does not matter; it cannot be merged"
    options_type = AdapterOptions
    learning_rate = 1e-3
    mergeable = False
    variants: ClassVar = {"pfeiffer": {"placement": "pfeiffer", "activation": "gelu"}}

    @classmethod
    def refusal(cls, family: Family) -> str | None:
        """Return why a guessed family has no adapters."""
        if not family.feed_forward_output:
            return "where its layers join the residual stream is not known"
        return super().refusal(family)

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Freeze the backbone and puts adapters into its layers; raise ModelError where there is no place."""
        freeze_all_but(model, (*family.head_modules, *new_modules))
        places = [family.feed_forward_output]
        if self.options.placement == "houlsby":
            places.append(family.attention_output)
        pattern = re.compile(layer_pattern(family, places))
        found = [name for name, _ in model.named_modules() if pattern.fullmatch(name)]
        if not found:
            raise ModelError(f"method adapter on {family.name}: no layer '{places[0]}' was found")
        for name in found:
            parent, _, own = name.rpartition(".")
            holder = model.get_submodule(parent)
            base = getattr(holder, own)
            setattr(holder, own, _build_adapted(base, self.options))
        return model


def _build_adapted(base: torch.nn.Module, options: AdapterOptions) -> torch.nn.Module:
    """Return a module that runs a layer and add to its output what a bottleneck makes of that output."""
    import torch

    activations = {"relu": torch.nn.ReLU, "gelu": torch.nn.GELU, "tanh": torch.nn.Tanh, "silu": torch.nn.SiLU}

    class Adapted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_layer = base
            width = int(getattr(base, "out_features", None) or base.nf)  # type: ignore[arg-type]  # Conv1D's own name
            narrow = max(1, round(width / options.reduction_factor))
            self.adapter_down = torch.nn.Linear(width, narrow)
            self.adapter_up = torch.nn.Linear(narrow, width)
            self.activation = activations[options.activation]()
            # near the identity at first, as Houlsby et al. found needful
            for linear in (self.adapter_down, self.adapter_up):
                torch.nn.init.trunc_normal_(linear.weight, std=_SCALE, a=-2 * _SCALE, b=2 * _SCALE)
                torch.nn.init.zeros_(linear.bias)

        def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            output: torch.Tensor = self.base_layer(*args, **kwargs)
            correction: torch.Tensor = self.adapter_up(self.activation(self.adapter_down(output)))
            return output + correction

    return Adapted()
