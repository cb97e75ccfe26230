"""textune's defaults beside simple rivals on the same rows: data sets x sizes x draws, test rows read once per cell.

    python benchmarks/accuracy_frontier.py --data FOLDER --output results/accuracy_frontier.json [--only DATA ...]
        [--sizes 8c 64c 1000 all] [--minutes N] [--complete]

A size is 1000 training rows, `8c` or `64c` for rows per class, or `all`. Rivals are logistic regressions: on TF-IDF,
and on frozen embeddings as is usual (L2-normalised means, C = 10 with 8 rows per class, else by 3-fold
cross-validation). "probe" is textune's own `method=head`. A finished cell is in the output at once; the same command
goes on where it was stopped. Each cell keeps which test rows every model got right, so that differences can be paired.
--complete asks the rivals that finished cells lack.
`python docs/generate.py` makes docs/accuracy.md of the output.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from frontier_rivals import ask_embeddings, ask_tfidf
from right_rows import pack
from sides import name_commit
from textune.cli.environment import tune_libraries
from textune.config import build_config
from textune.files import read_json, write_text_atomically
from textune.progress import Silent
from textune.run.prepare import Shared, prepare

FORMAT = 1
ROOT = Path(__file__).parents[1]
_MOST_CHANGED = 0.002
"""By how much TF-IDF's accuracy may differ from what the run says: another processor changed one answer in 3,080."""
PER_CLASS = ("8c", "64c")


@dataclass(frozen=True)
class DataSet:
    """Where training and test rows come from. seconds: of a cell with all rows, roughly, for the order."""

    train: str
    test: str
    seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    test_rows: int | None = None
    all_rows: int | None = None


DATA = {
    "sms_spam": DataSet("sms_spam/train.csv", "sms_spam/test.csv", 120),
    "rotten_tomatoes": DataSet("", "", 150, all_rows=7_530),
    "banking77": DataSet("banking77/train.csv", "banking77/test.csv", 250),
    "ag_news": DataSet("ag_news/train.csv", "ag_news/test.csv", 300, {"test_text": "title,description"}),
    "amazon_reviews": DataSet(
        "amazon_reviews/train.csv", "amazon_reviews/test.csv", 900, {"text": "title,content"}
    ),
    "imdb": DataSet("imdb/train.parquet", "imdb/test.parquet", 600, {"max_length": 256}, 2_000, 2_000),
    "go_emotions": DataSet("go_emotions/train.csv", "go_emotions/test.csv", 900, {"label": "labels"}),
}  # fmt: skip
SIZES = ("8c", "64c", "1000", "all")


