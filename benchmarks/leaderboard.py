"""Methods x data sets x seeds on MiniLM: figures with intervals and cost, one process a cell.

    python benchmarks/leaderboard.py --data FOLDER --output results/leaderboard.json [--only DATA ...]
        [--methods NAME ...] [--seeds 1 2 3] [--minutes N]

Every setting is textune's own rule. Cells run from cheap to dear, so that any stop leaves the most for its time. A
finished cell is in the output at once, whole; a stop of any kind loses only the running one, and the same command goes
on.
--minutes ends by itself: no cell begins that would not fit into what is left, and one that outlasts it is not counted.
`python docs/generate.py` makes docs/leaderboard.md of the output.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from textune.cli.environment import tune_libraries
from textune.config import build_config
from textune.errors import TextuneError
from textune.files import read_json, read_json_lines, write_text_atomically


@dataclass(frozen=True)
class DataSet:
    """Files under --data, settings, and the seconds that LoRA took on two cores, or is thought to take."""

    files: Mapping[str, str]
    settings: Mapping[str, str]
    seconds: float


def _csv(folder: str, *more: str) -> dict[str, str]:
    names = {"data": "train", "test": "test"} | {name: name for name in more}
    return {key: f"{folder}/{name}.csv" for key, name in names.items()}


_IMDB = {"data": "imdb/train.parquet", "test": "imdb/test.parquet"}
DATA = {
    "sms_spam": DataSet(_csv("sms_spam"), {}, 90),
    "amazon_reviews": DataSet(
        _csv("amazon_reviews"), {"text": "title,content", "sample": "first:1000", "test_sample": "first:1000"}, 150
    ),
    "banking77": DataSet(_csv("banking77"), {}, 200),
    "ag_news": DataSet(_csv("ag_news"), {"test_text": "title,description"}, 240),
    "imdb_2k": DataSet(_IMDB, {"sample": "first:2000", "test_sample": "first:2000", "max_length": "256"}, 270),
    "go_emotions": DataSet(_csv("go_emotions", "validation"), {}, 900),
    "imdb": DataSet(_IMDB, {"max_length": "256"}, 2700),
}
# name in the table -> (settings of the method, seconds in multiples of LoRA's)
METHODS: dict[str, tuple[dict[str, Any], float]] = {
    "lora": ({"name": "lora"}, 1.0),
    "full": ({"name": "full"}, 1.4),
    "head": ({"name": "head"}, 0.5),
    "bitfit": ({"name": "bitfit"}, 0.9),
    "adapter": ({"name": "adapter"}, 1.6),
    "ia3": ({"name": "ia3"}, 1.6),
    "prefix": ({"name": "prefix"}, 1.6),
    "dora": ({"name": "lora", "dora": "true"}, 2.2),
    "prompt": ({"name": "prompt"}, 1.7),
    "qlora": ({"name": "qlora"}, 2.4),
}
SEEDS = (1, 2, 3)
FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One run of the table."""

    data: str
    method: str
    seed: int

    @property
    def estimate(self) -> float:
        """Seconds that it is thought to take."""
        return DATA[self.data].seconds * METHODS[self.method][1]

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from the others."""
        return self.data, self.method, self.seed


@dataclass
class Table:
    """The finished cells, kept in one file that is always whole."""

    path: Path
    cells: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path) -> Table:
        """Read what is there."""
        cells = read_json(path, "the results table")["cells"] if path.is_file() else []
        return cls(path, list(cells))

    def holds(self, cell: Cell) -> bool:
        """Return whether the cell is finished."""
        return cell.key in {(c["data"], c["method"], c["seed"]) for c in self.cells}

    def refuse_others(self, extra: Mapping[str, str]) -> None:
        """Refuse to put trials of other settings beside the table's cells: each would be taken for the other."""
        if any(c["set"] != dict(extra) for c in self.cells):
            raise SystemExit(f"{self.path}: has cells of other settings (--set); give --output another file")

    def add(self, line: dict[str, Any]) -> None:
        """Add a finished cell and write the file anew, in the order of the tables."""
        self.cells.append(line)
        order = {name: i for i, name in enumerate((*DATA, *METHODS))}
        self.cells.sort(key=lambda c: (order[c["data"]], order[c["method"]], c["seed"]))
        lines = ",\n  ".join(json.dumps(cell) for cell in self.cells)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(self.path, f'{{"format": {FORMAT}, "cells": [\n  {lines}\n]}}\n')

    def fits(self, line: Mapping[str, Any]) -> bool:
        """Return whether the data set's other cells were measured on the same test rows."""
        return all(c["test_rows"] == line["test_rows"] for c in self.cells if c["data"] == line["data"])

    def slowness(self) -> float:
        """Return how much longer cells took than was thought: the median over the finished ones."""
        took = [c["seconds"] / Cell(c["data"], c["method"], c["seed"]).estimate for c in self.cells]
        return statistics.median(took) if took else 1.0


