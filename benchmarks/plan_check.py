"""What `textune plan` says against what then happens: six real runs, forecast first and trained afterwards.

    python benchmarks/plan_check.py --data FOLDER_OF_DATA_SETS --output results/plan.jsonl [--only sms_spam-lora]

One line of JSON a run: forecast, reality and the error of each in percent. The machine should have nothing else to do.
Time is from the start of the process to its end; peak memory is the process's own; the disk is looked at five times a
second while the run trains. `--settings epochs=1` makes a short trial of it. `--busy 1` plans and trains beside a busy
process; write that to results/plan_busy.jsonl.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

AMAZON = ("text=content", "sample=first:500", "test_sample=first:1000")
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sms_spam-lora": ("sms_spam", ("method=lora",)),
    "sms_spam-head": ("sms_spam", ("method=head",)),
    "sms_spam-bitfit": ("sms_spam", ("method=bitfit",)),
    "amazon_500-lora": ("amazon_reviews", ("method=lora", *AMAZON)),
    "amazon_500-full": ("amazon_reviews", ("method=full", *AMAZON)),
    "rotten_tomatoes-adapter": ("embedded:rotten_tomatoes", ("method=adapter", "sample=4000")),
}
TEXTUNE = (sys.executable, "-m", "textune")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--seconds", type=float, help="per rehearsal; default: that of textune plan")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="keep N processors busy meanwhile")
    parser.add_argument("--settings", nargs="*", default=[], help="key=value words for every run")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        with keep_busy(arguments.busy):
            line = check(name, arguments.data, arguments.seconds, arguments.settings) | {"busy": arguments.busy}
        with arguments.output.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(json.dumps({"run": name, "error_percent": line["error_percent"]}), flush=True)


@contextmanager
def keep_busy(processors: int) -> Iterator[None]:
    """Let other programs compute for as long as the block takes."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processors)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def check(name: str, data: Path, seconds: float | None, settings: list[str]) -> dict[str, Any]:
    """Forecast one run, trains it, and return both."""
    source, words = RUNS[name]
    table = [source]
    if not source.startswith("embedded:"):
        folder = data / source
        if not (folder / "train.csv").is_file():
            raise SystemExit(f"{folder}: train.csv is missing; --data must name the folder of the data sets")
        table = [str(folder / "train.csv"), f"test={folder / 'test.csv'}"]
    with tempfile.TemporaryDirectory(prefix="plan-check-") as place:
        # A cache of its own for both: tokenising is part of the time.
        environment = os.environ | {"TEXTUNE_CACHE": str(Path(place) / "cache")}
        told = [*table, *words, *settings, f"runs_dir={place}"]
        command = [*TEXTUNE, "plan", *told, "--json", *([] if seconds is None else ["--seconds", str(seconds)])]
        started = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, check=True)
        planning = time.monotonic() - started
        forecast = json.loads(done.stdout)["forecasts"][0]
        run = Path(place) / "run"
        real = train([*TEXTUNE, "train", *told, "name=run", "--json"], run, environment)
    planned = {
        "run_seconds": forecast["run_seconds"], "training_seconds": forecast["training_seconds"],
        "peak_memory_mb": forecast["peak_memory_mb"], "disk_mb": forecast["disk_mb"],
        "disk_while_training_mb": forecast["disk_while_training_mb"],
    }  # fmt: skip
    error = {key: round(100 * (planned[key] / real[key] - 1), 1) for key in planned}
    return {
        "run": name,
        "command": f"textune plan {source}/train.csv {' '.join([*words, *settings])}",
        "forecast": {key: round(value, 2) for key, value in planned.items()},
        "real": {key: round(value, 2) for key, value in real.items()},
        "error_percent": error,
        "parts": {part: round(value, 2) for part, value in forecast["seconds"].items()},
        "planning_seconds": round(planning, 1),
        "load": forecast["load"],
        "notes": forecast["notes"],
        "settings": forecast["settings"],
        "machine": f"{os.cpu_count()} processors, {platform.machine()}, {platform.system()}",
    }


def train(command: list[str], run: Path, environment: dict[str, str]) -> dict[str, float]:
    """Train in a process of its own and return what it took."""
    started, most = time.monotonic(), 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    while process.poll() is None:
        most = max(most, measure_folder(run))
        time.sleep(0.2)
    seconds = time.monotonic() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with exit code {process.returncode}")
    costs = json.loads((run / "evaluation" / "metrics.json").read_text(encoding="utf-8"))["costs"]
    return {
        "run_seconds": seconds, "training_seconds": costs["training_seconds"],
        "peak_memory_mb": costs["peak_memory_mb"], "disk_mb": measure_folder(run), "disk_while_training_mb": most,
    }  # fmt: skip


def measure_folder(folder: Path) -> float:
    """Return the megabytes of the files in a folder; those that go meanwhile are left out."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(root) / name).stat().st_size
            except OSError:
                continue
    return total / 1e6


if __name__ == "__main__":
    main()
