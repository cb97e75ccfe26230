"""Names that other tools use for a setting: read as ours, said once, never stored. The others are explained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textune.errors import ConfigError, Note, flag, note


class AliasNote(Note):
    """Says which setting another tool's name was read as."""


ALIASES: Mapping[str, str] = {
    "train_file": "data",
    "train_data": "data",
    "test_file": "test",
    "test_data": "test",
    "validation_file": "validation",
    "validation_data": "validation",
    "eval_file": "validation",
    "text_column": "text",
    "text_col": "text",
    "text_field": "text",
    "label_column": "label",
    "label_col": "label",
    "label_field": "label",
    "target": "label",
    "target_column": "label",
    "text_pair_column": "text_pair",
    "class_names": "labels",
    "label_names": "labels",
    "sep": "delimiter",
    "model": "backbone",
    "base": "backbone",
    "base_model": "backbone",
    "model_name": "backbone",
    "model_id": "backbone",
    "model_name_or_path": "backbone",
    "pretrained_model": "backbone",
    "lr": "learning_rate",
    "head_lr": "head_learning_rate",
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "num_train_epochs": "epochs",
    "max_epochs": "epochs",
    "epoch": "epochs",
    "batch": "batch_size",
    "bs": "batch_size",
    "train_batch_size": "batch_size",
    "per_device_train_batch_size": "micro_batch_size",
    "max_len": "max_length",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "seq_length": "max_length",
    "random_state": "seed",
    "random_seed": "seed",
    "warmup_ratio": "warmup_fraction",
    "lr_scheduler": "schedule",
    "lr_scheduler_type": "schedule",
    "scheduler": "schedule",
    "grad_clip": "max_grad_norm",
    "clip_grad_norm": "max_grad_norm",
    "early_stopping_patience": "patience",
    "metric_for_best_model": "metric",
    "class_weight": "class_weights",
    "eval_steps": "eval_every_steps",
    "save_steps": "checkpoint_every_steps",
    "num_threads": "threads",
    "validation_size": "validation_fraction",
    "validation_split": "validation_fraction",
    "val_size": "validation_fraction",
    "val_split": "validation_fraction",
    "test_size": "test_fraction",
    "test_split": "test_fraction",
    "run_name": "name",
    "peft_method": "method",
    "peft": "method",
    "r": "method.r",
    "rank": "method.r",
    "lora_r": "method.r",
    "lora_rank": "method.r",
    "alpha": "method.alpha",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "target_modules": "method.targets",
    "lora_target_modules": "method.targets",
    "use_dora": "method.dora",
    "use_rslora": "method.rslora",
    "num_virtual_tokens": "method.tokens",
}
"""Another tool's name -> the setting; method.OPTION for an option of the method."""

_TRUST = "trust_remote_code"
_LONGEST_SHOWN = 200
FOLDER = ("output", "output_dir", "output_folder", "out", "out_dir", "save_dir")
"""Names for the run's folder, which textune builds from runs_dir and name."""

_NO_EQUAL: Mapping[str, str] = {
    "gradient_accumulation_steps": "set batch_size=32 micro_batch_size=8 for four passes per step",
    "grad_accum": "set batch_size=32 micro_batch_size=8 for four passes per step",
    "fp16": "use precision=bf16 or precision=fp32",
    "bf16": "use precision=bf16 or precision=fp32",
    "gpu": "use device=cuda",
    "cuda": "use device=cuda",
    "use_gpu": "use device=cuda",
    "num_labels": "leave it out: the labels are read from the data",
    "num_classes": "leave it out: the labels are read from the data",
    "early_stopping": "use patience=3",
    "load_in_4bit": "use method=qlora",
    "quantize": "use method=qlora",
    "multilabel": "use task=; 'textune settings task' shows its values",
    "optimizer": "leave it out: it is AdamW",
    "optim": "leave it out: it is AdamW",
    "warmup_steps": "use warmup_fraction=0.1, a share of the steps",
    "max_steps": "use epochs=",
    "cv": "leave it out: few rows are cross-validated by rule; a search takes sweep.folds=5",
}
"""Another tool's name -> what to do here."""


