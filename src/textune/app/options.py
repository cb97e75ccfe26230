"""What `textune app` was started with, and the limits that hold for all of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_FOLDER = Path("runs")
"""Where runs are, and where the app trains new ones."""
UPLOAD_MEGABYTES = 50
"""The largest file that a page takes. Larger ones are read from the disk, by their path."""
PASSWORD = "TEXTUNE_APP_PASSWORD"
"""The environment variable that holds the password; unlike an argument, other users of the machine cannot see it."""


@dataclass(frozen=True)
class AppOptions:
    """What `textune app` was started with. runs: folders of runs, or runs. password: None on this machine alone."""

    runs: tuple[Path, ...] = ()
    password: str | None = None
    debug: bool = False


_current = {"options": AppOptions()}


def set_options(options: AppOptions) -> None:
    """Set the options of this process."""
    _current["options"] = options


def get_options() -> AppOptions:
    """Return the options of this process."""
    return _current["options"]
