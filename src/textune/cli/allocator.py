"""Make glibc keep freed memory for reuse, because each training step allocates the same blocks again.

By default glibc returns every large block to the system and maps it again, page by page, at every training step. Most
of what GLIBC_TUNABLES sets before a program starts can also be set from inside with mallopt(3), so a command does not
have to restart itself. Only commands do this, never a library call, because it affects the whole process.
"""

from __future__ import annotations

import os
import sys

from textune.cli.environment import VERBOSE
from textune.progress import Progress, open_progress

_VARIABLE = "TEXTUNE_MALLOC"
# from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_SETTINGS = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20))


def tune_allocator() -> str | None:
    """Tell glibc's malloc to keep freed memory; return a message about it, or None if nothing was changed.

    Nothing changes with TEXTUNE_MALLOC=off, with malloc settings in the environment or with another allocator.
    """
    if os.environ.get(_VARIABLE, "").lower() == "off" or _is_configured_by_user() or sys.platform != "linux":
        return None
    import ctypes

    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  raises if the C library is not glibc
        results = [library.mallopt(name, value) for name, value in _SETTINGS]
    except (OSError, AttributeError):
        return None
    return f"allocator: freed memory is kept for reuse ({_VARIABLE}=off disables this)" if all(results) else None


def tune_child_processes() -> None:
    """Pass the same settings to child processes, if they were changed here."""
    names = {
        _M_MMAP_MAX: "MALLOC_MMAP_MAX_",
        _M_TRIM_THRESHOLD: "MALLOC_TRIM_THRESHOLD_",
        _M_TOP_PAD: "MALLOC_TOP_PAD_",
    }
    if tune_allocator():
        os.environ.update({names[name]: str(value) for name, value in _SETTINGS})


def open_tuned_progress() -> Progress:
    """Tune the allocator and return a command's progress display."""
    message, progress = tune_allocator(), open_progress()
    if message and os.environ.get(VERBOSE):
        progress.say(message)
    return progress


def _is_configured_by_user() -> bool:
    variables = os.environ
    tuned = any(n.startswith("MALLOC_") for n in variables) or "glibc.malloc" in variables.get("GLIBC_TUNABLES", "")
    return tuned or "malloc" in variables.get("LD_PRELOAD", "")
