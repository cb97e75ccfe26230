"""What is settled before a run starts or goes on: its folder, what it builds on, and that nothing has changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from textune.backbones import Backbone, recall_local, resolve_backbone, resolve_same
from textune.backbones.checks import refuse_other_config
from textune.backbones.families import Family
from textune.backbones.pooling import FIRST, MEAN
from textune.bundle import (
    Manifest,
    check_writable,
    find_run,
    lock_run,
    name_run,
    prepare_run_folder,
    read_manifest,
    refuse_exported,
    run_path,
)
from textune.config import RunConfig, TokenConfig, build_config, merge_settings
from textune.config.defaults import choose_backbone, choose_method, fill_in_model
from textune.config.schema import POOLINGS
from textune.data import choose_task
from textune.errors import BundleError, ConfigError, ModelError, TextuneError
from textune.files import read_json
from textune.inference.loading import has_config_of
from textune.methods import Method, check_fit, resolve
from textune.tasks import build_task
from textune.tokens import load_tokenizer
from textune.tokens.dialogues import PLAIN


def hash_plan(plan: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a run's plan: settings, data, backbone and probes, wherever the files are."""
    content = {key: value for key, value in plan.items() if key != "places"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def refuse_changes(what: str, then: Mapping[Any, Any], now: Mapping[Any, Any], *, whose: str = "the run") -> None:
    """Raise BundleError that shows every difference between the beginning of the run, or the search, and now."""
    changed = [k for k in sorted(then.keys() | now.keys(), key=str) if then.get(k) != now.get(k)]
    if changed:
        pairs = ((k, _short(then.get(k)), _short(now.get(k))) for k in changed)
        lines = "\n  ".join(f"{k}: {before} when {whose} began, {after} now" for k, before, after in pairs)
        raise BundleError(
            f"{whose} cannot go on: {what} changed\n  {lines}",
            hint="put them back as they were, or train anew under another name=",
        )


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "sha256" in value:
        return f"{value['rows']} rows (SHA-256 {value['sha256'][:12]}...)"
    return repr(value)


def adopt_init(config: RunConfig) -> RunConfig:
    """Fill in method and backbone; with init= take them, the labels, pooling and max_length from that run.

    Raises ConfigError where a setting contradicts the run of init=.
    """
    if config.model.init is None:
        resolve(choose_method(config), config.method.options)  # raises before anything is read
        return fill_in_model(config)
    run = find_run(config.model.init)
    config = config.replace(init=str(run))
    manifest = read_manifest(run)
    refuse_exported(run, manifest)
    if config.method.options and dict(config.method.options) != dict(manifest.method_options):
        raise ConfigError("init= goes on with the method of its run; leave method.* out")
    if config.method.name not in (None, manifest.method):
        raise ConfigError(f"init= goes on with the method of its run, {manifest.method}; leave method= out")
    pairs = tuple(zip(manifest.label_values, manifest.labels, strict=True))
    if config.data.labels not in (None, pairs):
        raise ConfigError(f"labels=: the run of init= has the labels {', '.join(manifest.labels)}, in this order")
    if config.data.task not in (None, manifest.task):
        raise ConfigError(f"task={config.data.task}: the run of init= is {manifest.task}")
    base = manifest.base_model
    known = recall_local(base.sha256, lambda folder: _has_parts_of(run, folder)) if base.local else base.id
    backbone = config.model.backbone or known or base.id
    if config.model.backbone is None:
        found = resolve_backbone(backbone, trust=config.model.trust, sha256=base.sha256)
    else:
        found = resolve_same(backbone, base.id, base.sha256, trust=config.model.trust)
    _refuse_other_parts(found, run)
    taken = {
        "method": {"name": manifest.method, **manifest.method_options},
        "backbone": backbone,
        "task": manifest.task,
        "pooling": _adopt_pooling(config.model.pooling, manifest, found.family),
        **_adopt_lengths(config.tokens, manifest),
    }
    # saved by that run: what started at random there, and a pooler that the mean bypasses
    older = [name for name in manifest.new_modules if ".pooler" in name and manifest.pooling == MEAN]
    if older := list(dict.fromkeys([*(config.model.random_weights or ()), *manifest.random_weights, *older])):
        taken["random_weights"] = older
    if manifest.writing:  # its single label is no setting
        taken["chat_template"] = config.writing.chat_template or manifest.writing.get("chat_template") or PLAIN
    else:
        taken["labels"] = pairs
    return build_config(merge_settings(config.to_dict(), taken))


def _adopt_pooling(asked: str | None, manifest: Manifest, family: Family) -> str | None:
    """Return how the run that is built on reads a text; None where that is no setting. Raises ConfigError."""
    then = manifest.pooling
    if then is None and not (family.decoder or family.guessed or family.pooling_setting):
        then = FIRST  # older bundles: the architecture's default
    if then not in POOLINGS:
        return asked
    if asked not in (None, then):
        raise ConfigError(f"pooling={asked}: the head of the run of init= reads {then}; leave pooling= out")
    return then


def _has_parts_of(run: Path, folder: Path) -> bool:
    """Return whether config and vocabulary of a model's folder are those that a run was trained with."""
    try:
        return has_config_of(run, folder) and load_tokenizer(run).get_vocab() == load_tokenizer(folder).get_vocab()
    except TextuneError:  # a tokenizer that was damaged since
        return False


def _refuse_other_parts(backbone: Backbone, run: Path) -> None:
    """Raise ModelError where config or vocabulary of the base model are not those that the run was trained with."""
    stored = run / "backbone" / "config.json"
    if stored.is_file():
        refuse_other_config(backbone.id, read_json(stored, "the base model's config"), backbone.config)
    if load_tokenizer(run).get_vocab() != load_tokenizer(backbone.folder).get_vocab():
        raise ModelError(
            f"backbone {backbone.id}: its tokenizer has another vocabulary than that of {run}",
            hint="give the model that the run was trained on with backbone=FOLDER",
        )


def _adopt_lengths(tokens: TokenConfig, manifest: Manifest) -> dict[str, Any]:
    """Return the settings of max_length and longer texts: as set now, else as in the run that is built on."""
    adopted = vars(tokens) | {"max_length": tokens.max_length or manifest.max_length}
    long_text = manifest.long_text
    if tokens.long_text in (None, long_text.form):
        then: dict[str, Any] = {"long_text": long_text.form}
        if long_text.form == "window":
            then |= {"window_overlap": long_text.overlap, "max_windows": long_text.max_windows}
        elif long_text.form == "head_tail":
            then |= {"head_fraction": long_text.head_fraction}
        adopted |= {name: value for name, value in then.items() if adopted[name] is None}
    return adopted


def resolve_model(
    config: RunConfig, find: Callable[[str, str | None], Backbone] | None = None
) -> tuple[Method, Backbone]:
    """Return the method and the backbone of a run.

    find: (name, trust) -> backbone, where it may be known already. Raises ConfigError or ModelError where the two do
    not fit each other, max_length, or the task that is set.
    """
    method = resolve(choose_method(config), config.method.options)
    name, trust = choose_backbone(config), config.model.trust
    backbone = resolve_backbone(name, trust=trust) if find is None else find(name, trust)
    if (task := choose_task(config.data, config.writing)) is not None:
        method.for_task(build_task(task))
    check_fit(method, backbone, config.tokens.max_length)
    return method, backbone


def refuse_several_processes() -> None:
    """Raise ConfigError under `torchrun` and the like: the loop is ready for them, the run folder is not yet."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise ConfigError(
            f"started as one of {processes} processes: a run takes one process for now",
            hint="start it without torchrun or accelerate launch",
        )


def choose_folder(config: RunConfig, overwrite: bool, kind: str | None = None) -> Path:
    """Return the run's folder: as named, or a name made from data, backbone, method and seed that is still free.

    kind: "sweep": the name is made from that in the place of what a sweep may change.
    """
    check_writable(Path(config.runs_dir), "runs_dir=")
    if config.name is not None:
        folder = run_path(config.runs_dir, config.name)
        if not overwrite and folder.is_dir() and any(p.name != ".lock" for p in folder.iterdir()):
            with lock_run(folder):
                prepare_run_folder(folder, overwrite=False)  # raises, saying what may be done
        return folder
    parts = (name_run(stem_of(config.data.data)), name_run(stem_of(choose_backbone(config))), choose_method(config))
    name = "-".join((parts[0], kind) if kind else (*parts, str(config.training.seed)))[:110]
    folder, number = run_path(config.runs_dir, name), 2
    while folder.exists() and not overwrite:
        folder, number = run_path(config.runs_dir, f"{name}-{number}"), number + 1
    return folder


def stem_of(source: str) -> str:
    """Return the telling part of a source: data/reviews/train.csv -> reviews-train, hub:imdb -> imdb."""
    path = Path(source.partition(":")[2] if source.startswith(("hub:", "embedded:")) else source)
    stem = path.name.partition(".")[0]
    return f"{path.parent.name}-{stem}" if stem in ("train", "training", "data") and path.parent.name else stem
