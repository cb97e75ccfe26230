"""Standard streams that are closed, full, or no longer read: none of them is a fault, and none costs a file."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO

from textune.progress import show_controls

BROKEN_PIPE = 141
"""What a shell reports of a program that wrote to a pipe nobody reads: 128 + SIGPIPE."""
NOT_WRITTEN = 5


def open_streams() -> None:
    """Put the null device in the place of standard streams that are closed.

    Otherwise the next file that is opened would get their number, and what is printed would end up in it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(handle, True)
            setattr(sys, name, os.fdopen(handle, mode, encoding="utf-8"))


class Guarded:
    """A terminal's stream that shows control characters instead of obeying them: what is printed may hold any data.

    unguarded: the stream below, for the escapes of progress bars. A carriage return passes on standard error, where
    other libraries draw theirs.
    """

    def __init__(self, stream: TextIO, allowed: str = "") -> None:
        self.unguarded, self._allowed = stream, allowed

    def write(self, text: str) -> int:
        """Write a text, its control characters as text."""
        parts = text.split(self._allowed) if self._allowed else [text]
        self.unguarded.write(self._allowed.join(map(show_controls, parts)))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write texts one after another."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


def guard_terminal() -> None:
    """Let no control character of the data reach a terminal through the standard streams."""
    for name, allowed in (("stdout", ""), ("stderr", "\r")):
        stream = getattr(sys, name)
        if stream.isatty() and not isinstance(stream, Guarded):
            setattr(sys, name, Guarded(stream, allowed))


def say(message: str) -> None:
    """Print a line to standard error, where there is one that takes it."""
    try:
        print(show_controls(message), file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        _discard(sys.stderr)


def finish(code: int) -> int:
    """Write out what is left in the standard streams; return the exit code of the command."""
    if code == BROKEN_PIPE:
        _discard(sys.stdout)
    elif not code:
        code = report_output() or 0
    _discard_if_unwritable(sys.stdout)
    _discard_if_unwritable(sys.stderr)
    return code


def report_output() -> int | None:
    """Return the exit code for a standard output that takes nothing, having said why; None where it takes all."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        return BROKEN_PIPE
    except OSError as error:
        _discard(sys.stdout)
        say(f"error: standard output cannot be written: {error.strerror}\n  write it to another place")
        return NOT_WRITTEN
    return None


def _discard_if_unwritable(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        _discard(stream)


def _discard(stream: TextIO) -> None:
    """Send what is left of a stream nowhere: the interpreter would try again at its end, and complain."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):  # a stream of a test has no number
        return
