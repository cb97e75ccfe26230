"""A training outlives whoever started it, is found again by anyone, and is ended by Stop alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from textune.app import jobs
from textune.app.jobs import FAILED, FINISHED, STOPPED, STOPPING, TRAINING, Job, find_state, list_jobs, read_job
from textune.app.private import FOLDER
from textune.app.uploads import store_upload
from textune.bundle.folder import PLAN, SETTINGS
from textune.errors import BundleError, ConfigError
from textune.run import Run
from tiny import as_words, settings_for, write_reviews

SLEEP = (
    "import signal, time; signal.signal(signal.SIGINT, lambda *_: exit(0)); print('ready', flush=True); time.sleep(60)"
)


@pytest.fixture
def sleeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a job be a process that only waits."""
    start = jobs.start_process
    monkeypatch.setattr(jobs, "start_process", lambda words, log, env: start([sys.executable, "-c", SLEEP], log, env))


def wait_for(what: Callable[[], bool], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def end(job: Job) -> None:
    if job.pid is not None:
        jobs.send_signal(job.pid, job.start, signal.SIGKILL)
        wait_for(lambda: not find_state(job).live)


def test_it_is_found_again_by_another_process_and_no_second_starts(sleeping: None, work: Path) -> None:
    job = jobs.start_job("it", "runs", ["train", "x.csv"])
    try:
        assert find_state(job).kind == TRAINING and list_jobs("runs") == [job]
        code = (
            "from textune.app.jobs import *; job = list_jobs('runs')[0]; print(job.name, job.pid, find_state(job).kind)"
        )
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.split() == ["it", str(job.pid), TRAINING]
        with pytest.raises(BundleError, match="is being trained"):
            jobs.start_job("it", "runs", ["train", "x.csv"])
        with pytest.raises(BundleError, match="is being trained"):
            jobs.forget_job("it", "runs")
        wait_for(lambda: "ready" in jobs.read_tail(job.log))
        stopping = jobs.stop_job(job)
        assert stopping.stops == 1 and read_job("it", "runs") == stopping
        wait_for(lambda: find_state(stopping).kind == STOPPED)
        assert "nothing was kept" in find_state(stopping).message
        jobs.forget_job("it", "runs")
        assert list_jobs("runs") == []
    finally:
        end(job)


def test_a_number_given_to_another_process_is_no_training_and_gets_no_signal(sleeping: None, work: Path) -> None:
    job = jobs.start_job("it", "runs", ["train", "x.csv"])
    try:
        other = replace(job, start="another boot 1")
        assert not find_state(other).live and jobs.stop_job(other) == other
        assert find_state(job).kind == TRAINING
        assert find_state(replace(job, stops=1)).kind == STOPPING
    finally:
        end(job)
    assert find_state(job).kind == FAILED and "killed" in find_state(job).message


COUNT = (
    "import signal, time; signal.signal(signal.SIGINT, lambda *_: print('asked to stop', flush=True)); "
    "print('ready', flush=True); exec('while True: time.sleep(60)')"
)


def test_two_visitors_who_stop_one_training_stop_it_once(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = jobs.start_process
    monkeypatch.setattr(jobs, "start_process", lambda words, log, env: start([sys.executable, "-c", COUNT], log, env))
    job = jobs.start_job("it", "runs", ["train", "x.csv"])
    try:
        wait_for(lambda: "ready" in jobs.read_tail(job.log))
        stopping = jobs.stop_job(job)
        wait_for(lambda: "asked" in jobs.read_tail(job.log))
        assert jobs.stop_job(job) == job, "on a page that was drawn before the first stop"
        assert read_job("it", "runs") == stopping and stopping.stops == 1
        assert jobs.stop_job(replace(stopping, start="another boot 1")).stops == 1
        time.sleep(0.3)
        assert jobs.read_tail(job.log).count("asked") == 1
        assert jobs.stop_job(stopping).stops == 2, "a visitor who sees 'Stop at once' can use it"
        wait_for(lambda: jobs.read_tail(job.log).count("asked") == 2)
    finally:
        end(job)


def test_password_stays_out_of_the_training(sleeping: None, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTUNE_APP_PASSWORD", "sesame")
    job = jobs.start_job("it", "runs", ["train", "x.csv"])
    try:
        environment = Path(f"/proc/{job.pid}/environ")
        if environment.exists():
            wait_for(lambda: "ready" in jobs.read_tail(job.log))
            assert b"sesame" not in environment.read_bytes()
        assert "sesame" not in (job.folder / "job.json").read_text()
        assert job.folder.parent.stat().st_mode & 0o777 == 0o700, "logs quote texts"
    finally:
        end(job)


@pytest.mark.parametrize(
    ("log", "kind", "message"),
    [
        ("rows: 3\nerror: x.csv: no such file\n  check the path\n", FAILED, "x.csv: no such file\n  check the path"),
        (
            "step 3/9\nstopped: at step 3 of 9; checkpoint saved\n  resume it\n",
            STOPPED,
            "at step 3 of 9; checkpoint saved\n  resume it",
        ),
        ("stopped\n", STOPPED, ""),
        ("error: old\nloading\n", FAILED, "old\nloading"),
        ("training: 3/9\n", "", ""),
        ("", "", ""),
    ],
)
def test_the_log_says_how_it_ended(log: str, kind: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(log)
    assert jobs.read_end(tmp_path / "log") == (kind, message)


def test_what_an_earlier_command_said_is_not_the_end_of_the_last(sleeping: None, work: Path) -> None:
    job = jobs.start_job("it", "runs", ["train", "x.csv"])
    try:
        end(job)
        job.log.write_text("training: 3/9, 5 s left\nerror: the disk is full\n")
        assert find_state(job).message == "the disk is full"
        (job.run / "checkpoints").mkdir(parents=True)
        for name in (PLAN, SETTINGS):
            (job.run / name).write_text("{}")
        job = jobs.resume_job(job)
        assert job.logged == len(job.log.read_bytes().partition(b"ready")[0])
        assert jobs.read_progress(job, 3, 1.0).left == "", "that of the command before"
        assert read_job("it", "runs") == job
    finally:
        end(job)
    assert find_state(job).kind == FAILED and "killed" in find_state(job).message


DAMAGED: tuple[dict[str, Any], ...] = (
    {"words": 3},
    {"words": "train"},
    {"words": ["train", 3]},
    {"started_at": "x"},
    {"started_at": float("nan")},
    {"started_at": None},
    {"stops": "x"},
    {"pid": "12", "start": "boot 1"},
    {"pid": -5, "start": "boot 1"},
    {"pid": True, "start": "boot 1"},
    {"pid": 12, "start": 5},
    {"upload": 3},
)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', *(json.dumps({"words": []} | d) for d in DAMAGED)])
def test_a_damaged_note_is_no_training_and_hides_no_other(content: str, work: Path) -> None:
    for name, note in (("it", content), ("whole", '{"words": ["train"], "started_at": 3}')):
        folder = work / "runs" / FOLDER / name
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(note)
    assert [job.name for job in list_jobs("runs")] == ["whole"]


def test_a_training_named_uploads_shares_nothing_with_uploaded_tables(sleeping: None, work: Path) -> None:
    path = store_upload("mine.csv", b"text,label\na,b\n", "runs")
    earlier = work / "runs" / FOLDER / "uploads" / "0123456789abcdef" / "mine.csv"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("text,label\na,b\n")
    job = jobs.start_job("uploads", "runs", ["train", "x.csv"])
    end(job)
    assert job.folder not in path.parents
    jobs.forget_job("uploads", "runs")
    assert list_jobs("runs") == [] and path.exists() and earlier.exists()


LINKED = {"the app's folder": "", "the training's folder": "it", "the log": "it/log.txt", "the note": "it/job.json"}


@pytest.mark.parametrize("which", LINKED)
def test_no_link_in_the_apps_folder_is_followed(which: str, sleeping: None, work: Path) -> None:
    other = work / "other"
    (other / "it").mkdir(parents=True)
    other.chmod(0o755)
    for path in (other / "secret", other / "log.txt", other / "it" / "log.txt"):
        path.write_text("keep me")
    note = json.dumps({"words": ["train", "x.csv"]})
    for path in (other / "note", other / "job.json", other / "it" / "job.json"):
        path.write_text(note)
    link = work / "runs" / FOLDER / LINKED[which]
    link.parent.mkdir(parents=True)
    link.symlink_to({"the log": other / "secret", "the note": other / "note"}.get(which, other))
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}

    assert list_jobs("runs") == []
    if which == "the log":
        assert jobs.read_tail(link) == ""
    if which == "the note":  # it is replaced by a file, and what it led to stays
        end(jobs.start_job("it", "runs", ["train", "x.csv"]))
    else:
        with pytest.raises(BundleError, match="is a symbolic link, and the app follows none"):
            jobs.start_job("it", "runs", ["train", "x.csv"])
    if which in ("the app's folder", "the training's folder"):
        for act in (jobs.stop_job, jobs.resume_job, lambda job: jobs.forget_job(job.name, job.runs_dir)):
            with pytest.raises(BundleError, match="symbolic link"):
                act(Job("it", "runs", ("train",)))
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before
    assert other.stat().st_mode & 0o777 == 0o755


def test_a_note_names_no_other_folder(work: Path) -> None:
    folder = work / "runs" / FOLDER / "it"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"name": "../../x", "runs_dir": "/elsewhere", "words": ["train"]}))
    assert [(job.name, job.runs_dir) for job in list_jobs("runs")] == [("it", "runs")]
    with pytest.raises(ConfigError):
        jobs.start_job("../x", "runs", ["train"])


