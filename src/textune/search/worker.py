"""`python -m textune.search.worker`: reads jobs as JSON lines and writes their outcomes the same way.

It trains in the main thread. When its input closes, because the search ended or was killed, it exits at once:
checkpoints are complete or absent, and two processes must never train the same trial.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from typing import Any

from textune.errors import BundleError
from textune.process.interrupt import RunInterrupted
from textune.search.local import READY
from textune.search.trial import INTERRUPTED, STOPPED, Bench, Job, Outcome, run_job

_SECONDS_BETWEEN_NOTICES = 0.5


def main() -> None:
    """Run jobs until the input closes."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # output of libraries must not mix with the messages
    jobs: queue.Queue[Job] = queue.Queue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    bench = Bench()
    import textune.training.trainer  # noqa: F401  takes seconds, so before the first job

    _send(out, {"kind": READY})
    sent_at = 0.0

    while True:
        job = jobs.get()

        def notice(step: int, total: int, number: int = job.number) -> None:
            nonlocal sent_at
            if time.monotonic() - sent_at > _SECONDS_BETWEEN_NOTICES:
                sent_at = time.monotonic()
                _send(out, {"number": number, "step": step, "total": total})

        try:
            outcome = run_job(job, bench, notice)
        except RunInterrupted as error:
            outcome = Outcome(INTERRUPTED, error.message, exit_code=error.exit_code)
        except BundleError as error:
            outcome = Outcome(STOPPED, error.message, exit_code=error.exit_code)
        _send(out, vars(outcome))
        if outcome.kind == INTERRUPTED:
            return


def _send(out: Any, message: dict[str, Any]) -> None:
    try:
        out.write(json.dumps(message) + "\n")
    except OSError:
        os._exit(1)  # the search is gone


def _listen(jobs: queue.Queue[Job]) -> None:
    for line in sys.stdin:
        jobs.put(Job(**json.loads(line)))
    os._exit(0)


if __name__ == "__main__":
    main()
