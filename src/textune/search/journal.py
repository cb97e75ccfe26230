"""The journal file of a search, Optuna's own form: opened, mended after a kill, and refused where it is damaged."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.errors import BundleError

JOURNAL = "journal.log"


WAITING, RUNNING, COMPLETE, PRUNED, FAIL = "waiting", "running", "complete", "pruned", "failed"
_STATES = {"WAITING": WAITING, "RUNNING": RUNNING, "COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAIL}


class Journal:
    """Optuna's study of a search, begun or continued; raises BundleError where a line of its file is damaged.

    The only place that knows Optuna's own classes: Optuna lets a trial be continued, and facts be added to it, through
    its storage alone.
    """

    def __init__(self, folder: Path) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = folder / JOURNAL
        _mend(path)
        _check(path)
        self._storage = JournalStorage(JournalFileBackend(str(path)))
        self._study = optuna.create_study(
            storage=self._storage,
            study_name="sweep",
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(seed=0),
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What was noted of the search as a whole."""
        return dict(self._study.user_attrs)

    def note(self, name: str, value: Any) -> None:
        """Note a fact of the search as a whole."""
        self._study.set_user_attr(name, value)

    def list_trials(self) -> list[JournalEntry]:
        """Return every trial in the order of their numbers."""
        return [
            JournalEntry(t.number, _STATES[t.state.name], dict(t.params), dict(t.user_attrs))
            for t in self._study.get_trials(deepcopy=False)
        ]

    def line_up(self, parameters: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Add a trial that waits, with the values it will be given."""
        self._study.enqueue_trial(dict(parameters), user_attrs=dict(facts))

    def begin(self, number: int) -> Any:
        """Return Optuna's trial of this number to draw from: the next that waits, or one that was begun before."""
        import optuna

        known = self._study.get_trials(deepcopy=False)
        half_begun = known[number].state == optuna.trial.TrialState.RUNNING
        begun = optuna.trial.Trial(self._study, known[number]._trial_id) if half_begun else self._study.ask()
        assert begun.number == number, f"trial {begun.number} began in the place of {number}"
        return begun

    def draw(self, sampler: str, seed: int) -> Any:
        """Return a trial of a copy of the study in memory, to draw from by a sampler with this seed.

        So what is drawn depends on the seed and on the trials so far, not on how often the search was begun.
        """
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            drawing = (
                optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=8)
                if sampler == "tpe"
                else optuna.samplers.RandomSampler(seed=seed)
            )
        copy = optuna.create_study(direction="maximize", sampler=drawing)
        waiting = optuna.trial.TrialState.WAITING
        copy.add_trials([t for t in self._study.get_trials(deepcopy=False) if t.state != waiting])
        return copy.ask()

    def note_trial(self, number: int, name: str, value: Any) -> None:
        """Note a fact of a trial."""
        self._storage.set_trial_user_attr(self._id(number), name, value)

    def report(self, number: int, step: int, score: float) -> None:
        """Note a trial's score at a step."""
        self._storage.set_trial_intermediate_value(self._id(number), step, score)

    def close(self, number: int, state: str, score: float | None) -> None:
        """Close a trial as complete, pruned or failed."""
        import optuna

        name = next(name for name, ours in _STATES.items() if ours == state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.tell(number, score, state=optuna.trial.TrialState[name])

    def importances(self, seed: int) -> dict[str, float]:
        """Return how much each setting mattered for the score, where that can be told; they sum up to 1."""
        import optuna

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
                return dict(optuna.importance.get_param_importances(self._study, evaluator=evaluator))
        except (ValueError, RuntimeError):  # conditional spaces with no setting that all trials have
            return {}

    def _id(self, number: int) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))


@dataclass(frozen=True)
class JournalEntry:
    """One trial of the journal. parameters: what Optuna drew; facts: what was noted of it."""

    number: int
    state: str
    parameters: dict[str, Any]
    facts: dict[str, Any]


def _mend(path: Path) -> None:
    """Remove what a kill in the midst of writing left: half a line, which would spoil the next, and Optuna's lock.

    The lock is nobody's: whoever opens the journal holds the lock of the whole search.
    """
    Path(f"{path}.lock").unlink(missing_ok=True)
    if path.is_file():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)


def _check(path: Path) -> None:
    """Raise BundleError that names the first damaged line."""
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
