"""The version of textune, and those of the libraries that a result depends on."""

from __future__ import annotations

import platform
from functools import cache

__version__ = "0.1.0"
_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")


def list_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a result depends on."""
    return {"python": platform.python_version()} | {name: _read_version(name) for name in _LIBRARIES}


@cache
def _read_version(name: str) -> str:
    from importlib.metadata import version  # costs as much as the rest of `textune --help`

    return version(name)  # reads and parses a file each time
