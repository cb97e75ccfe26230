"""A search on a Ray cluster: Ray Tune runs the jobs that the ledger hands out and reports their outcomes to it.

Every machine of the cluster must see the search's folder and the data under the same paths.
"""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from typing import TYPE_CHECKING, Any

from textune.errors import BundleError, MissingExtraError
from textune.process.interrupt import StopRequest
from textune.search.ledger import Ledger
from textune.search.trial import DIED, STOPPED, Bench, Job, Outcome, run_job

if TYPE_CHECKING:
    from textune.search.local import Watch

_OBJECT_STORE_BYTES = 100 * 2**20  # jobs and outcomes are a few lines; by default Ray takes a third of the memory
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
_bench = Bench()
"""One per process: Ray runs many trials in each."""


def find_ray() -> None:
    """Raise MissingExtraError if Ray Tune is not installed."""
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("ray.tune") is None:
        raise MissingExtraError("executor=ray: Ray Tune is not installed", hint="pip install 'textune[ray]'")


def run_on_ray(ledger: Ledger, watch: Watch, workers: int, threads: int, stop: StopRequest) -> None:
    """Train trials on the cluster of RAY_ADDRESS, or on a new local one; workers: how many at once."""
    os.environ.update({k: v for k, v in _ENVIRONMENT.items() if k not in os.environ})
    import ray
    from ray import tune

    starts_ray = not ray.is_initialized()
    if starts_ray and "RAY_ADDRESS" in os.environ:
        try:
            ray.init(log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError) as error:
            raise BundleError(f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}: no cluster found: {error}") from error
    elif starts_ray:
        ray.init(
            num_cpus=workers * threads,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    failures: list[str] = []
    resources = {"cpu": threads} | ({"gpu": 1} if ray.cluster_resources().get("GPU") else {})
    try:
        # Tune stores a search's state as pickles; the journal replaces them, so they are deleted.
        with tempfile.TemporaryDirectory(prefix="textune-ray-") as storage:
            tune.Tuner(
                tune.with_resources(_train, resources),
                tune_config=tune.TuneConfig(
                    search_alg=_build_searcher(ledger, watch, stop, failures),
                    num_samples=-1,
                    max_concurrent_trials=workers,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    storage_path=storage,
                    name="sweep",
                    verbose=0,
                    stop=_build_stopper(stop, failures),
                    failure_config=tune.FailureConfig(max_failures=0),
                ),
            ).fit()
    finally:
        if starts_ray:
            ray.shutdown()
    if failures:
        raise BundleError(failures[0])
    if stop.signal_number is not None:
        from textune.process.interrupt import RunInterrupted

        raise RunInterrupted("on request", stop.signal_number)


def _train(config: dict[str, Any]) -> None:
    """Run a job in a process of the cluster."""
    from ray import tune

    os.chdir(config["working_folder"])
    try:
        outcome = run_job(Job(**json.loads(config["job"])), _bench, lambda step, total: None)
    except BundleError as error:
        outcome = Outcome(STOPPED, error.message)
    tune.report({"score": outcome.score, "outcome": json.dumps(vars(outcome))})


def _build_searcher(ledger: Ledger, watch: Watch, stop: StopRequest, failures: list[str]) -> Any:
    from ray.tune.search import Searcher

    class LedgerSearcher(Searcher):  # type: ignore[misc,unused-ignore]
        """Suggests the ledger's next jobs."""

        def __init__(self) -> None:
            super().__init__(metric="score", mode="max")
            self._jobs: dict[str, Job] = {}

        def suggest(self, trial_id: str) -> Any:
            """Return a job; None: wait; FINISHED: no job is left."""
            if stop.signal_number is not None or failures:
                return Searcher.FINISHED
            job = ledger.next_job()
            if job is None:
                return None if self._jobs else Searcher.FINISHED
            self._jobs[trial_id] = job
            watch.started(job)
            return {"job": json.dumps(vars(job)), "working_folder": os.getcwd()}  # noqa: PTH109

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """Record a job's outcome."""
            job = self._jobs.pop(trial_id)
            reported = (result or {}).get("outcome")
            if reported is None and stop.signal_number is not None:
                return  # a resumed search continues it from its checkpoint
            outcome = Outcome(DIED, "in the cluster") if reported is None else Outcome(**json.loads(reported))
            if outcome.kind == STOPPED:
                failures.append(outcome.reason)
                return
            watch.settled(ledger.settle(job, outcome))

        def save(self, checkpoint_path: str) -> None:
            """Do nothing: the journal stores the state."""

        def restore(self, checkpoint_path: str) -> None:
            """Do nothing: the journal stores the state."""

    return LedgerSearcher()


def _build_stopper(stop: StopRequest, failures: list[str]) -> Any:
    from ray import tune

    class StopOnRequest(tune.Stopper):  # type: ignore[misc,unused-ignore]
        """Stops all trials on Ctrl-C or SIGTERM."""

        def __call__(self, trial_id: str, result: Any) -> bool:
            """Return False: no result stops a trial."""
            return False

        def stop_all(self) -> bool:
            """Return whether the search must stop."""
            return stop.signal_number is not None or bool(failures)

    return StopOnRequest()
