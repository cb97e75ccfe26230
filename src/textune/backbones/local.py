"""Where local backbones are on this machine, by the hash of their weights: noted in the cache, never in a bundle."""

from __future__ import annotations

import json
from pathlib import Path

from textune import cache
from textune.backbones.loading import Backbone
from textune.files import write_text_atomically

_NOTES = "backbones.json"


def remember_local(backbone: Backbone) -> None:
    """Note the folder of a local backbone."""
    if not backbone.local:
        return
    folder = cache.cache_dir()
    known = _read(folder / _NOTES) | {backbone.sha256: str(backbone.folder.resolve())}
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / _NOTES, json.dumps(known, indent=2), shared=True)


def recall_local(sha256: str) -> str | None:
    """Return the folder noted for a local backbone, or None."""
    folder = _read(cache.cache_dir() / _NOTES).get(sha256)
    return folder if folder and Path(folder).is_dir() else None


def _read(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