def resolve_aliases(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their own names, and warn of each alias with an AliasNote.

    A value of None counts as not given: under another name it is dropped, and beside one it gives way.
    Raises ConfigError for a name without an equal, and for a setting that is given under two names.
    """
    resolved: dict[str, Any] = {}
    origin: dict[str, str] = {}
    notes: list[str] = []
    for key, value in flat.items():
        if key == "overwrite":
            raise ConfigError(
                f"overwrite is not a setting but an option of train, sweep and export: {flag('overwrite')}"
            )
        if value is None and not key.startswith("method."):
            if key not in ALIASES and key not in FOLDER and key not in _NO_EQUAL and key != _TRUST:
                resolved.setdefault(key, None)
            continue
        if key in _NO_EQUAL:
            raise ConfigError(f"unknown setting '{key}': {_NO_EQUAL[key]}")
        _refuse_contradiction(key, value, origin)
        read = _read(key, value)
        for name, content in read.items():
            before = origin.get(name, name if _has_option(resolved, name) else key)
            if before != key:
                raise ConfigError(f"{before}= and {key}= both set {name}", hint=f"give only {name}=")
            origin[name] = key
            if name.startswith("method."):
                _set_option(resolved, name.removeprefix("method."), content)
            elif name == "method":
                _set_method(resolved, content)
            else:
                resolved[name] = content
        if key not in read:
            words = " ".join(f"{name}={_show(content)}" for name, content in read.items())
            notes.append(f"{key}= is read as {words}")
    for line in notes:
        note(line, AliasNote)
    return resolved


def _refuse_contradiction(key: str, value: Any, origin: Mapping[str, str]) -> None:
    """Raise ConfigError for a method whose options were set under another name before."""
    for option in value if key == "method" and isinstance(value, Mapping) else ():
        if (before := origin.get(f"method.{option}")) is not None:
            raise ConfigError(
                f"{before}= and method.{option}= both set method.{option}", hint=f"give only method.{option}="
            )


def resolve_space(space: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a search tries under the settings' own names, method.OPTION for one of the method.

    Warns of each alias with an AliasNote. Raises ConfigError for a setting that is given under two names.
    """
    resolved: dict[str, Any] = {}
    for key, values in space.items():
        name = ALIASES.get(key, key)
        if name in resolved:
            raise ConfigError(f"sweep: {name} is given under two names", hint=f"give only {name}")
        resolved[name] = values
        if name != key:
            note(f"sweep: {key} is read as {name}", AliasNote)
    return resolved


def _show(content: Any) -> str:
    """Return a value for a note; nothing of a table, which is too long for one."""
    shown = str(content)
    return shown if len(shown) <= _LONGEST_SHOWN and "\n" not in shown else ""


def _read(key: str, value: Any) -> dict[str, Any]:
    """Return the settings that a name stands for."""
    if key in FOLDER:
        folder = Path(str(value))
        if not folder.name or folder.name == "..":
            raise ConfigError(f"{key}={value}: must name the run's folder, such as {key}=runs/reviews")
        return {"runs_dir": str(folder.parent), "name": folder.name}
    if key in ("test_size", "validation_size", "val_size") and _is_count(value):
        part = "test" if key == "test_size" else "validation"
        raise ConfigError(
            f"{key}={value}: must be a share of the rows: {part}_fraction=0.2",
            hint=f"for a number of rows add {part}_sample={value}",
        )
    if key == _TRUST:
        raise ConfigError(f"{key}={value}: name the model that may run its code: trust=MODEL")
    return {ALIASES.get(key, key): value}


def _has_option(resolved: Mapping[str, Any], name: str) -> bool:
    method = resolved.get("method")
    return isinstance(method, Mapping) and name.removeprefix("method.") in method and name.startswith("method.")


def _is_count(value: Any) -> bool:
    try:
        return float(value) >= 1
    except (TypeError, ValueError):
        return False


def _set_option(resolved: dict[str, Any], option: str, value: Any) -> None:
    method = resolved.get("method")
    method = dict(method) if isinstance(method, Mapping) else {} if method is None else {"name": method}
    resolved["method"] = method | {option: value}


def _set_method(resolved: dict[str, Any], value: Any) -> None:
    """Set the method; options that came before it are kept."""
    before = resolved.get("method")
    if before is None or not isinstance(before, Mapping):
        resolved["method"] = value
    else:
        resolved["method"] = {**before, **(value if isinstance(value, Mapping) else {"name": value})}
