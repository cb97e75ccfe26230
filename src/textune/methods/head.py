"""Head only: a linear probe is trained on a frozen backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textune.backbones.families import Family
from textune.methods.base import Method, freeze_all_but, register

if TYPE_CHECKING:
    import torch


@register("head")
class Head(Method):
    """The classification head over a frozen backbone."""

    summary = "only the classification head; the backbone stays frozen"
    paper = "https://arxiv.org/abs/1610.01644"
    when = "a first result in seconds, or very few rows"
    learning_rate = 5e-3
    plain_weights = True
    trains_body = False

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Freeze everything except the head and new modules."""
        freeze_all_but(model, (*family.head_modules, *new_modules))
        return model
