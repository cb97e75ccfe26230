"""What mean pooling costs in time: the lean engine with the first token, the same without its shortcut, and the mean.

    python benchmarks/pooling_speed.py --data FOLDER --output results/pooling_speed.jsonl [--rows 160] [--passes 2]
        [--repetitions 5] [--allocator own|tuned|plain]

A head that reads the first token only lets the last layer skip all other tokens; the mean needs that layer whole. A
LoRA training step and inference with the merged model, MiniLM, the first 160 rows of amazon_reviews, steady state:
start-up and tokenising are not counted. Each side is a process of its own, in turns. Ratios are taken within a
repetition, and their median is held against the two bounds. Lines that are in --output are not measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ablation import BATCH_SIZE, Variant, build_step, force_attention, open_rows
from sides import (
    ALLOCATORS,
    Results,
    choose_environment,
    describe_setting,
    hold_to,
    median,
    read_rows,
    run_side,
    write_rows,
)

# A probe would choose the form of attention anew in each process, and sides would differ by more than pooling.
_SAME = force_attention(None)
FIRST, WHOLE, MEAN = "first token", "first token, last layer whole", "mean"
SIDES = {
    FIRST: Variant(FIRST, change=_SAME),
    WHOLE: Variant(WHOLE, "lean, last layer whole", change=_SAME),
    MEAN: Variant(MEAN, change=_SAME, pooling="mean"),
}
KINDS = ("training step", "inference")
BOUNDS = {WHOLE: 1.05, FIRST: 1.2}
FIGURE, RUN = "time of mean pooling", "pooling run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--passes", type=int, default=2, help="through the rows, in each process")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--allocator", choices=ALLOCATORS, default="own")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=4, metavar=("SIDE", "ROWS", "PASSES", "ALLOCATOR"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        side, rows, passes, allocator = given.one
        print(json.dumps(measure(side, Path(rows), int(passes), tune=allocator == "own")))
        return
    hold_to(given.threads)
    command = (
        f"python benchmarks/pooling_speed.py {'' if given.data is None else '--data FOLDER '}--rows {given.rows} "
        f"--passes {given.passes} --repetitions {given.repetitions} --allocator {given.allocator}"
    )
    fixed = describe_setting(given.threads) | {
        "rows": given.rows, "repetitions": given.repetitions, "allocator": given.allocator, "scaled": False,
        "data": "rotten_tomatoes" if given.data is None else "amazon_reviews", "command": command,
    }  # fmt: skip
    results = Results(given.output, fixed)
    sides = list(SIDES)
    with tempfile.TemporaryDirectory() as place:
        texts = read_rows(given.data, "amazon_reviews", "train", slice(0, given.rows))
        rows = write_rows(Path(place) / "rows.csv", *texts)
        for repetition in range(1, given.repetitions + 1):
            for turn in range(len(sides)):
                side = sides[(repetition + turn) % len(sides)]
                if not results.find(figure=RUN, side=side, repetition=repetition):
                    words = [sys.executable, __file__, "--one", side, str(rows), str(given.passes), given.allocator]
                    done = run_side(words, choose_environment(given.allocator, given.threads, ours=True))
                    results.add({"figure": RUN, "side": side, "repetition": repetition} | done.figures())
    summarise(results)


def summarise(results: Results) -> None:
    """Add the median ratio of the mean to each of the other sides, beside its bound."""
    runs = {side: sorted(results.find(figure=RUN, side=side), key=lambda line: line["repetition"]) for side in SIDES}
    for kind in KINDS:
        for other, bound in BOUNDS.items():
            if results.find(figure=FIGURE, kind=kind, side=other):
                continue
            ratios = [mine[kind] / theirs[kind] for mine, theirs in zip(runs[MEAN], runs[other], strict=True)]
            value = statistics.median(ratios)
            results.add(
                {"figure": FIGURE, "kind": kind, "side": other, "value": round(value, 3), "bound": bound,
                 "met": value <= bound, "unit": "time with the mean / time of this side",
                 "lowest": round(min(ratios), 3), "highest": round(max(ratios), 3),
                 "seconds": median(runs[MEAN], kind), "their_seconds": median(runs[other], kind),
                 "precision": runs[MEAN][0]["precision"]}
            )  # fmt: skip


def measure(side: str, rows: Path, passes: int, *, tune: bool) -> dict[str, Any]:
    """Return the seconds of one pass through the rows in this process, for training steps and for inference."""
    from textune.tokens.batches import collate, plan_epoch

    found, tokens, targets, precision = open_rows(rows, tune=tune)
    plan = plan_epoch(tokens.lengths, BATCH_SIZE, 1, 0)
    batches = [collate(tokens, batch, found.padding, targets) for batch in plan]
    figures: dict[str, Any] = {"precision": precision, "tokens": int(tokens.lengths.sum())}
    for kind in KINDS:
        step = build_step(found, SIDES[side], precision, training=kind == KINDS[0])
        for batch in batches:  # warm-up: each shape's kernels are compiled once
            step(batch)
        seconds = []
        for _ in range(passes):
            started = time.perf_counter()
            for batch in batches:
                step(batch)
            seconds.append(time.perf_counter() - started)
        figures[kind] = round(statistics.median(seconds), 4)
    return figures


if __name__ == "__main__":
    main()
