"""Which trials there are, what became of them, and what is to be trained next: Optuna's study in its journal file.

Only the process that holds the search writes the journal; workers answer to it. What to do next follows from the
journal alone, so a search that was killed goes on as if nothing had been: a trial in training when it happened is
trained on from its last checkpoint.
"""

from __future__ import annotations

import math
import random
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textune.config import RunConfig
from textune.errors import TrainingError
from textune.search.journal import JOURNAL, open_study
from textune.search.settings import SweepSettings
from textune.search.space import Point, settings_at
from textune.search.start import refuse_another_beginning
from textune.search.trial import DIED, DONE, FAILED, INTERRUPTED, Job, Outcome, drop_checkpoints

WAITING, RUNNING, COMPLETE, PRUNED, FAIL = "waiting", "running", "complete", "pruned", "failed"
_MOST_ATTEMPTS = 2


@dataclass(frozen=True)
class Trial:
    """One trial as it stands. rungs: its score at each rung passed. attempts: more than 1 where a worker died."""

    number: int
    state: str
    point: Point = field(default_factory=dict)
    outcome: Outcome | None = None
    rungs: tuple[float, ...] = ()
    attempts: int = 0
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in (COMPLETE, PRUNED, FAIL)

    @property
    def score(self) -> float:
        """The last score; less than any where there is none."""
        return self.outcome.score if self.outcome else float("-inf")


