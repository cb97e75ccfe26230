"""The folders of local backbones on this machine, by weight hash: stored in the cache, never in a bundle.

A model may lie in several folders. All are remembered, so that deleting a copy does not lose the first. Folders of the
same weights may differ in config.json or tokenizer: who asks says what fits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from textune import cache
from textune.backbones.loading import Backbone
from textune.backbones.smollm import SMOLLM2

_FOLDERS = "backbones.json"
_MOST_FOLDERS = 64


def remember_local(backbone: Backbone) -> None:
    """Store the folder of a local backbone, if the cache can be written."""
    if not backbone.local or backbone.sha256 == SMOLLM2.sha256:
        return
    folder = str(backbone.folder.resolve())

    def add(stored: dict[str, Any]) -> dict[str, Any]:
        folders = _parse(stored)
        others = [other for other in folders.get(backbone.sha256, ()) if other != folder]
        others.sort(key=lambda other: not Path(other).is_dir())  # a drive that is away for now is forgotten last
        return folders | {backbone.sha256: [folder, *others][:_MOST_FOLDERS]}

    cache.update_facts(_FOLDERS, add)  # where it cannot be stored, the folder can be named with backbone=


def recall_local(sha256: str, fits: Callable[[Path], bool] | None = None) -> str | None:
    """Return a stored folder of a local backbone that still exists, or None; a packaged model's name is known.

    fits: says of a folder whether it is the model that is sought; asked where there are several. If none fits, the
        newest is returned, for a refusal that says what differs.
    """
    if sha256 == SMOLLM2.sha256:
        return SMOLLM2.name
    folders = _parse(cache.read_facts(_FOLDERS)).get(sha256, ())
    found = [folder for folder in folders if (Path(folder) / "config.json").is_file()]
    if fits is not None and len(found) > 1:
        found = [folder for folder in found if fits(Path(folder))] or found
    return next(iter(found), None)


def _parse(stored: dict[str, Any]) -> dict[str, list[str]]:
    """Return the folders by hash, newest first; earlier versions stored a single one."""
    lists = {key: [value] if isinstance(value, str) else value for key, value in stored.items()}
    return {key: list(map(str, value)) for key, value in lists.items() if isinstance(value, list)}
