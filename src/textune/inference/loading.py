"""What a bundle needs to be opened: its base model, a device, and options that make sense."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.bundle import BaseModel
from textune.errors import BundleError, ConfigError, ModelError, suggest
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


def find_backbone(run: Path, base: BaseModel, backbone: str | None, trust: str | None) -> Backbone:
    """Find the base model of a bundle and check its hash and config; raise ModelError that says how to name it.

    run: the bundle's folder, which stores the config that it was trained with.
    backbone: where the caller says it is; ConfigError for another model.
    """
    found = _resolve_backbone(run, base, backbone, trust)
    stored = _read_config(run)
    if stored is not None:
        from textune.backbones.checks import refuse_other_config

        refuse_other_config(found.id, stored, found.config)
    return found


def _resolve_backbone(run: Path, base: BaseModel, backbone: str | None, trust: str | None) -> Backbone:
    from textune.backbones import recall_local, resolve_backbone, resolve_same

    if backbone is not None:
        return resolve_same(backbone, base.id, base.sha256, trust=trust)
    if not base.local:
        return resolve_backbone(base.id, trust=trust, sha256=base.sha256, revision=base.revision)
    folder = recall_local(base.sha256, lambda folder: has_config_of(run, folder))
    if folder is None:
        raise ModelError(
            f"the run's base model '{base.id}' was a local folder that this machine does not know",
            hint="say where it is: backbone=FOLDER",
        )
    return resolve_backbone(folder, trust=folder if trust == base.id else trust, sha256=base.sha256)


def has_config_of(run: Path, folder: Path) -> bool:
    """Return whether a backbone's folder has the config that a bundle was trained with, in what decides its answers."""
    from textune.backbones.checks import compare_configs

    stored = _read_config(run)
    try:
        return stored is None or not compare_configs(stored, read_json(folder / "config.json", "a model's config"))
    except BundleError:  # damaged since
        return False


def _read_config(run: Path) -> dict[str, Any] | None:
    """Return the base model's config that a bundle stores; early bundles have none."""
    stored = run / "backbone" / "config.json"
    return read_json(stored, "the base model's config") if stored.is_file() else None


def choose_device(device: str) -> torch.device:
    """Return the device for inference; raise ModelError if it is not available."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, is_available in available.items() if is_available))
    if not available.get(device, False):
        raise ModelError(f"device={device}: not available here", hint="leave device out, or choose cpu")
    return torch.device(device)