def list_cells(data: Sequence[str], sizes: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return (data, size, draw): five draws of the small sizes and three of the others, first draws first."""
    cells = []
    for name in data:
        for size in sizes:
            if size in PER_CLASS and name == "go_emotions":
                continue  # a row has several classes, so a draw by class has no meaning
            share = {"8c": 0.2, "64c": 0.3, "1000": 0.5, "all": 1.0}.get(size, 0.5)
            cells += [
                (draw * DATA[name].seconds * share, (name, size, draw))
                for draw in range(1, 6 if size in PER_CLASS else 4)
            ]
    return [cell for _, cell in sorted(cells, key=lambda pair: pair[0])]


def read_rows(name: str, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return training and test rows as text."""
    spec = DATA[name]
    if name == "rotten_tomatoes":
        from textune.data import read_table

        table = pl.DataFrame(pl.from_arrow(read_table("embedded:rotten_tomatoes").arrow))
        rows = table.sample(fraction=1.0, shuffle=True, seed=7)  # the trials of the rules judge by the first 1,000
        return rows[: spec.all_rows], rows[-1_000:]
    frames = []
    for file in (spec.train, spec.test):
        path = folder / file
        if not path.is_file():
            raise SystemExit(f"{path}: not there; --data must name the folder of the data sets")
        parquet = path.suffix == ".parquet"
        frames.append(pl.read_parquet(path).cast(pl.String) if parquet else pl.read_csv(path, infer_schema=False))
    train, test = frames
    return train, test if spec.test_rows is None else test.sample(spec.test_rows, seed=0, shuffle=True)


def draw_rows(train: pl.DataFrame, spec: DataSet, size: str, draw: int) -> pl.DataFrame:
    """Return the training rows of a cell."""
    shuffled = train.sample(fraction=1.0, shuffle=True, seed=draw)
    if size.endswith("c"):
        return shuffled.filter(pl.int_range(pl.len()).over("label") < int(size[:-1]))
    return shuffled[: spec.all_rows if size == "all" else int(size)]


def run_cell(name: str, size: str, draw: int, folder: Path) -> dict[str, Any]:
    """Train by every default, measure the run and its rivals, and return the cell."""
    from textune.evaluation import expected_calibration_error
    from textune.run import train_config

    flat, learn, test = _describe_run(name, size, draw, folder)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        config = build_config(flat | {"runs_dir": place, "name": "cell"})
        run = train_config(config, progress=Silent(), frames={"data": learn, "test": test})
        seconds = time.monotonic() - started
        answers = pl.read_parquet(run.folder / "evaluation" / "predictions.parquet")
        models = run.metrics["models"]
        several = run.manifest.task == "multi_label"
        figure = "micro_f1" if several else "accuracy"
        score = {key: (m["micro"]["f1"] if several else m["accuracy"]) for key, m in models.items()}
        cell: dict[str, Any] = {
            "data": name, "size": size, "draw": draw, "rows": len(learn), "test_rows": len(answers), "figure": figure,
            "scores": {"textune": score["tuned"], "tfidf": score["tfidf"], "probe": score["probe"]},
            "seconds": round(seconds, 1), "training_seconds": round(models["tuned"]["seconds"], 1),
            "temperature": round(run.manifest.temperature, 3), "textune": run.manifest.textune_version,
            "date": time.strftime("%Y-%m-%d"), "commit": name_commit(ROOT),
        }  # fmt: skip
        if not several:
            probabilities = answers.select([f"probability_{label}" for label in run.manifest.labels]).to_numpy()
            number = {value: i for i, value in enumerate(run.manifest.labels)}
            targets = np.array([number.get(value, -1) for value in answers["label"]])
            cell["ece"] = round(expected_calibration_error(probabilities, targets), 4)
            cell["right"] = {"textune": pack(probabilities.argmax(1) == targets)}
    complete_cell(cell, folder)
    return cell


def lacks_rivals(cell: Mapping[str, Any]) -> bool:
    """Return whether a cell does not say what a rival reached, or on which rows."""
    return "embeddings" not in cell["scores"] or (_has_rows(cell) and "tfidf" not in cell["right"])


def complete_cell(cell: dict[str, Any], folder: Path) -> None:
    """Ask the rivals that a cell lacks, on the rows that its run had; textune is not trained again.

    The run keeps no answers of its baselines, so TF-IDF is fitted again, and the new answers are kept.
    Raises SystemExit if its accuracy is far from what the run says: then the rows are not the same.
    """
    flat, learn, test = _describe_run(*_key(cell), folder)
    prepared = prepare(build_config(flat), Silent(), Shared({"data": learn, "test": test}))
    if _has_rows(cell) and "tfidf" not in cell["right"]:
        words = ask_tfidf(prepared)
        if abs(words.score - cell["scores"]["tfidf"]) > _MOST_CHANGED:
            where = " ".join(map(str, _key(cell)))
            raise SystemExit(f"{where}: TF-IDF reaches {words.score}, but the cell says {cell['scores']['tfidf']}")
        cell["scores"]["tfidf"], cell["right"]["tfidf"] = words.score, pack(words.right)
    if "embeddings" not in cell["scores"]:
        embeddings = ask_embeddings(prepared, learn, cell["size"])
        cell["scores"]["embeddings"] = embeddings.score
        if _has_rows(cell):
            cell["right"]["embeddings"] = pack(embeddings.right)


def _has_rows(cell: Mapping[str, Any]) -> bool:
    """Return whether the cell keeps which rows are right: with several labels per text no row simply is."""
    return bool(cell["figure"] == "accuracy")


def _key(cell: Mapping[str, Any]) -> tuple[str, str, int]:
    return cell["data"], cell["size"], cell["draw"]


def _describe_run(name: str, size: str, draw: int, folder: Path) -> tuple[dict[str, Any], pl.DataFrame, pl.DataFrame]:
    """Return the settings of a cell's run, its training rows and its test rows."""
    spec = DATA[name]
    train, test = read_rows(name, folder)
    flat = {"data": "rows", "test": "rows", "label": "label", "seed": draw}
    flat |= {} if "text" in spec.settings else {"text": "text"}
    return flat | dict(spec.settings), draw_rows(train, spec, size, draw), test


def main(words: Sequence[str] | None = None) -> int:
    """Fill the table; return the exit code."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(DATA), choices=list(DATA), metavar="DATA")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--draws", type=int, default=5, help="at most so many draws of each size")
    parser.add_argument("--minutes", type=float, help="begin no cell after so many minutes")
    parser.add_argument("--complete", action="store_true", help="only ask the rivals that finished cells lack")
    arguments = parser.parse_args(words)
    cells = list(read_json(arguments.output, "the table")["cells"]) if arguments.output.is_file() else []
    done = {_key(cell): cell for cell in cells}
    started = time.monotonic()
    for key in list_cells(arguments.only, arguments.sizes):
        if arguments.minutes is not None and time.monotonic() - started > 60 * arguments.minutes:
            break
        wanted = key in done and lacks_rivals(done[key]) if arguments.complete else key not in done
        if key[2] > arguments.draws or not wanted:
            continue
        if arguments.complete:
            cell = done[key]
            complete_cell(cell, arguments.data)
        else:
            cell = run_cell(*key, arguments.data)
            cells.append(cell)
        cells.sort(key=lambda c: (list(DATA).index(c["data"]), SIZES.index(c["size"]), c["draw"]))
        lines = ",\n  ".join(json.dumps(cell) for cell in cells)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(arguments.output, f'{{"format": {FORMAT}, "cells": [\n  {lines}\n]}}\n')
        print(*key, cell["scores"], cell.get("ece"), cell["seconds"], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
