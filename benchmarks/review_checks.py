"""How many labels in the review file are wrong, and what fixing them brings: 5% of the training labels are flipped.

    python benchmarks/review_checks.py --data FOLDER_OF_DATA_SETS --runs FOLDER --output results/review.jsonl

For each data set and seed, rows are drawn from train.csv, 5% of the training labels are replaced by others, and
`textune errors --review` writes the rows that look wrong. Precision at k: the share of flipped labels among its first k
training rows; k is the number of flipped labels (a person who reads as many rows as are wrong), and smaller ones. Then
the flipped labels among those k rows, and among all, are put right, and the run is trained again with fixes=. The test
labels are never flipped. A line that is in --output already is not measured again.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from textune.cli.environment import tune_libraries
from textune.config import build_config
from textune.inference import Predictor
from textune.progress import Silent
from textune.run import train
from textune.run.api import train_only

DATA_SETS = ("sms_spam", "ag_news", "banking77")
SHARE = 0.05
SETTINGS: dict[str, Any] = {"text": "text", "label": "label", "method": "head", "max_length": 64}


def main() -> None:
    """Measure what is not there yet."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000, help="training rows, validation rows included")
    parser.add_argument("--test-rows", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    done = set()
    if arguments.output.is_file():
        lines = map(json.loads, arguments.output.read_text(encoding="utf-8").splitlines())
        done = {(line["data"], line["seed"]) for line in lines}
    for seed in range(arguments.seeds):
        for name in DATA_SETS:
            if (name, seed) in done:
                continue
            line = json.dumps(measure(name, seed, arguments))
            with arguments.output.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            print(line, flush=True)


def measure(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return precision at k and the accuracies for one data set and seed."""
    started_at = time.perf_counter()
    folder = arguments.runs / f"{name}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with (arguments.data / name / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    random = np.random.default_rng(seed)
    order = random.permutation(len(rows))[: arguments.rows + arguments.test_rows]
    drawn = [rows[i] for i in order]
    held, clean = drawn[: arguments.test_rows], drawn[arguments.test_rows :]
    labels = sorted({label for _, label in clean})
    held = [(text, label) for text, label in held if label in labels]
    wrong = set(random.choice(len(clean), round(SHARE * len(clean)), replace=False).tolist())
    flipped = [
        (text, str(random.choice([other for other in labels if other != label])) if i in wrong else label)
        for i, (text, label) in enumerate(clean)
    ]
    for stem, part in (("test", held), ("clean", clean), ("flipped", flipped)):
        write(folder / f"{stem}.csv", part)
    shared = SETTINGS | {"test": str(folder / "test.csv"), "runs_dir": str(folder), "seed": seed}
    run = train(str(folder / "flipped.csv"), name="flipped-run", **shared)
    accuracy = {"flipped": run.metrics["models"]["tuned"]["accuracy"]}
    accuracy["clean"] = measure_plain("clean-run", held, data=str(folder / "clean.csv"), **shared)
    found = run.find_errors(review=folder / "review.csv")
    reviewed = [row.row - 1 for row in found.review if row.table == "data"]
    hits = np.array([row in wrong for row in reviewed], bool)
    for stem, most in (("fixed_first_k", len(wrong)), ("fixed_all", len(reviewed))):
        answer(folder / "review.csv", folder / f"{stem}.csv", set(reviewed[:most]) & wrong, clean)
        fixes = str(folder / f"{stem}.csv")
        data = str(folder / "flipped.csv")
        accuracy[stem] = measure_plain(f"{stem}-run", held, data=data, fixes=fixes, **shared)
    ks = sorted({10, 25, 50, len(wrong)})
    return {
        "data": name,
        "seed": seed,
        "rows": len(clean),
        "flipped": len(wrong),
        "test_rows": len(held),
        "settings": {k: v for k, v in SETTINGS.items() if k not in ("text", "label")},
        "reviewed": len(reviewed),
        "found": int(hits.sum()),
        "precision_at": {str(k): round(float(hits[:k].mean()), 4) for k in ks if len(hits)},
        "accuracy": {key: round(value, 4) for key, value in accuracy.items()},
        "seconds": round(time.perf_counter() - started_at, 1),
    }


def measure_plain(name: str, held: list[tuple[str, str]], **settings: Any) -> float:
    """Train without baselines and return the accuracy on the test rows."""
    run = train_only(build_config(settings | {"name": name}), Silent(), {})
    answers = Predictor.load(run).predict([text for text, _ in held])
    return float(np.mean([answer == label for answer, (_, label) in zip(answers, held, strict=True)]))


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write texts and labels."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def answer(review: Path, answered: Path, rows: set[int], clean: list[tuple[str, str]]) -> None:
    """Write the review file as a person answers it who knows the right labels of some rows."""
    with review.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        if line["table"] == "data" and int(line["row"]) - 1 in rows:
            line["correct_label"] = clean[int(line["row"]) - 1][1]
    with answered.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    main()
