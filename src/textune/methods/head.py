"""Head only: the backbone stays frozen, a linear probe on top is trained."""

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
    when = "a first look in seconds, or very few rows"
    learning_rate = 5e-3
    trains_body = False

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Freeze all but the head and what started random."""
        freeze_all_but(model, (*family.head_modules, *new_modules))
        return model
