"""Uploaded tables: stored where only this user reads them, for the training that needs them, and removed afterwards."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from pathlib import Path

from textune.app.jobs import find_state, jobs_folder, list_jobs
from textune.app.options import UPLOAD_MEGABYTES
from textune.bundle import name_run
from textune.data import list_readable
from textune.errors import DataError
from textune.files import remove_folder

_FOLDER = "uploads"
_STORED_HERE: list[tuple[Path, Path]] = []
"""Each file that this process stored, and the folder of its runs."""
_KEPT_SECONDS = 24 * 3600.0
"""How long a file stays that no training reads: a page may still be open."""


def store_upload(name: str, content: bytes, runs_dir: str | Path) -> Path:
    """Store an uploaded table and return its path; raise DataError for one that cannot be a table.

    The name is the visitor's, so that nothing but its letters and its known ending is taken from it.
    """
    shown = name.replace("\\", "/").rpartition("/")[2]
    ending = find_ending(shown)
    if not content:
        raise DataError(f"{shown}: the file is empty")
    if len(content) > UPLOAD_MEGABYTES * 2**20:
        raise DataError(
            f"{shown}: is larger than {UPLOAD_MEGABYTES} MB", hint="save it on this machine and give its path instead"
        )
    uploads = jobs_folder(runs_dir) / _FOLDER
    uploads.mkdir(parents=True, exist_ok=True)
    uploads.parent.chmod(0o700)
    folder = uploads / secrets.token_hex(8)
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
    uploads = jobs_folder(runs_dir) / _FOLDER
    folder = path.parent
    if folder.parent == uploads and folder.is_dir() and not folder.is_symlink():
        remove_folder(folder)


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
    uploads = jobs_folder(runs_dir) / _FOLDER
    if not uploads.is_dir() or uploads.is_symlink():
        return
    known = {Path(job.upload) for job in list_jobs(runs_dir) if job.upload is not None}
    for folder in uploads.iterdir():
        if not folder.is_dir() or folder.is_symlink():
            continue
        files = list(folder.iterdir())
        recent = time.time() - folder.stat().st_mtime < _KEPT_SECONDS
        if any(is_needed(path, runs_dir) or path in keep for path in files):
            continue
        if recent and not known & set(files):
            continue
        remove_folder(folder)
