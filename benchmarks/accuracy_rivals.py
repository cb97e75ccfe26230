"""Costlier rivals on the training and test rows of the accuracy frontier, for docs/accuracy.md.

    python benchmarks/accuracy_rivals.py --data FOLDER --output results/accuracy_rivals.jsonl --rivals setfit \
        --python FOLDER/bin/python [--only DATA ...] [--sizes 8c 64c] [--draws N] [--steps 500]
    python benchmarks/accuracy_rivals.py --data FOLDER --output results/accuracy_rivals.jsonl --rivals full trainer

"setfit" is SetFit with its defaults, of at most --steps steps, in an environment of its own (`pip install setfit==1.2.0
sentence-transformers==6.2.0 datasets`), named by --python. "full" is textune's `method=full`, every setting by its own
rules. "trainer" is transformers' Trainer with peft, as tutorials set it. All start from MiniLM. A line for each cell
keeps which test rows were right; a cell that is in the output is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from accuracy_frontier import DATA, DataSet, draw_rows, list_cells, read_rows
from right_rows import pack
from sides import ALLOCATORS, Results, choose_environment, describe_setting, run_side

SETS = ("rotten_tomatoes", "banking77", "ag_news")
"""Three of the frontier's data sets with short texts: many classes, topics, sentiment."""
SIZES = {"setfit": ("8c", "64c"), "full": ("1000", "all"), "trainer": ("1000", "all")}
FIGURE = "accuracy of a rival"


def main(words: Sequence[str] | None = None) -> int:
    """Run the cells that the output lacks; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rivals", nargs="+", choices=SIZES, required=True)
    parser.add_argument("--only", nargs="+", choices=DATA, default=list(SETS))
    parser.add_argument("--sizes", nargs="+", help="default: 8c and 64c for setfit, 1000 and all for the others")
    parser.add_argument("--draws", type=int, default=5, help="at most so many draws of each size")
    parser.add_argument("--steps", type=int, default=500, help="of SetFit, at most")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has SetFit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--allocator", choices=ALLOCATORS, default="plain")
    given = parser.parse_args(words)
    results = Results(given.output, {})
    for rival in given.rivals:
        for name, size, draw in list_cells(given.only, given.sizes or SIZES[rival]):
            key = {"figure": FIGURE, "rival": rival, "data": name, "size": size, "draw": draw}
            if draw > given.draws or results.find(**key):
                continue
            results.add(key | run_cell(rival, DATA[name], name, size, draw, given) | describe_setting(given.threads))
    return 0


def run_cell(rival: str, spec: DataSet, name: str, size: str, draw: int, given: argparse.Namespace) -> dict[str, Any]:
    """Train a rival on the rows of a cell; return its accuracy and which test rows it got right."""
    train, test = read_rows(name, given.data)
    learn = draw_rows(train, spec, size, draw)
    started = time.monotonic()
    found = run_full(spec, learn, test, draw) if rival == "full" else run_other(rival, spec, learn, test, draw, given)
    right = np.array([a == b for a, b in zip(found.pop("answers"), test["label"], strict=True)])
    return {"rows": len(learn), "test_rows": len(right), "value": round(float(right.mean()), 5), "right": pack(right),
            "seconds": round(time.monotonic() - started, 1)} | found  # fmt: skip


def run_full(spec: DataSet, learn: pl.DataFrame, test: pl.DataFrame, draw: int) -> dict[str, Any]:
    """Return the answers of textune's full fine-tuning."""
    from textune.config import build_config
    from textune.progress import Silent
    from textune.run import train_config

    with tempfile.TemporaryDirectory() as place:
        flat = {"data": "rows", "test": "rows", "label": "label", "text": "text", "seed": draw, "method": "full",
                "runs_dir": place, "name": "cell"} | dict(spec.settings)  # fmt: skip
        run = train_config(build_config(flat), progress=Silent(), frames={"data": learn, "test": test})
        answers = pl.read_parquet(run.folder / "evaluation" / "predictions.parquet")["predicted_label"].to_list()
        seconds = round(run.metrics["models"]["tuned"]["seconds"], 1)
        return {"answers": answers, "training_seconds": seconds, "versions": {"textune": run.manifest.textune_version}}


def run_other(
    rival: str, spec: DataSet, learn: pl.DataFrame, test: pl.DataFrame, draw: int, given: argparse.Namespace
) -> dict[str, Any]:
    """Return the answers of a rival that runs in a process of its own."""
    from textune.backbones import resolve_backbone

    columns = str(spec.settings.get("text", "text"))
    classes = sorted(set(learn["label"]))
    work = {
        "texts": join_columns(learn, columns), "labels": [classes.index(label) for label in learn["label"]],
        "test": join_columns(test, str(spec.settings.get("test_text", columns))), "seed": draw,
        "backbone": str(resolve_backbone("minilm").folder), "max_length": spec.settings.get("max_length", 512),
        "steps": given.steps if rival == "setfit" else 0,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        task = Path(place) / "work.json"
        task.write_text(json.dumps(work), encoding="utf-8")
        python = given.python if rival == "setfit" else sys.executable
        environment = choose_environment(given.allocator, given.threads, ours=False)
        side = str(Path(__file__).with_name("rival_side.py"))
        figures = run_side([python, side, rival, str(task)], environment).figures()
    return figures | {"answers": [classes[answer] for answer in figures["answers"]]}


def join_columns(frame: pl.DataFrame, columns: str) -> list[str]:
    """Return the texts as textune joins several columns."""
    rows = frame.select(columns.split(",")).iter_rows()
    return [" ".join(cell for cell in row if cell and not cell.isspace()) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
