"""Which methods a command over several of them was asked for."""

from __future__ import annotations

from typing import Any

from textune.methods import methods as registry


def take_methods(settings: dict[str, Any]) -> list[str]:
    """Take the methods out of the settings: methods=lora,head, method=lora,head, or methods=all."""
    one = settings.get("method")
    several = isinstance(one, list | tuple) or (isinstance(one, str) and "," in one)
    named = split_list(settings.pop("methods", None)) or (split_list(settings.pop("method")) if several else [])
    return list(registry.names()) if named == ["all"] else named


def split_list(value: Any) -> list[str]:
    """Return the words of `a,b`, or of a list."""
    if value is None:
        return []
    words = value if isinstance(value, list | tuple) else str(value).split(",")
    return [str(word).strip() for word in words if str(word).strip()]
