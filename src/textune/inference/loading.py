"""What a bundle needs to be opened: its base model, a device, and options that make sense."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textune.bundle import BaseModel
from textune.errors import ConfigError, ModelError, suggest
from textune.files import read_json

if TYPE_CHECKING:
    import torch

    from textune.backbones import Backbone

_CHOICES = {
    "device": ("auto", "cpu", "cuda", "mps"),
    "precision": ("auto", "fp32", "bf16"),
    "engine": ("auto", "lean", "reference"),
}


@dataclass(frozen=True)
class LoadOptions:
    """How a bundle is loaded; the fields are the arguments of `Predictor.load`."""

    backbone: str | None = None
    device: str = "auto"
    precision: str = "auto"
    trust: str | None = None
    merge: bool | None = None
    engine: str = "auto"


def check_choices(**chosen: str) -> None:
    """Raise ConfigError for a device, precision or engine that there is not."""
    for name, value in chosen.items():
        if value not in _CHOICES[name]:
            raise ConfigError(
                f"{name}={value}: must be one of {', '.join(_CHOICES[name])}{suggest(str(value), _CHOICES[name])}"
            )


def find_backbone(base: BaseModel, backbone: str | None, trust: str | None) -> Backbone:
    """Find the base model of a bundle and check its hash; raise ModelError that says how to name it.

    backbone: where the caller says it is; ConfigError for another model.
    """
    from textune.backbones import recall_local, resolve_backbone, resolve_same

    if backbone is not None:
        return resolve_same(backbone, base.id, base.sha256, trust=trust)
    if not base.local:
        return resolve_backbone(base.id, trust=trust, sha256=base.sha256)
    folder = recall_local(base.sha256)
    if folder is None:
        raise ModelError(
            f"the run's base model '{base.id}' was a local folder that this machine does not know",
            hint="say where it is: backbone=FOLDER",
        )
    return resolve_backbone(folder, trust=folder if trust == base.id else trust, sha256=base.sha256)


def refuse_other_config(folder: Path, backbone: Backbone) -> None:
    """Raise ModelError where the backbone's config.json is not the one that is stored in the bundle."""
    from textune.backbones.checks import refuse_other_config as refuse_other

    stored = folder / "backbone" / "config.json"
    if stored.is_file():
        refuse_other(backbone.id, read_json(stored, "the base model's config"), backbone.config)


def choose_device(device: str) -> torch.device:
    """Return the device for inference; raise ModelError if it is not available."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, is_available in available.items() if is_available))
    if not available.get(device, False):
        raise ModelError(f"device={device}: not available here", hint="leave device out, or choose cpu")
    return torch.device(device)
