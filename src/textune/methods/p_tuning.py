"""P-tuning: soft prompts produced by a small network (Liu et al. 2021, arXiv:2103.10385), implemented by peft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textune.backbones.families import Family
from textune.config import option
from textune.methods.base import register
from textune.methods.peft_based import PromptMethod, list_saved_modules, prompt_shape
from textune.methods.prompt import PromptOptions

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PTuningOptions(PromptOptions):
    """Options of `p_tuning`."""

    hidden_size: int = option(128, "width of the network that produces the prompts", low=1, high=65_536)


@register("p_tuning")
class PTuning(PromptMethod):
    """Soft prompts from a network that only training needs: the run saves the prompts, not the network."""

    summary = "soft prompts that a small network produces during training"
    paper = "https://arxiv.org/abs/2103.10385"
    when = "where prompt tuning learns too slowly"
    options_type = PTuningOptions
    learning_rate = 5e-3
    peft_type = "P_TUNING"
    peft_fields: ClassVar = {"tokens": "num_virtual_tokens", "hidden_size": "encoder_hidden_size"}
    head_learning_rate = 2e-3

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Return peft's PromptEncoderConfig."""
        from peft import PromptEncoderConfig

        return PromptEncoderConfig(
            task_type=self.peft_task_type,
            num_virtual_tokens=self.options.tokens,
            encoder_hidden_size=self.options.hidden_size,
            encoder_reparameterization_type="MLP",
            modules_to_save=list_saved_modules(family, new_modules),
            **prompt_shape(model, family),
        )

    def fold(self, prompt_encoder: Any) -> None:
        """Remove the network: the run saved its prompts instead."""
        import torch

        prompt_encoder.mlp_head = torch.nn.Identity()
