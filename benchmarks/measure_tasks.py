"""Several labels, rare classes and long texts: whole runs and what each choice brings.

    python benchmarks/measure_tasks.py --data FOLDER_OF_DATA_SETS --runs FOLDER --output results/tasks.jsonl

Runs are kept in the folder --runs; one that is finished there is not trained again, an interrupted one goes on. A line
of JSON for each: settings, figures with 95% intervals, per class where a class is the point. Test rows are read once.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from textune.cli.environment import tune_libraries
from textune.config import load_settings
from textune.files import read_json
from textune.progress import Plain
from textune.run import load_run, resume, train

IMDB = {"sample": "2000", "test_sample": "2000", "max_length": 256}
# run -> (data set, kind of file, settings)
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "go_emotions": ("go_emotions", "csv", {"validation": "validation.csv"}),
    "sms_plain": ("sms_spam", "csv", {}),
    "sms_weighted": ("sms_spam", "csv", {"class_weights": "balanced"}),
    "imdb_truncate": ("imdb", "parquet", IMDB | {"long_text": "truncate"}),
    "imdb_window": ("imdb", "parquet", IMDB | {"long_text": "window"}),
}
TOLD_PER_CLASS = ("sms_plain", "sms_weighted")


def main() -> None:
    """Train what is not there yet and write the figures of all."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(RUNS))
    arguments = parser.parse_args()
    lines = []
    for name in arguments.only:
        finish(name, arguments.data, arguments.runs)
        lines.append(json.dumps(describe(name, arguments.runs / name)))
        print(lines[-1], flush=True)
    if {"imdb_truncate", "imdb_window"} <= set(arguments.only):
        lines.append(json.dumps(compare(arguments.runs / "imdb_window", arguments.runs / "imdb_truncate")))
        print(lines[-1], flush=True)
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def finish(name: str, data: Path, runs: Path) -> None:
    """Train one run, goes on with it, or finds it finished."""
    source, kind, settings = RUNS[name]
    folder = data / source
    if not (folder / f"train.{kind}").is_file():
        raise SystemExit(f"{folder}: train.{kind} is missing; --data must name the folder of the data sets")
    if (runs / name / "evaluation" / "metrics.json").is_file():
        return
    if (runs / name / "plan.json").is_file():
        resume(runs / name, progress=Plain(seconds_between_lines=60))
        return
    files = {"data": f"train.{kind}", "test": f"test.{kind}", "validation": settings.get("validation")}
    paths = {key: str(folder / file) for key, file in files.items() if file}
    train(**settings | paths, name=name, runs_dir=str(runs), progress=Plain(seconds_between_lines=60))


def describe(name: str, folder: Path) -> dict[str, Any]:
    """Return the figures of a finished run."""
    run, settings = load_run(folder), load_settings(folder / "config.yaml")
    metrics = read_json(folder / "evaluation" / "metrics.json", "figures")
    tuned, summary = metrics["models"]["tuned"], metrics["summary"]
    told = ("epochs", "batch_size", "learning_rate", "max_length", "long_text", "class_weights", "threads", "seed")
    line: dict[str, Any] = {
        "run": name, "settings": {key: settings[key] for key in told if settings.get(key) is not None},
        "figures": dict(run.manifest.metrics), "training": summary["training time"],
        "peak_memory": summary.get("peak memory"),
        "baselines": {k: round(m.get("macro", {}).get("f1", 0.0), 4) for k, m in metrics["models"].items()},
    }  # fmt: skip
    if name in TOLD_PER_CLASS:
        line["classes"] = {
            c["label"]: {k: round(c[k], 4) for k in ("precision", "recall", "f1")} | {"rows": c["support"]}
            for c in tuned["classes"]
        }
    return line


def compare(first: Path, second: Path) -> dict[str, Any]:
    """Return the difference of two runs' accuracies on the same rows, with a paired bootstrap interval."""
    right = []
    for folder in (first, second):
        table = pq.read_table(folder / "evaluation" / "predictions.parquet", columns=["label", "predicted_label"])
        label, predicted = (np.asarray(table.column(c).to_pylist()) for c in ("label", "predicted_label"))
        right.append((label == predicted).astype(float))
    difference = right[0] - right[1]
    draws = np.random.default_rng(0).integers(0, len(difference), (10_000, len(difference)))
    low, high = np.percentile(difference[draws].mean(axis=1), [2.5, 97.5])
    return {
        "comparison": f"{first.name} against {second.name}, accuracy", "rows": len(difference),
        "difference": round(float(difference.mean()), 4), "interval": [round(float(low), 4), round(float(high), 4)],
    }  # fmt: skip


if __name__ == "__main__":
    main()
