"""Names that a package hands out when they are first asked for, so that importing it loads nothing heavy."""

from __future__ import annotations

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
        import importlib

        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return find, lambda: public
