"""Trust: which backbone may run its own Python code and read pickled weights, and the words that say so.

Only a setting of the very call may trust: the command line's or the Python argument's. No file is asked.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textune.errors import ModelError
from textune.files import expand_home

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
_LOADED_PICKLES = "pytorch_model*.bin"


def looks_like_path(name: str) -> bool:
    """Return whether a backbone's name is a folder and not a hub id."""
    return expand_home(name).is_dir() or name.startswith((".", "/", "~")) or name.count("/") > 1


def is_trusted(name: str, trust: str | None) -> bool:
    """Return whether `trust` names this backbone: by the same words, or as the same folder."""
    if trust is None or trust == name:
        return trust is not None
    folder, trusted = (expand_home(words) for words in (name, trust))
    return looks_like_path(name) and trusted.is_dir() and trusted.resolve() == folder.resolve()


def list_weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers reads weights from: safetensors, or pickles where those are missing."""
    safe = sorted(folder.glob("*.safetensors"))
    if any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        return safe
    return sorted(folder.glob(_LOADED_PICKLES)) or safe


def refuse_untrusted(folder: Path, name: str, model_id: str, config: Mapping[str, Any], trusted: bool) -> None:
    """Raise ModelError where the model needs its own code, or pickles, and `trust=` of this call does not name it."""
    setting = f"trust={shlex.quote(name)}"
    if "auto_map" in config and not trusted:
        raise ModelError(
            f"backbone {model_id}: it needs its own Python code (auto_map), which textune does not run",
            hint=f"if you have read that code and trust it, add {setting}",
        )
    if others := sorted(set(_list_repositories(config.get("auto_map")))):
        raise ModelError(
            f"backbone {model_id}: its config.json takes Python code from another repository, {others[0]}, which "
            "trust= does not name",
            hint="copy that code into the model's folder and name it there in auto_map, without the repository",
        )
    files = list_weight_files(folder)
    if any(path.suffix == ".bin" for path in files) and not trusted:
        raise ModelError(
            f"backbone {model_id}: its weights are pickles ({_list_names(files)}), which can run any code",
            hint=f"use a model.safetensors of it, or add {setting} if you trust its source",
        )
    if not files and (pickles := [path for path in sorted(folder.iterdir()) if path.suffix in PICKLES]):
        raise ModelError(
            f"backbone {model_id}: its weights are pickles ({_list_names(pickles)}), which textune does not read",
            hint="convert them to model.safetensors",
        )
    if not files:
        on_hub = not trusted and not looks_like_path(name)
        raise ModelError(
            f"{folder}: no weights: model.safetensors is missing",
            hint=f"if the hub has it as pickles only and you trust its source, add {setting}" if on_hub else None,
        )


def _list_repositories(auto_map: Any) -> list[str]:
    """Return the repositories named in auto_map: entries of the form OWNER/NAME--module.Class."""
    entries = auto_map.values() if isinstance(auto_map, Mapping) else []
    classes = [item for entry in entries for item in (entry if isinstance(entry, list | tuple) else [entry])]
    return [str(item).partition("--")[0] for item in classes if "--" in str(item)]


def _list_names(files: list[Path]) -> str:
    return ", ".join(path.name for path in files[:3])
