"""Trials on this machine: one after the other in this process, or in parallel worker processes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from textune.errors import BundleError, TextuneError, show_resume
from textune.process.interrupt import RunInterrupted, StopRequest
from textune.search.ledger import Ledger, Trial
from textune.search.trial import DIED, INTERRUPTED, STOPPED, Bench, Job, Outcome, run_job

_SECONDS_TO_STOP = 60.0
READY = "ready"


class Watch(Protocol):
    """Receives the events of a search."""

    def started(self, job: Job) -> None:
        """A trial starts or resumes."""

    def moved(self, number: int, step: int, total: int) -> None:
        """A training took steps."""

    def settled(self, trial: Trial) -> None:
        """A job's outcome is recorded."""


def run_here(ledger: Ledger, watch: Watch, bench: Bench, stop: StopRequest) -> None:
    """Train one trial after the other in this process, which shares data and tokens between them."""
    while (job := ledger.next_job()) is not None:
        watch.started(job)
        outcome = run_job(job, bench, functools.partial(watch.moved, job.number))
        watch.settled(ledger.settle(job, outcome))
        raise_if_stopped(stop)


def raise_if_stopped(stop: StopRequest) -> None:
    """Raise RunInterrupted after Ctrl-C or SIGTERM."""
    if stop.signal_number is not None:
        raise RunInterrupted("between two trials", stop.signal_number)


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    slot: int
    job: Job | None = None

    def send(self, job: Job) -> None:
        """Send a job; a dead worker is noticed by the end of its output."""
        self.job = job
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(vars(job)) + "\n")
            self.process.stdin.flush()

    def close(self) -> None:
        """Close the worker's input, which makes it exit; the listening thread closes its output."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


class _Pool:
    """Worker processes and a queue of their messages.

    A worker that dies over a trial is replaced, since the ledger tries no trial more than twice; one that dies without
    a trial is replaced once per slot.
    """

    def __init__(self, workers: int, threads: int, ledger: Ledger, watch: Watch) -> None:
        self._threads, self._ledger, self._watch = threads, ledger, watch
        self._messages: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self._replaced: set[int] = set()
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = [self._open(slot) for slot in range(workers)]

    def _open(self, slot: int) -> _Worker:
        threads = str(self._threads)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "textune.search.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            start_new_session=True,  # Ctrl-C only reaches this process, which forwards it
        )
        worker = _Worker(process, slot)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        with worker.process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # output of a library during import
                    self._messages.put((worker, json.loads(line)))
        self._messages.put((worker, None))

    def run(self, stop: StopRequest) -> None:
        """Keep all workers busy until nothing is left to train."""
        while True:
            while self._idle and stop.signal_number is None and (job := self._ledger.next_job()) is not None:
                worker = self._idle.pop()
                self._watch.started(job)
                worker.send(job)
            opening = [w for w in self._all if w.job is None and w not in self._idle]
            busy = [w for w in self._all if w.job is not None]
            if not busy and (stop.signal_number is not None or not opening):
                return
            with contextlib.suppress(queue.Empty):
                self._handle(*self._messages.get(timeout=0.2))
            if stop.signal_number is not None:
                self._interrupt(stop)

    def _handle(self, worker: _Worker, message: dict[str, Any] | None) -> None:
        if message is None:
            self._replace(worker)
        elif "step" in message:
            self._watch.moved(message["number"], message["step"], message["total"])
        elif message["kind"] == READY:
            self._idle.insert(0, worker)
        else:
            outcome = Outcome(**(message | {"warnings": tuple(message["warnings"])}))
            if outcome.kind == STOPPED:
                raise BundleError(outcome.reason)
            self._finish(worker, outcome)

    def _finish(self, worker: _Worker, outcome: Outcome) -> None:
        job, worker.job = worker.job, None
        assert job is not None
        self._watch.settled(self._ledger.settle(job, outcome))
        if outcome.kind not in (DIED, INTERRUPTED):
            self._idle.insert(0, worker)

    def _replace(self, worker: _Worker) -> None:
        code = worker.process.wait()
        worker.close()
        self._all.remove(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if had_job := worker.job is not None:
            self._finish(worker, Outcome(DIED, f"exit code {code}"))
        if had_job or worker.slot not in self._replaced:
            self._replaced |= set() if had_job else {worker.slot}
            self._all.append(self._open(worker.slot))
        elif not self._all:
            raise TextuneError(
                "every worker died twice without a trial; finished trials are kept",
                hint=f"check the available memory; continue it with: {show_resume(self._ledger.folder, search=True)}",
            )

    def _interrupt(self, stop: StopRequest) -> None:
        """Let each worker write a checkpoint and exit, and handle their messages until then."""
        for worker in self._all:
            worker.process.terminate()
        deadline = time.monotonic() + _SECONDS_TO_STOP
        while any(w.job is not None for w in self._all) and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                worker, message = self._messages.get(timeout=0.2)
                if message is None:
                    worker.close()
                    self._all.remove(worker)
                elif "step" not in message and message["kind"] != READY:
                    self._handle(worker, message)
        assert stop.signal_number is not None
        raise RunInterrupted("running trials saved checkpoints", stop.signal_number)

    def close(self) -> None:
        """Stop all workers: they exit when their input closes, or are killed after 5 seconds."""
        for worker in self._all:
            worker.close()
        for worker in self._all:
            try:
                worker.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


@contextlib.contextmanager
def _open_pool(build: Callable[[], _Pool]) -> Iterator[_Pool]:
    pool = build()
    try:
        yield pool
    finally:
        pool.close()


def run_workers(ledger: Ledger, watch: Watch, workers: int, threads: int, stop: StopRequest) -> None:
    """Train trials in parallel processes. threads: of each process."""
    with _open_pool(lambda: _Pool(workers, threads, ledger, watch)) as pool:
        pool.run(stop)
        raise_if_stopped(stop)
