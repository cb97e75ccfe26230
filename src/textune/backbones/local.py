"""The folders of local backbones on this machine, by weight hash: stored in the cache, never in a bundle.

A model may lie in several folders. All are remembered, so that deleting a copy does not lose the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textune import cache
from textune.backbones.loading import Backbone
from textune.backbones.smollm import SMOLLM2

_FOLDERS = "backbones.json"
_MOST_FOLDERS = 8


def remember_local(backbone: Backbone) -> None:
    """Store the folder of a local backbone, if the cache can be written."""
    if not backbone.local or backbone.sha256 == SMOLLM2.sha256:
        return
    folder = str(backbone.folder.resolve())

    def add(stored: dict[str, Any]) -> dict[str, Any]:
        folders = _parse(stored)
        others = [other for other in folders.get(backbone.sha256, ()) if other != folder]
        return folders | {backbone.sha256: [folder, *others][:_MOST_FOLDERS]}

    cache.update_facts(_FOLDERS, add)  # where it cannot be stored, the folder can be named with backbone=


def recall_local(sha256: str) -> str | None:
    """Return a stored folder of a local backbone that still exists, or None; a packaged model's name is known."""
    if sha256 == SMOLLM2.sha256:
        return SMOLLM2.name
    folders = _parse(cache.read_facts(_FOLDERS)).get(sha256, ())
    return next((folder for folder in folders if (Path(folder) / "config.json").is_file()), None)


def _parse(stored: dict[str, Any]) -> dict[str, list[str]]:
    """Return the folders by hash, newest first; earlier versions stored a single one."""
    lists = {key: [value] if isinstance(value, str) else value for key, value in stored.items()}
    return {key: list(map(str, value)) for key, value in lists.items() if isinstance(value, list)}
