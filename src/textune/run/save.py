"""The third of a run's four functions: weights, tokenizer and manifest, proven by a fresh load."""

from __future__ import annotations

import dataclasses
import json
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.backbones import Backbone, remember_local
from textune.bundle import SETTINGS, BaseModel, Manifest, TextColumns, read_manifest, write_manifest
from textune.config import TRUNCATE, LongText
from textune.files import hash_files
from textune.inference import LoadOptions, Predictor
from textune.methods import Method, count_parameters
from textune.progress import Progress
from textune.run.calibrate import Calibration, calibrate
from textune.run.fit import Fitted
from textune.run.prepare import Prepared
from textune.run.seen_rows import write_row_hashes
from textune.tokens import load_tokenizer
from textune.tokens.batches import EncodedSplit
from textune.tokens.plain import let_transformers_agree
from textune.version import __version__, list_versions

if TYPE_CHECKING:
    import torch

_SELF_TEST_ROWS = 6
_OF_ONE_MACHINE = ("name_or_path", "_name_or_path", "auto_map", "tokenizer_file", "special_tokens_map_file")


@dataclass(frozen=True)
class TrainedModel:
    """A model to be saved: the module with the method applied, and what it was made of."""

    module: torch.nn.Module
    method: Method
    backbone: Backbone
    new_modules: tuple[str, ...]


@dataclass(frozen=True)
class BundleFacts:
    """What the manifest says beside the model itself; the fields are the manifest's."""

    labels: tuple[str, ...]
    label_values: tuple[str, ...]
    columns: TextColumns
    max_length: int
    seed: int
    data_fingerprint: str
    engine: Mapping[str, Any]
    task: str = "single_label"
    long_text: LongText = TRUNCATE
    pooling: str | None = None
    random_weights: tuple[str, ...] = ()
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    decisions: Mapping[str, Any] = field(default_factory=dict)
    fixes: Mapping[str, Any] = field(default_factory=dict)
    writing: Mapping[str, Any] = field(default_factory=dict)


def save(
    prepared: Prepared, fitted: Fitted, folder: Path, progress: Progress, calibration: Calibration | None = None
) -> Manifest:
    """Calibrate, write the bundle and prove that a fresh load gives the trained model's logits.

    calibration: default: fitted on rows that training did not see. Raises BundleError where the proof fails.
    """
    calibration = calibration or calibrate(prepared, fitted, folder, progress)
    opened, data, backbone = fitted.opened, prepared.data, prepared.backbone
    opened.engine.release()
    remember_local(backbone)
    model = TrainedModel(opened.module, prepared.method, backbone, opened.new_modules)

    def prove(manifest: Manifest) -> None:
        difference = check_reload(folder, manifest, model, prepared)
        size = weight_megabytes(folder)
        progress.say(f"saved {size:.1f} MB; a fresh load gives the same logits ({difference:.1g} apart)")

    facts = BundleFacts(
        labels=data.labels.names,
        label_values=data.labels.values,
        columns=data.columns,
        max_length=prepared.config.tokens.max_length or 0,
        seed=prepared.config.training.seed,
        data_fingerprint=data.fingerprint,
        engine={"name": opened.engine.name, **opened.plan["engine"]}
        | {key: opened.plan[key] for key in ("precision", "threads", "device")},
        task=data.task,
        long_text=prepared.long_text,
        pooling=prepared.pooling.form,
        random_weights=prepared.config.model.random_weights or (),
        temperature=calibration.temperature,
        thresholds=calibration.thresholds,
        decisions=calibration.decisions,
        fixes={} if data.fixed is None else vars(data.fixed),
        writing=describe_writing(prepared),
    )
    return write_bundle(folder, model, facts, prove=prove, written=write_row_hashes(folder, prepared))


