"""Declare a setting or an option of a method: its default, its help text and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any


def option(
    default: Any, help: str, *, choices: Sequence[str] = (), low: float | None = None, high: float | None = None
) -> Any:
    """Declare a dataclass field with its help text and allowed values."""
    return field(default=default, metadata={"help": help, "choices": choices, "low": low, "high": high})


def data_option(help: str) -> Any:
    """Declare a setting that names a label or columns of the data, where none or auto is a name like any other."""
    limits = {"choices": (), "low": None, "high": None}
    return field(default=None, metadata={"help": help, "names_data": True, **limits})
