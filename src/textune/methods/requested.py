"""Which methods a command over several of them was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textune.errors import ConfigError
from textune.methods import methods as registry


def take_methods(settings: dict[str, Any]) -> list[str]:
    """Take the methods out of the settings: methods=lora,head, method=lora,head, or methods=all."""
    one = settings.get("method")
    name = one.get("name") if isinstance(one, Mapping) else one
    if settings.get("methods") is not None and name is not None:
        raise ConfigError("methods= and method= cannot be combined", hint="keep one of them")
    several = isinstance(one, list | tuple) or (isinstance(one, str) and "," in one)
    named = split_list(settings.pop("methods", None)) or (split_list(settings.pop("method")) if several else [])
    return list(registry.names()) if named == ["all"] else named


def take_backbones(settings: dict[str, Any]) -> list[str | None]:
    """Take the backbones out of the settings: backbones=a,b. Raises ConfigError where backbone= names another."""
    if settings.get("backbones") is not None and settings.get("backbone") is not None:
        raise ConfigError("backbones= and backbone= cannot be combined", hint="keep one of them")
    return [*split_list(settings.pop("backbones", None))]


def split_list(value: Any) -> list[str]:
    """Return the words of `a,b`, or of a list, each once."""
    if value is None:
        return []
    words = value if isinstance(value, list | tuple) else str(value).split(",")
    return list(dict.fromkeys(str(word).strip() for word in words if str(word).strip()))
