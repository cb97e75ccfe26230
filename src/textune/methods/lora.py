"""LoRA: a trained low-rank update beside frozen weights (Hu et al. 2021, arXiv:2106.09685), by peft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textune.backbones import Family
from textune.config import option
from textune.methods.base import module_pattern, register
from textune.methods.peft_based import PeftMethod, list_saved_modules

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LoraOptions:
    """Options of `lora`."""

    r: int = option(
        8, "rank of the update, an integer: a 768 x 768 weight at rank 4 gets 6,144 numbers", low=1, high=4096
    )
    alpha: float = option(16.0, "the update is scaled by alpha / r", low=1e-6, high=1e6)
    dropout: float = option(0.0, "dropout before the update's first matrix", low=0, high=0.9)
    targets: tuple[str, ...] | None = option(
        None, "linear layers to adapt, by the end of their names; default: the family's"
    )


@register("lora")
class Lora(PeftMethod):
    """LoRA on the family's linear layers."""

    summary = "low-rank updates beside frozen weights"
    paper = "https://arxiv.org/abs/2106.09685"
    options_type = LoraOptions
    learning_rate = 1e-3

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Returns peft's LoraConfig; the head is trained whole, never adapted."""
        from peft import LoraConfig

        saved = list_saved_modules(family, new_modules)
        return LoraConfig(
            task_type="SEQ_CLS",
            r=self.options.r,
            lora_alpha=self.options.alpha,
            lora_dropout=self.options.dropout,
            target_modules=list(self.options.targets or family.lora_targets),
            exclude_modules=module_pattern(saved),
            modules_to_save=saved,
        )

    def resolved_options(self, family: Family) -> dict[str, Any]:
        """Returns the options with the family's target layers filled in."""
        return super().resolved_options(family) | {"targets": list(self.options.targets or family.lora_targets)}
