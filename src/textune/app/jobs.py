"""Trainings that the app started: each is `textune train` in a process of its own, known by a small file on the disk.

So a training outlives the page and the app, every page shows the same, and only Stop ends it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from textune.app.options import PASSWORD
from textune.app.private import find_link, jobs_folder, make_private, open_plainly, refuse_link
from textune.app.processes import find_start, send_signal, start_process
from textune.bundle import has_begun, is_finished, run_path
from textune.errors import BundleError, TextuneError, show_command
from textune.files import hold_place, read_json, write_text_atomically

_JOB, _LOG = "job.json", "log.txt"
_TAIL_BYTES = 65_536
TRAINING, STOPPING, FINISHED, STOPPED, FAILED = "training", "stopping", "finished", "stopped", "failed"
LIVE = (TRAINING, STOPPING)


@dataclass(frozen=True)
class Job:
    """A training. words: of its first command, after `textune`. pid, start: of the process that last worked on it.

    started_at: seconds since 1970. stops: how often Stop was asked for since then. upload: an uploaded file that it
    reads. logged: where in the log, in bytes, what that process printed begins.
    """

    name: str
    runs_dir: str
    words: tuple[str, ...]
    pid: int | None = None
    start: str = ""
    started_at: float = 0.0
    stops: int = 0
    upload: str | None = None
    logged: int = 0

    @property
    def run(self) -> Path:
        """The run's folder."""
        return run_path(self.runs_dir, self.name)

    @property
    def folder(self) -> Path:
        """Where the app keeps the log and what it knows of the process."""
        return jobs_folder(self.runs_dir) / self.name

    @property
    def log(self) -> Path:
        """What the commands printed."""
        return self.folder / _LOG

    @property
    def command(self) -> str:
        """The command that started it, ready to be pasted."""
        return show_command(*self.words)


@dataclass(frozen=True)
class State:
    """How a training stands. kind: one of the five above. message: why it failed, or what to do."""

    kind: str
    message: str = ""
    resumable: bool = False

    @property
    def live(self) -> bool:
        """Whether a process is at work."""
        return self.kind in LIVE


def start_job(name: str, runs_dir: str | Path, words: Sequence[str], upload: Path | None = None) -> Job:
    """Start `textune WORDS`, which trains the run of this name; raise BundleError if one of this name is at work."""
    run_path(str(runs_dir), name)
    job = Job(name, str(runs_dir), tuple(words), upload=None if upload is None else str(upload))
    make_private(runs_dir)
    with hold_place(job.folder):
        refuse_live(name, runs_dir)
        make_private(runs_dir, name)
        open_plainly(job.log, "wb").close()
        return _launch(job, words)


def resume_job(job: Job) -> Job:
    """Continue a stopped training; raise BundleError if it is at work or cannot go on."""
    refuse_link(job.runs_dir, job.name)
    with hold_place(job.folder):
        refuse_live(job.name, job.runs_dir)
        if not find_state(job).resumable:
            raise BundleError(f"{job.run}: has no checkpoint to go on from", hint="start it again")
        return _launch(job, ["resume", str(job.run)])


def _launch(job: Job, words: Sequence[str]) -> Job:
    environment = {name: value for name, value in os.environ.items() if name != PASSWORD}
    command = [sys.executable, "-P", "-m", "textune", *words]
    logged = job.log.stat().st_size if job.log.is_file() else 0
    begun = replace(job, pid=None, start="", started_at=time.time(), stops=0, logged=logged)
    _write(begun)  # before there is a process to lose
    pid = start_process(command, job.log, environment)
    started = replace(begun, pid=pid, start=find_start(pid) or "", started_at=time.time())
    _write(started)
    return started


def _write(job: Job) -> None:
    write_text_atomically(job.folder / _JOB, json.dumps(asdict(job), indent=1) + "\n", shared=True)


def read_job(name: str, runs_dir: str | Path) -> Job | None:
    """Return what is known of the training of this name, or None; a damaged note and one behind a link are none."""
    if find_link(runs_dir, name, _JOB) is not None:
        return None
    try:
        content = read_json(jobs_folder(runs_dir) / name / _JOB, "the app's note of a training")
    except TextuneError:
        return None
    if not _is_whole(content):
        return None
    fields: dict[str, Any] = {key: content[key] for key in Job.__dataclass_fields__ if key in content}
    return Job(**fields | {"name": name, "runs_dir": str(runs_dir), "words": tuple(content["words"])})


def _is_whole(content: dict[str, Any]) -> bool:
    """Return whether every field of a note has its type: one damaged note must not stop the pages that list all."""
    words = content.get("words")
    pid, upload = content.get("pid"), content.get("upload")
    started_at, stops, logged = content.get("started_at", 0.0), content.get("stops", 0), content.get("logged", 0)
    return (
        isinstance(words, list)
        and all(isinstance(word, str) for word in words)
        and (pid is None or (type(pid) is int and pid > 0))
        and isinstance(content.get("start", ""), str)
        and type(started_at) in (int, float)
        and math.isfinite(started_at)
        and type(stops) is int
        and type(logged) is int
        and logged >= 0
        and (upload is None or isinstance(upload, str))
    )


