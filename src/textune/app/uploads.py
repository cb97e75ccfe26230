"""Uploaded tables: stored where only this user reads them, for the training that needs them, and removed afterwards."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Collection
from pathlib import Path

from textune.app.jobs import find_state, list_jobs
from textune.app.options import UPLOAD_MEGABYTES
from textune.app.private import find_link, jobs_folder, make_private
from textune.bundle import name_run
from textune.data import list_readable
from textune.errors import DataError
from textune.files import remove_folder

_FOLDER = ".uploads"
"""Beside the folders of the trainings, which are named for their runs: no run's name begins with a dot."""
_OLD_FOLDER = "uploads"
"""Where earlier versions stored them. A training may have this name, too."""
_OLD_NAME = re.compile(r"[0-9a-f]{16}")
_STORED_HERE: list[tuple[Path, Path]] = []
"""Each file that this process stored, and the folder of its runs."""
_KEPT_SECONDS = 24 * 3600.0
"""How long a file stays that no training reads: a page may still be open."""


def store_upload(name: str, content: bytes, runs_dir: str | Path) -> Path:
    """Store an uploaded table and return its path; raise DataError for one that cannot be a table.

    The name is the visitor's, so that nothing but its letters and its known ending is taken from it. Raises BundleError
    if the app's folder is a symbolic link.
    """
    shown = name.replace("\\", "/").rpartition("/")[2]
    ending = find_ending(shown)
    if not content:
        raise DataError(f"{shown}: the file is empty")
    if len(content) > UPLOAD_MEGABYTES * 2**20:
        raise DataError(
            f"{shown}: is larger than {UPLOAD_MEGABYTES} MB", hint="save it on this machine and give its path instead"
        )
    folder = make_private(runs_dir, _FOLDER) / secrets.token_hex(8)
    folder.mkdir(mode=0o700)
    path = folder / f"{name_run(shown[: -len(ending)])}{ending}"
    path.write_bytes(content)
    path.chmod(0o600)
    _STORED_HERE.append((path.absolute(), Path(runs_dir).absolute()))
    return path


def list_endings() -> tuple[str, ...]:
    """Return the endings of the tables that can be uploaded: those that are read, packed ones too."""
    return tuple(dict.fromkeys(ending for suffix in list_readable() for ending in (suffix, f"{suffix}.gz")))


def find_ending(name: str) -> str:
    """Return the known ending of a file's name; raise DataError for another one."""
    found = [ending for ending in list_endings() if name.lower().endswith(ending) and len(name) > len(ending)]
    if not found:
        readable = ", ".join(list_readable())
        raise DataError(f"{name}: not a kind of table that textune reads", hint=f"it reads {readable}")
    return max(found, key=len)


def remove_upload(path: Path, runs_dir: str | Path) -> None:
    """Remove an uploaded file with its folder; any other path is left alone."""
    if path.parent in _list_folders(runs_dir):
        remove_folder(path.parent)


def _list_folders(runs_dir: str | Path) -> list[Path]:
    """Return the folders of the uploaded files, one for each; none behind a symbolic link."""
    places = [name for name in (_FOLDER, _OLD_FOLDER) if find_link(runs_dir, name) is None]
    folders = [jobs_folder(runs_dir) / name for name in places]
    listed = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return [
        path
        for path in listed
        if path.is_dir() and not path.is_symlink() and (path.parent.name == _FOLDER or _OLD_NAME.fullmatch(path.name))
    ]


def is_needed(path: Path, runs_dir: str | Path) -> bool:
    """Return whether a training reads an uploaded file, or could go on with it."""
    for job in list_jobs(runs_dir):
        if job.upload is not None and Path(job.upload).absolute() == path.absolute():
            state = find_state(job)
            if state.live or state.resumable:
                return True
    return False


def remove_own_uploads() -> None:
    """Remove what this process stored and no training needs; call it when the app ends."""
    while _STORED_HERE:
        path, runs_dir = _STORED_HERE.pop()
        if path.exists() and not is_needed(path, runs_dir):
            remove_upload(path, runs_dir)


def clean_uploads(runs_dir: str | Path, keep: Collection[Path] = ()) -> None:
    """Remove the files that no training needs any more. keep: those of an open page."""
    known = {Path(job.upload) for job in list_jobs(runs_dir) if job.upload is not None}
    for folder in _list_folders(runs_dir):
        files = list(folder.iterdir())
        recent = time.time() - folder.stat().st_mtime < _KEPT_SECONDS
        if any(is_needed(path, runs_dir) or path in keep for path in files):
            continue
        if recent and not known & set(files):
            continue
        remove_folder(folder)
