"""Whether a planted slice is found first, and how often chance is called a slice, on a real run's answers.

    textune train FOLDER/amazon_reviews/train.csv text=content test=FOLDER/amazon_reviews/test.csv method=head
    python benchmarks/slice_checks.py --run RUN --data FOLDER/amazon_reviews/test.csv --output results/slices.jsonl

Planted: a third of the test labels of one domain are flipped, the column is renamed to a word that means nothing, and
`textune errors` searches the changed table. Chance: the run's errors stay as they are and a column of random values is
searched, or all columns, lengths and words are searched with the errors dealt out to other rows at random.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import read_manifest
from textune.cli.environment import tune_libraries
from textune.evaluation.conditions import list_column, list_lengths, list_negations, list_words, split_texts
from textune.evaluation.intervals import wilson_interval
from textune.evaluation.slices import choose_fewest_rows, find_slices
from textune.run.error_analysis import find_errors
from textune.run.predictions import read_predictions

MEANINGLESS = "flurb"
OTHER = {"negative": "positive", "positive": "negative"}


def main() -> None:
    """Plant slices, then look for slices where there are none."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--columns", type=int, default=1000)
    parser.add_argument("--searches", type=int, default=200)
    arguments = parser.parse_args()
    with arguments.data.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = []
    for domain in sorted({row["domain"] for row in rows}):
        for seed in range(arguments.seeds):
            lines.append(plant(arguments.run, rows, domain, seed))
            print(json.dumps(lines[-1]), flush=True)
    texts = [row["content"] for row in rows]
    wrong = read_wrong(arguments.run, len(rows))
    lines.append(deal_columns(wrong, arguments.columns))
    print(json.dumps(lines[-1]), flush=True)
    lines.append(deal_errors(wrong, rows, texts, arguments.searches))
    print(json.dumps(lines[-1]), flush=True)
    arguments.output.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def plant(run: Path, rows: list[dict[str, str]], domain: str, seed: int) -> dict[str, Any]:
    """Flip a third of a domain's labels and return what is found first."""
    random = np.random.default_rng(seed)
    changed, flipped = [], 0
    for row in rows:
        flips = row["domain"] == domain and random.random() < 1 / 3
        flipped += flips
        label = OTHER[row["label"]] if flips else row["label"]
        changed.append({MEANINGLESS if k == "domain" else k: v for k, v in (row | {"label": label}).items()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "changed.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, changed[0].keys())
            writer.writeheader()
            writer.writerows(changed)
        search = find_errors(run, path, text="content", label="label").slices
    first, planted = search.slices[0], f"{MEANINGLESS} is '{domain}'"
    return {
        "check": "planted",
        "domain": domain,
        "seed": seed,
        "flipped": flipped,
        "first": first.description,
        "found_first": first.description == planted,
        "rows": first.rows,
        "errors": first.errors,
        "error_rate": round(first.error_rate, 4),
        "adjusted_p": first.adjusted_p,
        "rate_of_all": round(search.errors / search.rows, 4),
        "conditions": search.looks,
    }


def read_wrong(run: Path, rows: int) -> NDArray[np.bool_]:
    """Return which of the table's rows the run gets wrong."""
    stored = read_predictions(run / "evaluation" / "predictions.parquet", read_manifest(run))
    wrong = np.zeros(rows, bool)
    pairs = zip(stored["label"], stored["predicted_label"], strict=True)
    wrong[np.asarray(stored["row"]) - 1] = [label != predicted for label, predicted in pairs]
    return wrong


def deal_columns(wrong: NDArray[np.bool_], columns: int) -> dict[str, Any]:
    """Search one random column at a time."""
    called = 0
    for seed in range(columns):
        random = np.random.default_rng([seed, 1])
        values = random.choice([f"value {i}" for i in range(int(random.integers(2, 20)))], len(wrong)).tolist()
        called += bool(find_slices(wrong, list_column("random", values)).slices)
    return {"check": "random columns", "searches": columns, **count(called, columns)}


def deal_errors(
    wrong: NDArray[np.bool_], rows: list[dict[str, str]], texts: list[str], searches: int
) -> dict[str, Any]:
    """Search everything with the errors dealt out at random."""
    split = split_texts(texts)
    conditions = [
        *(c for name in ("domain", "rating") for c in list_column(name, [row[name] for row in rows])),
        *list_lengths(texts),
        *list_negations(split),
        *list_words(split, choose_fewest_rows(len(texts))),
    ]
    called = looks = 0
    for seed in range(searches):
        search = find_slices(np.random.default_rng([seed, 2]).permutation(wrong), conditions)
        called, looks = called + bool(search.slices), search.looks
    return {"check": "errors at random", "searches": searches, "conditions": looks, **count(called, searches)}


def count(called: int, searches: int) -> dict[str, Any]:
    """Return how many searches called a slice, with the share's interval."""
    interval = wilson_interval(called / searches, searches)
    return {
        "called": called,
        "share": called / searches,
        "interval": [round(x, 4) for x in (interval.low, interval.high)],
    }


if __name__ == "__main__":
    main()
