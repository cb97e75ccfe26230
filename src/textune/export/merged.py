"""Export a bundle as one merged model that needs neither textune nor peft, or push it to a hub."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from textune.backbones.families import families
from textune.backbones.pooling import attach_pooling, find_body, find_pooling
from textune.backbones.pooling_layer import add_pooling_layer, can_add_layer, needs_layer
from textune.backbones.quiet import quiet_transformers
from textune.bundle import (
    GRAPH,
    GRAPH_WEIGHTS,
    MANIFEST,
    MODEL_FILES,
    SETTINGS,
    Manifest,
    read_manifest,
    refuse_exported,
    write_manifest,
)
from textune.config import TRUNCATE, build_config, load_settings, write_settings
from textune.engine.same_logits import PROBES, require_same
from textune.errors import BundleError, ConfigError, ModelError, TextuneError
from textune.export.marker import MARKER, check_output, is_space, read_marker, write_marker
from textune.export.merged_writer import write_merged_writer
from textune.export.probes import list_second_probes
from textune.export.readme import README, write_merged_readme
from textune.export.tokenizer import copy_tokenizer
from textune.files import confined_path, hash_file, write_folder
from textune.inference import LoadOptions, Predictor
from textune.methods import methods, resolve_saved
from textune.report.card_forms import name_published, read_card
from textune.report.snippets import needs_lines_to_pool
from textune.run.places import PLACED
from textune.tokens import text_between

if TYPE_CHECKING:
    import torch

THRESHOLDS = "thresholds.json"
_SHARD = f"model-{'[0-9]' * 5}-of-{'[0-9]' * 5}.safetensors"
_REPLACED = (*sorted(MODEL_FILES), _SHARD, "model.safetensors.index.json")
"""What a push removes, as patterns, from a repository that holds a run or a Space: transformers would load it in place
of the new model. Other repositories keep all their files."""
_REPLACED_RUN = (MANIFEST, SETTINGS, "backbone/config.json", "data/row_hashes.safetensors")
_REPLACED_SPACE = (GRAPH, GRAPH_WEIGHTS, "space.json")


def export_merged(
    run: str | Path, output: Path, *, backbone: str | None = None, overwrite: bool = False, trust: str | None = None
) -> Path:
    """Write a folder that `pipeline("text-classification", output, truncation=True)` loads, label names included.

    The adapter is merged into the weights in fp32 and the temperature is folded into the head. transformers supports
    neither thresholds, which go to thresholds.json, nor long_text (`describe_losses`): it truncates longer texts, and
    only with truncation=True. The folder is loaded again and checked on a padded batch.
    Raises BundleError if its logits differ.
    """
    check_output(output, overwrite)
    manifest = read_manifest(run)
    refuse_exported(run, manifest)
    refuse_unmergeable(run, manifest)
    options = LoadOptions(backbone, device="cpu", precision="fp32", trust=trust, merge=True)
    predictor = Predictor.from_manifest(Path(run), manifest, options)  # which hashes nothing again
    if predictor.generator is not None:
        return write_merged_writer(Path(run), output, predictor)
    predictor.manifest = dataclasses.replace(predictor.manifest, long_text=TRUNCATE)
    expected = predictor.predict_logits(PROBES, list_second_probes(manifest)) / predictor.manifest.temperature
    model: Any = predictor.model
    family = families.get(manifest.base_model.family) if manifest.base_model.family in families.names() else None
    if family is not None and needs_layer(model) and can_add_layer(family):
        model = add_pooling_layer(model, family)
    _fold_temperature(model, len(predictor.labels), predictor.manifest.temperature)
    model.config._name_or_path = ""
    model.config.problem_type = predictor.task.problem_type
    with write_folder(output) as partial, quiet_transformers():
        model.save_pretrained(str(partial), safe_serialization=True)
        copy_tokenizer(Path(run), partial, predictor)
        if (thresholds := predictor.task.thresholds) is not None:
            content = dict(zip(predictor.labels, thresholds, strict=True))
            (partial / THRESHOLDS).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
        losses = describe_losses(manifest)
        notes = [] if losses is None else [losses[0].upper() + losses[1:] + "."]
        write_merged_readme(partial, Path(run), manifest, output.name, notes)
        _check_merged(partial, predictor, expected)
        write_marker(partial, "merged")
    return output


def refuse_unmergeable(run: str | Path, manifest: Manifest) -> None:
    """Raise BundleError if the run's method cannot be merged into the base model."""
    if not resolve_saved(manifest.method, manifest.method_options).mergeable:
        mergeable = ", ".join(name for name, cls in methods if cls.mergeable)
        raise BundleError(
            f"{run}: method {manifest.method} adds modules to the model, so it cannot be merged",
            hint=f"use the run itself, or train with a mergeable method: {mergeable}",
        )


