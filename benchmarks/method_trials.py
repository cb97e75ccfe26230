"""Every method on 2,000 film-review sentences with its own default rate: accuracy, seconds, and what the run said.

    python benchmarks/method_trials.py --output results/methods.jsonl [--only lora ia3] [--seed 42]

MiniLM, the embedded Rotten Tomatoes sentences; a line per method, those that stand in the output are not run again. The
test rows are the demo's; each line counts as one reading of them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from textune.cli.environment import tune_libraries
from textune.files import read_json, read_json_lines
from textune.methods import methods
from textune.progress import Plain
from textune.run import train

TRAIN, VALIDATION, TEST = 2_000, 200, 1_000  # as the demo


def main() -> None:
    """Run what is missing in the output."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=sorted(methods.names()))
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    done = {(line["method"], line["seed"]) for line in read_json_lines(arguments.output)}
    for method in arguments.only:
        if (method, arguments.seed) in done:
            continue
        line = run_trial(method, arguments.seed)
        with arguments.output.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def run_trial(method: str, seed: int) -> dict[str, Any]:
    """Train and measures once."""
    total = TRAIN + VALIDATION + TEST
    with tempfile.TemporaryDirectory() as place:
        run = train(
            "embedded:rotten_tomatoes", labels="0=negative,1=positive", sample=str(total), method=method, seed=seed,
            validation_fraction=VALIDATION / total, test_fraction=TEST / total, runs_dir=place, name="trial",
            progress=Plain(seconds_between_lines=60),
        )  # fmt: skip
        log = read_json_lines(run.folder / "metrics.jsonl")
        steps = [line for line in log if line["kind"] == "step"]
        warnings = [line["text"] for line in log if line["kind"] == "warning" and line["step"] == len(steps)]
        summary = run.metrics["summary"]
        tuned, majority = (run.metrics["models"][key] for key in ("tuned", "majority"))
        return {
            "method": method, "seed": seed, "train_rows": TRAIN, "test_rows": tuned["rows"],
            "accuracy": round(tuned["accuracy"], 4), "majority": round(majority["accuracy"], 4),
            "interval": [round(v, 4) for v in run.manifest.metrics["accuracy_interval"][:2]],
            "training_seconds": round(run.metrics["models"]["tuned"]["seconds"], 1), "steps": len(steps),
            "threads": read_json(run.folder / "plan.json", "plan")["threads"],
            "trainable": run.manifest.trainable_parameters, "learning_rate": max(s["learning_rate"] for s in steps),
            "peak_memory": summary["peak memory"], "warning": warnings[-1] if warnings else None,
        }  # fmt: skip


if __name__ == "__main__":
    main()
