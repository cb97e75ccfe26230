"""Names that a package hands out when they are first asked for, so that importing it loads nothing heavy."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any


def export_lazily(
    package: str, homes: Mapping[str, str], public: list[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package.

    homes: exported name -> the module inside the package that has it. public: the package's `__all__`.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return find, lambda: public


class _CallableModule(types.ModuleType):
    """A package that is also a function: `textune.compare(...)` and `from textune.compare import ...` both work."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        function = getattr(importlib.import_module(f"{self.__name__}.api"), self.__name__.rpartition(".")[2])
        return function(*arguments, **options)


def make_callable(package: str) -> None:
    """Let a call of the package be a call of the function of its name in its module `api`."""
    sys.modules[package].__class__ = _CallableModule
