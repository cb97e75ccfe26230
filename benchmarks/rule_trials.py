"""Trials behind the rules of `textune.config.defaults`: training rows only, some to learn from, others to judge by.

    python benchmarks/rule_trials.py --data FOLDER --output results/rules.jsonl --name rates \
        --only banking77 ag_news --sizes 8 64 1000 all --seeds 1 2 3 --grid '{"learning_rate": [3e-4, 1e-3]}'

A size is a number of rows, `8c` for rows per class, or `all`. Every line of the output is one trial: data set, size,
seed, settings, and the scores on held-out training rows at each evaluation. A trial that is in the output already is
not repeated. No test row is read. --name groups the trials of one question.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from textune.cli.environment import tune_libraries
from textune.config import build_config
from textune.errors import TextuneError
from textune.files import append_json_line, read_json_lines
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.run.fit import fit
from textune.run.prepare import Shared, prepare

T = TypeVar("T")
JUDGED = {
    "banking77": 1_000, "sms_spam": 1_000, "rotten_tomatoes": 1_000, "ag_news": 1_500, "amazon_reviews": 1_500,
}  # fmt: skip
"""Rows held out to judge by; 500 where nothing is said, since long texts take long. The last two had 500 in trials
named neither rate_1000 nor few_64."""
_NOT_LOOKED = {"accuracy": 0.0, "macro_f1": 0.0, "micro_f1": 0.0, "loss": 0.0}
DATA: dict[str, dict[str, Any]] = {
    "banking77": {},
    "ag_news": {},
    "amazon_reviews": {"text": "title,content"},
    "sms_spam": {},
    "rotten_tomatoes": {},
    "imdb": {"max_length": 256},
    "go_emotions": {"label": "labels"},
}


def read_training_rows(name: str, folder: Path) -> pl.DataFrame:
    """Return the training rows as text, shuffled by a fixed seed."""
    if name == "rotten_tomatoes":
        from textune.data import read_table

        frame = pl.DataFrame(pl.from_arrow(read_table("embedded:rotten_tomatoes").arrow))
    elif name == "imdb":
        frame = pl.read_parquet(folder / name / "train.parquet").cast(pl.String)
    else:
        path = folder / name / "train.csv"
        if not path.is_file():
            raise SystemExit(f"{path}: not there; --data must name the folder that holds {name}/train.csv")
        frame = pl.read_csv(path, infer_schema=False)
    return frame.sample(fraction=1.0, shuffle=True, seed=7)


def draw(frame: pl.DataFrame, size: str, label: str, seed: int) -> pl.DataFrame:
    """Return rows to learn from: so many, so many of each class, or all."""
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    if size == "all":
        return shuffled
    if size.endswith("c"):
        return shuffled.filter(pl.int_range(pl.len()).over(label) < int(size[:-1]))
    return shuffled[: int(size)]


def main(words: Sequence[str] | None = None) -> None:
    """Run the trials that the output lacks."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--name", required=True, help="the question that these trials answer")
    parser.add_argument("--only", nargs="*", default=list(DATA))
    parser.add_argument("--sizes", nargs="*", default=["8c", "64c", "1000", "all"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--judged", type=int, help="rows to judge by, recorded with the trial; default: by data set")
    parser.add_argument("--grid", default="{}", help='JSON of settings to values, such as {"learning_rate": [1e-3]}')
    parser.add_argument("--set", nargs="*", default=[], help="more settings, key=value, recorded with the trial")
    arguments = parser.parse_args(words)
    extra = dict(word.split("=", 1) for word in arguments.set)
    grid = json.loads(arguments.grid)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    done = {_key(trial) for trial in read_json_lines(arguments.output)}
    for size, seed, name in itertools.product(arguments.sizes, arguments.seeds, arguments.only):
        for values in itertools.product(*grid.values()):
            settings = extra | dict(zip(grid, values, strict=True))
            trial = {"name": arguments.name, "data": name, "size": size, "seed": seed, "settings": settings}
            if arguments.judged:
                trial["judged"] = arguments.judged
            if _key(trial) in done:
                continue
            try:
                trial |= run_trial(name, arguments.data, size, seed, settings, arguments.judged)
            except RunInterrupted:
                raise SystemExit(130) from None
            except TextuneError as error:
                trial |= {"error": str(error).splitlines()[0]}
            append_json_line(arguments.output, trial)
            last = trial.get("last", {})
            print(name, size, seed, settings, last.get("accuracy"), last.get("loss"), trial.get("seconds"), flush=True)


def _key(trial: dict[str, Any]) -> str:
    return json.dumps([trial.get(k) for k in ("name", "data", "size", "seed", "settings", "judged")], sort_keys=True)


class Judge(Shared):
    """Leaves the first look at the judging rows out: how good the start is, the trial of method=head says."""

    def keep(self, key: str, build: Callable[[], T]) -> T:
        """Return what `build` gives, but for the scores before the first step."""
        return _NOT_LOOKED if key.startswith("first scores") else build()  # type: ignore[return-value]


def run_trial(
    name: str, folder: Path, size: str, seed: int, settings: dict[str, Any], judged: int | None = None
) -> dict[str, Any]:
    """Train once; return the rows, the decided settings and the scores at each evaluation."""

    frame = read_training_rows(name, folder)
    fixed = DATA[name]
    label = fixed.get("label", "label")
    held_out = judged or JUDGED.get(name, 500)
    judge, learn = frame[:held_out], draw(frame[held_out:], size, label, seed)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        flat = {"data": "rows", "validation": "rows", "test_fraction": 0, "label": label, "seed": seed}
        flat |= {"text": "text"} | fixed | settings
        prepared = prepare(build_config(flat), Silent(), Shared({"data": learn, "validation": judge}))
        # a trial without steps is judged by its first look, which is the only one
        fit(prepared, Path(place), Silent(), shared=Judge() if prepared.config.training.epochs else None)
        log = read_json_lines(Path(place) / "metrics.jsonl")
    scores = [
        {"step": e["step"], **{k: round(e[k], 4) for k in ("accuracy", "macro_f1", "micro_f1", "loss")}}
        for e in log
        if e["kind"] == "evaluation"
    ]
    decided = prepared.config.training
    return {
        "rows": len(prepared.train), "epochs": decided.epochs, "batch_size": decided.batch_size, "last": scores[-1],
        "best": float(np.max([s["accuracy"] for s in scores])), "scores": scores,
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
