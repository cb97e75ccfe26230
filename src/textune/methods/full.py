"""Full fine-tuning: every parameter is trained (Devlin et al. 2018, arXiv:1810.04805)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.backbones import Backbone
from textune.backbones.families import Family
from textune.errors import BundleError
from textune.methods.base import Method, register

if TYPE_CHECKING:
    import torch

_WEIGHTS = "model.safetensors"


@register("full")
class Full(Method):
    """Every weight of the backbone and the head."""

    summary = "every weight is trained; the folder holds a whole model"
    paper = "https://arxiv.org/abs/1810.04805"
    when = "plenty of data and time, or as the baseline for the other methods"
    learning_rate = 1e-4
    plain_weights = True

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Make everything trainable."""
        model.requires_grad_(True)
        return model

    def write_weights(self, model: torch.nn.Module, folder: Path, backbone: Backbone) -> list[str]:
        """Write the whole model as model.safetensors; equal weights give equal bytes."""
        from safetensors.torch import save_file

        # save_model notes the other name of a tied weight in the file's header, whose entries have a random order
        distinct: dict[tuple[Any, ...], tuple[str, torch.Tensor]] = {}
        for name, tensor in sorted(model.state_dict().items()):
            place = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else (name,)
            distinct.setdefault(place, (name, tensor.contiguous()))
        save_file(dict(distinct.values()), str(folder / _WEIGHTS), metadata={"format": "pt"})
        return [_WEIGHTS]

    def load_weights(self, model: torch.nn.Module, folder: Path) -> None:
        """Load the saved weights into the model; raise BundleError if they do not match."""
        from safetensors.torch import load_model

        try:
            load_model(model, str(folder / _WEIGHTS), strict=True)
        except RuntimeError as error:
            raise BundleError(f"{folder / _WEIGHTS}: does not fit the backbone: {error}") from error
