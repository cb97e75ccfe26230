"""LN-tuning: only the layer norms and the head are trained (Zhao et al. 2023, arXiv:2312.11420), by peft."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from textune.backbones.families import Family
from textune.methods.base import register, target_pattern
from textune.methods.peft_based import PeftMethod, list_saved_modules

if TYPE_CHECKING:
    import torch


@register("ln_tuning")
class LNTuning(PeftMethod):
    """All layer norms of the backbone, plus the head."""

    summary = "only the layer norms and the head"
    paper = "https://arxiv.org/abs/2312.11420"
    when = "as small as BitFit, and works on backbones without bias vectors"
    learning_rate = 3e-3
    peft_type = "LN_TUNING"

    @classmethod
    def refusal(cls, family: Family) -> str | None:
        """Return why a guessed family does not support LN-tuning."""
        if not family.norms:
            return "its layers have no modules named as norms"
        return super().refusal(family)

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Return peft's LNTuningConfig; the head's norms are trained with the head."""
        from peft import LNTuningConfig

        saved = list_saved_modules(family, new_modules)
        pattern = re.compile(target_pattern(family.norms, saved))
        # Full names are needed: ModernBERT's first layer has an Identity in place of a norm.
        norms = [n for n, m in model.named_modules() if pattern.fullmatch(n) and any(True for _ in m.parameters())]
        return LNTuningConfig(
            task_type=self.peft_task_type,
            target_modules=norms,
            modules_to_save=saved,
        )
