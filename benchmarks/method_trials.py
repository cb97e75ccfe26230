"""Every method on 2,000 film-review sentences by its own defaults: accuracy, seconds, and what the run said.

    python benchmarks/method_trials.py --output results/methods.jsonl [--only lora ia3] [--seeds 42 43 44]

MiniLM, the embedded Rotten Tomatoes sentences; a line for each method and seed. What is in the output is not run again.
All seeds have the same rows; each line keeps which test rows it got right, so that methods can be paired. The test rows
are the demo's; each line counts as one reading of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from right_rows import pack
from textune.cli.environment import tune_libraries
from textune.files import read_json, read_json_lines
from textune.methods import methods
from textune.progress import Plain
from textune.run import train

TRAIN, VALIDATION, TEST = 2_000, 200, 1_000  # as the demo
SPLIT_SEED = 42


def main() -> None:
    """Run what is missing in the output."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=sorted(methods.names()))
    parser.add_argument("--seeds", nargs="*", type=int, default=[42, 43, 44])
    arguments = parser.parse_args()
    done = {(line["method"], line["seed"]) for line in read_json_lines(arguments.output)}
    for seed, method in itertools.product(arguments.seeds, arguments.only):
        if (method, seed) in done:
            continue
        line = run_trial(method, seed)
        with arguments.output.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def run_trial(method: str, seed: int) -> dict[str, Any]:
    """Train and measure once."""
    total = TRAIN + VALIDATION + TEST
    with tempfile.TemporaryDirectory() as place:
        run = train(
            "embedded:rotten_tomatoes", labels="0=negative,1=positive", sample=str(total), method=method, seed=seed,
            validation_fraction=VALIDATION / total, test_fraction=TEST / total, split_seed=SPLIT_SEED, runs_dir=place,
            name="trial", progress=Plain(seconds_between_lines=60),
        )  # fmt: skip
        log = read_json_lines(run.folder / "metrics.jsonl")
        steps = [line for line in log if line["kind"] == "step"]
        warnings = [line["text"] for line in log if line["kind"] == "warning" and line["step"] == len(steps)]
        answers = pl.read_parquet(run.folder / "evaluation" / "predictions.parquet")
        right = (answers["label"] == answers["predicted_label"]).to_numpy()
        tuned, majority = (run.metrics["models"][key] for key in ("tuned", "majority"))
        return {
            "method": method, "seed": seed, "train_rows": TRAIN, "test_rows": tuned["rows"],
            "accuracy": round(tuned["accuracy"], 4), "majority": round(majority["accuracy"], 4),
            "interval": [round(v, 4) for v in run.manifest.metrics["accuracy_interval"][:2]],
            "training_seconds": round(run.metrics["models"]["tuned"]["seconds"], 1), "steps": len(steps),
            "threads": read_json(run.folder / "plan.json", "plan")["threads"],
            "trainable": run.manifest.trainable_parameters,
            "learning_rate": max((step["learning_rate"] for step in steps), default=None),
            "warning": warnings[-1] if warnings else None, "right": pack(right),
        }  # fmt: skip


if __name__ == "__main__":
    main()
