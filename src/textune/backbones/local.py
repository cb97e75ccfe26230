"""The folders of local backbones on this machine, by weight hash: stored in the cache, never in a bundle."""

from __future__ import annotations

import json
from pathlib import Path

from textune import cache
from textune.backbones.loading import Backbone
from textune.files import write_text_atomically

_FOLDERS = "backbones.json"


def remember_local(backbone: Backbone) -> None:
    """Store the folder of a local backbone."""
    if not backbone.local:
        return
    path = cache.cache_dir() / _FOLDERS
    folders = _read(path) | {backbone.sha256: str(backbone.folder.resolve())}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(folders, indent=2), shared=True)


def recall_local(sha256: str) -> str | None:
    """Return the stored folder of a local backbone, or None."""
    folder = _read(cache.cache_dir() / _FOLDERS).get(sha256)
    return folder if folder and Path(folder).is_dir() else None


def _read(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
