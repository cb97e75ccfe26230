"""Imported adapters that no method of textune builds exactly: peft builds them from their own configuration.

They can be evaluated, exported and used to predict, but not trained, so they have a separate registry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textune.backbones.families import Family
from textune.config import option
from textune.methods.base import adopted, methods, register
from textune.methods.peft_based import PeftMethod, PromptMethod
from textune.tasks import Task

if TYPE_CHECKING:
    import torch

_OTHER_TYPES = (
    "ADALORA",
    "C3A",
    "DELORA",
    "FOURIERFT",
    "HRA",
    "LOHA",
    "LOKR",
    "MISS",
    "OFT",
    "RANDLORA",
    "ROAD",
    "SHIRA",
    "VBLORA",
    "WAVEFT",
)
"""peft's types that can be imported in addition to those of our methods; each is tested. The other types read
additional files, compile code or need more input than a text."""


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
        return build_config(self.options.peft_type, json.loads(self.options.settings), self.peft_task_type)


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
        from textune.methods.prefix import Prefix  # not at the top: the registry lists methods in import order

        return self.options.peft_type != Prefix.peft_type and super().needs_equal_lengths(family)

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Return the prompt's original configuration."""
        return build_config(self.options.peft_type, json.loads(self.options.settings), self.peft_task_type)


def list_exact() -> dict[str, type[PeftMethod]]:
    """Return peft's type -> the method that can build the same adapter."""
    classes = (cls for _, cls in methods if issubclass(cls, PeftMethod))
    return {cls.peft_type: cls for cls in classes if cls.peft_type is not None}


def list_peft_types() -> tuple[str, ...]:
    """Return peft's names of all adapter types that can be imported."""
    return tuple(sorted({*list_exact(), *_OTHER_TYPES}))


def build_config(peft_type: str, settings: dict[str, Any], task_type: str = Task.peft_task_type) -> Any:
    """Return peft's configuration for inference; raise ValueError or TypeError as peft does."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(peft_type)]
    return config_class(task_type=task_type, inference_mode=True, **settings)
