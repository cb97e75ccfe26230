"""BitFit: only the bias vectors and the head are trained (Ben Zaken et al. 2021, arXiv:2106.10199)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textune.backbones.families import Family
from textune.errors import ModelError
from textune.methods.base import Method, freeze_all_but, register

if TYPE_CHECKING:
    import torch


@register("bitfit")
class BitFit(Method):
    """All biases of the backbone, plus the head."""

    summary = "only the bias vectors and the head"
    paper = "https://arxiv.org/abs/2106.10199"
    when = "a 0.1 MB delta and no extra cost at inference"
    learning_rate = 2e-3
    plain_weights = True
    families_refused = dict.fromkeys(
        ("llama", "qwen3", "gemma", "gemma2", "gemma3_text"), "its layers have no bias vectors"
    ) | {"modernbert": "only its classifier has bias vectors"}

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Freeze everything except biases, head and new modules; raise ModelError if there is no bias."""
        freeze_all_but(model, (*family.head_modules, *new_modules))
        biases = [p for n, p in model.named_parameters() if n.endswith(".bias") and not p.requires_grad]
        if not biases:
            raise ModelError(
                f"method bitfit on {family.name}: this backbone has no bias vectors", hint="choose ln_tuning or lora"
            )
        for bias in biases:
            bias.requires_grad_(True)
        return model
