"""What keeping few compiled kernels saves: the same training with oneDNN's and PyTorch's own limits and with ours.

    python benchmarks/compiled_kernels.py --data FOLDER --output results/kernels.jsonl [--rows 1000] [--repetitions 3]

The first 1,000 training rows of amazon_reviews, title and content joined, LoRA on MiniLM, max_length 512, 1 epoch, and
the prediction of 50 test rows: a process of its own each, in turns. `kernels` is how many shapes of products stay
compiled (ONEDNN_PRIMITIVE_CACHE_CAPACITY and LRU_CACHE_CAPACITY).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from sides import (
    Results,
    choose_environment,
    describe_setting,
    hold_to,
    median,
    ratio,
    read_rows,
    run_side,
    textune,
    write_rows,
)

THEIRS = 1024
FIGURE, SUMMARY = "training with kernels kept", "kernels kept"


def main() -> None:
    from textune.cli.environment import KERNELS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    hold_to(given.threads)
    where = "" if given.data is None else "--data FOLDER "
    command = f"python benchmarks/compiled_kernels.py {where}--rows {given.rows}"
    fixed = describe_setting(given.threads) | {
        "rows": given.rows, "epochs": 1, "dropout": 0.0, "scaled": False, "command": command, "allocator": "own",
        "data": "rotten_tomatoes" if given.data is None else "amazon_reviews",
    }  # fmt: skip
    results = Results(given.output, fixed)
    counts = (THEIRS, int(KERNELS))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, part, rows in (("rows", "train", given.rows), ("test", "test", 50)):
            write_rows(place / f"{name}.csv", *read_rows(given.data, "amazon_reviews", part, slice(0, rows)))
        for repetition in range(1, given.repetitions + 1):
            for kernels in counts:
                if not results.find(figure=FIGURE, kernels=kernels, repetition=repetition):
                    line = measure(kernels, place, given.threads)
                    results.add({"figure": FIGURE, "kernels": kernels, "repetition": repetition} | line)
    if not results.find(figure=SUMMARY):
        theirs, ours = (results.find(figure=FIGURE, kernels=kernels) for kernels in counts)
        line = {"figure": SUMMARY, "kernels": counts[1], "unit": "their memory over ours"}
        for key in ("seconds", "peak_memory_mb", "anonymous_mb"):
            line |= {key: median(ours, key), f"their_{key}": median(theirs, key)}
        memory = ratio(line["their_anonymous_mb"], line["anonymous_mb"])
        results.add(line | {"value": memory, "time": ratio(line["their_seconds"], line["seconds"]),
                            "repetitions": given.repetitions})  # fmt: skip


def measure(kernels: int, place: Path, threads: int) -> dict[str, Any]:
    """Train once; return the seconds of the training and the memory of the process."""
    with tempfile.TemporaryDirectory() as cache:
        names = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
        environment = choose_environment("own", threads, ours=True, cache=Path(cache))
        environment |= dict.fromkeys(names, str(kernels))
        settings = (
            f"test={place / 'test.csv'}", "text=text", "label=label", "method=lora", "max_length=512", "epochs=1",
            "batch_size=16", "learning_rate=1e-3", "validation_fraction=0", "seed=42", f"runs_dir={cache}", "name=run",
        )  # fmt: skip
        finished = run_side(textune("train", place / "rows.csv", *settings, "--json"), environment)
        path = Path(cache) / "run" / "evaluation" / "metrics.json"
        costs = json.loads(path.read_text(encoding="utf-8"))["costs"]
    return {
        "seconds": round(costs["training_seconds"], 2), "unit": "seconds", "value": round(costs["training_seconds"], 2),
        "peak_memory_mb": round(costs["peak_memory_mb"]), "anonymous_mb": finished.peak_anonymous_mb(),
    }  # fmt: skip


if __name__ == "__main__":
    main()
