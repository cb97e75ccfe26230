"""The same search on a Ray cluster: Ray Tune runs the trials that the ledger asks for, and the ledger hears of each.

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
"""Of this process: Ray uses one for many trials."""


def find_ray() -> None:
    """Raise MissingExtraError where Ray Tune is not installed."""
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("ray.tune") is None:
        raise MissingExtraError("executor=ray: Ray Tune is not installed", hint="pip install 'textune[ray]'")


def run_on_ray(ledger: Ledger, watch: Watch, workers: int, threads: int, stop: StopRequest) -> None:
    """Train trials on the cluster of RAY_ADDRESS, or one that is started here, so many at once."""
    os.environ.update({k: v for k, v in _ENVIRONMENT.items() if k not in os.environ})
    import ray
    from ray import tune

    own = not ray.is_initialized()
    if own and "RAY_ADDRESS" in os.environ:
        try:
            ray.init(log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError) as error:
            raise BundleError(f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}: no cluster answers there: {error}") from error
    elif own:
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
        # Tune keeps its own account of a search as pickles; ours is the journal, so its own is thrown away.
        with tempfile.TemporaryDirectory(prefix="textune-ray-") as place:
            tune.Tuner(
                tune.with_resources(_train, resources),
                tune_config=tune.TuneConfig(
                    search_alg=_build_searcher(ledger, watch, stop, failures),
                    num_samples=-1,
                    max_concurrent_trials=workers,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    storage_path=place,
                    name="sweep",
                    verbose=0,
                    stop=_build_stopper(stop, failures),
                    failure_config=tune.FailureConfig(max_failures=0),
                ),
            ).fit()
    finally:
        if own:
            ray.shutdown()
    if failures:
        raise BundleError(failures[0])
    if stop.signal_number is not None:
        from textune.process.interrupt import RunInterrupted

        raise RunInterrupted("stopped", stop.signal_number)


def _train(config: dict[str, Any]) -> None:
    """Run in a process of the cluster."""
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
        """Suggests the ledger's jobs."""

        def __init__(self) -> None:
            super().__init__(metric="score", mode="max")
            self._jobs: dict[str, Job] = {}

        def suggest(self, trial_id: str) -> Any:
            """Return a job; None: wait; FINISHED: there is none left."""
            if stop.signal_number is not None or failures:
                return Searcher.FINISHED
            job = ledger.next_job()
            if job is None:
                return None if self._jobs else Searcher.FINISHED
            self._jobs[trial_id] = job
            watch.started(job)
            return {"job": json.dumps(vars(job)), "working_folder": os.getcwd()}  # noqa: PTH109

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """Write down what became of a job."""
            job = self._jobs.pop(trial_id)
            told = (result or {}).get("outcome")
            if told is None and stop.signal_number is not None:
                return  # it goes on from its checkpoint when the search is resumed
            outcome = Outcome(DIED, "in the cluster") if told is None else Outcome(**json.loads(told))
            if outcome.kind == STOPPED:
                failures.append(outcome.reason)
                return
            watch.settled(ledger.settle(job, outcome))

        def save(self, checkpoint_path: str) -> None:
            """Keep nothing: the journal has it all."""

        def restore(self, checkpoint_path: str) -> None:
            """Take nothing up."""

    return LedgerSearcher()


def _build_stopper(stop: StopRequest, failures: list[str]) -> Any:
    from ray import tune

    class StopOnRequest(tune.Stopper):  # type: ignore[misc,unused-ignore]
        """Ends all trials when Ctrl-C or SIGTERM asks for it."""

        def __call__(self, trial_id: str, result: Any) -> bool:
            """No result ends a trial."""
            return False

        def stop_all(self) -> bool:
            """Return whether the search is to stop."""
            return stop.signal_number is not None or bool(failures)

    return StopOnRequest()
