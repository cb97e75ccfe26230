"""Lets the C library keep the memory that training frees: it asks for the same blocks again a millisecond later.

glibc gives every large block back to the system and takes it anew, page by page, at every step of a training. What its
tunables (GLIBC_TUNABLES) change before a program starts can mostly be changed from inside, by mallopt(3), so a command
need not start itself a second time. Only commands do this, never a library call: it holds for the whole process.
"""

from __future__ import annotations

import os
import sys

from textune.progress import Progress, open_progress

_VARIABLE = "TEXTUNE_MALLOC"
# from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_SETTINGS = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20))


def tune_allocator() -> str | None:
    """Say glibc's malloc to keep freed memory; return what to say of it, or None where nothing was changed.

    TEXTUNE_MALLOC=off leaves it alone, and so does a person's own setting of malloc or another allocator.
    """
    if os.environ.get(_VARIABLE, "").lower() == "off" or _is_chosen_by_the_person() or sys.platform != "linux":
        return None
    import ctypes

    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  raises where the C library is another one
        done = [library.mallopt(name, value) for name, value in _SETTINGS]
    except (OSError, AttributeError):
        return None
    return f"allocator: freed memory is kept for the next step ({_VARIABLE}=off changes that)" if all(done) else None


def tell_children() -> None:
    """Let processes that this one starts have the same settings, where they were changed here."""
    names = {
        _M_MMAP_MAX: "MALLOC_MMAP_MAX_",
        _M_TRIM_THRESHOLD: "MALLOC_TRIM_THRESHOLD_",
        _M_TOP_PAD: "MALLOC_TOP_PAD_",
    }
    if tune_allocator():
        os.environ.update({names[name]: str(value) for name, value in _SETTINGS})


def open_tuned_progress() -> Progress:
    """Return what tells a command's progress, after telling the allocator."""
    told, progress = tune_allocator(), open_progress()
    if told:
        progress.say(told)
    return progress


def _is_chosen_by_the_person() -> bool:
    given = os.environ
    own = any(name.startswith("MALLOC_") for name in given) or "glibc.malloc" in given.get("GLIBC_TUNABLES", "")
    return own or "malloc" in given.get("LD_PRELOAD", "")
