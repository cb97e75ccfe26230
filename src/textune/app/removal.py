"""Delete what textune made, and nothing else: no link is followed, and no file that it does not know is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textune.app.jobs import forget_job, refuse_live
from textune.app.private import find_link
from textune.bundle import holds_run, list_foreign, lock_run
from textune.errors import BundleError
from textune.export.marker import MARKER, read_marker
from textune.files import remove_folder


@dataclass(frozen=True)
class Removal:
    """What deleting a folder would remove. files: their number, in all folders below it. size: their bytes."""

    folder: Path
    files: int
    size: int


def plan_removal(folder: Path) -> Removal:
    """Return what would be removed; raise BundleError if a folder is a link, not textune's, or holds something else."""
    if folder.is_symlink():
        raise BundleError(f"{folder}: is a symbolic link, and the app follows none")
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder")
    if not _is_ours(folder):
        raise BundleError(f"{folder}: is not a run, a sweep, an export or a comparison", hint="remove it by hand")
    refuse_live(folder.name, folder.parent)
    if strange := list_foreign(folder, _list_exported(folder)):
        listed = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "")
        raise BundleError(f"{folder}: holds files that textune did not write: {listed}", hint="move them away first")
    files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return Removal(folder, len(files), sum(path.lstat().st_size for path in files))


def _is_ours(folder: Path) -> bool:
    """Return whether the content of a folder says that textune made it; a name alone proves nothing."""
    return holds_run(folder) or ((folder / "compare.json").is_file() and (folder / "report.html").is_file())


def _list_exported(folder: Path) -> list[str]:
    try:
        return read_marker(folder) if (folder / MARKER).is_file() else []
    except BundleError:
        return []


def remove(folder: Path, typed: str) -> Removal:
    """Delete a folder of textune's whose name was typed; raise BundleError if another process works on it."""
    if typed != folder.name:
        raise BundleError(f"type the name {folder.name} to delete it")
    plan = plan_removal(folder)
    with lock_run(folder, "wait until it has finished, or stop it"):
        remove_folder(folder)
    if find_link(folder.parent, folder.name) is None:
        forget_job(folder.name, folder.parent)
    return plan
