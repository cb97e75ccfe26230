"""IA3: trained vectors that rescale keys, values and feed-forward activations (Liu et al. 2022, arXiv:2205.05638)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textune.backbones.families import Family
from textune.methods.base import layer_pattern, register
from textune.methods.peft_based import PeftMethod, list_saved_modules, uses_conv1d

if TYPE_CHECKING:
    import torch


@register("ia3")
class IA3(PeftMethod):
    """One factor per key, value and feed-forward activation, implemented by peft."""

    summary = "one factor per key, value and feed-forward activation"
    paper = "https://arxiv.org/abs/2205.05638"
    when = "many classifiers that share one backbone: 0.06 MB each on MiniLM; no cost at inference once merged"
    learning_rate = 1e-2
    peft_type = "IA3"

    @classmethod
    def refusal(cls, family: Family) -> str | None:
        """Return why a guessed family does not support IA3."""
        if not family.key_value:
            return "it is not known which of its layers compute keys and values"
        return super().refusal(family)

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Return peft's IA3Config; in the feed-forward block it scales the second layer's inputs."""
        from peft import IA3Config

        return IA3Config(
            task_type=self.peft_task_type,
            target_modules=layer_pattern(family, (*family.key_value, family.feed_forward_output)),
            feedforward_modules=layer_pattern(family, (family.feed_forward_output,)),
            modules_to_save=list_saved_modules(family, new_modules),
            fan_in_fan_out=uses_conv1d(model),
        )
