"""A trained model -> bundle: weights, tokenizer, manifest, and the test that a fresh load gives the same logits."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import shutil
import stat
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textune.backbones import Backbone
from textune.bundle import SETTINGS, BaseModel, Manifest, TextColumns, read_manifest, write_manifest
from textune.config import TRUNCATE, LongText
from textune.errors import BundleError
from textune.files import hash_files
from textune.inference import Predictor, padding_of
from textune.methods import Method
from textune.tokens.batches import EncodedSplit
from textune.version import __version__

if TYPE_CHECKING:
    import torch

_SELF_TEST_ROWS = 6
_TOLERANCE = 1e-4
_OF_ONE_MACHINE = ("name_or_path", "_name_or_path", "auto_map", "tokenizer_file", "special_tokens_map_file")
_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")


def list_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that a result depends on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _LIBRARIES}


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Returns the numbers of trainable and of all parameters."""
    # a 4-bit weight is stored two to a byte
    sizes = [(p.numel() * (2 if hasattr(p, "quant_state") else 1), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def write_bundle(
    folder: Path, model: torch.nn.Module, method: Method, backbone: Backbone, new_modules: tuple[str, ...], *,
    labels: tuple[str, ...], label_values: tuple[str, ...], columns: TextColumns, max_length: int, seed: int,
    data_fingerprint: str, engine: dict[str, Any], long_text: LongText = TRUNCATE,
    prove: Callable[[Manifest], None] = lambda manifest: None,
    pooling: str | None = None, task: str = "single_label", temperature: float = 1.0,
    thresholds: tuple[float, ...] | None = None, tokenizer: Backbone | None = None,
) -> Manifest:  # fmt: skip
    """Writes every file of the bundle, then lets `prove` raise, and writes the manifest last; returns the manifest.

    tokenizer: whose tokenizer is taken; default: the backbone's.
    """
    names = method.write_weights(model, folder, backbone)
    names += write_tokenizer(tokenizer or backbone, folder, max_length)
    (folder / "backbone").mkdir(exist_ok=True)
    config = {k: v for k, v in backbone.config.items() if k not in ("_name_or_path", "auto_map")}
    (folder / "backbone" / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    names += ["backbone/config.json", SETTINGS]
    _let_others_read(folder, names)
    trainable, total = count_parameters(model)
    manifest = Manifest(
        task=task,
        thresholds=thresholds,
        temperature=temperature,
        pooling=pooling,
        labels=labels,
        label_values=label_values,
        base_model=BaseModel(backbone.id, backbone.family.name, backbone.sha256, backbone.revision, backbone.local),
        method=method.key,
        method_options=method.resolved_options(backbone.family),
        max_length=max_length,
        long_text=long_text,
        pad_token_id=backbone.pad_token_id,
        columns=columns,
        seed=seed,
        data_fingerprint=data_fingerprint,
        engine=engine,
        trainable_parameters=trainable,
        total_parameters=total,
        versions=list_versions(),
        textune_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        new_modules=new_modules,
        files=hash_files(folder, names),
    )
    prove(manifest)
    write_manifest(folder, manifest)
    return manifest


def _let_others_read(folder: Path, names: Sequence[str]) -> None:
    """Gives weight files the usual mode: safetensors makes them readable by their owner alone."""
    usual = stat.S_IMODE((folder / SETTINGS).stat().st_mode)
    for name in names:
        (folder / name).chmod(usual)


def write_tokenizer(backbone: Backbone, folder: Path, max_length: int) -> list[str]:
    """Copies the tokenizer's files; what they say of truncation, padding and paths is made this run's own."""
    from textune.tokens import load_tokenizer

    names = []
    for path in backbone.tokenizer_files():
        shutil.copyfile(path, folder / path.name)
        names.append(path.name)
    load_tokenizer(backbone.folder).save(str(folder / "tokenizer.json"))
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    settings = {k: v for k, v in settings.items() if k not in _OF_ONE_MACHINE}
    settings["model_max_length"] = max_length
    if not settings.get("pad_token"):  # decoders' tokenizers seldom have one, and then refuse to pad a batch
        settings["pad_token"] = load_tokenizer(backbone.folder).id_to_token(backbone.pad_token_id)
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return sorted({*names, "tokenizer.json", "tokenizer_config.json"})


def check_reload(
    folder: Path, manifest: Manifest, model: torch.nn.Module, method: Method, backbone: Backbone, split: EncodedSplit,
    texts: Sequence[str], pairs: Sequence[str] | None,
) -> float:  # fmt: skip
    """Loads the files afresh and compares their logits with the trained model's on a padded batch of unequal lengths.

    Returns the largest difference relative to the largest logit. Raises BundleError where it is too large.
    """
    from textune.engine import Precision, ReferenceEngine, predict_logits

    rows = choose_unequal_rows(split)
    exact = Precision("fp32", "self-test")
    engine = ReferenceEngine(model, exact, equal_lengths=method.needs_equal_lengths(backbone.family))
    subset = dataclasses.replace(split, tokens=split.tokens.take(rows), targets=split.targets[rows])
    trained = predict_logits(engine, subset, padding_of(backbone))
    device = engine.device.type
    # The local folder that training read is given, so that the test works before anyone has noted where it is.
    given = str(backbone.folder) if backbone.local else None
    fresh = Predictor.from_manifest(folder, manifest, backbone=given, device=device, precision="fp32", merge=False,
                                    engine="reference")  # fmt: skip
    reloaded = fresh.predict_logits([texts[i] for i in rows], None if pairs is None else [pairs[i] for i in rows])
    difference = float(np.abs(trained - reloaded).max() / max(np.abs(trained).max(), 1e-6))
    if not difference <= _TOLERANCE:
        raise BundleError(
            f"{folder}: the saved model does not give the trained model's logits after a reload (they differ by "
            f"{difference:.2g} of the largest)",
            hint="this is a fault of the method on this backbone; the checkpoints are kept",
        )
    return difference


def choose_unequal_rows(split: EncodedSplit) -> np.ndarray[Any, Any]:
    """Returns the indices of a few rows from the shortest to the longest."""
    order = np.argsort(split.tokens.lengths, kind="stable")
    return np.asarray(order[np.unique(np.linspace(0, len(order) - 1, _SELF_TEST_ROWS).astype(int))])


def update_manifest(folder: Path, **changes: Any) -> Manifest:
    """Replaces fields of a bundle's manifest."""
    manifest = dataclasses.replace(read_manifest(folder, verify=False), **changes)
    write_manifest(folder, manifest)
    return manifest


def weight_megabytes(folder: Path) -> float:
    """Returns the size on disk of what the run added to the backbone, in MB (10^6 bytes)."""
    weights = [p for p in folder.glob("*.safetensors") if p.is_file()]
    return sum(p.stat().st_size for p in weights) / 1e6
