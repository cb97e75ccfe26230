"""Small searches, and searches whose trainings are a formula."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import textune
from textune.config import build_config
from textune.progress import Silent
from textune.search.ledger import Ledger
from textune.search.settings import SweepSettings, build_sweep
from textune.search.sweep import Sweep
from textune.search.trial import DONE, Outcome
from tiny import settings_for

RATES = [1e-3, 5e-3, 2e-2]
GRID = {"learning_rate": RATES, "batch_size": [8, 16, 32]}


def sweep_tiny(data: Path, backbone: Path, folder: Path, space: dict[str, Any], **settings: Any) -> Sweep:
    """Sweep in this process; settings of the search are named sweep_NAME."""
    own = {k.removeprefix("sweep_"): settings.pop(k) for k in list(settings) if k.startswith("sweep_")}
    flat = settings_for(data, backbone, folder, **({"validation_fraction": 0.3} | settings))
    flat.pop("learning_rate")
    return textune.sweep(**flat, sweep={"space": space} | own, progress=Silent())


def check(backbone: Path, own: dict[str, Any], **settings: Any) -> SweepSettings:
    flat = {"data": "x.csv", "backbone": str(backbone)} | settings
    return build_sweep(flat | {"sweep": own})[1]


def play(
    folder: Path, search: SweepSettings, score: Callable[[dict[str, Any], float], float], stop_after: int | None = None,
    **also: Callable[[int], Outcome],
) -> Ledger:  # fmt: skip
    """Run a search whose trainings are a formula; stops, as a kill does, when so many jobs were given out."""
    folder.mkdir(exist_ok=True)
    ledger = Ledger(folder, build_config({"data": "x.csv"}), search)
    ledger.recover()
    given = 0
    while (job := ledger.next_job()) is not None:
        given += 1
        if given == stop_after:
            break
        point = ledger.trials[job.number].point
        steps = round(90 * job.share)
        outcome = Outcome(DONE, score=score(point, job.share), epochs=steps / 10, steps=steps, total_steps=90,
                          scores={"accuracy": 0.5, "loss": 1.0}, finished=job.share == 1)  # fmt: skip
        ledger.settle(job, also["become"](job.number) if "become" in also and job.number == 4 else outcome)
    return ledger


def by_rate(point: dict[str, Any], share: float) -> float:
    return float(share - abs(np.log10(point["learning_rate"]) + 2.3))
