"""Settings from the words of a command and from YAML files, and back."""

from __future__ import annotations

import functools
import shlex
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from textune.config.aliases import ALIASES, FOLDER, resolve_aliases
from textune.config.schema import NEVER_STORED, RunConfig, known_settings, method_mapping, refuse, setting_type
from textune.config.yaml_text import load_yaml
from textune.errors import ConfigError
from textune.files import write_text_atomically


def parse_settings(pairs: Iterable[str], *, one_table: bool = False) -> dict[str, Any]:
    """Turn ``["learning_rate=1e-3", "method.r=16"]`` into ``{"learning_rate": "1e-3", "method": {"r": "16"}}``.

    one_table: the command reads no second table. Other tools' names for a setting become its own.
    Raises ConfigError listing every word that is not of the form key=value.
    """
    flat: dict[str, Any] = {}
    problems: list[str] = []
    words = list(pairs)
    for place, pair in enumerate(words):
        key, equals, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals and place and _is_name(words[place - 1]):
            continue  # the value of the word before
        if not equals and _is_name(key):
            value = words[place + 1] if place + 1 < len(words) and "=" not in words[place + 1] else ""
            typed, shown = f"{pair} {value}".strip(), value or "VALUE"
            problems.append(f"'{typed}': write {pair}={shown} or --{pair} {shown}")
        elif not equals and Path(pair).suffix and one_table:
            problems.append(f"'{pair}': only one table is read: leave it out, or run the command again with it")
        elif not equals and Path(pair).suffix:
            problems.append(f"'{pair}': say what a second table is for: test={pair} or validation={pair}")
        elif not equals or not key:
            problems.append(f"'{pair}' is not of the form key=value")
        elif key == "method" or key.startswith("method."):
            method = flat.setdefault("method", {})
            method["name" if key == "method" else key.removeprefix("method.")] = value
        else:
            flat[key] = value
    refuse(problems)
    return resolve_aliases(flat)


def _is_name(word: str) -> bool:
    return word in known_settings() or word in ALIASES or word in FOLDER or word.startswith("method.")


def load_settings(path: str | Path) -> dict[str, Any]:
    """Read flat settings from a YAML file, but those that no file can set; raise ConfigError if it is no mapping."""
    return {key: value for key, value in _read_yaml(path).items() if key not in NEVER_STORED}


def load_given_settings(path: str | Path, words: Mapping[str, Any]) -> dict[str, Any]:
    """Read a YAML file that was named in this call and merge the call's own settings over it.

    Raises ConfigError like `load_settings`, and where the file sets what only the call itself can set.
    """
    content = _read_yaml(path)
    for key in NEVER_STORED:
        if content.get(key) is not None and key not in words:
            setting = shlex.quote(f"{key}={content[key]}")
            raise ConfigError(
                f"{path}: {key}: only counts on the command line, not in a file",
                hint=f"remove it from the file; if you trust that model's source, add {setting} to the command",
            )
    return merge_settings({key: value for key, value in content.items() if key not in NEVER_STORED}, words)


def _read_yaml(path: str | Path) -> dict[str, Any]:
    try:
        content = load_yaml(Path(path).read_text(encoding="utf-8"), _list_names())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # of a tag that does not fit its value, yaml passes on whatever Python raises
        raise ConfigError(f"{path}: cannot be read as YAML: {error}", hint="correct the file") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected settings as 'key: value' lines")
    return resolve_aliases({str(key): value for key, value in content.items()})


@functools.cache
def _list_names() -> frozenset[str]:
    """Return the settings, under all their names, whose values are texts or names in the data."""
    kinds = {name: setting_type(name) for name in known_settings()}
    names = {"name", "runs_dir", "labels", "class_weights", "costs"}
    names |= {name for name, kind in kinds.items() if {str, tuple[str, ...]} & {kind, *typing.get_args(kind)}}
    names -= {"sample", "validation_sample", "test_sample"}  # numbers of rows
    return frozenset(names | {alias for alias, name in ALIASES.items() if name in names})


def write_settings(config: RunConfig, path: Path) -> None:
    """Write the settings that are not None as YAML for `load_settings`."""
    import yaml

    flat = list_stored(config)
    write_text_atomically(path, yaml.safe_dump(flat, sort_keys=False, allow_unicode=True))


def list_stored(config: RunConfig) -> dict[str, Any]:
    """Return the flat settings that a file holds: those that are set, without trust."""
    return {key: value for key, value in config.to_dict().items() if value is not None and key not in NEVER_STORED}


def list_call_words(config: RunConfig) -> list[str]:
    """Return the settings that a file cannot hold as words of a command, for a child of this very call."""
    return [f"trust={config.model.trust}"] if config.model.trust is not None else []


def merge_settings(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge settings, `over` taking precedence; the method's options are merged if its name stays the same."""
    merged = dict(base) | {k: v for k, v in over.items() if k != "method"}
    if "method" in over:
        old, new = method_mapping(base.get("method")), method_mapping(over["method"])
        same = new.get("name", old.get("name")) == old.get("name", new.get("name"))
        merged["method"] = old | new if same else new
    return merged