def list_cells(data: Sequence[str], methods: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Return the cells in the order in which they run: cheap ones first, and first seeds before second ones."""
    cells = [(n, Cell(d, m, seed)) for d in data for m in methods for n, seed in enumerate(seeds, 1)]
    return [cell for _, cell in sorted(cells, key=lambda pair: pair[0] * pair[1].estimate)]


def fill(table: Table, cells: Sequence[Cell], data: Path, extra: Sequence[str], minutes: float | None) -> int:
    """Run the cells that the table lacks; return how many failed."""
    end = None if minutes is None else time.monotonic() + 60 * minutes
    failed = 0
    for cell in cells:
        left = None if end is None else end - time.monotonic()
        if table.holds(cell) or (left is not None and cell.estimate * table.slowness() > left):
            continue
        print(f"{cell.data}, {cell.method}, seed {cell.seed}", file=sys.stderr, flush=True)
        try:
            line = run_cell(cell, data, extra, left)
        except subprocess.TimeoutExpired:
            print("  no time left: not counted", file=sys.stderr, flush=True)
            break
        if line is not None and not table.fits(line):
            print(f"  {cell.data}: other test rows than the table's cells have: not counted", file=sys.stderr)
            line = None
        if line is None:
            failed += 1
            continue
        table.add(line)
        print(json.dumps(line), flush=True)
    return failed


def run_cell(cell: Cell, data: Path, extra: Sequence[str], seconds: float | None) -> dict[str, Any] | None:
    """Run one cell in a process of its own; return its line, or None where it failed.

    Raises subprocess.TimeoutExpired after so many seconds.
    """
    with tempfile.TemporaryDirectory() as place:
        words = ["--data", str(data), "--output", place, "--cell", cell.data, cell.method, str(cell.seed)]
        command = [sys.executable, __file__, *words, *(f"--set={word}" for word in extra)]
        # A cache of its own: what another cell left there would be missing from this one's seconds.
        environment = os.environ | {"TEXTUNE_CACHE": str(Path(place) / "cache")}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=seconds, check=False, env=environment)
        if done.returncode in (130, 143):
            raise KeyboardInterrupt
        if done.returncode:
            print(f"  failed with exit code {done.returncode}: not counted", file=sys.stderr, flush=True)
            return None
        return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_cell(cell: Cell, data: Path, extra: Mapping[str, str], place: Path) -> dict[str, Any]:
    """Train one classifier in this process, measures it from its saved folder, and return its line."""
    started = time.monotonic()
    from textune.cli.allocator import open_tuned_progress
    from textune.inference import Predictor
    from textune.run.api import train_and_save
    from textune.run.costs import peak_memory_mb
    from textune.run.other_rows import measure_rows
    from textune.run.prepare import prepare
    from textune.run.save import weight_megabytes

    spec = DATA[cell.data]
    files = {key: str(data / name) for key, name in spec.files.items()}
    settings = files | dict(spec.settings) | {"method": METHODS[cell.method][0], "seed": cell.seed} | dict(extra)
    config = build_config(settings)
    progress = open_tuned_progress()
    prepared = prepare(config, progress)
    folder = place / "run"
    folder.mkdir()
    manifest, training = train_and_save(prepared, folder, progress)
    peak = peak_memory_mb()
    split, examples = prepared.data.evaluation
    evaluation = measure_rows(Predictor.load(folder), examples, folder).evaluation
    first, decided = evaluation.headline, prepared.config.training
    log = read_json_lines(folder / "metrics.jsonl")
    last = max((line["step"] for line in log if line["kind"] == "step"), default=0)
    warnings = [line["text"] for line in log if line["kind"] == "warning" and line["step"] == last]
    return {
        "data": cell.data, "method": cell.method, "seed": cell.seed, "split": split, "rows": len(examples),
        "train_rows": len(prepared.data.train), "metric": first.name, "score": round(first.value, 5),
        "interval": [round(first.interval.low, 5), round(first.interval.high, 5)],
        "macro_f1": round(evaluation.summary["macro_f1"], 5), "training_seconds": round(training.seconds, 2),
        "seconds": round(time.monotonic() - started, 1), "peak_memory_mb": round(peak),
        "trainable": manifest.trainable_parameters, "total": manifest.total_parameters,
        "megabytes": round(weight_megabytes(folder), 3), "warning": warnings[-1] if warnings else None,
        "settings": {"epochs": decided.epochs, "batch_size": decided.batch_size, "learning_rate": decided.learning_rate,
                     "max_length": manifest.max_length, **manifest.method_options, **extra},
        "engine": manifest.engine["name"], "precision": manifest.engine["precision"]["name"],
        "threads": manifest.engine["threads"], "device": manifest.engine["device"],
        "versions": {key: manifest.versions[key] for key in ("torch", "transformers", "peft")}
        | {"textune": manifest.textune_version},
        "test_rows": examples.fingerprint[:16], "set": dict(extra),
        "machine": f"{os.cpu_count()} processors, {platform.machine()}, {platform.system()}",
    }  # fmt: skip


def print_cell(cell: Cell, data: Path, extra: Mapping[str, str], place: Path) -> int:
    """Measure a cell and print its line; return the exit code."""
    try:
        print(json.dumps(measure_cell(cell, data, extra, place)), flush=True)
    except TextuneError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the table, or measures one cell; return the exit code."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(DATA), choices=list(DATA), metavar="DATA")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--minutes", type=float, help="end after so many minutes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for trials; not for the table")
    parser.add_argument("--list", action="store_true", help="print the cells in their order and leave")
    parser.add_argument("--cell", nargs=3, metavar=("DATA", "METHOD", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    extra = dict(word.split("=", 1) for word in given.set)
    if given.cell:
        return print_cell(Cell(given.cell[0], given.cell[1], int(given.cell[2])), given.data, extra, given.output)
    cells = list_cells(given.only, given.methods, given.seeds)
    table = Table.open(given.output)
    table.refuse_others(extra)
    if given.list:
        for cell in cells:
            state = "done" if table.holds(cell) else f"about {cell.estimate * table.slowness():.0f} s"
            print(f"{cell.data:16}{cell.method:10}{cell.seed:4}  {state}")
        return 0
    _check_data(given.data, given.only)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the running cell ends with this process
    lock = given.output.with_suffix(".lock")
    try:
        with FileLock(lock, timeout=0):
            try:
                failed = fill(Table.open(given.output), cells, given.data, given.set, given.minutes)
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise SystemExit(f"{given.output}: another process is filling this table") from None
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 1 if failed else 0


def _check_data(folder: Path, names: Sequence[str]) -> None:
    missing = [file for name in names for file in DATA[name].files.values() if not (folder / file).is_file()]
    if missing:
        raise SystemExit(f"{folder / missing[0]} is missing; --data must name the folder of the data sets")


if __name__ == "__main__":
    sys.exit(main())
