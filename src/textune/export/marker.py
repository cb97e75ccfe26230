"""What an export wrote, listed in the folder itself: only such files are ever replaced or published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from textune.bundle import OF_THE_DESKTOP, check_writable, refuse_current
from textune.errors import BundleError, flag
from textune.files import read_json
from textune.run.test_reads import TEST_READS

MARKER = "textune_export.json"


def write_marker(folder: Path, form: str) -> None:
    """List every file of a finished export."""
    content = {"form": form, "files": sorted(list_files(folder))}
    (folder / MARKER).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_marker(folder: Path) -> list[str]:
    """Return the files that an export wrote, by their names in the folder; raise BundleError if there is no list."""
    files = read_json(folder / MARKER, "the list of exported files").get("files")
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        raise BundleError(f"{folder / MARKER}: the list of exported files is damaged")
    return files


def is_space(folder: Path) -> bool:
    """Return whether a folder was exported as a Hugging Face Space."""
    return (folder / MARKER).is_file() and read_json(folder / MARKER, "the list of exported files").get(
        "form"
    ) == "space"


def check_output(output: Path, overwrite: bool) -> None:
    """Raise BundleError if the folder exists and must not be replaced: it holds more than textune exported there.

    ConfigError where it cannot be written.
    """
    option = flag("output", "")
    check_writable(output.parent, option)
    if not output.exists() and not output.is_symlink():
        return
    if not overwrite:
        raise BundleError(f"{output}: already exists", hint=f"choose another {option}, or add {flag('overwrite')}")
    refuse_current(output, option)
    hint = f"choose another {option}, or remove it yourself"
    if output.is_symlink() or not output.is_dir():
        raise BundleError(f"{output}: is a link or a file, not an export; it is not overwritten", hint=hint)
    if not (output / MARKER).is_file():
        raise BundleError(f"{output}: was not exported by textune and is not overwritten", hint=hint)
    known = {MARKER, *read_marker(output)}
    foreign = sorted(name for name in list_files(output) if name not in known and not _is_left_by_use(name, known))
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise BundleError(f"{output}: also holds {foreign[0]}{more}, and is not overwritten", hint=hint)


def _is_left_by_use(name: str, known: set[str]) -> bool:
    """Return whether textune, a file manager or Python wrote a file when the export was used.

    Python writes one when it imports a file that the export holds, such as predict.py.
    """
    path = PurePosixPath(name)
    if name in (TEST_READS, ".lock") or path.name in OF_THE_DESKTOP:
        return True
    return path.parts[:-1] == ("__pycache__",) and path.suffix == ".pyc" and f"{path.name.split('.')[0]}.py" in known


def list_files(folder: Path) -> Iterator[str]:
    """Yield the names of all files and links below a folder; links are not followed."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()
