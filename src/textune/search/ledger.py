"""Which trials there are, what became of them, and what is to be trained next: Optuna's study in its journal file.

Only the process that holds the search writes the journal; workers answer to it. What to do next follows from the
journal alone, so a search that was killed goes on as if nothing had been: a trial in training when it happened is
trained on from its last checkpoint.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textune.config import RunConfig
from textune.errors import TrainingError
from textune.search.journal import COMPLETE, FAIL, JOURNAL, PRUNED, RUNNING, WAITING, Journal, JournalEntry
from textune.search.settings import SweepSettings
from textune.search.space import Point, settings_at
from textune.search.start import refuse_another_beginning
from textune.search.trial import DIED, DONE, FAILED, INTERRUPTED, Job, Outcome, drop_checkpoints

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
        self,
        folder: Path,
        config: RunConfig,
        settings: SweepSettings,
        epochs: float | None = None,
        begun: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.settings = folder, settings
        self._base = config.to_dict()
        self._journal = Journal(folder)
        if begun is not None:
            self._hold_to(begun)
        self._trials: dict[int, Trial] = {}
        self._in_flight: set[int] = set()
        self.shares = _list_shares(settings, epochs)
        self._opened, self._seconds_before = time.monotonic(), float(self._journal.facts.get("seconds", 0.0))
        self._enqueue_grid()
        for entry in self._journal.list_trials():
            self._trials[entry.number] = _read_trial(entry)

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
        """Return what to train next; None where nothing can start before something else is done, or at all."""
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
        """Return the trial of a bracket to train next, and the rung to train it to; closes those that lost.

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
        """Return whether the trial has a score of this rung; one that ended early has its last one."""
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
            number,
            settings_at(self._base, trial.point),
            str(self.folder),
            self.shares[rung],
            halving.min_epochs if halving else 0.0,
            self.settings.folds or 0,
            self.settings.metric,
        )

    def _draw(self, number: int) -> Trial:
        """Start the trial of a point; its point is lined up first, so that a kill in between changes nothing."""
        if number == len(self._journal.list_trials()):
            seed = (self.settings.seed * 1_000_003 + number) % 2**32
            self._line_up(self.settings.space.draw(self._journal.draw(self.settings.sampler, seed)))
        point = self.settings.space.draw(self._journal.begin(number))
        return self._note(Trial(number, RUNNING), point=point)

    def _line_up(self, point: Point) -> None:
        self._journal.line_up(self.settings.space.encode(point), {"point": point})

    def settle(self, job: Job, outcome: Outcome) -> Trial:
        """Write down what became of a job; return the trial as it stands now."""
        self._in_flight.discard(job.number)
        trial = self._trials[job.number]
        if outcome.kind == DONE:
            rungs = (*trial.rungs, outcome.score)
            trial = self._note(trial, outcome=outcome, rungs=rungs)
            self._journal.report(trial.number, outcome.steps, outcome.score)
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
        then = self._journal.facts.get("begun")
        if then is None:
            self._journal.note("begun", dict(begun))
        else:
            refuse_another_beginning(then, begun)

    def add_seconds(self) -> float:
        """Write down and return the seconds that the search took, over all its beginnings."""
        seconds = self._seconds_before + time.monotonic() - self._opened
        self._journal.note("seconds", seconds)
        return seconds

    def recover(self) -> list[int]:
        """Close what was decided before a kill but not written; return the trials that are trained on now."""
        for trial in self.trials:
            if trial.state == RUNNING and trial.outcome and trial.outcome.finished:
                self._close(trial.number, COMPLETE)
        return [t.number for t in self.trials if t.state == RUNNING and t.point]

    def check_any(self) -> Trial:
        """Return the best trial; raise TrainingError where every trial failed."""
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
        """Return the work done and the work planned, in whole trainings; halving leaves most trials unfinished."""
        done = sum(
            t.outcome.steps / max(t.outcome.total_steps, 1) if t.outcome else float(t.is_over) for t in self.trials
        )
        planned, size = 0.0, self.settings.bracket
        for begin in range(0, self.settings.trials, size):
            members, before = min(size, self.settings.trials - begin), 0.0
            for share in self.shares:
                planned += members * (share - before)
                members = max(1, members // (self.settings.halving.reduction if self.settings.halving else 1))
                before = share
        return done, max(planned, done)

    def list_open(self) -> Iterator[Trial]:
        """Yield the trials in training or between two rungs."""
        return (t for t in self.trials if t.state == RUNNING)

    def _note(self, trial: Trial, **changes: Any) -> Trial:
        """Write facts of a trial into the journal."""
        values = vars(trial) | changes
        for name, value in changes.items():
            plain = vars(value) if isinstance(value, Outcome) else value
            self._journal.note_trial(trial.number, name, plain)
        self._trials[trial.number] = Trial(**values)
        return self._trials[trial.number]

    def _close(self, number: int, state: str, reason: str = "") -> Trial:
        trial = self._trials[number]
        if reason:
            trial = self._note(trial, reason=reason)
        self._journal.close(number, state, trial.score if state == COMPLETE else None)
        self._trials[number] = Trial(**(vars(trial) | {"state": state}))
        if state != COMPLETE:
            drop_checkpoints(self.folder / "trials" / f"{number:04d}")
        return self._trials[number]

    def _keep_best_only(self, trial: Trial, before: Trial | None) -> None:
        """Remove the checkpoints of the trial that is not the best any more."""
        loser = before if before is not None and self.best is trial else trial
        if before is not None:
            drop_checkpoints(self.folder / "trials" / f"{loser.number:04d}")

    def _enqueue_grid(self) -> None:
        """Lines up a grid's points that are not in the journal yet, in their order."""
        if self.settings.sampler != "grid":
            return
        every = self.settings.space.list_points()
        chosen = random.Random(self.settings.seed).sample(range(len(every)), self.settings.trials)
        points = [every[i] for i in sorted(chosen)]
        for point in points[len(self._journal.list_trials()) :]:
            self._line_up(point)

    def importances(self) -> dict[str, float]:
        """Return how much each setting mattered for the score, where enough trials tell; they sum up to 1."""
        over = [t for t in self.trials if t.state == COMPLETE]
        if len(over) < 4 or len({t.score for t in over}) < 2:
            return {}
        return self._journal.importances(self.settings.seed)


def _list_shares(settings: SweepSettings, epochs: float | None) -> list[float]:
    """Return which share of its epochs a trial is trained to, rung by rung: 1/9, 1/3, 1.

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


def _read_trial(entry: JournalEntry) -> Trial:
    facts, state = entry.facts, entry.state
    point = dict(facts.get("point", {}))
    outcome = (
        Outcome(**(facts["outcome"] | {"warnings": tuple(facts["outcome"]["warnings"])}))
        if ("outcome" in facts)
        else None
    )
    # a point alone does not tell that its trial began: it is lined up before
    drawn = set(point) <= set(entry.parameters)
    return Trial(
        entry.number,
        state,
        point if drawn or state == WAITING else {},
        outcome,
        tuple(facts.get("rungs", ())),
        int(facts.get("attempts", 0)),
        str(facts.get("reason", "")),
    )


def _epochs(trial: Trial) -> str:
    return f"{trial.outcome.epochs:.3g} epochs" if trial.outcome else "no epoch"
