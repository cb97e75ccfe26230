"""A bundle in other forms: one merged model that needs no textune and no peft, or a repository on a hub."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from textune.backbones.families import families
from textune.backbones.pooling import attach_pooling, find_body, find_pooling
from textune.backbones.pooling_layer import add_pooling_layer, can_add_layer, needs_layer
from textune.bundle import MANIFEST, SETTINGS, Manifest, read_manifest, refuse_exported, write_manifest
from textune.config import TRUNCATE, build_config, load_settings, write_settings
from textune.engine.same_logits import PROBES, pair_probes, require_same
from textune.errors import BundleError, ModelError
from textune.files import hash_file, write_folder
from textune.inference import Predictor
from textune.methods import methods, resolve_saved
from textune.tokens import text_between

if TYPE_CHECKING:
    import torch

THRESHOLDS = "thresholds.json"
PUBLISHED = ("*.safetensors", "*.json", "*.txt", "*.md", "*.model", SETTINGS, "backbone/config.json")
PRIVATE = ("checkpoints/*", "evaluation/*", "tensorboard/*", "*.jsonl", "plan.json", ".lock")


def export_merged(run: str | Path, output: Path, *, backbone: str | None = None, overwrite: bool = False) -> Path:
    """Write a folder that `pipeline("text-classification", output, truncation=True)` loads, label names included.

    The adapter is added into the weights in fp32 and the temperature folded into the head. transformers has no place
    for thresholds, which stand beside the model in thresholds.json, nor for long_text (`tell_what_is_lost`): it cuts
    longer texts, and only where truncation=True asks it to. The folder is checked by a fresh load on a padded batch.
    Raises BundleError where it would differ.
    """
    if output.exists() and not overwrite:
        raise BundleError(f"{output}: exists already", hint="choose another --output, or add --overwrite")
    if output.exists() and not (output / "config.json").is_file():
        raise BundleError(f"{output}: holds files that are not a merged model's; it is not overwritten")
    manifest = read_manifest(run)
    refuse_exported(run, manifest)
    refuse_unmergeable(run, manifest)
    predictor = Predictor.load(run, backbone=backbone, device="cpu", precision="fp32", merge=True)
    predictor.manifest = dataclasses.replace(predictor.manifest, long_text=TRUNCATE)
    expected = predictor.predict_logits(PROBES, _second(predictor)) / predictor.manifest.temperature
    model: Any = predictor.model
    family = families.get(manifest.base_model.family) if manifest.base_model.family in families.names() else None
    if family is not None and needs_layer(model) and can_add_layer(family):
        model = add_pooling_layer(model, family)
    _fold_temperature(model, len(predictor.labels), predictor.manifest.temperature)
    model.config._name_or_path = ""
    model.config.problem_type = predictor.task.problem_type
    with write_folder(output) as partial:
        model.save_pretrained(str(partial), safe_serialization=True)
        for name in predictor.manifest.files:
            if ((Path(run) / name).is_file() and "token" in name) or name.startswith(("vocab", "merges", "spiece")):
                shutil.copyfile(Path(run) / name, partial / name)
        if (thresholds := predictor.task.thresholds) is not None:
            content = dict(zip(predictor.labels, thresholds, strict=True))
            (partial / THRESHOLDS).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
        card = (Path(run) / "README.md").read_text(encoding="utf-8") if (Path(run) / "README.md").is_file() else ""
        if card:
            (partial / "README.md").write_text(card, encoding="utf-8")
        _check_merged(partial, predictor, expected)
    return output


def refuse_unmergeable(run: str | Path, manifest: Manifest) -> None:
    """Raise BundleError where the run's method adds parts that no plain model has."""
    if not resolve_saved(manifest.method, manifest.method_options).mergeable:
        able = ", ".join(name for name, cls in methods if cls.mergeable)
        raise BundleError(
            f"{run}: method {manifest.method} adds parts that no plain model has, so it cannot be merged",
            hint=f"use the run itself, or train with one that merges: {able}",
        )


def tell_what_is_lost(manifest: Manifest) -> str | None:
    """Return what a merged model does otherwise than the run, or None where it does all the same."""
    if manifest.long_text.form == "truncate":
        return None
    return (
        f"long_text={manifest.long_text.form} is not carried: with truncation=True the merged model cuts a text after "
        f"{manifest.max_length} tokens, and may answer otherwise than the run on longer ones"
    )


