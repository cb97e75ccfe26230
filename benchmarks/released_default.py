"""What the defaults of an older commit reach on the training and test rows of the accuracy frontier.

    git worktree add ../older f213f65
    python benchmarks/released_default.py --checkout ../older --data FOLDER --output results/released_default.jsonl \
        [--only DATA ...] [--sizes 8c 64c] [--draws N]

Each run is a process of its own that imports textune from the other checkout. A run that is in the output already is
not repeated. `python docs/generate.py` puts the means into docs/accuracy.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accuracy_frontier import DATA, draw_rows, list_cells, read_rows
from sides import name_commit
from textune.files import append_json_line, read_json_lines


def main() -> int:
    """Run the cells that the output lacks; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True, help="a work tree of the older commit")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=["sms_spam", "rotten_tomatoes", "banking77", "ag_news"])
    parser.add_argument("--sizes", nargs="*", default=["8c"])
    parser.add_argument("--draws", type=int, default=5, help="at most so many draws of a setting")
    given = parser.parse_args()
    commit = name_commit(given.checkout)
    done = {(line["data"], line["size"], line["draw"], line["commit"]) for line in read_json_lines(given.output)}
    for name, size, draw in list_cells(given.only, given.sizes):
        if draw > given.draws or (name, size, draw, commit) in done:
            continue
        line = {"data": name, "size": size, "draw": draw, "commit": commit}
        line |= run_older(given.checkout, name, size, draw, given.data)
        append_json_line(given.output, line)
        print(json.dumps(line), flush=True)
    return 0


def run_older(checkout: Path, name: str, size: str, draw: int, folder: Path) -> dict[str, Any]:
    """Train in the older checkout, with fp32 as the frontier has it; return the accuracy on the test rows."""
    spec = DATA[name]
    train, test = read_rows(name, folder)
    with tempfile.TemporaryDirectory() as place:
        draw_rows(train, spec, size, draw).write_csv(f"{place}/train.csv")
        test.write_csv(f"{place}/test.csv")
        settings: Mapping[str, Any] = {"text": "text", "label": "label"} | dict(spec.settings)
        words = [f"{key}={value}" for key, value in settings.items()]
        command = ["train", "data=train.csv", "test=test.csv", *words, f"seed={draw}", "precision=fp32"]
        environment = os.environ | {"PYTHONPATH": str(checkout.resolve() / "src"), "TEXTUNE_CACHE": f"{place}/cache"}
        done = subprocess.run(
            [sys.executable, "-m", "textune", *command, "name=run", f"runs_dir={place}"],
            cwd=place, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{name} {size} {draw}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        metrics = json.loads(Path(place, "run", "evaluation", "metrics.json").read_text(encoding="utf-8"))
    tuned = metrics["models"]["tuned"]
    return {"accuracy": tuned["accuracy"], "test_rows": len(test), "command": "textune " + " ".join(command)}


if __name__ == "__main__":
    sys.exit(main())
