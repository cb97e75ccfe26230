"""The trials of a search, their outcomes, and which to train next, stored in Optuna's journal file.

Only the main process of a search writes the journal; workers report to it. The journal alone decides what to do next,
so a killed search continues as if it had not been interrupted: running trials resume from their last checkpoints.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textune.bundle import DIGEST, is_sealed, seal
from textune.config import RunConfig
from textune.errors import TrainingError, flag
from textune.printable import count_epochs
from textune.search.journal import (
    COMPLETE,
    FAIL,
    JOURNAL,
    PRUNED,
    RUNNING,
    WAITING,
    Journal,
    JournalEntry,
    report_damage,
)  # fmt: skip
from textune.search.settings import MOST_POINTS, SweepSettings
from textune.search.space import Point, settings_at
from textune.search.start import refuse_changed_start
from textune.search.trial import DIED, DONE, FAILED, INTERRUPTED, Job, Outcome, drop_checkpoints

_MOST_ATTEMPTS = 2
_MOST_REDRAWS, _STRIDE = 10, 999_983


@dataclass(frozen=True)
class Trial:
    """The state of a trial. rungs: its score at each rung it passed. attempts: more than 1 if a worker died."""

    number: int
    state: str
    point: Point = field(default_factory=dict)
    outcome: Outcome | None = None
    rungs: tuple[float, ...] = ()
    attempts: int = 0
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the trial is finished, pruned or failed."""
        return self.state in (COMPLETE, PRUNED, FAIL)

    @property
    def score(self) -> float:
        """The last score; minus infinity if there is none."""
        return self.outcome.score if self.outcome else float("-inf")


