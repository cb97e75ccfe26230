"""The run folder: its file names, its place and its lock. No torch here."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from textune.errors import BundleError, ConfigError, Note, note
from textune.files import PARTIAL, expand_home, refuse_link

MANIFEST = "textune.json"
SWEEP = "sweep.yaml"
"""Marks a folder as a sweep of many runs."""
PLAN, SETTINGS = "plan.json", "config.yaml"
"""Written in this order, so that a run that has its settings can be resumed."""
MARKERS = (PLAN, SWEEP, MANIFEST)
BEFORE_SETTINGS = frozenset(
    {PLAN, *(partial for name in (PLAN, SETTINGS, SWEEP) for partial in (f"{PARTIAL}{name}", f"{name}.partial"))}
)
"""The second form of a partial file's name is that of earlier releases."""
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


def name_run(text: str) -> str:
    """Return text turned into a valid run name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:100] or "run"


def run_path(runs_dir: str, name: str) -> Path:
    """Return the run's folder inside runs_dir; raise ConfigError for a name that could leave it."""
    if not _RUN_NAME.fullmatch(name) or name.endswith("."):
        raise ConfigError(
            f"name={name!r}: a run's name may have only letters, digits, '.', '_' and '-'",
            hint="set the folder for runs with runs_dir=FOLDER",
        )
    path = expand_home(runs_dir) / name
    if path.is_symlink():
        raise ConfigError(f"{path}: is a symbolic link, and runs are not written through links")
    return path


class PlaceNote(Note):
    """Says which folder a run's name was read as."""


class HasFolder(Protocol):
    """Anything with a run folder, such as a `Run`."""

    @property
    def folder(self) -> Path:
        """The run's folder."""


AnyRun = str | Path | HasFolder


def find_run(run: AnyRun) -> Path:
    """Return the folder of a run: a path, or the bare name of a folder in `runs`, which a PlaceNote tells.

    A path that exists is never looked up elsewhere.
    """
    path = expand_home(run) if isinstance(run, str | Path) else run.folder
    in_runs = Path("runs") / path
    if str(run) != path.name or path.name == ".." or not os.path.isdir(in_runs):  # noqa: PTH112  as below
        return path
    if not os.path.lexists(path):  # unlike Path.exists it does not raise for a name that is too long
        note(f"{path}: read as {in_runs}", PlaceNote)
        return in_runs
    if _is_marked(in_runs) and not _is_marked(path):
        note(f"{path}: used instead of {in_runs}", PlaceNote)
    return path


def _is_marked(folder: Path) -> bool:
    return any((folder / marker).is_file() for marker in MARKERS)


def check_writable(folder: Path, setting: str) -> None:
    """Raise ConfigError if a folder can be neither created nor written to; setting: the setting that names it.

    Call this before training, so that a run does not fail after hours.
    """
    folder = expand_home(folder)
    exists = os.path.exists  # unlike Path.exists it does not raise for unreadable parents
    existing = next(path for path in (folder, *folder.absolute().parents) if exists(path))
    if not existing.is_dir():
        raise ConfigError(f"{existing}: is a file, not a folder", hint=f"set {setting} to a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{existing}: cannot be written to: permission denied", hint=f"set {setting} to another folder"
        )


def refuse_current(folder: Path, setting: str) -> None:
    """Raise ConfigError if this process works in a folder that is to be replaced, or below; setting: what names it."""
    if Path.cwd().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"{folder}: is the current folder or holds it, and cannot be replaced",
            hint=f"set {setting} to a new folder, or call from another folder",
        )


class RunIsBusy(BundleError):
    """Another process holds the run's folder."""


@contextlib.contextmanager
def lock_run(folder: Path, hint: str = "wait until it has finished") -> Iterator[None]:
    """Lock the run folder for this process; raise RunIsBusy with the hint at once if another process has it.

    Raises BundleError if the folder cannot be written.

    The operating system releases the lock when the process ends, even after a crash.
    """
    from filelock import FileLock, Timeout

    refuse_link(folder / ".lock")  # it would be emptied
    lock = FileLock(str(folder / ".lock"), timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise RunIsBusy(f"{folder}: another process is working on this run", hint=hint) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BundleError(
            f"{folder}: cannot be written ({error.strerror or error})",
            hint="copy the run to a folder that can be, or set another name= or runs_dir=",
        ) from error
    try:
        yield
    finally:
        lock.release()


def refuse_links(folder: Path) -> None:
    """Raise BundleError for a symbolic link anywhere in a run's folder that is written to, which may be a stranger's.

    Through a link, the work would replace or delete files of another place.
    """
    for place, folders, files in os.walk(folder):  # it follows no link to a folder
        for name in sorted(folders + files):
            refuse_link(Path(place) / name)


def is_busy(folder: Path) -> bool:
    """Return whether a process works on a run; False where that cannot be told."""
    if not (folder / ".lock").is_file():
        return False
    try:
        with lock_run(folder):
            return False
    except RunIsBusy:
        return True
    except (BundleError, OSError):
        return False


def has_begun(folder: Path) -> bool:
    """Return whether the folder has a run that is finished or that `textune resume` can continue."""
    return (folder / PLAN).is_file() and (folder / SETTINGS).is_file()
