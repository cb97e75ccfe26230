"""Trials behind the rules of `textune.defaults`: training rows only, some to learn from, others to judge by.

    python benchmarks/choose_defaults.py --data FOLDER_OF_DATA_SETS --output results/defaults.jsonl [--only banking77]

Every line of the output is one trial: data set, settings, and the accuracy on the held-out training rows at each
evaluation. Trials that stand in the output already are not repeated. No test row is read.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from textune.bundle import read_json_lines
from textune.cli.environment import tune_libraries
from textune.config import build_config
from textune.progress import Plain
from textune.run import train_only

HELD_OUT = 1_000

# data set -> (rows to learn from, settings that never vary, grid)
TRIALS: dict[str, tuple[int, dict[str, Any], dict[str, list[Any]]]] = {
    "rotten_tomatoes": (2_000, {}, {"learning_rate": [5e-4, 1e-3, 2e-3], "epochs": [3, 5], "batch_size": [16]}),
    "banking77": (9_003, {}, {"learning_rate": [1e-3, 2e-3, 4e-3], "epochs": [4], "batch_size": [16, 32]}),
    "sms_spam": (3_171, {}, {"learning_rate": [5e-4, 1e-3], "epochs": [3], "batch_size": [16]}),
    "amazon_reviews": (900, {"text": "title,content"}, {"learning_rate": [5e-4, 1e-3, 2e-3], "epochs": [4],
                                                        "batch_size": [16]}),
    "ag_news": (3_990, {}, {"learning_rate": [5e-4, 1e-3], "epochs": [3], "batch_size": [16]}),
}  # fmt: skip


def read_training_rows(name: str, folder: Path) -> pl.DataFrame:
    """Returns the training rows as text, shuffled by a fixed seed."""
    if name == "rotten_tomatoes":
        from textune.data import read_table

        table = read_table("embedded:rotten_tomatoes").arrow
        # The demo's own sample is of these rows: the trials take others, by another seed.
        return pl.DataFrame(pl.from_arrow(table)).sample(fraction=1.0, shuffle=True, seed=7)
    path = folder / name / "train.csv"
    if not path.is_file():
        raise SystemExit(f"{path}: not there; --data must name the folder that holds {name}/train.csv")
    return pl.read_csv(path, infer_schema=False).sample(fraction=1.0, shuffle=True, seed=7)


def main() -> None:
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(TRIALS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1])
    parser.add_argument("--set", nargs="*", default=[], help="more settings, key=value, recorded with the trial")
    parser.add_argument("--grid", help='another grid as JSON, such as {"learning_rate": [1e-3]}')
    arguments = parser.parse_args()
    extra = dict(word.split("=", 1) for word in arguments.set)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    done = {json.dumps([t["data"], t["settings"]], sort_keys=True) for t in read_json_lines(arguments.output)}
    for name in arguments.only:
        rows, fixed, grid = TRIALS[name]
        grid = json.loads(arguments.grid) if arguments.grid else grid
        for seed, *values in itertools.product(arguments.seeds, *grid.values()):
            settings = fixed | dict(zip(grid, values, strict=True)) | extra | {"seed": seed}
            if json.dumps([name, settings], sort_keys=True) in done:
                continue
            trial = run_trial(name, arguments.data, rows, settings)
            with arguments.output.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(trial) + "\n")
            print(json.dumps(trial), flush=True)


def run_trial(name: str, folder: Path, rows: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Trains once and returns the settings with the scores at each evaluation."""
    frame = read_training_rows(name, folder)
    learn, judge = frame[:rows], frame[rows : rows + HELD_OUT]
    with tempfile.TemporaryDirectory() as place:
        flat = {"data": "rows", "validation": "rows", "test_fraction": 0, "label": "label", "runs_dir": place}
        flat |= {"text": "text"} if "text" not in settings else {}
        config = build_config(flat | {"name": "trial"} | settings)
        run = train_only(config, Plain(seconds_between_lines=60), {"data": learn, "validation": judge})
        evaluations = [line for line in read_json_lines(run / "metrics.jsonl") if line["kind"] == "evaluation"]
    scores = [
        {"epoch": e["epoch"], **{k: round(e[k], 4) for k in ("accuracy", "macro_f1", "loss")}} for e in evaluations[1:]
    ]
    return {"data": name, "settings": settings, "rows": rows, "last": scores[-1], "scores": scores}


if __name__ == "__main__":
    main()
