"""Which settings each command uses that works on a finished run or a text. All others are refused, never ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textune.config.aliases import resolve_aliases
from textune.config.schema import RunConfig, build_config
from textune.errors import ConfigError, flag

_LOADING = ("backbone", "trust", "precision")
_FILES = ("encoding", "delimiter")
_READING = (*_LOADING, "text", "text_pair", *_FILES)
_WRITING = ("max_new_tokens", "temperature", "top_p", "seed")
_SAMPLING = ("sample", "split_seed", "seed")

USED: Mapping[str, tuple[str, ...]] = {
    "predict": (*_READING, "prompt", *_WRITING),
    "predict zero-shot": (*_READING, "max_length"),
    "explain": _READING,
    "evaluate": (*_READING, "label", *_SAMPLING, "prompt", "completion", "messages", *_WRITING, "answer_rows"),
    "errors": (*_READING, "label", *_SAMPLING, "device"),
    "errors without a table": (*_LOADING, "device"),
    "tokens": ("backbone", "trust", "max_length", "long_text", "window_overlap", "max_windows", "head_fraction"),
}
"""Command -> the settings that mean something to it."""

_OPTIONS = {"device": "cpu", "output": "FOLDER"}
"""What evaluate takes as an option or a parameter of its own -> a value to show."""


def build_used(command: str, settings: Mapping[str, Any]) -> RunConfig:
    """Build a RunConfig as `build_config` does; raise ConfigError for a setting that the command does not use."""
    used = USED[command]
    for name, value in _OPTIONS.items():
        if name in settings and name not in used and command == "evaluate":
            raise ConfigError(f"{name}=: is not a setting of {command}", hint=f"write {flag(name, value)}")
    flat = resolve_aliases(settings)
    config = build_config(flat)
    if unused := [name for name, value in flat.items() if name not in used and value is not None]:
        names, kind = ", ".join(f"{name}=" for name in unused), "is not a setting"
        raise ConfigError(
            f"{names}: {kind if len(unused) == 1 else 'are not settings'} of {command}",
            hint=_advise(unused, command),
        )
    return config


def _advise(unused: Sequence[str], command: str) -> str:
    plain = unused[0].removeprefix("test_")
    if plain != unused[0] and plain in USED[command]:
        return f"write {plain}= for the columns and rows of the table"
    taken = ", ".join(f"{name}=" for name in dict.fromkeys(USED[command]))
    return f"leave {'it' if len(unused) == 1 else 'them'} out; {command} takes {taken}"
