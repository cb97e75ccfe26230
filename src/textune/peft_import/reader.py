"""Read and check a peft adapter folder, and drop what is specific to one machine. No torch here."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.bundle import MANIFEST
from textune.config.values import LabelPairs, show_value
from textune.errors import BundleError
from textune.files import read_json
from textune.methods.adopted import list_peft_types
from textune.tasks import find_by_problem_type, tasks

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"
_FACTS = frozenset(
    {"peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping"}
)
"""Keys of adapter_config.json that describe how the file was made, not the adapter."""
_START = frozenset(
    {
        "init_lora_weights",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "prompt_tuning_init",
        "prompt_tuning_init_text",
        "tokenizer_name_or_path",
        "tokenizer_kwargs",
    }
)
"""Keys about the initial weights. The saved weights replace those, so these keys, texts and paths included, go."""
_HARMLESS_STARTS = (True, False, "gaussian", "orthogonal", "eva", None)
_TOO_LARGE = 1 << 63
"""The first number that torch takes for none."""
_CLOSER_KINDS = {"ADALORA": {"rank_pattern": dict[str, list[bool]] | None}}
"""Fields, by peft's type, of which peft reads more than it declares."""
_HEAD_ENDS = (".classifier.out_proj.weight", ".classifier.weight", ".score.weight")


@dataclass(frozen=True)
class ForeignAdapter:
    """A checked adapter folder.

    settings: peft's configuration without defaults. shapes: of every tensor, by name.
    base: the base model in the configuration: a hub id, or a path on the machine where it was trained.
    """

    folder: Path
    peft_type: str
    peft_version: str
    base: str | None
    revision: str | None
    task_type: str | None
    settings: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def classes(self) -> int | None:
        """The number of rows of the head in the file, or None without a head."""
        rows = (s[0] for end in _HEAD_ENDS for n, s in self.shapes.items() if n.endswith(end) and len(s) == 2)
        return next(rows, None)

    @property
    def model_config(self) -> Mapping[str, Any]:
        """The config.json beside the adapter; empty where there is none."""
        path = self.folder / "config.json"
        return read_json(path, "the model's config") if path.is_file() else {}

    def holds(self, parameter: str) -> bool:
        """Return whether the file has a value for a parameter of the base model."""
        return any(name.replace(".base_layer.", ".").endswith(f".{parameter}") for name in self.shapes)


