"""A run's folder, held from before the data are read: of two processes that start the same run, one wins at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from textune.bundle import RunIsBusy, check_overwritable, lock_run
from textune.config import RunConfig
from textune.run.start import choose_folder

_LOCK = ".lock"
_HINT = "wait until it has finished, or set another runs_dir="


@contextmanager
def claim_folder(config: RunConfig, overwrite: bool, kind: str | None = None) -> Iterator[Path]:
    """Lock the folder that `choose_folder` names and yield it; raise RunIsBusy if another process has it.

    Raises BundleError for a folder that overwrite must not empty.

    Without name=, the next free name is taken then. A folder that nothing was written to is removed again.
    """
    while True:
        folder = choose_folder(config, overwrite, kind)
        created = [path for path in (folder, *folder.parents) if not path.exists()]
        made_up = config.name is None and not overwrite
        with ExitStack() as stack:
            try:
                stack.enter_context(lock_run(folder, _HINT))
            except RunIsBusy:
                if not made_up:
                    raise
                continue  # another process took that name a moment ago
            if made_up and not _is_empty(folder):
                continue
            if overwrite:
                check_overwritable(folder)
            try:
                yield folder
            finally:
                if _is_empty(folder):
                    _remove(folder, created)
            return


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and all(path.name == _LOCK for path in folder.iterdir())


def _remove(folder: Path, created: list[Path]) -> None:
    """Remove an empty run folder, and those above it that were created for it."""
    with contextlib.suppress(OSError):  # one that holds something else by now stays
        (folder / _LOCK).unlink(missing_ok=True)
        for path in created:
            path.rmdir()
