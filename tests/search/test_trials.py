"""Searches that repeat nothing, lose no worker to a trial, and blame no trial for what the machine lost."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps import by_rate, check, play
from textune.config import build_config
from textune.errors import BundleError, ConfigError
from textune.process.interrupt import StopRequest
from textune.search import local
from textune.search import trial as trials
from textune.search.journal import COMPLETE, FAIL
from textune.search.ledger import Ledger
from textune.search.methods import find_longest
from textune.search.trial import FAILED, Bench, Job, Outcome, run_job
from tiny import settings_for, write_reviews

WORKER = """#!{python}
import json, os, sys
print(json.dumps({{"kind": "ready"}}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if job["settings"]["batch_size"] == 64:
        os._exit(137)
    scores = {{"accuracy": 0.5, "loss": 1.0}}
    facts = dict(kind="done", score=0.5, scores=scores, epochs=1, steps=1, total_steps=1, finished=True, warnings=[])
    print(json.dumps(facts), flush=True)
"""


def test_trials_that_kill_their_workers_cost_the_others_nothing(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch size that does not fit into memory kills two workers for each of its points."""
    program = tmp_path / "worker"
    program.write_text(WORKER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(local.sys, "executable", str(program))
    search = check(backbone, {"space": {"batch_size": [64, 8], "learning_rate": [1e-4, 1e-3, 1e-2]}, "workers": 2})
    place = tmp_path / "s"
    place.mkdir()
    ledger = Ledger(place, build_config({"data": "x.csv"}), search)
    watch = SimpleNamespace(started=lambda job: None, moved=lambda *_: None, settled=lambda trial: None)
    local.run_workers(ledger, watch, 2, 1, StopRequest())
    assert [t.state for t in ledger.trials] == [FAIL] * 3 + [COMPLETE] * 3
    assert {t.attempts for t in ledger.trials[:3]} == {2}


@pytest.mark.parametrize("values", [[1, 9], [9, 1], {"low": 1, "high": 9, "step": 4}])
def test_rungs_are_placed_by_the_longest_trial_whatever_the_order(backbone: Path, values: Any) -> None:
    search = check(backbone, {"space": {"epochs": values, "learning_rate": [1e-4, 1e-3]}, "halving": True})
    first: Any = SimpleNamespace(config=build_config({"data": "x.csv", "epochs": 1}))
    assert find_longest(build_config({"data": "x.csv"}), search, first, Bench()) == 9


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize(
    ("space", "points"),
    [
        ({"batch_size": {"low": 8, "high": 16, "step": 8}}, 2),
        ({"method.r": {"low": 4, "high": 16, "step": 4}}, 4),
        ({"method": ["head", "lora"], "method.r": [2, 4, 8]}, 4),
        ({"learning_rate": {"low": 0.001, "high": 0.009, "step": 0.002}, "batch_size": [8, 16]}, 10),
    ],
)
def test_no_point_of_a_finite_space_is_tried_twice(
    backbone: Path, tmp_path: Path, sampler: str, space: dict[str, Any], points: int
) -> None:
    search = check(backbone, {"space": space, "sampler": sampler})
    assert search.trials == points
    tried = [t.point for t in play(tmp_path / "s", search, lambda point, share: share).trials]
    assert len(tried) == points and all(point not in tried[:i] for i, point in enumerate(tried))
    with pytest.raises(ConfigError, match=f"trials={points + 1}: the (grid|space) has {points} points"):
        check(backbone, {"space": space, "sampler": sampler, "trials": points + 1})


def test_a_range_of_real_numbers_has_no_end(backbone: Path, tmp_path: Path) -> None:
    search = check(backbone, {"space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}, "trials": 30})
    rates = [t.point["learning_rate"] for t in play(tmp_path / "s", search, by_rate).trials]
    assert len(set(rates)) == 30


def test_a_table_that_is_gone_stops_the_search_and_fails_no_trial(backbone: Path, tmp_path: Path) -> None:
    table = tmp_path / "reviews.csv"
    write_reviews(table, rows=40)
    settings = settings_for(table, backbone, tmp_path / "run")
    table.unlink()
    with pytest.raises(BundleError, match=r"data=.*reviews.csv no longer exists"):
        run_job(Job(0, settings, str(tmp_path)), Bench(), lambda *_: None)
    table.write_text("text,label\n")
    assert run_job(Job(0, settings, str(tmp_path)), Bench(), lambda *_: None).kind == FAILED


def test_no_fold_is_trained_after_one_that_failed(
    backbone: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Any] = []

    def fail_second(job: Job, config: Any, bench: Bench, fold: Any, notice: Any) -> Outcome:
        trained.append(fold[0])
        return Outcome(FAILED, "no number") if fold[0] == 1 else Outcome("done", scores={"loss": 1.0})

    monkeypatch.setattr(trials, "_train_fold", fail_second)
    found = run_job(Job(0, settings_for(reviews, backbone, tmp_path), str(tmp_path), folds=5), Bench(), lambda *_: None)
    assert (found.kind, found.reason, trained) == (FAILED, "no number", [0, 1])
