"""VeRA: random matrices shared by all layers, scaled by trained vectors (Kopiczko et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textune.backbones.families import Family
from textune.config import option
from textune.methods.base import register, target_pattern
from textune.methods.peft_based import TargetMethod, list_saved_modules, uses_conv1d

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class VeraOptions:
    """Options of `vera`."""

    r: int = option(256, "rank of the shared random matrices", low=1, high=4096)
    dropout: float = option(0.0, "dropout before the first matrix", low=0, high=0.9)
    initial: float = option(0.1, "initial value of the inner scaling vector", low=1e-6, high=10)
    targets: tuple[str, ...] | None = option(
        None, "linear layers to adapt, by the end of their names; default: the family's list"
    )


@register("vera")
class Vera(TargetMethod):
    """VeRA on the family's linear layers, implemented by peft. The random matrices are saved, not redrawn by seed."""

    summary = "two scaling vectors per layer around random matrices shared by all layers"
    paper = "https://arxiv.org/abs/2310.11454"
    when = "fewer trained parameters than LoRA at a high rank; mostly for large backbones"
    options_type = VeraOptions
    learning_rate = 1e-2
    peft_type = "VERA"
    peft_fields: ClassVar = {"r": "r", "dropout": "vera_dropout", "initial": "d_initial", "targets": "target_modules"}

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Return peft's VeraConfig."""
        from peft import VeraConfig

        saved = list_saved_modules(family, new_modules)
        return VeraConfig(
            task_type=self.peft_task_type,
            r=self.options.r,
            vera_dropout=self.options.dropout,
            d_initial=self.options.initial,
            save_projection=True,
            target_modules=target_pattern(self.targets(family), saved),
            modules_to_save=saved,
            fan_in_fan_out=uses_conv1d(model),
        )
