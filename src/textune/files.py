"""File helpers: hashes, atomic writes, JSON, JSON lines, and paths that stay inside a folder."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from textune.errors import BundleError

PARTIAL = ".partial-"
"""What the names of files and folders begin with until they are whole."""
_LONGEST_WAIT = 1.0
"""Seconds to wait for another process that writes the same file or folder; small ones are done by then."""
_SETTLED_SECONDS = 2.0
"""How long ago a file must have changed for its times to tell it from what it becomes: some clocks tick coarsely."""
_MAX_JSON_BYTES = 64 * 2**20


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says that no space is left; safetensors wraps the system's error, as text, in its own."""
    said = str(error)
    return (
        getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        or "No space left" in said
        or "os error 28" in said
        or "os error 122" in said
    )


def expand_home(path: str | Path) -> Path:
    """Return a path with ~ replaced by the home folder, as a shell does; unchanged where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  Path's own raises for an unknown user


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_large_file(path: Path) -> str:
    """Return the SHA-256 of a file, computed once in this process as long as the file is not written to.

    A file that changed in the last seconds is read each time: two changes could bear the same time.
    """
    facts = path.stat()
    if abs(time.time() - max(facts.st_mtime, facts.st_ctime)) < _SETTLED_SECONDS:
        return hash_file(path)
    return _hash_state(path, (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))


@functools.lru_cache(maxsize=64)
def _hash_state(path: Path, state: tuple[int, ...]) -> str:
    """Return the SHA-256 of a file. state: what tells it from the file that it was before."""
    return hash_file(path)


@contextmanager
def write_file(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield the path of a partial file that takes the place of `path`, whole and flushed, when the block ends.

    After an error, or a crash, `path` is what it was before. The partial file has the same suffix.
    shared: other processes may be writing the same; each has a partial file of its own, and the last one wins.
    Raises BundleError, unless shared, if another process is writing the file.
    """
    path = give_name(path)
    partial = _name_partial(path, shared)
    with _name_place(path, partial), _claim(partial, path, folder=False):
        try:
            yield partial
            flush(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def write_folder(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` as a whole when the block ends.

    After an error or a kill at any moment `path` is what it was before, or the new folder. What a kill left beside it
    is removed by the next writer.
    shared: other processes may be writing the same, as in the cache; each has a partial folder of its own that no other
    user can read, and the first one wins.
    Raises BundleError, unless shared, if another process is writing the folder.
    """
    path = give_name(path)
    partial = _name_partial(path, shared)
    with _name_place(path, partial), _claim(partial, path, folder=True, mode=0o700 if shared else 0o777):
        try:
            yield partial
            if shared:
                _place_once(partial, path)
            else:
                _place_folder(partial, path)
                if (mark := _name_mark(path)).exists():
                    _remove_leftover(mark)  # of a killed process; one that lives holds its lock
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def hold_place(path: Path) -> Iterator[None]:
    """Keep other processes from writing a file or folder while the block runs; raise BundleError if one already does.

    OSError is raised at once where nothing can be written, before the work is done.
    """
    path = give_name(path)
    mark = _name_mark(path)
    with _name_place(path, mark), _claim(mark, path, folder=True):
        try:
            yield
        finally:
            shutil.rmtree(mark, ignore_errors=True)


def give_name(path: Path) -> Path:
    """Return the path with a name of its own, which `.` and `new/..` lack; OSError if such a folder is not there."""
    return path if path.name not in ("", "..") else path.resolve(strict=True)


@contextmanager
def _name_place(path: Path, partial: Path) -> Iterator[None]:
    """Let an error of the system name the place that a person gave, instead of the partial one."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and os.fsdecode(error.filename) == str(partial):
            error.filename = str(path)
        raise


@contextmanager
def _claim(partial: Path, path: Path, *, folder: bool, mode: int = 0o666) -> Iterator[None]:
    """Create the partial file or folder and hold its lock; raise BundleError if another process holds it.

    What a process that is gone left there is replaced: the system releases the locks of the dead.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    give_up_at = time.monotonic() + _LONGEST_WAIT
    while True:
        try:
            partial.mkdir(mode) if folder else os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
            handle = os.open(partial, os.O_RDONLY)
        except FileExistsError:
            if not _remove_leftover(partial):
                if time.monotonic() > give_up_at:
                    hint = "wait until it has finished, or choose another place"
                    raise BundleError(f"{path}: another process is writing it", hint=hint) from None
                time.sleep(0.02)
            continue
        except FileNotFoundError:
            if not partial.parent.is_dir():
                raise
            continue  # another process took it for a leftover
        if _lock(handle) and _is_at(handle, partial):
            break
        os.close(handle)  # another process took it for a leftover
    try:
        yield
    finally:
        os.close(handle)


def _remove_leftover(partial: Path) -> bool:
    """Remove a partial file or folder; False if a process is writing it. Links are not followed."""
    try:
        handle = os.open(partial, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # a link, gone by now, or not ours to read
        _remove(partial)
        return True
    try:
        if not _lock(handle):
            return False
        if _is_at(handle, partial):
            _remove(partial)
        return True
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _lock(handle: int) -> bool:
    """Lock an open file or folder for this process; True also where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Return whether an open file or folder is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


def _place_folder(partial: Path, path: Path) -> None:
    """Put a finished folder in the place of another, or of none."""
    if path.is_dir() and not _exchange(partial, path):
        doomed = _name_doomed(path)
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        partial.rename(path)
        shutil.rmtree(doomed, ignore_errors=True)
    elif not path.is_dir():
        partial.rename(path)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step, and return whether this system can: Linux can."""
    import ctypes

    current_folder, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):
        return False
    return int(rename(current_folder, os.fsencode(one), current_folder, os.fsencode(other), exchange)) == 0


def _name_mark(path: Path) -> Path:
    return path.with_name(f"{PARTIAL}lock-{path.name}")


def _name_doomed(path: Path) -> Path:
    return path.with_name(f"{PARTIAL}old-{path.name}")


def remove_folder(path: Path) -> None:
    """Remove a folder: renamed first, so that a kill in the middle leaves no half of it under its own name."""
    doomed = _name_doomed(path)
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def flush(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _name_partial(path: Path, shared: bool) -> Path:
    return path.with_name(f"{PARTIAL}{secrets.token_hex(4)}-{path.name}" if shared else f"{PARTIAL}{path.name}")


def _place_once(partial: Path, path: Path) -> None:
    try:
        if not path.is_dir():
            partial.rename(path)
    except OSError:
        if not path.is_dir():  # otherwise another process was faster
            raise


def write_text_atomically(path: Path, text: str, *, shared: bool = False) -> None:
    """Write a text file as UTF-8 so that it is either the old one or the whole new one; `shared` as in `write_file`."""
    with write_file(path, shared=shared) as partial:
        partial.write_bytes(text.encode("utf-8"))


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object of limited size; raise BundleError with the file and the reason."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise BundleError(f"{path}: {what} is larger than {_MAX_JSON_BYTES >> 20} MiB")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if "\\ud" in text.lower():  # half a character, which nothing can write again
            json.dumps(content, ensure_ascii=False).encode()
    except FileNotFoundError:
        raise BundleError(f"{path}: does not exist; it should hold {what}") from None
    except PermissionError as error:
        raise BundleError(f"{path}: {what} cannot be read: permission denied", hint="change its permissions") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: {what} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path}: {what} is damaged: expected a JSON object")
    return content


_LONGEST_NAME = 255


def confined_path(folder: Path, name: str) -> Path:
    """Return folder/name; raise BundleError if the name or a symbolic link leads outside the folder."""
    relative = PurePosixPath(name)
    if "\0" in name or any(len(part.encode("utf-8", "surrogatepass")) > _LONGEST_NAME for part in relative.parts):
        raise BundleError(f"{folder}: the manifest lists an invalid file name: {name[:80]!r}")
    if relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise BundleError(f"{folder}: the manifest lists '{name}', which is outside the folder")
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{path}: a symbolic link leads outside the run folder")
    return path


def hash_files(folder: Path, names: list[str]) -> dict[str, str]:
    """Return the SHA-256 of each named file, sorted by name."""
    return {name: hash_file(confined_path(folder, name)) for name in sorted(names)}


def refuse_link(path: Path) -> None:
    """Raise BundleError where a file is a symbolic link: nothing is written through links."""
    if path.is_symlink():
        raise BundleError(
            f"{path}: is a symbolic link, and textune writes through none", hint="put a file in its place"
        )


def append_json_line(path: Path, content: Mapping[str, Any]) -> None:
    """Append one JSON line to a log file; raise BundleError for a link, which may lead anywhere."""
    refuse_link(path)
    with path.open("a+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(size - 1, 0))
        begin = b"" if stream.read(1) in (b"", b"\n") else b"\n"  # a line that was cut short takes no other with it
        stream.write(begin + json.dumps(content, ensure_ascii=False).encode() + b"\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a log of JSON lines, skipping damaged ones, such as one that was cut short by a crash."""
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n"):  # str.splitlines would also split at U+2028
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue
        lines += [content] if isinstance(content, dict) else []
    return lines