def test_a_finished_run_is_finished_whatever_its_log_says(finished: Run, work: Path) -> None:
    job = Job(finished.folder.name, str(finished.folder.parent), ("train",), stops=1)
    assert find_state(job).kind == FINISHED


@pytest.mark.parametrize(
    ("log", "step", "epoch", "share", "left"),
    [
        ("training: 5/20, 3 s left  loss 0.3\n", 8, 1.0, 0.4, "3 s left"),
        ("training: 1,000/2,000\n", 1_500, 1.0, 0.75, ""),
        ("loading\n", 0, 0.0, None, ""),
        ("training: 20/20  loss 0.3\nmeasuring\n", 20, 2.0, 1.0, ""),
    ],
)
def test_progress_comes_from_log_and_metrics(
    log: str, step: int, epoch: float, share: float | None, left: str, work: Path
) -> None:
    job = Job("it", "runs", ("train",))
    job.folder.mkdir(parents=True)
    job.log.write_text(log)
    progress = jobs.read_progress(job, step, epoch)
    assert (progress.share, progress.left) == (share, left)
    assert progress.stage == log.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_real_training_is_stopped_resumed_and_finished(backbone: Path, work: Path) -> None:
    """The process that started it is killed in the middle; another one stops it, a third resumes it."""
    data = write_reviews(work / "reviews.csv", rows=80)
    settings = settings_for(data, backbone, Path("runs/it")) | {"epochs": 20, "eval_every_steps": 5}
    words = ["train", *as_words(settings)]
    code = (
        "import os, signal, sys\nfrom textune.app.jobs import start_job\n"
        f"start_job('it', 'runs', {words!r})\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, env=os.environ, timeout=60)
    (job,) = list_jobs("runs")
    metrics = job.run / "metrics.jsonl"
    try:
        wait_for(lambda: (metrics.is_file() and metrics.read_bytes().count(b"\n") > 8) or not find_state(job).live)
        assert find_state(job).kind == TRAINING, jobs.read_tail(job.log)
        stopping = jobs.stop_job(job)
        wait_for(lambda: not find_state(stopping).live)
        state = find_state(stopping)
        assert state.kind == STOPPED and state.resumable, jobs.read_tail(job.log)
        assert (job.run / "checkpoints").is_dir()
        steps = metrics.read_bytes().count(b'"step", ')
        job = jobs.resume_job(stopping)
        assert job.stops == 0 and find_state(job).live
        wait_for(lambda: not find_state(job).live, 240)
        assert find_state(job).kind == FINISHED, jobs.read_tail(job.log)
        assert metrics.read_bytes().count(b'"step", ') > steps
        with pytest.raises(BundleError, match="no checkpoint"):
            jobs.resume_job(job)
    finally:
        end(job)
