"""Prompt tuning: trained embeddings before the text (Lester et al. 2021, arXiv:2104.08691), implemented by peft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textune.backbones.families import Family
from textune.config import option
from textune.methods.base import register
from textune.methods.peft_based import PromptMethod, list_saved_modules, prompt_shape

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PromptOptions:
    """Options of `prompt`."""

    tokens: int = option(8, "virtual tokens before the text", low=1, high=512)


@register("prompt")
class Prompt(PromptMethod):
    """Soft prompts at the input, initialized with the embeddings of random words."""

    summary = "trained embeddings before the text"
    paper = "https://arxiv.org/abs/2104.08691"
    when = "large backbones; on small encoders it learns slowly and is often worse than LoRA"
    options_type = PromptOptions
    learning_rate = 3e-2
    peft_type = "PROMPT_TUNING"
    peft_fields: ClassVar = {"tokens": "num_virtual_tokens"}
    head_learning_rate = 2e-3

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Return peft's PromptTuningConfig."""
        from peft import PromptTuningConfig

        return PromptTuningConfig(
            task_type=self.peft_task_type,
            num_virtual_tokens=self.options.tokens,
            prompt_tuning_init="SAMPLE_VOCAB",
            modules_to_save=list_saved_modules(family, new_modules),
            **prompt_shape(model, family),
        )