class Ledger:
    """The trials of one search. config: the settings that the space varies. epochs: of a full trial, if known.

    start: what `describe_start` returned; raises BundleError if the journal was started with something else.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        settings: SweepSettings,
        epochs: float | None = None,
        start: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.settings = folder, settings
        self._base = config.to_dict()
        self._journal = Journal(folder)
        self._trials: dict[int, Trial] = {}
        self._in_flight: set[int] = set()
        self.shares = _list_shares(settings, epochs)
        self._opened_at = time.monotonic()
        try:
            if start is not None:
                self._check_start(start)
            self._seconds_before = float(self._journal.facts.get("seconds", 0.0))
            self._enqueue_grid()
            for entry in self._journal.list_trials():
                self._trials[entry.number] = _read_trial(entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # facts of another shape
            what = f"is damaged: it holds facts that no search writes ({error!r})"
            raise report_damage(folder / JOURNAL, what) from error

    @property
    def trials(self) -> list[Trial]:
        """All trials drawn so far, and a grid's waiting ones."""
        return [self._trials[n] for n in sorted(self._trials)]

    @property
    def best(self) -> Trial | None:
        """The best completed trial; of equal ones the first."""
        completed = [t for t in self.trials if t.state == COMPLETE]
        return max(completed, key=lambda t: (t.score, -t.number)) if completed else None

    def next_job(self) -> Job | None:
        """Return what to train next; None if nothing is left or other jobs must finish first."""
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
        """Return the bracket's next trial and the rung to train it to; prune trials that lost.

        Trials that lose at a rung are pruned once another passes the next rung. If all promoted trials fail there, the
        best of the others replace them.
        """
        members: list[int] = list(bracket)
        lost: list[int] = []
        for rung in range(len(self.shares)):
            pending = [n for n in members if not self._has_passed(n, rung)]
            if ready := [n for n in pending if n not in self._in_flight]:
                return ready[0], rung
            if pending:
                return None, rung
            ranked = sorted((n for n in members if self._has_score(n, rung)), key=lambda n: self._rank(n, rung))
            for n in lost if ranked else ():
                if not self._trials[n].is_over:
                    self._close(n, PRUNED, f"stopped after {_epochs(self._trials[n])}: others did better")
            if rung + 1 == len(self.shares) or self.settings.halving is None:
                break
            promoted = max(1, len(members) // self.settings.halving.reduction)
            members, lost = ranked[:promoted], ranked[promoted:]
        return None, 0

    def _has_score(self, number: int, rung: int) -> bool:
        """Return whether the trial has a score for this rung; one that finished early has its last score."""
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
        """Start a trial; its point is enqueued first, so that a kill in between changes nothing."""
        if number == len(self._journal.list_trials()):
            self._enqueue(self._draw_new(number))
        point = self.settings.space.draw(self._journal.begin(number))
        return self._note(Trial(number, RUNNING), point=point)

    def _draw_new(self, number: int) -> Point:
        """Return a point that no trial has, if there is one: the same settings and seed give the same weights."""
        space, seed = self.settings.space, (self.settings.seed * 1_000_003 + number) % 2**32
        known = [entry.facts.get("point") for entry in self._journal.list_trials()]
        for attempt in range(_MOST_REDRAWS):
            point = space.draw(self._journal.draw(self.settings.sampler, (seed + attempt * _STRIDE) % 2**32))
            if point not in known:
                return point
        if space.count_points() <= MOST_POINTS:  # few are left, so that they are hardly ever drawn
            left = [other for other in space.list_points() if other not in known]
            return random.Random(seed).choice(left or [point])
        return point

    def _enqueue(self, point: Point) -> None:
        self._journal.enqueue(self.settings.space.encode(point), {"point": point})

    def settle(self, job: Job, outcome: Outcome) -> Trial:
        """Record a job's outcome; return the updated trial."""
        self._in_flight.discard(job.number)
        trial = self._trials[job.number]
        if outcome.kind == DONE:
            rungs = (*trial.rungs, outcome.score)
            trial = self._note(trial, outcome=outcome, rungs=rungs)
            self._journal.report(trial.number, outcome.steps, outcome.score)
            if outcome.finished:
                previous_best = self.best
                trial = self._close(trial.number, COMPLETE)
                self._keep_best_only(trial, previous_best)
        elif outcome.kind == DIED and trial.attempts < _MOST_ATTEMPTS:
            trial = self._note(trial, attempts=trial.attempts + 1)
        elif outcome.kind == DIED:
            trial = self._close(trial.number, FAIL, f"its worker died {trial.attempts} times ({outcome.reason})")
        elif outcome.kind == FAILED:
            trial = self._close(trial.number, FAIL, outcome.reason)
        else:
            assert outcome.kind == INTERRUPTED, outcome
        return trial

    def _check_start(self, start: Mapping[str, Any]) -> None:
        stored = self._journal.facts.get("begun")
        if stored is None:
            self._journal.note("begun", dict(start))
        else:
            refuse_changed_start(stored, start)

    def add_seconds(self) -> float:
        """Store and return the seconds that the search took, including earlier sessions."""
        seconds = self._seconds_before + time.monotonic() - self._opened_at
        self._journal.note("seconds", seconds)
        return seconds

    def recover(self) -> list[int]:
        """Close trials that finished before a kill but were not closed; return the trials to resume."""
        for trial in self.trials:
            if trial.state == RUNNING and trial.outcome and trial.outcome.finished:
                self._close(trial.number, COMPLETE)
        return [t.number for t in self.trials if t.state == RUNNING and t.point]

    def check_any(self) -> Trial:
        """Return the best trial; raise TrainingError if no trial was completed."""
        best = self.best
        if best is None:
            failed = [t for t in self.trials if t.state == FAIL]
            reasons = list(dict.fromkeys(t.reason for t in failed if t.reason))
            count = f"all {len(failed)}" if len(failed) == len(self.trials) else f"{len(failed)} of {len(self.trials)}"
            others = "" if len(failed) == len(self.trials) else ", and none was completed"
            raise TrainingError(
                f"{count} trials failed{others}: {'; '.join(reasons[:3])}",
                hint=f"see {self.folder / JOURNAL} for each trial; change the space, and add {flag('overwrite')}",
            )
        return best

    def forecast(self) -> tuple[float, float]:
        """Return the work done and the work planned, in full trainings; halving leaves most trials unfinished."""
        done = sum(
            t.outcome.steps / max(t.outcome.total_steps, 1) if t.outcome else float(t.is_over) for t in self.trials
        )
        planned, size = 0.0, self.settings.bracket
        for begin in range(0, self.settings.trials, size):
            members, previous_share = min(size, self.settings.trials - begin), 0.0
            for share in self.shares:
                planned += members * (share - previous_share)
                members = max(1, members // (self.settings.halving.reduction if self.settings.halving else 1))
                previous_share = share
        return done, max(planned, done)

    def _note(self, trial: Trial, **changes: Any) -> Trial:
        """Store facts about a trial in the journal."""
        values = vars(trial) | changes
        for name, value in changes.items():
            plain = seal(vars(value)) if isinstance(value, Outcome) else value
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

    def _keep_best_only(self, trial: Trial, previous_best: Trial | None) -> None:
        """Remove the checkpoints of the worse of two completed trials."""
        loser = previous_best if previous_best is not None and self.best is trial else trial
        if previous_best is not None:
            drop_checkpoints(self.folder / "trials" / f"{loser.number:04d}")

    def _enqueue_grid(self) -> None:
        """Enqueue the grid's points that are not in the journal yet, in order."""
        if self.settings.sampler != "grid":
            return
        grid = self.settings.space.list_points()
        sample = random.Random(self.settings.seed).sample(range(len(grid)), self.settings.trials)
        points = [grid[i] for i in sorted(sample)]
        for point in points[len(self._journal.list_trials()) :]:
            self._enqueue(point)

    def importances(self) -> dict[str, float]:
        """Return how much each setting mattered for the score, summing to 1; empty with too few trials."""
        completed = [t for t in self.trials if t.state == COMPLETE]
        if len(completed) < 4 or len({t.score for t in completed}) < 2:
            return {}
        return self._journal.importances(self.settings.seed)


def _list_shares(settings: SweepSettings, epochs: float | None) -> list[float]:
    """Return the share of a trial's epochs at each rung: 1/9, 1/3, 1.

    Trials pause at evaluations: after each epoch, or each quarter of the training if that is shorter. Rungs at the same
    evaluation count as one: pruning twice by the same scores would be one harsh cut.
    """
    if settings.halving is None:
        return [1.0]
    members, rungs = min(settings.bracket, settings.trials), 0
    while members >= settings.halving.reduction:
        members, rungs = members // settings.halving.reduction, rungs + 1
    shares = [settings.halving.reduction ** -float(k) for k in range(rungs, -1, -1)]
    if epochs == 0:
        return [1.0]  # the head is solved, so there is no training to stop
    if epochs is None:
        return shares
    interval = min(1.0, epochs / 4)
    evaluations = [max(share * epochs, settings.halving.min_epochs) / interval for share in shares]
    return list(dict.fromkeys(min(1.0, math.ceil(round(count, 6)) * interval / epochs) for count in evaluations))


def _read_outcome(stored: Mapping[str, Any]) -> Outcome:
    """Return the outcome of a trial; raise ValueError if it was changed, for then it would choose another winner."""
    if not is_sealed(stored):
        raise ValueError("the digest of an outcome does not match its content")
    facts: dict[str, Any] = {k: v for k, v in stored.items() if k != DIGEST}
    outcome = Outcome(**facts | {"warnings": tuple(facts["warnings"])})
    numbers = (outcome.score, outcome.epochs, outcome.steps, outcome.total_steps, outcome.seconds)
    if any(type(number) not in (int, float) for number in (*numbers, *outcome.scores.values())):
        raise TypeError("an outcome has a figure that is no number")
    return outcome


def _read_trial(entry: JournalEntry) -> Trial:
    facts, state = entry.facts, entry.state
    point = dict(facts.get("point", {}))
    outcome = _read_outcome(facts["outcome"]) if "outcome" in facts else None
    # A point alone does not mean that its trial started: points are enqueued first.
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
    return count_epochs(trial.outcome.epochs) if trial.outcome else "no epoch"
