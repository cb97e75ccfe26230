"""Progress of long work: the protocol, and implementations that are silent, print lines, or draw bars on stderr."""

from __future__ import annotations

import contextlib
import html
import importlib
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TextIO


class Task(Protocol):
    """A piece of work with counted steps."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps as done; the note (loss, metric) appears next to the bar."""


class Progress(Protocol):
    """Where a run's messages go."""

    def say(self, line: str) -> None:
        """Report a fact."""

    def warn(self, line: str) -> None:
        """Report something the user should act on."""

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        """Start a piece of work of `total` steps."""


class Silent:
    """Progress that shows nothing and collects warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def say(self, line: str) -> None:
        """Ignore the line."""

    def warn(self, line: str) -> None:
        """Append the line to `warnings`."""
        self.warnings.append(line)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        """Yield a task that shows nothing."""
        yield _SilentTask()


class _SilentTask:
    def advance(self, steps: int = 1, note: str = "") -> None:
        """Show nothing."""


class Plain:
    """Plain lines, for logs and pipes; a task prints at most one line every `seconds_between_lines`."""

    def __init__(self, stream: TextIO | None = None, seconds_between_lines: float = 10.0) -> None:
        self._stream = stream or sys.stderr
        self._seconds = seconds_between_lines

    def say(self, line: str) -> None:
        """Print the line."""
        self._stream.write(show_controls(line) + "\n")
        self._stream.flush()

    def warn(self, line: str) -> None:
        """Print the line as a warning."""
        self.say(f"warning: {line}")

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        """Yield a task that prints a line from time to time."""
        yield _PlainTask(self, name, total, self._seconds)


class _PlainTask:
    def __init__(self, progress: Plain, name: str, total: int, seconds: float) -> None:
        self._progress, self._name, self._total, self._seconds = progress, name, total, seconds
        self._done, self._start = 0, time.monotonic()
        self._last = self._start

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count the steps and print a line if enough time has passed."""
        self._done += steps
        now = time.monotonic()
        if now - self._last < self._seconds and self._done < self._total:
            return
        self._last = now
        left = (now - self._start) / max(self._done, 1) * max(self._total - self._done, 0)
        tail = f", {format_seconds(left)} left" if self._done < self._total else ""
        self._progress.say(f"{self._name}: {self._done}/{self._total}{tail}{'  ' + note if note else ''}")


class Rich:
    """Colored messages and live bars on a terminal's standard error."""

    def __init__(self) -> None:
        from rich.console import Console

        # The escapes of the bars pass by what keeps those of the data off the terminal.
        self.console = Console(file=getattr(sys.stderr, "unguarded", None), stderr=True, highlight=False)

    def say(self, line: str) -> None:
        """Print the line."""
        self.console.print(show_controls(line), markup=False)

    def warn(self, line: str) -> None:
        """Print the line in yellow."""
        self.console.print(f"warning: {show_controls(line)}", style="yellow", markup=False)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        """Yield a task shown as a bar with the time left."""
        from rich import progress as bars

        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
        )
        with bars.Progress(*columns, console=self.console, transient=True) as progress:
            yield _RichTask(progress, progress.add_task(show_controls(name), total=total, note=""))


class _RichTask:
    def __init__(self, progress: object, key: object) -> None:
        self._progress, self._key = progress, key

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move the bar."""
        fields = {"note": note} if note else {}
        self._progress.update(self._key, advance=steps, **fields)  # type: ignore[attr-defined]


class Notebook:
    """Lines below a notebook's cell, and one bar that is updated in place and removed at the end."""

    def say(self, line: str) -> None:
        """Print the line."""
        sys.stdout.write(show_controls(line) + "\n")

    def warn(self, line: str) -> None:
        """Print the line as a warning."""
        self.say(f"warning: {line}")

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        """Yield a task shown as a bar with the time left."""
        shown: Any = importlib.import_module("IPython.display")  # a notebook has it, textune does not need it
        handle = shown.display(shown.HTML(""), display_id=True)
        try:
            yield _NotebookTask(lambda markup: handle.update(shown.HTML(markup)), name, total)
        finally:
            handle.update(shown.HTML(""))


class _NotebookTask:
    def __init__(self, update: Callable[[str], None], name: str, total: int) -> None:
        self._update, self._name, self._total = update, name, total
        self._done, self._start, self._last = 0, time.monotonic(), 0.0

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move the bar, at most five times a second."""
        self._done += steps
        now = time.monotonic()
        if now - self._last < 0.2 and self._done < self._total:
            return
        self._last = now
        left = (now - self._start) / max(self._done, 1) * max(self._total - self._done, 0)
        words = html.escape(f"{self._done:,}/{self._total:,}, {format_seconds(left)} left  {note}".strip())
        bar = f'<progress max="{self._total}" value="{self._done}"></progress>'
        self._update(f"<div>{html.escape(self._name)} {bar} {words}</div>")


def open_progress() -> Progress:
    """Return bars in a notebook or on a terminal's standard error, else plain lines."""
    if _is_notebook():
        return Notebook()
    return Rich() if sys.stderr.isatty() else Plain()


def quiet_notebook() -> None:
    """In a notebook, import tqdm without its warning of bars that it cannot draw: libraries import it later."""
    if "ipykernel" in sys.modules:
        with warnings.catch_warnings(), contextlib.suppress(ImportError):
            warnings.simplefilter("ignore")
            importlib.import_module("tqdm.auto")


def _is_notebook() -> bool:
    """Return whether this process answers a notebook's cells."""
    if "IPython" not in sys.modules or "ipykernel" not in sys.modules:
        return False
    shell = getattr(sys.modules["IPython"], "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def format_seconds(seconds: float) -> str:
    """Format a duration: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def show_controls(text: str) -> str:
    """Write control characters as text, such as \\x1b, so that no data steers a terminal. Lines and tabs stay.

    Also the marks that turn the direction of a line, and halves of characters that cannot be written.
    """
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)
