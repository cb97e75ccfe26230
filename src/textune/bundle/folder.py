"""The run folder: its file names, its lock and its life cycle. No torch here."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from textune.errors import BundleError, ConfigError
from textune.files import PARTIAL, read_json

MANIFEST = "textune.json"
SWEEP = "sweep.yaml"
"""What makes a folder that of a search over many trainings."""
PLAN, SETTINGS = "plan.json", "config.yaml"
"""Written in this order, so that a run with its settings can be resumed."""
_MARKS = (PLAN, SWEEP, MANIFEST)
_BEFORE_SETTINGS = frozenset(
    {PLAN, *(partial for name in (PLAN, SETTINGS, SWEEP) for partial in (f"{PARTIAL}{name}", f"{name}.partial"))}
)
"""The second form of a partial file's name is that of earlier releases."""
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


def name_run(text: str) -> str:
    """Return text turned into a name that a run folder may have."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:100] or "run"


def run_path(runs_dir: str, name: str) -> Path:
    """Return the run's folder inside runs_dir; raise ConfigError where the name would leave it."""
    if not _RUN_NAME.fullmatch(name) or name.endswith("."):
        raise ConfigError(
            f"name={name!r}: a run's name has letters, digits, '.', '_' and '-' only, and is no path",
            hint="say where runs go with runs_dir=FOLDER",
        )
    path = Path(runs_dir) / name
    if path.is_symlink():
        raise ConfigError(f"{path}: is a symbolic link; runs are not written through links")
    return path


def check_place(folder: Path, setting: str) -> None:
    """Raise ConfigError where a folder can be neither made nor written to; setting: that names it.

    To be asked before anything is trained: hours later it would be too late.
    """
    exists = os.path.exists  # unlike Path.exists it raises nothing where nobody may look
    there = next(path for path in (folder, *folder.absolute().parents) if exists(path))
    if not there.is_dir():
        raise ConfigError(f"{there}: is a file, no folder", hint=f"give {setting} a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{there}: cannot be written to", hint=f"give {setting} another folder")


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; raise BundleError at once where another holds it.

    The lock is the operating system's, so it goes with the process, however that ends.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / ".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BundleError(
            f"{folder}: another process is working on this run", hint="wait for it, or choose name="
        ) from None
    try:
        yield
    finally:
        lock.release()


def prepare_run_folder(folder: Path, *, overwrite: bool) -> None:
    """Empty the folder where that was asked for, or a run was killed in it before there was anything to resume.

    Raises BundleError where it holds something else.
    """
    inside = [p for p in folder.iterdir() if p.name != ".lock"] if folder.is_dir() else []
    if not inside:
        folder.mkdir(parents=True, exist_ok=True)
        return
    broken_start = {path.name for path in inside} <= _BEFORE_SETTINGS and _is_plan(folder / PLAN)
    if not overwrite and not broken_start:
        resumable = (folder / "checkpoints").is_dir() and not (folder / MANIFEST).is_file()
        resumable |= (folder / SWEEP).is_file() and not (folder / SWEEP).with_suffix(".json").is_file()
        raise BundleError(
            f"{folder}: this run exists already",
            hint=f"go on with 'textune resume {folder}', or add --overwrite"
            if resumable
            else "choose another name=, or add --overwrite",
        )
    if not broken_start and not any((folder / mark).is_file() for mark in _MARKS):
        raise BundleError(f"{folder}: holds files that are not a run's; it is not overwritten")
    # The marks go last: where this is killed, what is left can still be told from a person's own files.
    for path in sorted(inside, key=lambda path: path.name in _MARKS):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_plan(path: Path) -> bool:
    """Return whether a file, where there is one, is textune's: a person may call a file plan.json, too."""
    try:
        return not path.exists() or {"settings", "precision", "engine"} <= read_json(path, "the run's plan").keys()
    except BundleError:
        return False


def has_begun(folder: Path) -> bool:
    """Return whether there is a run that `textune resume` can go on with, or that is finished."""
    return (folder / PLAN).is_file() and (folder / SETTINGS).is_file()