class Ledger:
    """The trials of one search. config: the settings below the space. epochs: of a trial in full, where it is known.

    begun: what `describe_beginning` returned; raises BundleError where the journal was begun with something else.
    """

    def __init__(
        self, folder: Path, config: RunConfig, settings: SweepSettings, epochs: float | None = None,
        begun: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.settings = folder, settings
        self._base = config.to_dict()
        self._study = open_study(folder)
        if begun is not None:
            self._hold_to(begun)
        self._trials: dict[int, Trial] = {}
        self._in_flight: set[int] = set()
        self.shares = _list_shares(settings, epochs)
        self._opened, self._seconds_before = time.monotonic(), float(self._study.user_attrs.get("seconds", 0.0))
        self._enqueue_grid()
        for frozen in self._study.get_trials(deepcopy=False):
            self._trials[frozen.number] = _read_trial(frozen)

    @property
    def trials(self) -> list[Trial]:
        """All trials drawn so far, and those of a grid that wait."""
        return [self._trials[n] for n in sorted(self._trials)]

    @property
    def best(self) -> Trial | None:
        """The best trial that was trained to its end; of equals the first."""
        whole = [t for t in self.trials if t.state == COMPLETE]
        return max(whole, key=lambda t: (t.score, -t.number)) if whole else None

    def next_job(self) -> Job | None:
        """Returns what to train next; None where nothing can start before something else is done, or at all."""
        for begin in range(0, self.settings.trials, self.settings.bracket):
            bracket = range(begin, min(begin + self.settings.bracket, self.settings.trials))
            number, rung = self._next_in(bracket)
            if number is not None:
                self._in_flight.add(number)
                return self._start(number, rung)
            if not all(n in self._trials and self._trials[n].is_over for n in bracket):
                return None
        return None

    def _next_in(self, bracket: range) -> tuple[int | None, int]:
        """Returns the trial of a bracket to train next, and the rung to train it to; closes those that lost.

        Those that lose at a rung are closed when another has passed the next one: where all that went on fail there,
        the best of the others takes their place.
        """
        members: list[int] = list(bracket)
        lost: list[int] = []
        for rung in range(len(self.shares)):
            open_ones = [n for n in members if not self._has_passed(n, rung)]
            if ready := [n for n in open_ones if n not in self._in_flight]:
                return ready[0], rung
            if open_ones:
                return None, rung
            ranked = sorted((n for n in members if self._got_through(n, rung)), key=lambda n: self._rank(n, rung))
            for n in lost if ranked else ():
                if not self._trials[n].is_over:
                    self._close(n, PRUNED, f"stopped after {_epochs(self._trials[n])}: others did better")
            if rung + 1 == len(self.shares) or self.settings.halving is None:
                break
            most = max(1, len(members) // self.settings.halving.reduction)
            members, lost = ranked[:most], ranked[most:]
        return None, 0

    def _got_through(self, number: int, rung: int) -> bool:
        """Returns whether the trial has a score of this rung; one that ended early has its last one."""
        trial = self._trials[number]
        return trial.state == COMPLETE or (trial.state != FAIL and len(trial.rungs) > rung)

    def _rank(self, number: int, rung: int) -> tuple[float, int]:
        trial = self._trials[number]
        return -(trial.rungs[rung] if rung < len(trial.rungs) else trial.score), number

    def _has_passed(self, number: int, rung: int) -> bool:
        trial = self._trials.get(number)
        return trial is not None and (trial.is_over or len(trial.rungs) > rung)

    def _start(self, number: int, rung: int) -> Job:
        trial = self._trials.get(number)
        if trial is None or trial.state == WAITING or not trial.point:
            trial = self._draw(number)
        if not trial.attempts:
            trial = self._note(trial, attempts=1)
        halving = self.settings.halving
        return Job(
            number, settings_at(self._base, trial.point), str(self.folder), self.shares[rung],
            halving.min_epochs if halving else 0.0, self.settings.folds or 0, self.settings.metric,
        )  # fmt: skip

    def _draw(self, number: int) -> Trial:
        """Starts the trial of a point; its point is lined up first, so that a kill in between changes nothing."""
        import optuna

        known = self._study.get_trials(deepcopy=False)
        if number == len(known):
            self._line_up(self._draw_point(number, known))
        half_begun = number < len(known) and known[number].state == optuna.trial.TrialState.RUNNING
        begun = optuna.trial.Trial(self._study, known[number]._trial_id) if half_begun else self._study.ask()
        assert begun.number == number, f"trial {begun.number} began in the place of {number}"
        return self._note(Trial(number, RUNNING), point=self.settings.space.draw(begun))

    def _draw_point(self, number: int, known: list[Any]) -> Point:
        """Draws from a copy of the study in memory, by a sampler sown by the trial's number.

        So what is drawn depends on the number and on the trials before it, not on how often the search was begun.
        """
        import optuna

        copy = optuna.create_study(direction="maximize", sampler=_build_sampler(self.settings, number))
        copy.add_trials([t for t in known if t.state != optuna.trial.TrialState.WAITING])
        return self.settings.space.draw(copy.ask())

    def _line_up(self, point: Point) -> None:
        self._study.enqueue_trial(self.settings.space.encode(point), user_attrs={"point": point})

    def settle(self, job: Job, outcome: Outcome) -> Trial:
        """Writes down what became of a job; returns the trial as it stands now."""
        self._in_flight.discard(job.number)
        trial = self._trials[job.number]
        if outcome.kind == DONE:
            rungs = (*trial.rungs, outcome.score)
            trial = self._note(trial, outcome=outcome, rungs=rungs)
            self._study._storage.set_trial_intermediate_value(self._id(trial.number), outcome.steps, outcome.score)
            if outcome.finished:
                before = self.best
                trial = self._close(trial.number, COMPLETE)
                self._keep_best_only(trial, before)
        elif outcome.kind == DIED and trial.attempts < _MOST_ATTEMPTS:
            trial = self._note(trial, attempts=trial.attempts + 1)
        elif outcome.kind == DIED:
            trial = self._close(trial.number, FAIL, f"its worker died {trial.attempts} times ({outcome.reason})")
        elif outcome.kind == FAILED:
            trial = self._close(trial.number, FAIL, outcome.reason)
        else:
            assert outcome.kind == INTERRUPTED, outcome
        return trial

    def _hold_to(self, begun: Mapping[str, Any]) -> None:
        then = self._study.user_attrs.get("begun")
        if then is None:
            self._study.set_user_attr("begun", dict(begun))
        else:
            refuse_another_beginning(then, begun)

    def add_seconds(self) -> float:
        """Writes down and returns the seconds that the search took, over all its beginnings."""
        seconds = self._seconds_before + time.monotonic() - self._opened
        self._study.set_user_attr("seconds", seconds)
        return seconds

    def recover(self) -> list[int]:
        """Closes what was decided before a kill but not written; returns the trials that are trained on now."""
        for trial in self.trials:
            if trial.state == RUNNING and trial.outcome and trial.outcome.finished:
                self._close(trial.number, COMPLETE)
        return [t.number for t in self.trials if t.state == RUNNING and t.point]

    def check_any(self) -> Trial:
        """Returns the best trial; raises TrainingError where every trial failed."""
        best = self.best
        if best is None:
            failed = [t for t in self.trials if t.state == FAIL]
            reasons = list(dict.fromkeys(t.reason for t in failed if t.reason))
            many = f"all {len(failed)}" if len(failed) == len(self.trials) else f"{len(failed)} of {len(self.trials)}"
            rest = "" if len(failed) == len(self.trials) else ", and none was trained to its end"
            raise TrainingError(
                f"{many} trials failed{rest}: {'; '.join(reasons[:3])}",
                hint=f"what became of each stands in {self.folder / JOURNAL}; change the space, and add --overwrite",
            )
        return best

    def forecast(self) -> tuple[float, float]:
        """Returns the work done and the work planned, in whole trainings; halving leaves most trials unfinished."""
        done = sum(t.outcome.steps / max(t.outcome.total_steps, 1) if t.outcome else float(t.is_over)
                   for t in self.trials)  # fmt: skip
        planned, size = 0.0, self.settings.bracket
        for begin in range(0, self.settings.trials, size):
            members, before = min(size, self.settings.trials - begin), 0.0
            for share in self.shares:
                planned += members * (share - before)
                members = max(1, members // (self.settings.halving.reduction if self.settings.halving else 1))
                before = share
        return done, max(planned, done)

    def list_open(self) -> Iterator[Trial]:
        """Yields the trials in training or between two rungs."""
        return (t for t in self.trials if t.state == RUNNING)

    def _note(self, trial: Trial, **changes: Any) -> Trial:
        """Writes facts of a trial into the journal."""
        values = vars(trial) | changes
        for name, value in changes.items():
            plain = vars(value) if isinstance(value, Outcome) else value
            self._study._storage.set_trial_user_attr(self._id(trial.number), name, plain)
        self._trials[trial.number] = Trial(**values)
        return self._trials[trial.number]

    def _close(self, number: int, state: str, reason: str = "") -> Trial:
        import optuna

        trial = self._trials[number]
        if reason:
            trial = self._note(trial, reason=reason)
        states = {COMPLETE: "COMPLETE", PRUNED: "PRUNED", FAIL: "FAIL"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.tell(
                number, trial.score if state == COMPLETE else None, state=optuna.trial.TrialState[states[state]]
            )
        self._trials[number] = Trial(**(vars(trial) | {"state": state}))
        if state != COMPLETE:
            drop_checkpoints(self.folder / "trials" / f"{number:04d}")
        return self._trials[number]

    def _keep_best_only(self, trial: Trial, before: Trial | None) -> None:
        """Removes the checkpoints of the trial that is not the best any more."""
        loser = before if before is not None and self.best is trial else trial
        if before is not None:
            drop_checkpoints(self.folder / "trials" / f"{loser.number:04d}")

    def _id(self, number: int) -> int:
        return int(self._study._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))

    def _enqueue_grid(self) -> None:
        """Lines up a grid's points that are not in the journal yet, in their order."""
        if self.settings.sampler != "grid":
            return
        every = self.settings.space.list_points()
        chosen = random.Random(self.settings.seed).sample(range(len(every)), self.settings.trials)
        points = [every[i] for i in sorted(chosen)]
        for point in points[len(self._study.get_trials(deepcopy=False)) :]:
            self._line_up(point)

    def importances(self) -> dict[str, float]:
        """Returns how much each setting mattered for the score, where enough trials tell; they sum up to 1."""
        import optuna

        over = [t for t in self.trials if t.state == COMPLETE]
        if len(over) < 4 or len({t.score for t in over}) < 2:
            return {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.settings.seed)
                return dict(optuna.importance.get_param_importances(self._study, evaluator=evaluator))
        except (ValueError, RuntimeError):  # conditional spaces with no setting that all trials have
            return {}


def _list_shares(settings: SweepSettings, epochs: float | None) -> list[float]:
    """Returns which share of its epochs a trial is trained to, rung by rung: 1/9, 1/3, 1.

    A trial pauses where it is evaluated: after an epoch, or a quarter of its training if that is less. Rungs that fall
    on one evaluation are one rung: two cuts by the same figures would be one hard cut.
    """
    if settings.halving is None:
        return [1.0]
    members, rungs = min(settings.bracket, settings.trials), 0
    while members >= settings.halving.reduction:
        members, rungs = members // settings.halving.reduction, rungs + 1
    shares = [settings.halving.reduction ** -float(k) for k in range(rungs, -1, -1)]
    if epochs == 0:
        return [1.0]  # the head is solved, and there is nothing to stop
    if epochs is None:
        return shares
    each = min(1.0, epochs / 4)
    waits = [max(share * epochs, settings.halving.min_epochs) / each for share in shares]
    return list(dict.fromkeys(min(1.0, math.ceil(round(wait, 6)) * each / epochs) for wait in waits))


def _build_sampler(settings: SweepSettings, number: int) -> Any:
    import optuna

    seed = (settings.seed * 1_000_003 + number) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if settings.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=8)
        return optuna.samplers.RandomSampler(seed=seed)


def _read_trial(frozen: Any) -> Trial:
    states = {"WAITING": WAITING, "RUNNING": RUNNING, "COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAIL}
    facts: Mapping[str, Any] = frozen.user_attrs
    state, point = states[frozen.state.name], dict(facts.get("point", {}))
    outcome = Outcome(**(facts["outcome"] | {"warnings": tuple(facts["outcome"]["warnings"])})) if (
        "outcome" in facts) else None  # fmt: skip
    # a point alone does not tell that its trial began: it is lined up before
    drawn = set(point) <= set(frozen.params)
    return Trial(
        frozen.number, state, point if drawn or state == WAITING else {}, outcome, tuple(facts.get("rungs", ())),
        int(facts.get("attempts", 0)), str(facts.get("reason", "")),
    )  # fmt: skip


def _epochs(trial: Trial) -> str:
    return f"{trial.outcome.epochs:.3g} epochs" if trial.outcome else "no epoch"