def describe_losses(manifest: Manifest) -> str | None:
    """Return how a merged model differs from the run, or None if it does not."""
    losses = []
    if needs_lines_to_pool(manifest):
        losses.append(
            f"the run reads the mean of the tokens, which transformers does not do for {manifest.base_model.family}: "
            "the merged model gives the run's answers only with the lines in its README"
        )
    if manifest.long_text.form != "truncate":
        losses.append(
            f"long_text={manifest.long_text.form} is not exported: with truncation=True the merged model truncates "
            f"texts after {manifest.max_length} tokens, so its predictions for longer texts may differ"
        )
    if (below := manifest.decisions.get("abstain_below")) is not None:
        losses.append(f"the run abstains below a confidence of {below:.3g}, the merged model always answers")
    if any(manifest.decisions.get(name) is not None for name in ("cutoff", "costs")) and manifest.thresholds is None:
        rule = manifest.decisions["rule"]
        losses.append(
            f"the run decides by {'its costs' if rule == 'costs' else f'a threshold for {rule}'}, the merged model by "
            "the highest probability"
        )
    return "; ".join(losses) or None


def _fold_temperature(model: torch.nn.Module, classes: int, temperature: float) -> None:
    import torch

    if temperature == 1.0:
        return
    heads = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == classes]
    if not heads:
        raise ModelError("the temperature cannot be folded in: no linear layer outputs the classes")
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
    second = list_second_probes(predictor.manifest)
    between = text_between(tokenizer.backend_tokenizer)  # callers of the merged model must insert it, too
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
    require_same(expected, logits, f"{folder}: the merged model's logits differ from the run's")
    names = [model.config.id2label[i] for i in range(len(predictor.labels))]
    if names != list(predictor.labels):
        raise BundleError(f"{folder}: the merged model's labels are {names}, the run's {list(predictor.labels)}")


def push_folder(folder: str | Path, hub_id: str, *, private: bool = True, api: Any = None) -> str:
    """Publish a bundle, a merged folder or a Space as a hub repository; return its address.

    Evaluation texts, logs and checkpoints are not uploaded. The files of a run or Space pushed there before are
    removed, other files stay. Raises BundleError, ModelError, or ConfigError for a repository of another visibility.
    """
    folder = Path(folder)
    names = _list_published(folder)
    kind = {"repo_type": "space"} if is_space(folder) else {}
    if api is None:
        import huggingface_hub

        api = huggingface_hub.HfApi()
    _check_id(hub_id)
    with tempfile.TemporaryDirectory(prefix="textune-push-") as place:
        staged = _stage(folder, names, hub_id, Path(place) / "run")  # before there is a repository
        return _upload(api, staged, hub_id, private, kind)


def _stage(folder: Path, names: Sequence[str], hub_id: str, staged: Path) -> Path:
    """Copy the files to publish, without what is private in them; return the folder."""
    for name in names:
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(confined_path(folder, name), staged / name)
    _hide_paths(staged)
    if (card := staged / README).is_file():
        card.write_text(name_published(read_card(card), hub_id), encoding="utf-8")
    return staged


def _upload(api: Any, staged: Path, hub_id: str, private: bool, kind: dict[str, str]) -> str:
    """Create the repository if it does not exist, and upload the files; return its address."""
    sdk = {"space_sdk": "gradio"} if kind else {}
    try:
        held = _list_held(api, hub_id, private, kind)
        mark, more = ({"app.py", "predict.py"}, _REPLACED_SPACE) if kind else ({MANIFEST}, _REPLACED_RUN)
        address = api.create_repo(hub_id, private=private, exist_ok=True, **kind, **sdk)
        api.upload_folder(
            repo_id=hub_id,
            folder_path=str(staged),
            commit_message="Upload a model trained with textune",
            delete_patterns=[*_REPLACED, *more] if mark <= held else None,
            **kind,
        )
    except TextuneError:
        raise
    except Exception as error:  # the hub's client passes on its transport's errors
        raise _explain_failure(hub_id, error) from error
    return str(address)


