"""What a search tells while it goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from textune.progress import Silent
from textune.search.display import Lines
from textune.search.trial import DONE, Job, Outcome


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


def outcome(steps: int) -> Outcome:
    return Outcome(DONE, steps=steps, total_steps=100, scores={"accuracy": 0.5, "loss": 1.0}, finished=steps == 100)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("textune.search.display.time", found)
    return found


def open_lines(folds: int = 0, trials: int = 4) -> tuple[Lines, Any]:
    """Trial of 100 steps each; the ledger's work is what their outcomes say."""
    rows = [
        SimpleNamespace(number=n, outcome=None, is_over=False, point={}, state="", score=0.0) for n in range(trials)
    ]

    def forecast() -> tuple[float, float]:
        return sum(t.outcome.steps / 100 for t in rows if t.outcome), float(trials)

    ledger: Any = SimpleNamespace(
        trials=rows, best=None, settings=SimpleNamespace(folds=folds, trials=trials), forecast=forecast
    )  # fmt: skip
    return Lines(ledger, Silent(), "accuracy"), ledger


def settle(lines: Lines, ledger: Any, number: int, steps: int) -> None:
    ledger.trials[number].outcome = outcome(steps)
    lines.settled(ledger.trials[number])


def test_the_time_left_falls_while_a_trial_is_in_hand(clock: Clock) -> None:
    lines, ledger = open_lines()
    assert lines.seconds_left() is None
    lines.started(Job(0, {}, ""))
    clock.now = 5.0
    lines.moved(0, 5, 100)
    assert lines.seconds_left() == pytest.approx(395)
    clock.now = 100.0
    settle(lines, ledger, 0, 100)
    assert lines.seconds_left() == pytest.approx(300)
    for step in (25, 50, 99):
        clock.now = 100.0 + step
        lines.moved(1, step, 100)
        assert lines.seconds_left() == pytest.approx(300 - step)


def test_what_a_trial_took_before_is_not_counted_twice(clock: Clock) -> None:
    lines, ledger = open_lines(trials=2)
    clock.now = 20.0
    settle(lines, ledger, 0, 20)
    lines.started(Job(0, {}, ""))
    clock.now = 50.0
    lines.moved(0, 50, 100)
    assert lines.seconds_left() == pytest.approx(150)


def test_with_folds_the_time_left_runs_down_from_what_was_settled(clock: Clock) -> None:
    lines, ledger = open_lines(folds=5)
    clock.now = 100.0
    settle(lines, ledger, 0, 100)
    lines.started(Job(1, {}, ""))
    clock.now = 160.0
    lines.moved(1, 3, 20)
    assert lines.seconds_left() == pytest.approx(240)
    clock.now = 900.0
    assert lines.seconds_left() == 0.0


def test_a_trial_that_was_cut_off_after_a_rung_is_not_told_to_have_scored_again(clock: Clock) -> None:
    lines, ledger = open_lines()
    trial = ledger.trials[0]
    assert "will be retried" in lines.describe(trial), "cut off before its first rung"
    settle(lines, ledger, 0, 20)
    assert "will go on from its last checkpoint" in lines.describe(trial)
    trial.outcome = outcome(40)
    assert "accuracy 50.0% after" in lines.describe(trial)
    lines.settled(trial)
    trial.is_over = True
    assert "accuracy 50.0% after" in lines.describe(trial)
