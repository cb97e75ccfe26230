"""The user's cache folder: its location, its entries and its size limit."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.files import write_text_atomically

LARGEST_BYTES = 10 * 2**30
_PROBES = "probes.json"
_LONGEST_WAIT = 30.0
"""Seconds to wait for another process that changes a small file of the cache."""


@dataclass(frozen=True)
class CacheEntry:
    """One cache entry. used: when it was last read, in seconds since the epoch."""

    path: Path
    bytes: int
    used: float


def cache_dir() -> Path:
    """Return $TEXTUNE_CACHE, or textune's folder in the user's cache folder."""
    configured = os.environ.get("TEXTUNE_CACHE")
    try:
        if configured:
            return Path(configured).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "textune"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(tempfile.gettempdir()) / f"textune-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


def token_cache_dir() -> Path:
    """Return the folder of tokenized tables."""
    return cache_dir() / "tokens"


def prefix_cache_dir() -> Path:
    """Return the folder of cached outputs of frozen layers."""
    return cache_dir() / "prefixes"


def model_cache_dir() -> Path:
    """Return the folder of converted models."""
    return cache_dir() / "models"


def list_entries() -> list[CacheEntry]:
    """Return tokenized tables, outputs of frozen layers and converted models, least recently used first."""
    entries = []
    every = (token_cache_dir(), prefix_cache_dir(), model_cache_dir())
    folders = [folder for folder in every if folder.is_dir()]
    for path in (path for folder in folders for path in folder.iterdir()):
        try:
            size = sum(f.stat().st_size for f in path.iterdir()) if path.is_dir() else path.stat().st_size
            entries.append(CacheEntry(path, size, path.stat().st_mtime))
        except OSError:
            continue  # another process removed it
    return sorted(entries, key=lambda entry: entry.used)


def clean(largest_bytes: int = 0) -> int:
    """Remove the least recently used entries until at most largest_bytes remain; return the bytes freed."""
    entries = list_entries()
    total, freed = sum(e.bytes for e in entries), 0
    for entry in entries:
        if total - freed <= largest_bytes:
            break
        shutil.rmtree(entry.path, ignore_errors=True)
        freed += entry.bytes
    return freed


def recall(key: str, measure: Callable[[], int | None]) -> int | None:
    """Return the cached measurement of this machine for a key, or measure it now and cache it.

    Timings vary from run to run. Without the cache, the same seed would not always give the same bits.
    """
    cached = read_facts(_PROBES)
    if key not in cached:
        measured = measure()  # if it cannot be stored, it is measured again next time
        cached = update_facts(_PROBES, lambda facts: {key: measured} | facts)
    value = cached[key]
    return value if isinstance(value, int) else None


def read_facts(name: str) -> dict[str, Any]:
    """Return the content of a small JSON file in the cache folder; empty if it is missing or damaged."""
    try:
        content = json.loads((cache_dir() / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def update_facts(name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Change a small JSON file in the cache folder, one process at a time; return its new content.

    The cache only saves time: where it cannot be locked or written, the content is returned all the same.
    """
    path = cache_dir() / name
    with _hold(path):
        content = change(read_facts(name))
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomically(path, json.dumps(content, indent=2), shared=True)
    return content


@contextmanager
def _hold(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(str(path.with_name(f".{path.name}.lock")), timeout=_LONGEST_WAIT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError, Timeout):
        pass
    try:
        yield
    finally:
        lock.release()
