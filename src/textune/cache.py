"""The user's cache folder: where it is, what it holds, and keeping it bounded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from textune.files import write_text_atomically

LARGEST_BYTES = 10 * 2**30


@dataclass(frozen=True)
class CacheEntry:
    """One cached thing. used: seconds since the epoch when it was last read."""

    path: Path
    bytes: int
    used: float


def cache_dir() -> Path:
    """Return $TEXTUNE_CACHE, or textune's folder in the user's cache folder."""
    given = os.environ.get("TEXTUNE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "textune"


def token_cache_dir() -> Path:
    """Return the folder of tokenised tables."""
    return cache_dir() / "tokens"


def prefix_cache_dir() -> Path:
    """Return the folder of what frozen layers gave."""
    return cache_dir() / "prefixes"


def list_entries() -> list[CacheEntry]:
    """Return the tokenised tables and the states of frozen layers, least recently used first."""
    entries = []
    folders = [folder for folder in (token_cache_dir(), prefix_cache_dir()) if folder.is_dir()]
    for path in (path for folder in folders for path in folder.iterdir()):
        try:
            size = sum(f.stat().st_size for f in path.iterdir()) if path.is_dir() else path.stat().st_size
            entries.append(CacheEntry(path, size, path.stat().st_mtime))
        except OSError:
            continue  # another process removed it meanwhile
    return sorted(entries, key=lambda entry: entry.used)


def clean(largest_bytes: int = 0) -> int:
    """Remove the least recently used entries until the rest fits; return the bytes freed."""
    entries = list_entries()
    total, freed = sum(e.bytes for e in entries), 0
    for entry in entries:
        if total - freed <= largest_bytes:
            break
        shutil.rmtree(entry.path, ignore_errors=True)
        freed += entry.bytes
    return freed


def recall(key: str, measure: Callable[[], int | None]) -> int | None:
    """Return what was once measured on this machine under a key, or measures it now and keep it.

    A timing falls out otherwise each time: asked anew, the same seed would not always give the same bits.
    """
    path = cache_dir() / "probes.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict) or key not in known:
        known = (known if isinstance(known, dict) else {}) | {key: measure()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomically(path, json.dumps(known, indent=2), shared=True)
        except OSError:
            pass  # without room for it it is measured again next time
    value = known[key]
    return value if isinstance(value, int) else None
