"""Bottleneck adapters: a small network after a sublayer's output (Houlsby et al. 2019, arXiv:1902.00751; Pfeiffer et
al. 2020, arXiv:2005.00247). peft does not implement them.
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
        "where adapters go: after attention and feed-forward (houlsby), or after feed-forward only (pfeiffer)",
        choices=("houlsby", "pfeiffer"),
    )
    reduction_factor: float = option(16.0, "layer width divided by bottleneck width", low=1, high=4096)
    activation: str = option("relu", "activation between the two matrices", choices=("relu", "gelu", "tanh", "silu"))


@register("adapter")
class Adapter(Method):
    """Bottleneck adapters in every layer, plus the head."""

    summary = "a narrow two-layer network after each layer's output"
    paper = "https://arxiv.org/abs/1902.00751"
    when = "as accurate as LoRA if slightly slower inference is acceptable; cannot be merged"
    options_type = AdapterOptions
    learning_rate = 1e-3
    mergeable = False
    variants: ClassVar = {"pfeiffer": {"placement": "pfeiffer", "activation": "gelu"}}

    @classmethod
    def refusal(cls, family: Family) -> str | None:
        """Return why a guessed family does not support adapters."""
        if not family.feed_forward_output:
            return "it is not known where its layers join the residual stream"
        return super().refusal(family)

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Freeze the backbone and add adapters to its layers; raise ModelError if no layer matches."""
        freeze_all_but(model, (*family.head_modules, *new_modules))
        sublayers = [family.feed_forward_output]
        if self.options.placement == "houlsby":
            sublayers.append(family.attention_output)
        pattern = re.compile(layer_pattern(family, sublayers))
        targets = [name for name, _ in model.named_modules() if pattern.fullmatch(name)]
        if not targets:
            raise ModelError(f"method adapter on {family.name}: no layer '{sublayers[0]}' found")
        for name in targets:
            parent_name, _, attribute = name.rpartition(".")
            parent = model.get_submodule(parent_name)
            setattr(parent, attribute, _build_adapted(getattr(parent, attribute), self.options))
        return model


def _build_adapted(base: torch.nn.Module, options: AdapterOptions) -> torch.nn.Module:
    """Return a module that runs a layer and adds a bottleneck's correction to its output."""
    import torch

    activations = {"relu": torch.nn.ReLU, "gelu": torch.nn.GELU, "tanh": torch.nn.Tanh, "silu": torch.nn.SiLU}

    class Adapted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_layer = base
            width = int(getattr(base, "out_features", None) or base.nf)  # type: ignore[arg-type]  # Conv1D's name
            bottleneck = max(1, round(width / options.reduction_factor))
            self.adapter_down = torch.nn.Linear(width, bottleneck)
            self.adapter_up = torch.nn.Linear(bottleneck, width)
            self.activation = activations[options.activation]()
            # Houlsby et al. found that training needs a near-identity start.
            for linear in (self.adapter_down, self.adapter_up):
                torch.nn.init.trunc_normal_(linear.weight, std=_SCALE, a=-2 * _SCALE, b=2 * _SCALE)
                torch.nn.init.zeros_(linear.bias)

        def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            output: torch.Tensor = self.base_layer(*args, **kwargs)
            correction: torch.Tensor = self.adapter_up(self.activation(self.adapter_down(output)))
            return output + correction

    return Adapted()