def _second(predictor: Predictor) -> tuple[str, ...] | None:
    return pair_probes(predictor.manifest.columns.text_pair is not None)


def _fold_temperature(model: torch.nn.Module, classes: int, temperature: float) -> None:
    import torch

    if temperature == 1.0:
        return
    heads = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == classes]
    if not heads:
        raise ModelError("the temperature cannot be folded in: no linear layer gives the classes")
    with torch.no_grad():
        heads[-1].weight.div_(temperature)
        if heads[-1].bias is not None:
            heads[-1].bias.div_(temperature)


def _check_merged(folder: Path, predictor: Predictor, expected: NDArray[Any]) -> None:
    import torch
    import transformers

    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        str(folder), local_files_only=True, output_loading_info=True
    )
    pooling = find_pooling(find_body(predictor.model))
    if pooling is not None and not can_add_layer(families.get(predictor.manifest.base_model.family)):
        attach_pooling(model, families.get(predictor.manifest.base_model.family), pooling)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    second = _second(predictor)
    between = text_between(tokenizer.backend_tokenizer)  # which a person who calls the model must put there, too
    inputs = tokenizer(
        list(PROBES),
        None if second is None else [between + text for text in second],
        padding=True,
        truncation=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        logits = model.eval()(**inputs).logits.float().numpy()
    if info["missing_keys"]:
        raise BundleError(f"{folder}: the merged model lacks weights: {', '.join(sorted(info['missing_keys']))}")
    require_same(expected, logits, f"{folder}: the merged model does not give the run's logits")
    names = [model.config.id2label[i] for i in range(len(predictor.labels))]
    if names != list(predictor.labels):
        raise BundleError(f"{folder}: the merged model's labels are {names}, the run's {list(predictor.labels)}")


def push_folder(folder: str | Path, hub_id: str, *, private: bool = True, api: Any = None) -> str:
    """Publish a bundle or a merged folder as a hub repository; return its address.

    Texts of the evaluation, logs and checkpoints stay here. Raises BundleError or ModelError.
    """
    folder = Path(folder)
    if (folder / "textune.json").is_file():
        refuse_exported(folder, read_manifest(folder))
    elif not (folder / "config.json").is_file():
        raise BundleError(f"{folder}: neither a finished run nor a merged model")
    if api is None:
        import huggingface_hub

        api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(hub_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="textune-push-") as place:
            staged = shutil.copytree(
                folder, Path(place) / "run", ignore=shutil.ignore_patterns("checkpoints", "evaluation")
            )
            _hide_paths(staged)
            api.upload_folder(
                repo_id=hub_id,
                folder_path=str(staged),
                allow_patterns=list(PUBLISHED),
                ignore_patterns=list(PRIVATE),
                commit_message="Upload a classifier trained with textune",
            )
    except Exception as error:  # the hub's client raises its transport's errors as they are
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{hub_id}: could not be published: {reason}", hint="log in with 'hf auth login', and check the name"
        ) from error
    return str(address)


def _hide_paths(folder: Path) -> None:
    """Leave of the settings' paths only their last part: where the data lay is nobody else's business."""
    path = folder / SETTINGS
    if not path.is_file() or not (folder / MANIFEST).is_file():
        return
    settings = load_settings(path)
    for key in ("data", "test", "validation", "backbone", "init", "trust"):
        value = settings.get(key)
        if isinstance(value, str) and (value.startswith(("/", ".", "~")) or Path(value).exists()):
            settings[key] = Path(value).name
    settings.pop("runs_dir", None)
    write_settings(build_config(settings), path)
    manifest = read_manifest(folder, verify=False)
    files = dict(manifest.files) | {SETTINGS: hash_file(path)}
    write_manifest(folder, dataclasses.replace(manifest, files=files))


def describe_export(folder: Path) -> dict[str, Any]:
    """Return what a merged folder holds, for `--json`."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
    thresholds = folder / THRESHOLDS
    return {
        "folder": str(folder),
        "megabytes": round(size / 1e6, 1),
        "labels": list(config["id2label"].values()),
        "problem_type": config.get("problem_type"),
        "thresholds": str(thresholds) if thresholds.is_file() else None,
    }
