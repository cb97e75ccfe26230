"""The journal file of a search, Optuna's own form: opened, mended after a kill, and refused where it is damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from textune.errors import BundleError

JOURNAL = "journal.log"


def open_study(folder: Path) -> Any:
    """Returns Optuna's study of a search, begun or gone on with; raises BundleError where a line is damaged."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / JOURNAL
    _mend(path)
    _check(path)
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(
        storage=storage, study_name="sweep", direction="maximize", load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )  # fmt: skip


def _mend(path: Path) -> None:
    """Removes what a kill in the midst of writing left: half a line, which would spoil the next, and Optuna's lock.

    The lock is nobody's: whoever opens the journal holds the lock of the whole search.
    """
    Path(f"{path}.lock").unlink(missing_ok=True)
    if path.is_file():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)


def _check(path: Path) -> None:
    """Raises BundleError that names the first damaged line."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            whole = isinstance(json.loads(line), dict)
        except ValueError:
            whole = False
        if not whole:
            raise BundleError(
                f"{path}: line {number} is damaged",
                hint="put the file back from a copy, or begin the search anew with --overwrite",
            )
