"""File helpers: hashes, atomic writes, JSON, JSON lines, and paths that stay inside a folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from textune.errors import BundleError

_MAX_JSON_BYTES = 64 * 2**20


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file so that even after a crash it has either the old or the complete new content."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object of limited size; raise BundleError with the file and the reason."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise BundleError(f"{path}: {what} is larger than {_MAX_JSON_BYTES >> 20} MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path}: {what} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: {what} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path}: {what} is damaged: expected a JSON object")
    return content


def confined_path(folder: Path, name: str) -> Path:
    """Return folder/name; raise BundleError if the name or a symbolic link leads outside the folder."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise BundleError(f"{folder}: the manifest lists '{name}', which is outside the folder")
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{path}: a symbolic link leads outside the run folder")
    return path


def hash_files(folder: Path, names: list[str]) -> dict[str, str]:
    """Return the SHA-256 of each named file, sorted by name."""
    return {name: hash_file(confined_path(folder, name)) for name in sorted(names)}


def append_json_line(path: Path, content: Mapping[str, Any]) -> None:
    """Append one JSON line to a log file."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(content, ensure_ascii=False) + "\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a log of JSON lines, skipping a line cut short by a crash."""
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n"):  # str.splitlines would also split at U+2028
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines
