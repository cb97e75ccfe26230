"""A search's journal file in Optuna's format: opened, repaired after a kill, and refused if it is damaged."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.errors import BundleError, flag

JOURNAL = "journal.log"


WAITING, RUNNING, COMPLETE, PRUNED, FAIL = "waiting", "running", "complete", "pruned", "failed"
_STATES = {"WAITING": WAITING, "RUNNING": RUNNING, "COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAIL}


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Hide Optuna's log lines and warnings for a while."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


class Journal:
    """The Optuna study of a search, new or continued; raises BundleError if a line of its file is damaged.

    No other module uses Optuna's classes. A trial can only be continued, and facts added to it, through Optuna's
    storage.
    """

    def __init__(self, folder: Path) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        path = folder / JOURNAL
        _repair(path)
        _check(path)
        try:
            self._storage = JournalStorage(JournalFileBackend(str(path)))
            with _quiet_optuna():
                self._study = optuna.create_study(
                    storage=self._storage,
                    study_name="sweep",
                    direction="maximize",
                    load_if_exists=True,
                    sampler=optuna.samplers.RandomSampler(seed=0),
                )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:  # lines of another shape
            raise report_damage(path, f"is damaged: it holds what no search writes ({error!r})") from error

    @property
    def facts(self) -> dict[str, Any]:
        """Facts about the search as a whole."""
        return dict(self._study.user_attrs)

    def note(self, name: str, value: Any) -> None:
        """Store a fact about the search as a whole."""
        self._study.set_user_attr(name, value)

    def list_trials(self) -> list[JournalEntry]:
        """Return every trial in the order of the numbers."""
        return [
            JournalEntry(t.number, _STATES[t.state.name], dict(t.params), dict(t.user_attrs))
            for t in self._study.get_trials(deepcopy=False)
        ]

    def enqueue(self, parameters: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Add a waiting trial with these values."""
        self._study.enqueue_trial(dict(parameters), user_attrs=dict(facts))

    def begin(self, number: int) -> Any:
        """Return Optuna's trial of this number to draw from: the next waiting one, or one that is already running."""
        import optuna

        trials = self._study.get_trials(deepcopy=False)
        is_running = trials[number].state == optuna.trial.TrialState.RUNNING
        trial = optuna.trial.Trial(self._study, trials[number]._trial_id) if is_running else self._study.ask()
        assert trial.number == number, f"trial {trial.number} started instead of {number}"
        return trial

    def draw(self, sampler: str, seed: int) -> Any:
        """Return a trial of an in-memory copy of the study, to draw from with a sampler of this seed.

        The draw depends on the seed and the trials so far, but not on how often the search was resumed.
        """
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            seeded = (
                optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=8)
                if sampler == "tpe"
                else optuna.samplers.RandomSampler(seed=seed)
            )
        with _quiet_optuna():
            copy = optuna.create_study(direction="maximize", sampler=seeded)
        waiting = optuna.trial.TrialState.WAITING
        copy.add_trials([t for t in self._study.get_trials(deepcopy=False) if t.state != waiting])
        return copy.ask()

    def note_trial(self, number: int, name: str, value: Any) -> None:
        """Store a fact about a trial."""
        self._storage.set_trial_user_attr(self._id(number), name, value)

    def report(self, number: int, step: int, score: float) -> None:
        """Store a trial's score at a step."""
        self._storage.set_trial_intermediate_value(self._id(number), step, score)

    def close(self, number: int, state: str, score: float | None) -> None:
        """Close a trial as complete, pruned or failed."""
        import optuna

        name = next(name for name, ours in _STATES.items() if ours == state)
        with _quiet_optuna():
            self._study.tell(number, score, state=optuna.trial.TrialState[name])

    def importances(self, seed: int) -> dict[str, float]:
        """Return how much each setting mattered for the score, summing to 1; empty if that cannot be estimated."""
        import optuna

        try:
            with _quiet_optuna():
                evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
                return dict(optuna.importance.get_param_importances(self._study, evaluator=evaluator))
        except (ValueError, RuntimeError):  # conditional spaces in which no setting is common to all trials
            return {}

    def _id(self, number: int) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))


@dataclass(frozen=True)
class JournalEntry:
    """One trial of the journal. parameters: drawn by Optuna; facts: stored by `note_trial`."""

    number: int
    state: str
    parameters: dict[str, Any]
    facts: dict[str, Any]


def _repair(path: Path) -> None:
    """Remove what a kill during a write left behind: half a line, which would corrupt the next, and Optuna's lock.

    The lock is stale: the process that opens the journal holds the lock of the whole search.
    """
    Path(f"{path}.lock").unlink(missing_ok=True)
    if path.is_file():
        content = path.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            os.truncate(path, end)


def _check(path: Path) -> None:
    """Raise BundleError naming the first damaged line."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            is_intact = isinstance(json.loads(line), dict)
        except ValueError:
            is_intact = False
        if not is_intact:
            raise report_damage(path, f"line {number} is damaged")


def report_damage(path: Path, what: str) -> BundleError:
    """Return the error for a journal in which something is damaged."""
    return BundleError(
        f"{path}: {what}",
        hint=f"restore the file from a copy, or start the search again with {flag('overwrite')}",
    )
