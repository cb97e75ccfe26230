"""A run's settings as a form: every field, its help and its limits come from the schema and the methods' registry."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from textune.bundle import expand_home
from textune.config import (
    DataConfig,
    ModelConfig,
    RunConfig,
    TokenConfig,
    TrainingConfig,
    WritingConfig,
    build_config,
    parse_settings,
    write_names,
)
from textune.config.defaults import choose_method, fill_in_model
from textune.errors import ConfigError, show_command
from textune.methods import methods, resolve

AUTOMATIC = "automatic"
"""What stands in a field that was left open."""
COLUMNS = ("text", "label", "text_pair", "group")
FIRST = ("epochs", "learning_rate", "batch_size", "max_length", "sample", "seed")
"""The settings that are changed most; the others are folded away."""
_ELSEWHERE = ("data", "trust", "runs_dir", *COLUMNS, *FIRST)
"""Set by other parts of the page. trust is for the command line alone: it decides which code runs here."""
_PARTS = {
    "Data": DataConfig,
    "Tokens": TokenConfig,
    "Model": ModelConfig,
    "Training": TrainingConfig,
    "Models that write": WritingConfig,
}
_EXACT = ("joiner", "label_separator", "delimiter")
"""Settings whose spaces mean something."""


@dataclass(frozen=True)
class Field:
    """A setting as a form shows it. default: what holds if it is left open. choices: empty for any text."""

    name: str
    help: str
    default: str
    choices: tuple[str, ...] = ()
    switch: bool = False


def list_fields(names: typing.Iterable[str]) -> list[Field]:
    """Return the fields of some settings."""
    known = _describe_all()
    return [known[name] for name in names]


def list_other_fields(shown: Collection[str] = ()) -> dict[str, list[Field]]:
    """Return the fields that are folded away, by the part of a run that they are about. shown: asked for already."""
    known = _describe_all()
    names = {part: [f.name for f in dataclasses.fields(kind)] for part, kind in _PARTS.items()}
    return {
        part: [known[name] for name in listed if name not in (*_ELSEWHERE, *shown)] for part, listed in names.items()
    }


def list_method_fields(method: str) -> list[Field]:
    """Return the fields of a method's options."""
    return _describe(methods.get(method).options_type, "method.", {})


def _describe_all() -> dict[str, Field]:
    defaults = fill_in_model(RunConfig()).to_dict()
    return {field.name: field for kind in _PARTS.values() for field in _describe(kind, "", defaults)}


def _describe(kind: type, prefix: str, defaults: Mapping[str, Any]) -> list[Field]:
    hints = typing.get_type_hints(kind)
    found = []
    for f in dataclasses.fields(kind):
        default = defaults.get(f.name, f.default)
        found.append(
            Field(
                f"{prefix}{f.name}",
                f.metadata["help"],
                show_default(default),
                tuple(f.metadata["choices"] or ()),
                hints[f.name] is bool,
            )
        )
    return found


def show_default(value: Any) -> str:
    """Return a default as it is typed."""
    if value is None:
        return AUTOMATIC
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return write_names([str(item) for item in value])
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Request:
    """A run to train. data: the table. values: the settings that were chosen, as they are typed, by their names."""

    data: str
    values: Mapping[str, str]

    def build(self) -> RunConfig:
        """Return the settings; raise one ConfigError with all that is wrong."""
        return build_config({"data": name_source(self.data)} | parse_settings(self._list_pairs()))

    def list_words(self) -> list[str]:
        """Return the words of the command, after `textune`."""
        return ["train", name_source(self.data), *self._list_pairs()]

    def show_command(self) -> str:
        """Return the command, ready to be pasted."""
        return show_command(*self.list_words())

    def show_yaml(self) -> str:
        """Return the same settings as a file for `textune train FILE`; raise ConfigError if they are wrong."""
        import yaml

        config = self.build()
        method = resolve(choose_method(config), config.method.options)
        options = {name: _plain(getattr(method.options, name)) for name in config.method.options}
        flat = config.to_dict() | {"method": {"name": method.key, **options}}
        names = {name.partition(".")[0] for name in self.values}
        chosen = {name: flat[name] for name in ("data", *flat) if name == "data" or name in names}
        return str(yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True))

    def _list_pairs(self) -> list[str]:
        return [f"{name}={value}" for name, value in self.values.items()]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def choose_values(values: Mapping[str, str], fields: typing.Iterable[Field]) -> dict[str, str]:
    """Return the values that differ from what holds anyway. values: by name, as they stand in the form."""
    defaults = {field.name: field.default for field in fields}
    typed = {name: value if name in _EXACT else value.strip() for name, value in values.items()}
    return {name: value for name, value in typed.items() if value not in ("", defaults.get(name, ""))}


def name_source(data: str) -> str:
    """Return how a table is named in a command; raise ConfigError for what the command would read as something else."""
    if data.startswith(("hub:", "embedded:")):
        return data
    if not data:
        raise ConfigError("no data yet", hint="choose a table first")
    path = expand_home(data)
    if path.suffix.lower() in (".yaml", ".yml"):
        raise ConfigError(f"{data}: holds settings, not a table", hint=f"train it with: {show_command('train', path)}")
    if not path.exists() and "#" not in data:
        raise ConfigError(f"{data}: no such file or folder", hint="give a path on the machine that runs the app")
    return f"./{path}" if str(path).startswith("-") else str(path)
