"""Progress of a search: a live table on a terminal, otherwise one line per finished trial."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from textune.evaluation.text import LOSSES, percent
from textune.printable import count_epochs
from textune.progress import Progress, Rich, format_seconds
from textune.report.wording import name_metric
from textune.search.journal import FAIL, RUNNING, WAITING
from textune.search.ledger import Ledger, Trial
from textune.search.trial import Job, Outcome

_MOST_ROWS = 24
_SECONDS_BETWEEN_LINES = 10.0
_LEAST_DONE = 0.05
"""Share of one training before the time left is estimated: loading and the first steps are slow."""


class Lines:
    """Prints a line for each event of the search and estimates the time left from the work done."""

    def __init__(self, ledger: Ledger, progress: Progress, metric: str) -> None:
        self.ledger, self.progress, self.metric = ledger, progress, metric
        self._started_at, self._done_before = time.monotonic(), ledger.forecast()[0]
        self._printed_at = self._settled_at = self._started_at
        self.moving: dict[int, tuple[int, int]] = {}
        self._told: dict[int, Outcome | None] = {trial.number: trial.outcome for trial in ledger.trials}

    def started(self, job: Job) -> None:
        """Note that a trial started."""
        self.moving[job.number] = (0, 0)

    def moved(self, number: int, step: int, total: int) -> None:
        """Note a trial's step, and print it from time to time."""
        self.moving[number] = (step, total)
        if time.monotonic() - self._printed_at > _SECONDS_BETWEEN_LINES:
            self._printed_at = time.monotonic()
            steps = ", ".join(f"trial {n} at {s}/{t} steps" for n, (s, t) in sorted(self.moving.items()) if t)
            self.progress.say(f"{steps}; {self.describe_state()}")

    def settled(self, trial: Trial) -> None:
        """Print the trial's outcome, the best trial so far and the time left."""
        self._printed_at = time.monotonic()
        self._leave(trial)
        self.progress.say(self.describe(trial))
        self._told[trial.number] = trial.outcome
        self._warn(trial)

    def _leave(self, trial: Trial) -> None:
        self._settled_at = time.monotonic()
        self.moving.pop(trial.number, None)

    def _warn(self, trial: Trial) -> None:
        if trial.outcome and trial.outcome.warnings and trial.is_over:
            self.progress.warn(f"trial {trial.number}: {trial.outcome.warnings[-1]}")

    def describe(self, trial: Trial) -> str:
        """Return the trial's outcome and the state of the search in one line."""
        line = f"trial {trial.number} ({describe_point(trial.point)}): "
        if trial.state == FAIL:
            line += f"failed: {trial.reason}"
        elif (out := trial.outcome) and out is self._told.get(trial.number) and not trial.is_over:
            line += "was cut off, and will go on from its last checkpoint"
        elif out:
            line += f"{self.figure(trial)} after {count_epochs(out.epochs)}, {format_seconds(out.seconds)}"
        else:
            line += "will be retried"
        return f"{line}; {self.describe_state()}"

    def describe_state(self) -> str:
        """Return how many trials are finished, the best so far and the time left."""
        finished = sum(t.is_over for t in self.ledger.trials)
        parts = [f"{finished} of {self.ledger.settings.trials} trials finished"]
        if (best := self.ledger.best) is not None:
            parts.append(f"best so far: trial {best.number}, {self.figure(best)}")
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {format_seconds(left)} left")
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """Return the remaining seconds of training, None while they cannot be estimated.

        Work is counted in whole trainings; a running training counts by its steps. With folds only finished trials
        count, since the steps of one fold say little about the trial.
        """
        done, planned = self.ledger.forecast()
        now = counted = time.monotonic()
        if self.ledger.settings.folds:
            counted = self._settled_at
        else:
            done += sum(self._share_since(number) for number in self.moving)
        done_now = done - self._done_before
        if done_now < _LEAST_DONE or done >= planned:
            return None
        return max(0.0, (counted - self._started_at) / done_now * (planned - done) - (now - counted))

    def _share_since(self, number: int) -> float:
        """Return the share of its training that a running trial did since it was last settled."""
        step, total = self.moving[number]
        outcome = self.ledger.trials[number].outcome
        settled_share = outcome.steps / max(outcome.total_steps, 1) if outcome else 0.0
        return max(0.0, step / total - settled_share) if total else 0.0

    def figure(self, trial: Trial) -> str:
        """Return the metric that trials are compared by, with its value."""
        assert trial.outcome is not None
        return describe_figure(trial.outcome.scores, self.metric)


class LiveTable(Lines):
    """A live table of the trials."""

    def __init__(self, ledger: Ledger, progress: Progress, metric: str, live: Any) -> None:
        super().__init__(ledger, progress, metric)
        self._live = live

    def started(self, job: Job) -> None:
        """Show the trial as running."""
        super().started(job)
        self._draw()

    def moved(self, number: int, step: int, total: int) -> None:
        """Update the trial's step; the live display limits how often it is drawn."""
        self.moving[number] = (step, total)
        self._draw()

    def settled(self, trial: Trial) -> None:
        """Show the trial's score."""
        self._leave(trial)
        self._warn(trial)
        self._draw()

    def close(self) -> None:
        """Draw the final state, with stopped trials marked."""
        self._draw()

    def _draw(self) -> None:
        from rich.table import Table
        from rich.text import Text

        names = [d.name for d in self.ledger.settings.space.dimensions]
        table = Table(
            box=None, pad_edge=False, header_style="bold", caption=self.describe_state(), caption_justify="left"
        )
        for name in ("trial", *names, name_metric(self.metric), "epochs", "time", "state"):
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
    """Yield the table if progress is shown on a terminal, else plain lines."""
    if not isinstance(progress, Rich):
        yield Lines(ledger, progress, metric)
        return
    from rich.live import Live

    with Live(console=progress.console, refresh_per_second=4) as live:
        table = LiveTable(ledger, progress, metric, live)
        yield table
        table.close()


def describe_value(value: Any) -> str:
    """Format a setting's value: 0.0005 as 0.0005, a drawn 0.00048712 as 0.000487."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def describe_point(point: Mapping[str, Any]) -> str:
    """Format a point: learning_rate 0.001, batch_size 8."""
    return ", ".join(f"{name} {describe_value(value)}" for name, value in point.items()) or "not drawn"


def describe_figure(scores: Mapping[str, float], metric: str) -> str:
    """Format the metric that trials are compared by, with its name."""
    return f"{metric.replace('_', ' ')} {format_figure(scores, metric)}"


def format_figure(scores: Mapping[str, float], metric: str) -> str:
    """Format the metric's value alone."""
    return f"{scores[metric]:.4f}" if metric in LOSSES else percent(scores[metric])
