"""Imported adapters that no method of textune builds exactly: peft builds them from their own configuration.

They can be evaluated, exported and used to predict, but not trained, so they have a separate registry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textune.backbones.families import Family
from textune.config import option
from textune.methods.base import adopted, register
from textune.methods.peft_based import PeftMethod, PromptMethod

if TYPE_CHECKING:
    import torch

_KEEPS_IDS = ("PREFIX_TUNING",)


@dataclass(frozen=True)
class AdoptedOptions:
    """Options of `peft` and `peft_prompt`."""

    peft_type: str = option("", "peft's name of the method")
    settings: str = option("{}", "peft's configuration as JSON, without its defaults")


@register("peft", adopted)
class AdoptedPeft(PeftMethod):
    """Any peft adapter inside the layers."""

    summary = "an imported adapter"
    options_type = AdoptedOptions

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Return the adapter's original configuration."""
        return build_config(self.options.peft_type, json.loads(self.options.settings))


@register("peft_prompt", adopted)
class AdoptedPrompt(PromptMethod):
    """Any peft prompt or prefix."""

    summary = "an imported prompt"
    options_type = AdoptedOptions

    @property
    def virtual_tokens(self) -> int:
        """Positions taken by virtual tokens."""
        return int(json.loads(self.options.settings)["num_virtual_tokens"])

    def needs_equal_lengths(self, family: Family) -> bool:
        """Return True for decoders, except with a prefix: there the ids show where a text ends."""
        return self.options.peft_type not in _KEEPS_IDS and super().needs_equal_lengths(family)

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Return the prompt's original configuration."""
        return build_config(self.options.peft_type, json.loads(self.options.settings))


def build_config(peft_type: str, settings: dict[str, Any]) -> Any:
    """Return peft's configuration for classification inference; raise ValueError or TypeError as peft does."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(peft_type)]
    return config_class(task_type="SEQ_CLS", inference_mode=True, **settings)
