"""Classification by label likelihood, without tuning, beside the rungs of the ladder on the same test rows.

    python benchmarks/label_likelihood.py --data FOLDER --runs FOLDER --output results/label_likelihood.jsonl

The ladder is that of MiniLM with LoRA on `--train-rows` training rows; SmolLM2-135M chooses among the labels on the
same `--rows` test rows, with each template. A line of JSON for each model and data set; what is in --output is kept.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from textune.cli.environment import tune_libraries
from textune.evaluation import McNemar, apply_mcnemar
from textune.evaluation.intervals import bootstrap_intervals
from textune.files import append_json_line, read_json, read_json_lines
from textune.inference.zero_shot import ZeroShot
from textune.progress import Plain
from textune.run import train
from textune.tokens.choices import DEFAULT_TEMPLATE

DATA: dict[str, dict[str, Any]] = {
    "sms_spam": {"text": "text"},
    "amazon_reviews": {"text": ["title", "content"]},
}
TEMPLATES: dict[str, dict[str, str]] = {
    "sms_spam": {"default": DEFAULT_TEMPLATE, "asks": "SMS: {text}\nIs this SMS spam or ham (not spam)? Answer:"},
    "amazon_reviews": {"default": DEFAULT_TEMPLATE, "asks": "Review: {text}\nThe sentiment of this review is"},
}


def main() -> None:
    """Measure what is not in the output yet."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the tuned runs, which are kept there")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(DATA), choices=list(DATA))
    parser.add_argument("--rows", type=int, default=200, help="test rows")
    parser.add_argument("--train-rows", type=int, default=500, help="training rows of the tuned model")
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a text")
    arguments = parser.parse_args()
    done = read_json_lines(arguments.output) if arguments.output.is_file() else []
    for name in arguments.only:
        if not (arguments.data / name / "train.csv").is_file():
            raise SystemExit(f"{arguments.data / name / 'train.csv'}: is missing; --data names the folder above it")
        if any(line["data"] == name and line["rows"] == arguments.rows for line in done):
            continue
        for line in measure(name, arguments):
            append_json_line(arguments.output, line)
            print(json.dumps(line), flush=True)


def measure(name: str, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the figures of every model on one data set."""
    folder = train_ladder(name, arguments)
    table = pq.read_table(folder / "evaluation" / "predictions.parquet").to_pydict()
    facts = {"data": name, "rows": len(table["row"]), "train_rows": arguments.train_rows,
             "max_length": arguments.max_length}  # fmt: skip
    metrics = read_json(folder / "evaluation" / "metrics.json", "figures")
    for key, model in metrics["models"].items():
        yield facts | {
            "model": f"minilm lora: {key}", "accuracy": round(model["accuracy"], 4),
            "accuracy_interval": round_interval(model["intervals"]["accuracy"]),
            "macro_f1": round(model["macro"]["f1"], 4),
            "macro_f1_interval": round_interval(model["intervals"]["macro_f1"]),
            "seconds": None if model["seconds"] is None else round(model["seconds"], 1),
        }  # fmt: skip
    labels = sorted({*table["label"]})
    for kind, template in TEMPLATES[name].items():
        yield facts | measure_zero_shot(table, labels, template, arguments.max_length) | {"template_name": kind}


def train_ladder(name: str, arguments: argparse.Namespace) -> Path:
    """Return the folder of the tuned run; it is trained where it is not there."""
    run = f"{name}-{arguments.train_rows}-{arguments.rows}"
    folder: Path = arguments.runs / run
    if not (folder / "evaluation" / "metrics.json").is_file():
        place = arguments.data / name
        train(
            **DATA[name] | {"data": str(place / "train.csv"), "test": str(place / "test.csv")},
            label="label", sample=str(arguments.train_rows), test_sample=str(arguments.rows), backbone="minilm",
            method="lora", max_length=arguments.max_length, name=run, runs_dir=str(arguments.runs), overwrite=True,
            progress=Plain(seconds_between_lines=60),
        )  # fmt: skip
    return folder


def measure_zero_shot(table: dict[str, list[Any]], labels: list[str], template: str, max_length: int) -> dict[str, Any]:
    """Return the figures of label likelihood on the rows of predictions.parquet."""
    started_at = time.monotonic()
    model = ZeroShot.open("smollm2-135m", labels, template=template, max_length=max_length)
    loaded_at = time.monotonic()
    predicted = model.predict(table["text"])
    seconds = time.monotonic() - loaded_at
    numbers = {label: i for i, label in enumerate(labels)}
    true, found = (np.array([numbers[label] for label in side]) for side in (table["label"], predicted))
    tuned = np.array([numbers[label] for label in table["predicted_label"]])
    intervals = bootstrap_intervals(true, found, seed=0)
    test: McNemar = apply_mcnemar(tuned == true, found == true)
    f1s = [2 * ((true == i) & (found == i)).sum() / max((true == i).sum() + (found == i).sum(), 1)
           for i in range(len(labels))]  # fmt: skip
    return {
        "model": "smollm2-135m: label likelihood", "template": template, "precision": model.precision,
        "accuracy": round(float((true == found).mean()), 4),
        "accuracy_interval": round_interval(vars(intervals["accuracy"])), "macro_f1": round(float(np.mean(f1s)), 4),
        "macro_f1_interval": round_interval(vars(intervals["macro_f1"])), "seconds": round(seconds, 1),
        "loading_seconds": round(loaded_at - started_at, 1), "p_against_tuned": float(f"{test.p:.3g}"),
        "predicted": {label: int((found == i).sum()) for label, i in numbers.items()},
        "true": {label: int((true == i).sum()) for label, i in numbers.items()},
    }  # fmt: skip


def round_interval(interval: dict[str, Any]) -> list[float]:
    """Return low and high."""
    return [round(float(interval["low"]), 4), round(float(interval["high"]), 4)]


if __name__ == "__main__":
    main()
