"""Accuracy and time of whole runs with the defaults, each in a process of its own, as a person would start them.

    python benchmarks/measure_runs.py --data FOLDER_OF_DATA_SETS --output results/first_runs.jsonl [--only sms_spam]

One line of JSON a run: command, accuracy and macro F1 with 95% intervals, baselines, seconds, peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from accuracy_frontier import DATA, draw_rows, read_rows

AMAZON = ["sample=first:1000", "test_sample=first:1000"]
RUNS: dict[str, tuple[str, list[str]]] = {
    "rotten_tomatoes": ("demo", []),
    "amazon_reviews, content": ("amazon_reviews", ["text=content", *AMAZON]),
    "amazon_reviews, title and content": ("amazon_reviews", ["text=title,content", *AMAZON]),
    "sms_spam": ("sms_spam", []),
    "ag_news": ("ag_news", ["test_text=title,description"]),
    "banking77": ("banking77", []),
    "banking77, 8 rows per class": ("banking77", []),
    "sms_spam, 8 rows per class": ("sms_spam", []),
    "ag_news, 8 rows per class": ("ag_news", ["test_text=title,description"]),
    "amazon_reviews, 8 rows per class": ("amazon_reviews", ["text=title,content", AMAZON[1]]),
}
SIZES = {name: "8c" for name in RUNS if name.endswith("8 rows per class")}
"""Runs on a draw of the training rows, as `accuracy_frontier.py` draws them; the others take all."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(RUNS))
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        line = measure(name, arguments.data, arguments.seed)
        with arguments.output.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def measure(name: str, data: Path, seed: int) -> dict[str, Any]:
    """Start one run and return its figures."""
    source, settings = RUNS[name]
    with tempfile.TemporaryDirectory() as place:
        if source == "demo":
            words = ["demo", "--json", "--runs-dir", place]
            told = "textune demo"
        else:
            folder = data / source
            if not (folder / "train.csv").is_file():
                raise SystemExit(f"{folder}: train.csv is missing; --data must name the folder of the data sets")
            table, drawn = folder / "train.csv", ""
            if (size := SIZES.get(name)) is not None:
                table, drawn = Path(place) / "train.csv", f", {size} of draw 1"
                draw_rows(read_rows(source, data)[0], DATA[source], size, draw=1).write_csv(table)
            fixed = [f"test={folder / 'test.csv'}", *settings, f"seed={seed}", f"runs_dir={place}"]
            words = ["train", str(table), *fixed, "--json"]
            told = f"textune train {source}/train.csv test={source}/test.csv {' '.join(settings)} seed={seed}{drawn}"
        started = time.monotonic()
        # A cache of its own: tokenising is part of the time.
        environment = os.environ | {"TEXTUNE_CACHE": str(Path(place) / "cache")}
        done = subprocess.run(
            [sys.executable, "-m", "textune", *words], stdout=subprocess.PIPE, env=environment, check=True
        )
        seconds = time.monotonic() - started
    figures = json.loads(done.stdout)
    return {
        "run": name,
        "command": told,
        "rows": figures["rows"],
        "accuracy": figures["accuracy"],
        "macro_f1": figures["macro_f1"],
        "intervals": figures["intervals"],
        "baselines": figures["baselines"],
        "seconds": round(seconds, 1),
        "training": figures["summary"]["training time"],
        "settings": figures["summary"]["epochs"],
        "peak_memory": figures["summary"]["peak memory"],
        "machine": f"{os.cpu_count()} processors, {platform.machine()}, {platform.system()}",
    }


if __name__ == "__main__":
    main()