def list_jobs(runs_dir: str | Path) -> list[Job]:
    """Return the trainings that the app started for these runs, the latest first."""
    folder = jobs_folder(runs_dir)
    if find_link(runs_dir) is not None or not folder.is_dir():
        return []
    found = [read_job(path.name, runs_dir) for path in folder.iterdir() if (path / _JOB).is_file()]
    return sorted((job for job in found if job is not None), key=lambda job: (-job.started_at, job.name))


def find_state(job: Job) -> State:
    """Return how a training stands, from its process, its folder and its log."""
    if job.pid is not None and job.start and find_start(job.pid) == job.start:
        return State(STOPPING if job.stops else TRAINING)
    if is_finished(job.run):
        return State(FINISHED)
    resumable = has_begun(job.run) and (job.run / "checkpoints").is_dir()
    kind, message = read_end(job.log, job.logged)
    if kind == STOPPED or (kind == "" and job.stops):
        return State(STOPPED, "" if resumable else "It was stopped before the first step: nothing was kept.", resumable)
    if kind == FAILED:
        return State(FAILED, message, resumable)
    lost = "The process ended without a word: it was killed, or the machine was restarted or out of memory."
    return State(FAILED, lost, resumable)


def stop_job(job: Job) -> Job:
    """Ask a training to stop: it finishes its step and writes a checkpoint; asked again, it stops at once.

    job: as the visitor saw it. If it is not so any more, nothing is sent: a second visitor who asks for a stop means
    the first kind. Raises BundleError if its place stays taken, or is a symbolic link.
    """
    refuse_link(job.runs_dir, job.name)
    with hold_place(job.folder):
        known = read_job(job.name, job.runs_dir)
        if known is None or (known.pid, known.start, known.stops) != (job.pid, job.start, job.stops):
            return job
        if job.pid is None or not send_signal(job.pid, job.start):
            return job
        stopped = replace(known, stops=known.stops + 1)
        _write(stopped)
        return stopped


def refuse_live(name: str, runs_dir: str | Path) -> None:
    """Raise BundleError if a training of this name is at work."""
    job = read_job(name, runs_dir)
    if job is not None and find_state(job).live:
        raise BundleError(f"{job.run}: is being trained", hint="stop it, or wait until it has finished")


def forget_job(name: str, runs_dir: str | Path) -> None:
    """Remove what the app knows of a training that has ended; its run stays, and so does what others put there."""
    refuse_link(runs_dir, name)
    refuse_live(name, runs_dir)
    folder = jobs_folder(runs_dir) / name
    if not (folder / _JOB).is_file():
        return
    for file in (_JOB, _LOG):  # the note first: without it there is no training, whatever else is left
        (folder / file).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def read_tail(path: Path, begin: int = 0) -> str:
    """Return the end of a log; nothing where there is none, or a symbolic link in its place.

    begin: the place in the log, in bytes, before which nothing is read.
    """
    try:
        with open_plainly(path, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(stream.tell() - _TAIL_BYTES, begin, 0))
            return stream.read().decode("utf-8", "replace")
    except (OSError, BundleError):
        return ""


def read_end(log: Path, begin: int = 0) -> tuple[str, str]:
    """Return how the last command in a log ended, if it says so: stopped or failed, and its message.

    begin: where in the log that command's lines begin.
    """
    tail = read_tail(log, begin)
    starts = [found.start() for found in re.finditer(r"^(?:error: |stopped(?:: |$))", tail, re.MULTILINE)]
    if not starts:
        return "", ""
    kind, _, message = tail[starts[-1] :].strip().partition(": ")
    return (FAILED, message) if kind == "error" else (STOPPED, message)


_STEPS = re.compile(r"^training: ([\d,]*\d)/([\d,]*\d)(?:, (.+? left))?", re.MULTILINE)


@dataclass(frozen=True)
class Progress:
    """How far a training is. stage: the last line that it printed. share: of its steps, or None before the first."""

    stage: str
    share: float | None = None
    left: str = ""


def read_progress(job: Job, step: int, epoch: float) -> Progress:
    """Return how far a training is. step, epoch: the last that its metrics tell of."""
    tail = read_tail(job.log, job.logged)
    lines = [line for line in tail.splitlines() if line.strip()]
    stage = lines[-1].strip() if lines else "starting"
    steps = _STEPS.findall(tail)
    total = int(steps[-1][1].replace(",", "")) if steps else _count_steps(job.run, step, epoch)
    share = min(step / total, 1.0) if total and step else None
    return Progress(stage, share, steps[-1][2] if steps else "")


def _count_steps(run: Path, step: int, epoch: float) -> int:
    """Return the steps of the whole training, from those so far and the epochs of the plan; 0 if not known."""
    try:
        epochs = float(read_json(run / "plan.json", "the run's plan")["settings"]["epochs"])
        return round(step / epoch * epochs) if epoch else 0
    except (TextuneError, KeyError, TypeError, ValueError, OverflowError):
        return 0
