"""Only textune's own lines reach a person: libraries' logs, warnings, progress bars and C code's messages do not.

Only the program does this, never a library call, because it affects the whole process. `--debug` and `--verbose` leave
everything visible.
"""

from __future__ import annotations

import inspect
import io
import logging
import os
import sys
import warnings
from types import FrameType

from textune.cli.streams import say
from textune.errors import Note, OldBundleWarning

_VARIABLES = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
"""Read by libraries when they are imported. What the user has set stays."""
_PRINTERS = ("rich", "click", "typer")
"""Libraries that print for others: the line belongs to their caller."""


def show_own_warnings() -> None:
    """Print textune's own warnings as lines, however the warnings of others are shown."""
    show_others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: object, **more: object) -> None:
        if category.__module__.partition(".")[0] != "textune":
            show_others(message, category, *rest, **more)  # type: ignore[arg-type]
            return
        say(f"{'note' if issubclass(category, Note) else 'warning'}: {message}")

    warnings.filterwarnings("once", category=OldBundleWarning)
    warnings.filterwarnings("once", category=Note)
    warnings.showwarning = show


def quiet_libraries() -> None:
    """Hide the libraries' warnings, log lines and progress bars."""
    warnings.filterwarnings("ignore")
    warnings.showwarning = lambda *_, **__: None  # libraries add filters of their own
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)


def quiet_process() -> None:
    """Keep standard error for textune alone, up to the end of this process.

    C code writes to file number 2, which then leads nowhere; textune's lines go to a copy of what it was.
    """
    logging.disable(logging.CRITICAL)
    try:
        number = sys.stderr.fileno()
        target = os.fdopen(os.dup(number), "wb", buffering=0)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
    except (OSError, ValueError):  # standard error is no file
        return
    sys.stderr = OwnLines(target, encoding=sys.stderr.encoding, errors="backslashreplace", write_through=True)


class OwnLines(io.TextIOWrapper):
    """A standard error that takes what textune writes and drops what libraries write."""

    def write(self, text: str) -> int:
        """Write the text if the caller is textune, directly or through a library that prints for others."""
        here = inspect.currentframe()
        return super().write(text) if here is not None and _is_own(here.f_back) else len(text)


def _is_own(frame: FrameType | None) -> bool:
    """Return whether the code that prints is textune's, behind streams that pass on and libraries that print."""
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _PRINTERS and frame.f_code.co_name not in ("write", "writelines"):
            return package in ("textune", "threading")  # a live bar is drawn by a thread of rich
        frame = frame.f_back
    return False
