"""Trials on this machine: one after the other in this process, or side by side in processes of their own."""

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

from textune.errors import BundleError, TextuneError
from textune.process.interrupt import RunInterrupted, StopRequest
from textune.search.ledger import Ledger, Trial
from textune.search.trial import DIED, INTERRUPTED, STOPPED, Bench, Job, Outcome, run_job

_SECONDS_TO_STOP = 60.0
READY = "ready"


class Watch(Protocol):
    """What is told of a search while it goes on."""

    def started(self, job: Job) -> None:
        """A trial begins, or goes on."""

    def moved(self, number: int, step: int, total: int) -> None:
        """A training took steps."""

    def settled(self, trial: Trial) -> None:
        """What became of a job is written down."""


def run_here(ledger: Ledger, watch: Watch, bench: Bench, stop: StopRequest) -> None:
    """Train one trial after the other in this process, which keeps data and tokens between them."""
    while (job := ledger.next_job()) is not None:
        watch.started(job)
        outcome = run_job(job, bench, functools.partial(watch.moved, job.number))
        watch.settled(ledger.settle(job, outcome))
        refuse_to_go_on(stop)


def refuse_to_go_on(stop: StopRequest) -> None:
    """Raise RunInterrupted where Ctrl-C or SIGTERM asked for it."""
    if stop.signal_number is not None:
        raise RunInterrupted("stopped between two trials", stop.signal_number)


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    slot: int
    job: Job | None = None

    def send(self, job: Job) -> None:
        """Hand a job over; a worker that is gone is noticed by the end of its output."""
        self.job = job
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(vars(job)) + "\n")
            self.process.stdin.flush()

    def close(self) -> None:
        """Close its input, at which a worker leaves; who listens to it closes its output."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


class _Pool:
    """Worker processes and one queue of what they say; each slot's worker is replaced once if it dies."""

    def __init__(self, workers: int, threads: int, ledger: Ledger, watch: Watch) -> None:
        self._threads, self._ledger, self._watch = threads, ledger, watch
        self._said: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self._replaced: set[int] = set()
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = [self._open(slot) for slot in range(workers)]

    def _open(self, slot: int) -> _Worker:
        threads = str(self._threads)
        process = subprocess.Popen(
            [sys.executable, "-m", "textune.search.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
        )
        worker = _Worker(process, slot)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        with worker.process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # what a library printed while it was imported
                    self._said.put((worker, json.loads(line)))
        self._said.put((worker, None))

    def run(self, stop: StopRequest) -> None:
        """Keep every worker busy until nothing is left to train."""
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
                self._hear(*self._said.get(timeout=0.2))
            if stop.signal_number is not None:
                self._interrupt(stop)

    def _hear(self, worker: _Worker, said: dict[str, Any] | None) -> None:
        if said is None:
            self._bury(worker)
        elif "step" in said:
            self._watch.moved(said["number"], said["step"], said["total"])
        elif said["kind"] == READY:
            self._idle.insert(0, worker)
        else:
            outcome = Outcome(**(said | {"warnings": tuple(said["warnings"])}))
            if outcome.kind == STOPPED:
                raise BundleError(outcome.reason)
            self._finish(worker, outcome)

    def _finish(self, worker: _Worker, outcome: Outcome) -> None:
        job, worker.job = worker.job, None
        assert job is not None
        self._watch.settled(self._ledger.settle(job, outcome))
        if outcome.kind not in (DIED, INTERRUPTED):
            self._idle.insert(0, worker)

    def _bury(self, worker: _Worker) -> None:
        code = worker.process.wait()
        worker.close()
        self._all.remove(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.job is not None:
            self._finish(worker, Outcome(DIED, f"exit code {code}"))
        if worker.slot not in self._replaced:
            self._replaced.add(worker.slot)
            self._all.append(self._open(worker.slot))
        elif not self._all:
            raise TextuneError(
                "every worker died twice; trials so far are kept",
                hint=f"look at the memory there is; go on with: textune resume {self._ledger.folder}",
            )

    def _interrupt(self, stop: StopRequest) -> None:
        """Let each worker write a checkpoint and end, and hears what they say until then."""
        for worker in self._all:
            worker.process.terminate()
        until = time.monotonic() + _SECONDS_TO_STOP
        while any(w.job is not None for w in self._all) and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                worker, said = self._said.get(timeout=0.2)
                if said is None:
                    worker.close()
                    self._all.remove(worker)
                elif "step" not in said and said["kind"] != READY:
                    self._hear(worker, said)
        assert stop.signal_number is not None
        raise RunInterrupted("stopped; the trials in training have written checkpoints", stop.signal_number)

    def close(self) -> None:
        """End every worker: they leave when their input closes, and are killed where they do not."""
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
    """Train trials in so many processes at once, each with so many threads."""
    with _open_pool(lambda: _Pool(workers, threads, ledger, watch)) as pool:
        pool.run(stop)
        refuse_to_go_on(stop)
