"""How long the linear probe takes to solve, beside scikit-learn: all 10,003 rows of Banking77 with 77 classes.

    python benchmarks/probe_speed.py --data FOLDER --output results/probe_speed.jsonl [--repetitions 3]

The frozen features are computed first and timed apart. Then textune's probe, which chooses its C by 3-fold
cross-validation, and scikit-learn's LogisticRegressionCV over three C are solved on them, in turns. The probe may take
30 seconds beyond the features. Accuracy is that on the rows that the features are of: it shows that both were solved.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accuracy_frontier import read_rows
from frontier_rivals import embed
from sides import Results, describe_setting, hold_to
from textune.tasks import build_task
from textune.training.probe import solve_probe

FIGURE, BOUND = "seconds to solve the probe", 30.0


def main(words: Sequence[str] | None = None) -> int:
    """Measure and record; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(words)
    hold_to(given.threads)
    rows, _ = read_rows("banking77", given.data)
    names = sorted(set(rows["label"]))
    targets = np.array([names.index(label) for label in rows["label"]])
    features, features_seconds = take_time(lambda: embed(rows["text"].to_list(), 512))
    sides: dict[str, Callable[[], float]] = {
        "textune": lambda: solve(features, targets, len(names)),
        "scikit-learn": lambda: solve_by_sklearn(features, targets),
    }
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for _ in range(given.repetitions):
        for side, solve_one in sides.items():
            found[side].append(take_time(solve_one))
    medians = {side: statistics.median(seconds for _, seconds in runs) for side, runs in found.items()}
    Results(given.output, {}).add(
        {"figure": FIGURE, "value": round(medians["textune"], 1), "bound": BOUND, "met": medians["textune"] <= BOUND,
         "sklearn_seconds": round(medians["scikit-learn"], 1), "features_seconds": round(features_seconds, 1),
         "accuracy": {side: round(runs[-1][0], 4) for side, runs in found.items()},
         "rows": len(rows), "classes": len(names), "width": features.shape[1], "repetitions": given.repetitions,
         "command": f"python benchmarks/probe_speed.py --data FOLDER --repetitions {given.repetitions}"}
        | describe_setting(given.threads)
    )  # fmt: skip
    return 0


def take_time(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call gives, and its seconds."""
    started = time.monotonic()
    return call(), time.monotonic() - started


def solve(features: Any, targets: Any, classes: int) -> float:
    """Return the accuracy of textune's probe on the rows that it was solved on."""
    probe = solve_probe(features, targets, classes, build_task("single_label").probe_loss(None, 0.0), seed=1)
    return float(((features @ probe.weight.T + probe.bias).argmax(1) == targets).mean())


def solve_by_sklearn(features: Any, targets: Any) -> float:
    """Return the accuracy of the usual regression on the rows that it was solved on."""
    from sklearn.linear_model import LogisticRegressionCV

    return float(
        LogisticRegressionCV(Cs=[1, 10, 100], cv=3, max_iter=300).fit(features, targets).score(features, targets)
    )


if __name__ == "__main__":
    raise SystemExit(main())
