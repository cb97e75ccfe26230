"""The folders of local backbones on this machine, by weight hash: stored in the cache, never in a bundle.

A model may lie in several folders. All are remembered, so that deleting a copy does not lose the first.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from textune import cache
from textune.backbones.loading import Backbone
from textune.files import write_text_atomically

_FOLDERS = "backbones.json"
_MOST_FOLDERS = 8


def remember_local(backbone: Backbone) -> None:
    """Store the folder of a local backbone, if the cache can be written."""
    if not backbone.local:
        return
    path = cache.cache_dir() / _FOLDERS
    folders, folder = _read(path), str(backbone.folder.resolve())
    others = [other for other in folders.get(backbone.sha256, ()) if other != folder]
    folders[backbone.sha256] = [folder, *others][:_MOST_FOLDERS]
    with contextlib.suppress(OSError):  # the folder can be named with backbone= instead
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, json.dumps(folders, indent=2), shared=True)


def recall_local(sha256: str) -> str | None:
    """Return a stored folder of a local backbone that still exists, or None."""
    folders = _read(cache.cache_dir() / _FOLDERS).get(sha256, ())
    return next((folder for folder in folders if (Path(folder) / "config.json").is_file()), None)


def _read(path: Path) -> dict[str, list[str]]:
    """Return the folders by hash, newest first; earlier versions stored a single one."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): [value] if isinstance(value, str) else list(map(str, value)) for key, value in stored.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
