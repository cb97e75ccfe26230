"""`python -m textune.search.worker`: jobs come in as JSON lines, what became of them goes out the same way.

It trains in the main thread. When its input closes, because the search ended or was killed, it leaves at once:
checkpoints are complete or absent, and no trial may be trained by two processes.
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
    """Work until the input closes."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print must not come between the lines
    jobs: queue.Queue[Job] = queue.Queue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    bench = Bench()
    import textune.training.trainer  # noqa: F401  takes seconds: better before the first job

    _say(out, {"kind": READY})
    last = 0.0

    while True:
        job = jobs.get()

        def notice(step: int, total: int, number: int = job.number) -> None:
            nonlocal last
            if time.monotonic() - last > _SECONDS_BETWEEN_NOTICES:
                last = time.monotonic()
                _say(out, {"number": number, "step": step, "total": total})

        try:
            outcome = run_job(job, bench, notice)
        except RunInterrupted as error:
            outcome = Outcome(INTERRUPTED, error.message, exit_code=error.exit_code)
        except BundleError as error:
            outcome = Outcome(STOPPED, error.message, exit_code=error.exit_code)
        _say(out, vars(outcome))
        if outcome.kind == INTERRUPTED:
            return


def _say(out: Any, content: dict[str, Any]) -> None:
    try:
        out.write(json.dumps(content) + "\n")
    except OSError:
        os._exit(1)  # nobody listens any more


def _listen(jobs: queue.Queue[Job]) -> None:
    for line in sys.stdin:
        jobs.put(Job(**json.loads(line)))
    os._exit(0)


if __name__ == "__main__":
    main()
