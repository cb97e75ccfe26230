"""Ctrl-C and SIGTERM as a stop request: finish the current step, write a checkpoint, then stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from textune.errors import TextuneError


class RunInterrupted(TextuneError):
    """The run was stopped by a signal and can be resumed. exit_code: 128 + the signal."""

    kind = "stopped"

    def __init__(self, message: str, signal_number: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal_number


class _Stopped(BaseException):
    """Passes every `except` of a library on its way out. number: of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stopping_at_once(where: str, hint: str) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block at once, as RunInterrupted: what it does can be done again.

    where: in the run, such as "while it was saved". hint: how to go on. Outside the main thread signals keep their
    effect.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped(number)

    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Stopped as stopped:
        raise RunInterrupted(where, stopped.number, hint=hint) from None
    except KeyboardInterrupt:  # raised by a library, or outside the main thread
        raise RunInterrupted(where, signal.SIGINT, hint=hint) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class StopRequest:
    """Context that records the first Ctrl-C or SIGTERM in `signal_number`; a second Ctrl-C stops at once.

    A nested request informs the outer one, so a search learns of a signal that reached its current training.
    Outside the main thread no handler can be set, so signals keep their default effect.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._record)
                outer = getattr(self._previous[number], "__self__", None)
                if isinstance(outer, StopRequest) and outer.signal_number is not None:
                    self.signal_number = outer.signal_number  # a stop requested earlier applies here, too
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def raise_if_requested(self, where: str, hint: str) -> None:
        """Raise RunInterrupted if a stop was requested. where: in the run, such as "at step 3"."""
        if self.signal_number is not None:
            raise RunInterrupted(where, self.signal_number, hint=hint)

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
        outer = getattr(self._previous[number], "__self__", None)
        if isinstance(outer, StopRequest) and outer.signal_number is None:
            outer._record(number, frame)
