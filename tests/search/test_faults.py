"""Killed, stopped, a worker lost, another executor: a search loses nothing, doubles nothing, and finds the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import textune
from textune.progress import Silent
from textune.search import local
from tiny import call_textune, hash_weights, settings_for, start_textune

SPACE: dict[str, Any] = {"learning_rate": [1e-3, 5e-3, 2e-2], "batch_size": [8, 16]}


def write_yaml(path: Path, data: Path, backbone: Path, folder: Path, **own: Any) -> Path:
    flat = settings_for(data, backbone, folder, epochs=3, validation_fraction=0.3)
    del flat["learning_rate"]
    path.write_text(yaml.safe_dump(flat | {"sweep": {"space": SPACE} | own}, sort_keys=False))
    return path


def told_of(folder: Path) -> dict[str, Any]:
    """Return what must not depend on what happened on the way: no seconds, no attempts."""
    content = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    trials = [{k: v for k, v in t.items() if k not in ("seconds", "attempts")} for t in content["trials"]]
    winner = {k: v for k, v in content["winner"].items() if k != "test_reads"}
    return {"trials": trials, "winner": winner, "weights": hash_weights(folder / "winner")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, backbone: Path, reviews: Path) -> dict[str, Any]:
    """The search that nothing happened to, with halving."""
    place = tmp_path_factory.mktemp("whole")
    file = write_yaml(place / "s.yaml", reviews, backbone, place / "runs" / "s", halving={"reduction": 2})
    call_textune("sweep", str(file), cwd=place)
    return told_of(place / "runs" / "s")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("textune.training.trainer:save_checkpoint", 4), ("textune.training.trainer:remove_all_but", 3)),
        (("optuna.storages.journal:JournalFileBackend.append_logs", 30), ("textune.search.ledger:Ledger._close", 2)),
        (("textune.search.sweep:_finish", 1), ("textune.run.evaluate:write_evaluation", 1)),
    ],
    ids=["while it trains", "while it writes the journal", "while it finishes the winner"],
)
def test_a_search_killed_twice_goes_on_as_if_nothing_had_been(
    work: Path, backbone: Path, reviews: Path, whole: dict[str, Any], first: tuple[str, int], second: tuple[str, int]
) -> None:
    folder = work / "runs" / "s"
    file = write_yaml(work / "s.yaml", reviews, backbone, folder, halving={"reduction": 2})
    for words, die_in in ((("sweep", str(file)), first), (("resume", "runs/s"), second)):
        assert start_textune(*words, cwd=work, die_in=die_in).wait() == -signal.SIGKILL
        assert not (folder / "sweep.json").exists()
    call_textune("resume", "runs/s", cwd=work)
    assert told_of(folder) == whole


def test_sigterm_leaves_a_checkpoint_and_the_command_to_go_on(work: Path, backbone: Path, reviews: Path) -> None:
    folder = work / "runs" / "s"
    file = write_yaml(work / "s.yaml", reviews, backbone, folder)
    command = start_textune("sweep", str(file), "epochs=60", cwd=work)
    wait_for(lambda: any(folder.glob("trials/0001/metrics.jsonl")))
    command.signal(signal.SIGTERM)
    assert command.wait() == 143
    assert f"continue it with: textune resume {folder}" in command.stderr
    assert "of 6 trials are finished" in command.stderr
    refused = call_textune("sweep", str(file), cwd=work, code=5)
    assert f"textune resume {folder}" in refused.stderr
    changed = yaml.safe_load((folder / "sweep.yaml").read_text())
    assert changed["sweep"]["trials"] == 6


def wait_for(condition: Any, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to pass"
        time.sleep(0.02)


def test_two_searches_cannot_hold_one_folder(work: Path, backbone: Path, reviews: Path) -> None:
    file = write_yaml(work / "s.yaml", reviews, backbone, work / "runs" / "s")
    command = start_textune("sweep", str(file), "epochs=1000", cwd=work)
    try:
        wait_for(lambda: any((work / "runs" / "s").glob("trials/0000/metrics.jsonl")))
        refused = call_textune("resume", "runs/s", cwd=work, code=5)
        assert "another process is working" in refused.stderr
    finally:
        command.signal(signal.SIGKILL)
        command.wait()


@pytest.mark.slow
def test_a_dead_worker_is_replaced_and_its_trial_tried_again(
    work: Path, backbone: Path, reviews: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []
    opened = local._Pool._open

    def note(pool: Any, slot: int) -> Any:
        worker = opened(pool, slot)
        pids.append(worker.process.pid)
        return worker

    monkeypatch.setattr(local._Pool, "_open", note)
    folder = work / "runs" / "s"
    flat = settings_for(reviews, backbone, folder, epochs=3, validation_fraction=0.3)
    del flat["learning_rate"]

    def kill_one() -> None:
        wait_for(lambda: (folder / "trials" / "0000" / "plan.json").is_file())
        os.kill(pids[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    own = {"space": SPACE, "halving": {"reduction": 2}, "workers": 2}
    done = textune.sweep(**flat, sweep=own, progress=Silent())
    killer.join()
    assert len(pids) == 3
    assert told_of(folder) == whole
    assert sum(t["attempts"] for t in done.content["trials"]) in (6, 7)  # 6 where it died between two trials


@pytest.mark.slow
def test_ray_gives_the_same_trials(
    work: Path, backbone: Path, reviews: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # on a busy machine Ray would kill workers for others' memory, or give up on those that are slow to start
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")
    monkeypatch.setenv("RAY_worker_register_timeout_seconds", "300")
    folder = work / "runs" / "s"
    flat = settings_for(reviews, backbone, folder, epochs=3, validation_fraction=0.3)
    del flat["learning_rate"]
    own = {"space": SPACE, "halving": {"reduction": 2}, "workers": 2, "executor": "ray"}
    textune.sweep(**flat, sweep=own, progress=Silent())
    assert told_of(folder) == whole
    assert not list(work.rglob("*.pkl"))


def test_workers_import_nothing_from_the_current_folder(
    work: Path, backbone: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A received folder may hold a file with the name of a module: no command runs it, and no worker does."""
    started: list[list[str]] = []
    opened = subprocess.Popen

    def note(command: list[str], **settings: Any) -> Any:
        started.append(command)
        return opened(command, **settings)

    (work / "statistics.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    monkeypatch.setattr(local.subprocess, "Popen", note)
    flat = settings_for(reviews, backbone, work / "runs" / "s", epochs=1, validation_fraction=0.3)
    del flat["learning_rate"]
    done = textune.sweep(**flat, sweep={"space": {"learning_rate": [1e-3]}, "workers": 2}, progress=Silent())
    assert len(done.content["trials"]) == 1 and all("-P" in command for command in started) and started
