"""Which process a number means: a number is given again after its process has ended, the moment of the start is not."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from textune.app.private import open_plainly

_STARTED_HERE: dict[int, subprocess.Popen[bytes]] = {}
_LOCK = threading.Lock()


def start_process(words: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
    """Start a program that outlives this one, in a session of its own; return its number.

    log: the file that what it prints is appended to. Raises BundleError if it is a symbolic link.
    """
    with open_plainly(log, "ab") as output:
        process = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
    with _LOCK:
        _STARTED_HERE[process.pid] = process
    return process.pid


def find_start(pid: int) -> str | None:
    """Return a mark of when a process was started, or None if none of this number is at work."""
    _reap()
    try:
        return _read_start(Path("/proc"), pid) if Path("/proc/self/stat").exists() else _ask_start(pid)
    except (OSError, ValueError):
        return None


def send_signal(pid: int, start: str, number: int = signal.SIGINT) -> bool:
    """Send a signal to the process of this number and start, and to no other; False if it has ended."""
    if find_start(pid) != start:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _read_start(proc: Path, pid: int) -> str | None:
    """Return boot and ticks, as Linux has them; a process that has ended and waits for its parent is none."""
    fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        return None
    boot = (proc / "sys" / "kernel" / "random" / "boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {int(fields[19])}"


def _ask_start(pid: int) -> str | None:
    listed = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    return " ".join(listed[1:]) if listed and not listed[0].startswith("Z") else None


def _reap() -> None:
    """Take note of the processes started here that have ended: until then they keep their number."""
    with _LOCK:
        for pid, process in list(_STARTED_HERE.items()):
            if process.poll() is not None:
                del _STARTED_HERE[pid]