def read_adapter(folder: Path) -> ForeignAdapter:
    """Read the configuration and tensor names of an adapter folder, without the weights.

    Raises BundleError: no adapter, pickled weights, custom code, not a classifier, or an unsupported setting.
    """
    _check_files(folder)
    config = read_json(folder / CONFIG, "the adapter's configuration")
    for name in (CONFIG, "config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and read_json(folder / name, "the file").get("auto_map"):
            raise BundleError(
                f"{folder / name}: contains custom Python code (auto_map), which textune does not run",
                hint="remove the entry if the adapter does not need that code",
            )
    peft_type, task = config.get("peft_type"), config.get("task_type")
    if peft_type not in list_peft_types():
        raise BundleError(
            f"{folder / CONFIG}: peft_type={peft_type!r} cannot be imported",
            hint=f"can be imported: {', '.join(list_peft_types())}",
        )
    if task is not None and task not in [cls.peft_task_type for _, cls in tasks if not cls.writes]:
        raise BundleError(
            f"{folder / CONFIG}: task_type={task!r}: this adapter is not a text classifier",
            hint="textune imports adapters for sequence classification (task_type SEQ_CLS)",
        )
    return ForeignAdapter(
        folder,
        peft_type,
        _read_text(folder / CONFIG, config, "peft_version") or "unknown",
        _read_text(folder / CONFIG, config, "base_model_name_or_path"),
        _read_text(folder / CONFIG, config, "revision"),
        task,
        _choose_settings(folder / CONFIG, config),
        _read_shapes(folder / WEIGHTS),
    )


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder", hint=f"from the hub: hf download {folder} --local-dir FOLDER")
    if (folder / MANIFEST).is_file():
        raise BundleError(f"{folder}: is already a textune run", hint="use it directly")
    if not (folder / CONFIG).is_file():
        inside = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        hint = (
            f"there are adapters in: {', '.join(inside)}"
            if inside
            else "give a folder written by peft's save_pretrained"
        )
        raise BundleError(f"{folder}: not a peft adapter: {CONFIG} is missing", hint=hint)
    if not (folder / WEIGHTS).is_file():
        if (folder / _PICKLE).is_file():
            raise BundleError(
                f"{folder / _PICKLE}: the weights are a pickle, which can run arbitrary code; it is not read",
                hint=f"save the adapter again with a current peft: save_pretrained writes {WEIGHTS}",
            )
        raise BundleError(f"{folder}: no weights: {WEIGHTS} is missing")


def _read_text(path: Path, config: Mapping[str, Any], key: str) -> str | None:
    """Return a text that may be missing or empty; raise BundleError for anything else."""
    value = config.get(key)
    _refuse_other_kind(path, key, value, str | None)
    return value or None


def _refuse_other_kind(path: Path, key: str, value: Any, kind: Any) -> None:
    """Raise BundleError for a value that is not of the kind that peft declares for its field."""
    if not _is_kind(value, kind):
        name = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
        raise BundleError(
            f"{path}: {key}={show_value(value)}: peft declares this field as {name}",
            hint="the file is damaged or was edited; save the adapter again with peft's save_pretrained",
        )


def _is_kind(value: Any, kind: Any) -> bool:
    """Return whether a JSON value is of a declared kind. Any number fits int and float, and peft checks words."""
    outer, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if outer in (typing.Union, types.UnionType):
        return any(_is_kind(value, each) for each in inner)
    if outer in (list, tuple):
        return isinstance(value, list) and all(_is_kind(item, inner[0]) for item in value)
    if outer is dict and inner:
        return isinstance(value, Mapping) and all(_is_kind(item, inner[1]) for item in value.values())
    if outer in (int, float):
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _TOO_LARGE
    if outer is bool:
        return isinstance(value, bool | None)
    if outer is types.NoneType:
        return value is None
    if outer is dict or dataclasses.is_dataclass(outer):
        return isinstance(value, Mapping)
    return isinstance(value, str)  # text, one of some words, or the name in an enumeration


def _choose_settings(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are not peft's defaults; raise BundleError naming an unsupported one."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(config["peft_type"])]
    kinds = typing.get_type_hints(config_class) | _CLOSER_KINDS.get(config["peft_type"], {})
    defaults = {
        f.name: f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        for f in dataclasses.fields(config_class)
    }
    if config.get("init_lora_weights") not in _HARMLESS_STARTS:
        raise BundleError(
            f"{path}: init_lora_weights={config['init_lora_weights']!r} also changed the base model's weights, which "
            "the adapter does not contain",
            hint="convert it in the original environment: "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...)",
        )
    settings = {}
    for key in sorted(config.keys() - _FACTS - _START):
        value = config[key]
        if key in defaults:
            if value != defaults[key]:  # some defaults are of another kind than declared
                _refuse_other_kind(path, key, value, kinds[key])
            if isinstance(value, list) and key == "modules_to_save":
                value = sorted(set(value))  # peft adds the head's names again at each load
            if value != defaults[key]:
                settings[key] = value
        elif value:
            raise BundleError(
                f"{path}: the installed peft does not know {key}={value!r}",
                hint="install the peft version that the adapter was trained with, or a newer one",
            )
    if config.get("megatron_config"):
        raise BundleError(f"{path}: megatron_config names code to load, which textune does not run")
    if paths := [f"{key}={text!r}" for key, value in settings.items() for text in _list_texts(value) if _is_path(text)]:
        raise BundleError(f"{path}: {paths[0]} is a path on the machine where the adapter was trained")
    return settings


def _list_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for pair in value.items() for part in pair for text in _list_texts(part))
    elif isinstance(value, list):
        yield from (text for item in value for text in _list_texts(item))


def _is_path(text: str) -> bool:
    return text.startswith(("/", "~")) or text[1:3] == ":\\"


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path}: the weights are damaged: {error}") from error


def read_label_names(config: Mapping[str, Any]) -> LabelPairs | None:
    """Return the labels of a config.json's id2label in order; None if missing or only LABEL_0, LABEL_1, ...

    None, too, where one is no text or appears twice.
    """
    names = config.get("id2label")
    if not isinstance(names, Mapping) or set(names) != {str(i) for i in range(len(names))}:
        return None
    ordered = [names[str(i)] for i in range(len(names))]
    if not all(isinstance(name, str) for name in ordered) or len(set(ordered)) < len(ordered):
        return None
    if all(name == f"LABEL_{i}" for i, name in enumerate(ordered)):
        return None
    return tuple((name, name) for name in ordered)


def read_task(config: Mapping[str, Any], place: str) -> str | None:
    """Return the task of a config.json's problem_type, or None without one; BundleError where that classifies nothing.

    place: whose config.json it is.
    """
    problem_type = config.get("problem_type")
    if problem_type is None:
        return None
    found = find_by_problem_type(problem_type)
    if found is None or found.writes:
        raise BundleError(
            f"the config.json of the {place} has problem_type={problem_type!r}, which is no classification",
            hint="if it is a classifier all the same, say of which kind: task=single_label or task=multi_label",
        )
    return found.name


def dump_settings(settings: Mapping[str, Any]) -> str:
    """Return the settings as one line of JSON."""
    return json.dumps(settings, sort_keys=True, ensure_ascii=False)
