"""What keeping the output of frozen layers saves: whole trainings with and without the cache, in turns.

    python benchmarks/prefix.py --data FOLDER --output results/prefix.jsonl [--rows 1000] [--repetitions 3]

The first 1,000 training rows of amazon_reviews, title and content joined, MiniLM, max_length 512, 4 epochs: `head`,
where all six layers are frozen, and LoRA on the two highest layers. Each run is a process of its own with an empty
cache, so its time holds what is computed once, and the prediction of 50 test rows. `again` is a second run over the
same rows, which finds the states of the first.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from sides import (
    ALLOCATORS,
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

METHODS = {"head": ("method=head",), "lora, top 2 of 6 layers": ("method=lora", "method.top_layers=2")}
FIGURE = "training with frozen layers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--allocator", choices=ALLOCATORS, default="own")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    hold_to(given.threads)
    command = f"python benchmarks/prefix.py {'' if given.data is None else '--data FOLDER '}--rows {given.rows}"
    fixed = describe_setting(given.threads) | {
        "allocator": given.allocator, "rows": given.rows, "epochs": 4, "dropout": 0.0, "scaled": False,
        "data": "rotten_tomatoes" if given.data is None else "amazon_reviews", "command": command,
    }  # fmt: skip
    results = Results(given.output, fixed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, part, rows in (("rows", "train", given.rows), ("test", "test", 50)):
            write_rows(place / f"{name}.csv", *read_rows(given.data, "amazon_reviews", part, slice(0, rows)))
        for repetition in range(1, given.repetitions + 1):
            for method in METHODS:
                if not results.find(figure=FIGURE, side=method, repetition=repetition):
                    line = measure(method, place, given)
                    results.add({"figure": FIGURE, "side": method, "repetition": repetition, "unit": "seconds"} | line)
    for method in METHODS:
        lines = results.find(figure=FIGURE, side=method)
        if len(lines) >= given.repetitions and not results.find(figure="frozen layers kept", side=method):
            without, kept, again = (median(lines, key) for key in ("without_seconds", "value", "again_seconds"))
            results.add(
                {"figure": "frozen layers kept", "side": method, "value": ratio(without, kept), "seconds": kept,
                 "unit": "times as fast", "again": ratio(without, again), "without_seconds": without,
                 "again_seconds": again, "megabytes": lines[0]["megabytes"], "repetitions": given.repetitions}
            )  # fmt: skip


def measure(method: str, place: Path, given: Any) -> dict[str, Any]:
    """Train without the cache, with an empty one, and with what that run left; return the seconds."""
    with tempfile.TemporaryDirectory() as cache:
        environment = choose_environment(given.allocator, given.threads, ours=True, cache=Path(cache))
        seconds = {}
        for name, kept in (("without_seconds", "false"), ("value", "true"), ("again_seconds", "true")):
            settings = (
                f"test={place / 'test.csv'}", "text=text", "label=label", *METHODS[method], "max_length=512",
                "epochs=4", "batch_size=16", "learning_rate=1e-3", "validation_fraction=0", "seed=42",
                f"prefix_cache={kept}", f"runs_dir={cache}", f"name={name}",
            )  # fmt: skip
            run_side(textune("train", place / "rows.csv", *settings, "--json"), environment)
            path = Path(cache) / name / "evaluation" / "metrics.json"
            seconds[name] = json.loads(path.read_text(encoding="utf-8"))["models"]["tuned"]["seconds"]
        size = sum(path.stat().st_size for path in (Path(cache) / "prefixes").rglob("*") if path.is_file())
    return seconds | {"megabytes": round(size / 1e6, 1)}


if __name__ == "__main__":
    main()
