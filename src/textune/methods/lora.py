"""LoRA: a trained low-rank update to frozen weights (Hu et al. 2021, arXiv:2106.09685), implemented by peft.

Options select its variants: DoRA (Liu et al. 2024, arXiv:2402.09353), rsLoRA (Kalajdzievski 2023, arXiv:2312.03732)
and LoRA+ (Hayou et al. 2024, arXiv:2402.12354).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textune.backbones.families import Family
from textune.config import option
from textune.errors import ModelError
from textune.methods.base import module_pattern, register
from textune.methods.peft_based import TargetMethod, list_saved_modules, uses_conv1d

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LoraOptions:
    """Options of `lora`."""

    r: int = option(
        8, "rank of the update, an integer: rank 4 adds 6,144 parameters to a 768 x 768 weight", low=1, high=4096
    )
    alpha: float = option(16.0, "the update is scaled by alpha / r", low=1e-6, high=1e6)
    dropout: float = option(0.0, "dropout before the update's first matrix", low=0, high=0.9)
    targets: tuple[str, ...] | None = option(
        None, "linear layers to adapt, by the end of their names; default: the family's list"
    )
    top_layers: int | None = option(
        None,
        "adapt only this many of the top layers and what is above them; the lean engine runs the layers below "
        "once instead of every epoch",
        low=1,
        high=1000,
    )
    dora: bool = option(False, "DoRA: train magnitude and direction of each output's weights separately")
    rslora: bool = option(False, "rsLoRA: scale by alpha / sqrt(r), which suits high ranks")
    lora_plus: float = option(1.0, "LoRA+: factor for the learning rate of the second matrix", low=1, high=1000)


@register("lora")
class Lora(TargetMethod):
    """LoRA on the family's linear layers."""

    summary = "low-rank updates to frozen weights"
    paper = "https://arxiv.org/abs/2106.09685"
    when = "the first choice: close to full tuning at 1% of the size, with no cost at inference once merged"
    options_type = LoraOptions
    learning_rate = 5e-4
    peft_type: ClassVar[str | None] = "LORA"
    peft_fields: ClassVar = {
        "r": "r",
        "alpha": "lora_alpha",
        "dropout": "lora_dropout",
        "targets": "target_modules",
        "dora": "use_dora",
        "rslora": "use_rslora",
    }
    variants: ClassVar = {"dora": {"dora": True}, "rslora": {"rslora": True}, "lora_plus": {"lora_plus": 4.0}}

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Return peft's LoraConfig; the head is trained in full, never adapted."""
        from peft import LoraConfig

        saved = list_saved_modules(family, new_modules)
        excluded = [*saved, *self._list_excluded_modules(model, family)]
        return LoraConfig(
            task_type=self.peft_task_type,
            r=self.options.r,
            lora_alpha=self.options.alpha,
            lora_dropout=self.options.dropout,
            target_modules=self.targets(family),
            exclude_modules=module_pattern(excluded) if excluded else None,
            modules_to_save=saved or None,
            use_dora=self.options.dora,
            use_rslora=self.options.rslora,
            fan_in_fan_out=uses_conv1d(model),
        )

    def _list_excluded_modules(self, model: torch.nn.Module, family: Family) -> list[str]:
        """Return the modules without adapters: the embeddings and all layers below the top `top_layers`."""
        top_layers = self.options.top_layers
        if top_layers is None:
            return []
        if family.shared_layers:
            raise ModelError(
                f"method.top_layers: all layers of {family.name} share the same weights",
                hint="leave method.top_layers out",
            )
        count = len(list(model.get_submodule(family.layers).children()))
        if top_layers > count:
            raise ModelError(f"method.top_layers={top_layers}: the backbone has {count} layers")
        return [*family.embeddings, *(f"{family.layers}.{i}" for i in range(count - top_layers))]

    def rate_factor(self, parameter: str) -> float:
        """Return LoRA+'s learning rate factor for the second matrix of an update."""
        return float(self.options.lora_plus) if ".lora_B." in parameter else 1.0
