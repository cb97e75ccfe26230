"""The demo of another commit beside this one's: accuracy, calibration, the three sentences, and the whole time.

    git worktree add --detach ../older f213f65
    python benchmarks/demo_before_after.py --checkout ../older --output results/demo_before_after.jsonl
        [--repetitions 3] [--threads 2]

`textune demo` in processes of its own that import textune from either checkout, in turns, each with an empty cache and
as a person gets it. The calibration error, in 15 bins, is computed here from the saved test predictions of both. A
run that is in --output is not repeated. `python docs/generate.py` puts the table into docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sides import Results, choose_environment, describe_setting, hold_to, median, name_commit, ratio, run_side

ROOT = Path(__file__).parents[1]
FIGURE, RUN = "demo before and after", "demo run"
DEMO = ("-m", "textune", "demo")
LABELS = ("negative", "positive")
"""In the order of the data's values 0 and 1, which older commits write as true labels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True, help="a work tree of the other commit")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    hold_to(given.threads)
    checkouts = {"before": given.checkout, "after": ROOT}
    commits = {side: name_commit(checkout) for side, checkout in checkouts.items()}
    command = "python benchmarks/demo_before_after.py --checkout FOLDER"
    results = Results(given.output, describe_setting(given.threads) | {"command": command, "scaled": False})
    for repetition in range(1, given.repetitions + 1):
        for side in list(checkouts) if repetition % 2 else list(reversed(checkouts)):
            key = {"figure": RUN, "side": side, "commit": commits[side], "repetition": repetition}
            if not results.find(**key):
                results.add(key | run_demo(checkouts[side], given.threads))
    summarise(results, commits, given.repetitions)


def run_demo(checkout: Path, threads: int) -> dict[str, Any]:
    """Run one checkout's demo and return its figures."""
    with tempfile.TemporaryDirectory() as place:
        environment = choose_environment("own", threads, ours=True, cache=Path(place) / "cache")
        environment["PYTHONPATH"] = str(checkout.resolve() / "src")
        done = run_side([sys.executable, *DEMO, "--json", "--runs-dir", place], environment)
        printed = json.loads(done.output)
        error = measure_calibration(Path(place) / "demo" / "evaluation" / "predictions.parquet")
    sentences = {row["text"]: round(row["probabilities"][LABELS[1]], 4) for row in printed["predictions"]}
    return {"accuracy": printed["accuracy"], "test_rows": printed["rows"], "calibration_error": round(error, 4),
            "probability_of_positive": sentences, "seconds": round(done.seconds, 2),
            "training": printed["summary"].get("training time")}  # fmt: skip


def measure_calibration(path: Path) -> float:
    """Return the expected calibration error of saved predictions of the film sentences."""
    import polars as pl

    from textune.evaluation import expected_calibration_error

    answers = pl.read_parquet(path)
    number = {name: i for i, name in enumerate(LABELS)} | {str(i): i for i in range(len(LABELS))}
    targets = np.array([number[str(value)] for value in answers["label"]])
    return expected_calibration_error(answers.select([f"probability_{name}" for name in LABELS]).to_numpy(), targets)


def summarise(results: Results, commits: dict[str, str], repetitions: int) -> None:
    """Add a line with the medians of both sides."""
    runs = {side: results.find(figure=RUN, side=side, commit=commit) for side, commit in commits.items()}
    if results.find(figure=FIGURE, commits=commits, repetitions=repetitions):
        return
    medians: dict[str, Any] = {}
    for side, lines in runs.items():
        medians[side] = {key: median(lines, key) for key in ("accuracy", "calibration_error", "seconds")}
        probabilities = [line["probability_of_positive"] for line in lines]
        medians[side]["probability_of_positive"] = {text: median(probabilities, text) for text in probabilities[0]}
    value = ratio(medians["after"]["seconds"], medians["before"]["seconds"])
    results.add(
        {"figure": FIGURE, "value": value, "unit": "seconds after / seconds before", "bound": 1.0,
         "met": medians["after"]["seconds"] <= medians["before"]["seconds"], "commits": commits,
         "repetitions": repetitions, "test_rows": runs["after"][0]["test_rows"]} | medians
    )  # fmt: skip


if __name__ == "__main__":
    main()
