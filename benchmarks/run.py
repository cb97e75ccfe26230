"""The short form of the benchmarks, for `make bench`: some minutes on two cores, one repetition, few rows.

    python benchmarks/run.py [--data FOLDER] [--output FILE] [--only startup training inference ablation ...]

Without --data the film sentences of the demo are read. The figures say which way things lie and no more; the commands
of the full form stand in the docstrings of the scripts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sides import choose_environment, train_small

HERE = Path(__file__).parent
SHORT: dict[str, str] = {
    "startup": "--repetitions 5",
    "training": "--rows 128 --epochs 1 --repetitions 1 --steps-n 1 --steps-d 3",
    "inference": "--rows 200 --padded-rows 16 --repetitions 1",
    "ablation": "--rows 64 --passes 1",
    "accuracy": "--only amazon_reviews --rows 128 --test-rows 500 --epochs 1 --seeds 1 --sides lean P",
    "scaling": "--sizes 500 2000",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", nargs="*", choices=SHORT, default=list(SHORT))
    given = parser.parse_args()
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run = None
        if {"startup", "inference"} & set(given.only):
            run = train_small(place, given.data, 300, 1, choose_environment("own", 2, ours=True))
        for name in given.only:
            words = [sys.executable, str(HERE / f"{name}.py"), *SHORT[name].split()]
            words += ["--output", str(place / f"{name}.jsonl")]
            words += ["--data", str(given.data)] if given.data and name not in ("startup", "scaling") else []
            words += ["--run", str(run)] if name in ("startup", "inference") else []
            failed = subprocess.run(words, check=False).returncode
            if failed:
                print(f"{name}.py ended with {failed}", file=sys.stderr)
            path = place / f"{name}.jsonl"
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            lines += [json.loads(line) for line in text.splitlines()]
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    print_table(lines)


def print_table(lines: list[dict[str, Any]]) -> None:
    """Print figure, side, value and unit of every line."""
    rows = [("figure", "side", "value", "unit")]
    for line in lines:
        value = line.get("value", line.get("wall_seconds", line.get("seconds")))
        scaled = " (scaled)" if line.get("scaled") else ""
        rows.append((line["figure"], str(line.get("side", "")), f"{value}", f"{line.get('unit', '')}{scaled}"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    print()
    for figure, side, value, unit in rows:
        print(f"{figure.ljust(widths[0])}  {side.ljust(widths[1])}  {value.rjust(widths[2])}  {unit}")


if __name__ == "__main__":
    main()