def _check_id(hub_id: str) -> None:
    """Raise ConfigError for what is not OWNER/NAME by the hub's rules."""
    from huggingface_hub import errors
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    owner, _, name = hub_id.partition("/")
    if not owner or not name:
        raise ConfigError(f"{hub_id}: names no owner", hint=f"write OWNER/{hub_id.strip('/') or 'NAME'}")
    if "/" in name:
        raise ConfigError(f"{hub_id}: has more than one slash", hint="write OWNER/NAME")
    try:
        validate_repo_id(hub_id)
    except errors.HFValidationError as error:
        raise ConfigError(
            f"{hub_id}: the hub does not take this name",
            hint="use letters, digits, '-', '_' and '.', in OWNER/NAME, at most 96 characters",
        ) from error


def _explain_failure(hub_id: str, error: Exception) -> ModelError:
    """Return why a model could not be published, with what helps in that case."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, errors.OfflineModeIsEnabled):
        problem, hint = "HF_HUB_OFFLINE is set, so the hub is not asked", "unset HF_HUB_OFFLINE"
    elif isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        problem, hint = "the hub does not know who you are", "log in with 'hf auth login', or set HF_TOKEN"
    elif status == 403:
        problem = "your token does not allow it"
        hint = "check the owner's name, and use a token that may write: 'hf auth login'"
    elif isinstance(error, ConnectionError | TimeoutError) or names & {"TransportError", "ConnectionError", "Timeout"}:
        problem, hint = f"the hub cannot be reached ({type(error).__name__})", "connect and try again"
    else:
        problem, hint = str(error).partition("\n")[0] or type(error).__name__, None
    return ModelError(f"{hub_id}: could not be published: {problem}", hint=hint)


def _list_held(api: Any, hub_id: str, private: bool, kind: dict[str, str]) -> set[str]:
    """Return the files that the repository holds, if it exists; raise ConfigError if it has the other visibility.

    The hub's client creates no repository where one exists, and keeps its visibility without a word.
    """
    if not api.repo_exists(hub_id, **kind):
        return set()
    found = api.repo_info(hub_id, **kind)
    is_private = bool(found.private)
    if is_private == private:
        return {file.rfilename for file in found.siblings or ()}
    if private:
        problem, hint = "everyone could read the model", "publish it as public, or choose another name"
    else:
        problem, hint = "others could not read the model", "make it public on its page, or publish it as private"
    raise ConfigError(f"{hub_id}: exists and is {'private' if is_private else 'public'}: {problem}", hint=hint)


def _list_published(folder: Path) -> list[str]:
    """Return the files that make up a run or a merged model, and nothing else that lies in its folder.

    Raises BundleError for what is neither, and for a link in the place of a file.
    """
    if is_space(folder):
        names = read_marker(folder)
    elif (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        refuse_exported(folder, manifest)
        names = [MANIFEST, *manifest.files]
    elif (folder / MARKER).is_file():
        names = read_marker(folder)
    else:
        raise BundleError(f"{folder}: neither a finished run nor a model that textune exported")
    names += [README] if (folder / README).is_file() and README not in names else []
    if links := [name for name in names if (folder / name).is_symlink()]:
        raise BundleError(f"{folder / links[0]}: is a symbolic link and is not published")
    return names


def _hide_paths(folder: Path) -> None:
    """Replace paths in the settings by their last part, to keep the local folders private."""
    path = folder / SETTINGS
    if not path.is_file() or not (folder / MANIFEST).is_file():
        return
    settings, manifest = load_settings(path), read_manifest(folder, verify=False)
    for key in PLACED:
        value = settings.get(key)
        if isinstance(value, str) and _is_path(key, value, manifest):
            settings[key] = Path(value).name
    settings.pop("runs_dir", None)
    write_settings(build_config(settings), path)
    files = dict(manifest.files) | {SETTINGS: hash_file(path)}
    write_manifest(folder, dataclasses.replace(manifest, files=files))


def _is_path(key: str, value: str, manifest: Manifest) -> bool:
    """Return whether a setting names a file or a folder here, also one that is gone or relative to another folder."""
    if value.startswith(("hub:", "embedded:")):
        return False
    if key == "backbone":  # a relative folder looks like an id on the hub
        return manifest.base_model.local or value.startswith(("/", ".", "~"))
    return key != "chat_template" or "{" not in value  # Jinja text has braces


def describe_export(folder: Path) -> dict[str, Any]:
    """Return a summary of a merged folder, for `--json`."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
    thresholds = folder / THRESHOLDS
    return {
        "folder": str(folder),
        "megabytes": round(size / 1e6, 1),
        "labels": list(config.get("id2label", {}).values()),
        "problem_type": config.get("problem_type"),
        "thresholds": str(thresholds) if thresholds.is_file() else None,
    }