def write_bundle(
    folder: Path,
    model: TrainedModel,
    facts: BundleFacts,
    *,
    prove: Callable[[Manifest], None] = lambda manifest: None,
    tokenizer: Backbone | None = None,
    written: Sequence[str] = (),
) -> Manifest:
    """Write every file of the bundle, let `prove` raise, write the manifest last, and return it.

    tokenizer: whose tokenizer is saved; default: the backbone's. written: files of the bundle that are there already.
    """
    backbone = model.backbone
    names = model.method.write_weights(model.module, folder, backbone)
    names += write_tokenizer(tokenizer or backbone, folder, facts.max_length)
    if facts.writing:
        _write_template(folder, facts.writing["chat_template"])
    (folder / "backbone").mkdir(exist_ok=True)
    config = {k: v for k, v in backbone.config.items() if k not in ("_name_or_path", "auto_map")}
    (folder / "backbone" / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    names += ["backbone/config.json", SETTINGS, *written]
    _let_others_read(folder, names)
    trainable, total = count_parameters(model.module)
    manifest = Manifest(
        **{each.name: getattr(facts, each.name) for each in dataclasses.fields(facts)},
        base_model=BaseModel(backbone.id, backbone.family.name, backbone.sha256, backbone.revision, backbone.local),
        method=model.method.key,
        method_options=model.method.resolved_options(backbone.family),
        pad_token_id=backbone.pad_token_id,
        trainable_parameters=trainable,
        total_parameters=total,
        versions=list_versions(),
        textune_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        new_modules=model.new_modules,
        needs_trust=backbone.needs_trust,
        files=hash_files(folder, names),
    )
    prove(manifest)
    write_manifest(folder, manifest)
    return manifest


def describe_writing(prepared: Prepared) -> dict[str, Any]:
    """Return what the manifest says of a model that writes; nothing for a classifier."""
    dialogues, settings = prepared.dialogues, prepared.config.writing
    if dialogues is None:
        return {}
    names = ("max_new_tokens", "temperature", "top_p", "answer_rows")
    return {name: value for name in names if (value := getattr(settings, name)) is not None} | {
        "stop_token_ids": list(dialogues.stops),
        "chat_template": dialogues.template,
    }


def _write_template(folder: Path, template: str | None) -> None:
    """Keep the chat template with the tokenizer, where transformers looks for it."""
    path = folder / "tokenizer_config.json"
    settings = {k: v for k, v in json.loads(path.read_text(encoding="utf-8")).items() if k != "chat_template"}
    settings |= {} if template is None else {"chat_template": template}
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _let_others_read(folder: Path, names: Sequence[str]) -> None:
    """Give weight files the usual mode: safetensors makes them readable by their owner alone."""
    usual = stat.S_IMODE((folder / SETTINGS).stat().st_mode)
    for name in names:
        (folder / name).chmod(usual)


def write_tokenizer(backbone: Backbone, folder: Path, max_length: int) -> list[str]:
    """Copy the tokenizer's files, without the truncation, padding and paths of where they come from."""
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
    let_transformers_agree(folder, token_types=backbone.padding.token_types)
    return sorted({*names, "tokenizer.json", "tokenizer_config.json"})


def check_reload(folder: Path, manifest: Manifest, model: TrainedModel, prepared: Prepared) -> float:
    """Load the files afresh and compare their logits with the trained model's on a padded batch of training rows.

    Returns the largest difference as a share of the largest logit. Raises BundleError where it is too large.
    """
    from textune.engine import Precision, ReferenceEngine, predict_logits
    from textune.engine.same_logits import require_same

    split, backbone = prepared.train, model.backbone
    rows = choose_unequal_rows(split)
    exact = Precision("fp32", "self-test")
    equal_lengths = model.method.needs_equal_lengths(backbone.family)
    engine = ReferenceEngine(model.module, exact, equal_lengths=equal_lengths)
    examples = prepared.data.train.take(rows)
    if prepared.task.writes:
        as_trained = Predictor.from_engine(folder, manifest, engine, backbone)
        trained = as_trained.predict_logits(examples.texts())
    else:
        subset = dataclasses.replace(split, tokens=split.tokens.take(rows), targets=split.targets[rows])
        trained = predict_logits(engine, subset, backbone.padding)
    # The local folder that training read is given, so that the test works before anyone has noted where it is.
    options = LoadOptions(
        backbone=str(backbone.folder) if backbone.local else None,
        device=engine.device.type,
        precision="fp32",
        trust=backbone.trust,
        merge=False,
        engine="reference",
    )
    fresh = Predictor.from_manifest(folder, manifest, options)
    reloaded = fresh.predict_logits(examples.texts(), examples.text_pairs())
    return require_same(
        trained,
        reloaded,
        f"{folder}: the saved model does not give the trained model's logits after a reload",
        hint="this is a fault of the method on this backbone; the checkpoints are kept",
    )


def choose_unequal_rows(split: EncodedSplit) -> NDArray[np.int64]:
    """Return the indices of a few rows from the shortest to the longest."""
    order = np.argsort(split.tokens.lengths, kind="stable")
    places = np.linspace(0, len(order) - 1, _SELF_TEST_ROWS).astype(np.int64)
    return np.asarray(order[np.unique(places)], np.int64)


def update_manifest(folder: Path, **changes: Any) -> Manifest:
    """Replace fields of a bundle's manifest."""
    manifest = dataclasses.replace(read_manifest(folder, verify=False), **changes)
    write_manifest(folder, manifest)
    return manifest


def weight_megabytes(folder: Path) -> float:
    """Return the size on disk of what the run added to the backbone, in MB (10^6 bytes)."""
    weights = [p for p in folder.glob("*.safetensors") if p.is_file()]
    return sum(p.stat().st_size for p in weights) / 1e6
