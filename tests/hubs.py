"""A hub that publishing is tested with: no network, and the rules of huggingface_hub's client."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from huggingface_hub.utils import filter_repo_objects


class Hub:
    """Keeps one repository in memory. private: its visibility, None while there is none. files: what it holds."""

    def __init__(self, private: bool | None = None) -> None:
        self.private = private
        self.files: dict[str, bytes] = {}
        self.kind: dict[str, Any] = {}

    def repo_exists(self, hub_id: str, **_: Any) -> bool:
        """Return whether there is a repository."""
        return self.private is not None

    def repo_info(self, hub_id: str, **_: Any) -> Any:
        """Return what is known of the repository."""
        assert self.private is not None
        return SimpleNamespace(private=self.private, siblings=[SimpleNamespace(rfilename=name) for name in self.files])

    def create_repo(self, hub_id: str, *, private: bool, exist_ok: bool, **kind: Any) -> str:
        """Create the repository; one that exists keeps its visibility."""
        assert exist_ok
        self.private = private if self.private is None else self.private
        self.kind = kind
        return f"https://hub/{hub_id}"

    def upload_folder(self, *, folder_path: str, delete_patterns: Sequence[str] | None = None, **_: Any) -> None:
        """Remove what the patterns name, and add the files of a folder."""
        for name in list(filter_repo_objects(self.files, allow_patterns=list(delete_patterns or ()))):
            del self.files[name]
        top = Path(folder_path)
        self.files |= {p.relative_to(top).as_posix(): p.read_bytes() for p in top.rglob("*") if p.is_file()}
