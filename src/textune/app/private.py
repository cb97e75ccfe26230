"""The app's own folder in the folder of the runs: only this user reads it, and no symbolic link in it is followed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

from textune.errors import BundleError

FOLDER = ".textune-app"
"""In the folder of the runs: what the app knows of its trainings, and files that were uploaded for them."""


def jobs_folder(runs_dir: str | Path) -> Path:
    """Return where the app keeps its own files for these runs."""
    return Path(runs_dir) / FOLDER


def find_link(runs_dir: str | Path, *names: str) -> Path | None:
    """Return the first symbolic link on the way from the app's folder to a place in it, or None.

    Folders above it may be symbolic links, since the path to it was chosen by the person who started the app.
    """
    path = jobs_folder(runs_dir)
    for name in ("", *names):
        path = path / name
        if path.is_symlink():
            return path
    return None


def refuse_link(runs_dir: str | Path, *names: str) -> None:
    """Raise BundleError if a place in the app's folder is, or lies behind, a symbolic link."""
    link = find_link(runs_dir, *names)
    if link is not None:
        raise _report_link(link)


def make_private(runs_dir: str | Path, *names: str) -> Path:
    """Create a folder in the app's folder, readable by this user alone; raise BundleError for a symbolic link."""
    refuse_link(runs_dir, *names)
    path = jobs_folder(runs_dir)
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    for name in names:
        path = path / name
        path.mkdir(mode=0o700, exist_ok=True)
    return path


def open_plainly(path: Path, mode: str) -> BinaryIO:
    """Open a file in a binary mode; raise BundleError instead of following a symbolic link."""
    try:
        return open(path, mode, opener=_open_no_link)  # type: ignore[return-value]
    except OSError as error:
        if error.errno == errno.ELOOP or path.is_symlink():
            raise _report_link(path) from error
        raise


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _report_link(path: Path) -> BundleError:
    return BundleError(f"{path}: is a symbolic link, and the app follows none", hint="remove the link")
