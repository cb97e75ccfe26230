"""A search while it goes on: a live table on a terminal, else a line for each trial that is done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from textune.progress import Progress, Rich, format_seconds
from textune.search.journal import FAIL, RUNNING, WAITING
from textune.search.ledger import Ledger, Trial
from textune.search.trial import Job

_MOST_ROWS = 24
_SECONDS_BETWEEN_LINES = 10.0
_LEAST_DONE = 0.05
"""Of one training, before the time left is told: the first steps are slow, and loading came before them."""


class Lines:
    """Tells each step of the search in a line; times what is left by the work that is done."""

    def __init__(self, ledger: Ledger, progress: Progress, metric: str) -> None:
        self.ledger, self.progress, self.metric = ledger, progress, metric
        self._started, self._done_before = time.monotonic(), ledger.forecast()[0]
        self._told = self._settled = self._started
        self.moving: dict[int, tuple[int, int]] = {}

    def started(self, job: Job) -> None:
        """Note that the trial is in training."""
        self.moving[job.number] = (0, 0)

    def moved(self, number: int, step: int, total: int) -> None:
        """Note how far it is, and tells so now and then."""
        self.moving[number] = (step, total)
        if time.monotonic() - self._told > _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            moving = ", ".join(f"trial {n} at {s}/{t} steps" for n, (s, t) in sorted(self.moving.items()) if t)
            self.progress.say(f"{moving}; {self.describe_state()}")

    def settled(self, trial: Trial) -> None:
        """Say what became of the trial, the best so far and the time left."""
        self._told = time.monotonic()
        self._leave(trial)
        self.progress.say(self.describe(trial))
        self._warn(trial)

    def _leave(self, trial: Trial) -> None:
        self._settled = time.monotonic()
        self.moving.pop(trial.number, None)

    def _warn(self, trial: Trial) -> None:
        if trial.outcome and trial.outcome.warnings and trial.is_over:
            self.progress.warn(f"trial {trial.number}: {trial.outcome.warnings[-1]}")

    def describe(self, trial: Trial) -> str:
        """Return a trial and where the search stands as one line."""
        told = f"trial {trial.number} ({describe_point(trial.point)}): "
        if trial.state == FAIL:
            told += f"failed: {trial.reason}"
        elif trial.outcome:
            out = trial.outcome
            told += f"{self.figure(trial)} after {out.epochs:.3g} epochs, {format_seconds(out.seconds)}"
        else:
            told += "is tried again"
        return f"{told}; {self.describe_state()}"

    def describe_state(self) -> str:
        """Return how many trials are over, the best so far and the time left."""
        over = sum(t.is_over for t in self.ledger.trials)
        parts = [f"{over} of {self.ledger.settings.trials} trials over"]
        if (best := self.ledger.best) is not None:
            parts.append(f"best so far: trial {best.number}, {self.figure(best)}")
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {format_seconds(left)} left")
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """Return the seconds of training that are left, None while nothing tells.

        Work is counted in whole trainings, those in hand by their steps; of several trainings to a trial (folds) the
        steps of one tell little, and what is settled counts alone.
        """
        done, planned = self.ledger.forecast()
        now = counted = time.monotonic()
        if self.ledger.settings.folds:
            counted = self._settled
        else:
            done += sum(self._share_since(number) for number in self.moving)
        mine = done - self._done_before
        if mine < _LEAST_DONE or done >= planned:
            return None
        return max(0.0, (counted - self._started) / mine * (planned - done) - (now - counted))

    def _share_since(self, number: int) -> float:
        """Return the share of its training that a trial in hand took since it was settled last."""
        step, total = self.moving[number]
        outcome = self.ledger.trials[number].outcome
        before = outcome.steps / max(outcome.total_steps, 1) if outcome else 0.0
        return max(0.0, step / total - before) if total else 0.0

    def figure(self, trial: Trial) -> str:
        """Return the figure that trials are chosen by."""
        assert trial.outcome is not None
        return describe_figure(trial.outcome.scores, self.metric)


class LiveTable(Lines):
    """The trials as a table that is drawn anew as they move."""

    def __init__(self, ledger: Ledger, progress: Progress, metric: str, live: Any) -> None:
        super().__init__(ledger, progress, metric)
        self._live = live

    def started(self, job: Job) -> None:
        """Show it as running."""
        super().started(job)
        self._draw()

    def moved(self, number: int, step: int, total: int) -> None:
        """Move its share; the display itself limits how often it draws."""
        self.moving[number] = (step, total)
        self._draw()

    def settled(self, trial: Trial) -> None:
        """Show its figure."""
        self._leave(trial)
        self._warn(trial)
        self._draw()

    def close(self) -> None:
        """Show how it ended: those that lost are told from those that wait when the last is trained."""
        self._draw()

    def _draw(self) -> None:
        from rich.table import Table
        from rich.text import Text

        names = [d.name for d in self.ledger.settings.space.dimensions]
        table = Table(
            box=None, pad_edge=False, header_style="bold", caption=self.describe_state(), caption_justify="left"
        )
        for name in ("trial", *names, self.metric.replace("_", " "), "epochs", "time", "state"):
            table.add_column(name, justify="left" if name == "state" else "right")
        trials, best = self.ledger.trials, self.ledger.best
        shown = [t for t in trials if t.state != WAITING or len(trials) <= _MOST_ROWS][-_MOST_ROWS:]
        for trial in shown:
            out, style = trial.outcome, "bold green" if trial is best else "dim" if trial.is_over else ""
            step, total = self.moving.get(trial.number, (0, 0))
            state = (
                f"{step}/{total} steps" if total else "between rungs" if trial.state == RUNNING and out else trial.state
            )
            cells = [str(trial.number), *(describe_value(trial.point.get(name, "")) for name in names)]
            figure = format_figure(out.scores, self.metric) if out else ""
            cells += [figure, f"{out.epochs:.3g}", format_seconds(out.seconds)] if out else ["", "", ""]
            table.add_row(*(Text(cell) for cell in [*cells, state]), style=style)
        self._live.update(table)


@contextmanager
def open_display(ledger: Ledger, progress: Progress, metric: str) -> Iterator[Lines]:
    """Yield the table where progress is on a terminal, else plain lines."""
    if not isinstance(progress, Rich):
        yield Lines(ledger, progress, metric)
        return
    from rich.live import Live

    with Live(console=progress.console, refresh_per_second=4) as live:
        table = LiveTable(ledger, progress, metric, live)
        yield table
        table.close()


def describe_value(value: Any) -> str:
    """Write a setting's value: 0.0005 as 0.0005, a drawn 0.00048712 as 0.000487."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def describe_point(point: Mapping[str, Any]) -> str:
    """Write a point: learning_rate 0.001, batch_size 8."""
    return ", ".join(f"{name} {describe_value(value)}" for name, value in point.items()) or "not drawn"


def describe_figure(scores: Mapping[str, float], metric: str) -> str:
    """Write the figure that trials are chosen by, with its name."""
    return f"{metric.replace('_', ' ')} {format_figure(scores, metric)}"


def format_figure(scores: Mapping[str, float], metric: str) -> str:
    """Write the figure alone."""
    return f"{scores[metric]:.4f}" if metric == "loss" else f"{scores[metric]:.1%}"
