"""Ctrl-C and SIGTERM as a request: the step in hand ends, a checkpoint is written, then the run stops."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from textune.errors import TextuneError


class RunInterrupted(TextuneError):
    """A person or the system asked the run to stop; it can be resumed. exit_code: 128 + the signal."""

    def __init__(self, message: str, signal_number: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal_number


class StopRequest:
    """While it is open, the first Ctrl-C or SIGTERM is noted in `signal_number`; a second Ctrl-C stops at once.

    A request inside of another tells it, too: a search hears of what reached the training in hand.
    Outside of the main thread, where no handler can be set, it notes nothing and the signals act as ever.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
                outer = getattr(self._previous[number], "__self__", None)
                if isinstance(outer, StopRequest) and outer.signal_number is not None:
                    self.signal_number = outer.signal_number  # what was asked for before this began holds here, too
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
        outer = getattr(self._previous[number], "__self__", None)
        if isinstance(outer, StopRequest) and outer.signal_number is None:
            outer._note(number, frame)
