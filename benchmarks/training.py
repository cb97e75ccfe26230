"""LoRA training, whole: wall time from process start, start-up, steady speed and memory of N, D, S, P and ours.

    python benchmarks/training.py --data FOLDER --output results/training.jsonl [--allocator tuned|own|plain]
        [--precision fp32] [--sides N D S P ours] [--repetitions 3] [--steps-n 10] [--steps-d 20] [--repeated-epochs 1]

The job: the first 1,000 training rows of amazon_reviews, title and content joined, MiniLM, LoRA of rank 8 on query,
key, value and dense, max_length 512, batches of 16, 4 epochs at 1e-3. The sides are described in `baselines.py`; ours
is `textune train` as a person starts it, with validation_fraction=0 and 50 test rows, and its wall time holds all
that it does beside training: a TF-IDF baseline, the untuned model, the test of the reload, the report. Each side is a
process of its own, started cold (ours with an empty cache), in turns, and medians are given. N and D take so few
steps, S and P so many epochs, and are scaled to 4 epochs: start-up + seconds per document x documents. Without --data
the film sentences of the demo are used. Lines that stand in --output are not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sides import (
    ALLOCATORS,
    Results,
    choose_environment,
    describe_setting,
    find_training,
    hold_to,
    load_rows,
    median,
    ratio,
    read_rows,
    run_side,
    textune,
    write_rows,
)
from textune.backbones import resolve_backbone

SIDES = ("N", "D", "S", "P", "ours")
DROPOUT = {"N": 0.1, "D": 0.1, "S": 0.1, "P": 0.0, "ours": 0.0}
BATCH_SIZE, MAX_LENGTH, TEST_ROWS = 16, 512, 50
FIGURE = "training run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=list(SIDES))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--steps-n", type=int, default=10)
    parser.add_argument("--steps-d", type=int, default=20)
    parser.add_argument("--repeated-epochs", type=float, default=1.0, help="epochs of S and P that are really run")
    parser.add_argument("--allocator", choices=ALLOCATORS, default="tuned")
    parser.add_argument("--precision", choices=("auto", "fp32"), default="auto")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    hold_to(given.threads)
    command = (
        f"python benchmarks/training.py {'' if given.data is None else '--data FOLDER '}--rows {given.rows} "
        f"--epochs {given.epochs} --allocator {given.allocator} --precision {given.precision}"
    )
    fixed = describe_setting(given.threads) | {
        "allocator": given.allocator, "precision_asked": given.precision, "rows": given.rows, "epochs": given.epochs,
        "data": "rotten_tomatoes" if given.data is None else "amazon_reviews", "command": command,
    }  # fmt: skip
    results = Results(given.output, fixed)
    with tempfile.TemporaryDirectory() as place:
        rows = write_rows(
            Path(place) / "rows.csv", *read_rows(given.data, "amazon_reviews", "train", slice(0, given.rows))
        )
        test = read_rows(given.data, "amazon_reviews", "test", slice(0, TEST_ROWS))
        write_rows(Path(place) / "test.csv", *test)
        count_tokens(results, rows)
        for repetition in range(1, given.repetitions + 1):
            turn = given.sides[repetition % len(given.sides) :] + given.sides[: repetition % len(given.sides)]
            for side in turn:
                if not results.find(figure=FIGURE, side=side, repetition=repetition):
                    measure = measure_ours if side == "ours" else measure_baseline
                    line = measure(side, rows, given, repetition)
                    results.add({"figure": FIGURE, "side": side, "repetition": repetition} | line)
    summarise(results, given.repetitions)


def measure_baseline(side: str, rows: Path, given: Any, repetition: int) -> dict[str, Any]:
    """Run a part of a baseline and scales it to the whole job."""
    steps = {"N": given.steps_n, "D": given.steps_d}.get(side)
    length = ("--steps", str(steps)) if steps else ("--epochs", str(given.repeated_epochs))
    words = [sys.executable, str(Path(__file__).with_name("baselines.py")), side, str(rows)]
    words += [str(resolve_backbone("minilm").folder), *length, "--seed", str(41 + repetition)]
    fp32 = given.precision == "fp32" or side in ("N", "D")
    done = run_side(
        words + (["--fp32"] if fp32 else []), choose_environment(given.allocator, given.threads, ours=False)
    )
    own = done.figures()
    each = own["steady_seconds"] / own["documents"]
    whole = own["startup_seconds"] + each * given.rows * given.epochs
    precision = "fp32" if fp32 else {"S": "bf16 autocast", "P": "bf16 base, fp32 adapters"}[side]
    told = f"{own['steps']} steps of {own['documents']} documents; wall = start-up + seconds per document x documents"
    return {
        "wall_seconds": round(whole, 2), "startup_seconds": round(own["startup_seconds"], 2),
        "steady_seconds_per_document": round(each, 5), "documents_per_second": round(1 / each, 2), "unit": "seconds",
        "peak_rss_anon_mb": done.peak_anonymous_mb(), "peak_resident_mb": round(done.peak_bytes / 1e6, 1),
        "precision": precision, "dropout": DROPOUT[side], "scaled": told,
        "measured_wall_seconds": round(done.seconds, 2),
    }  # fmt: skip


def measure_ours(side: str, rows: Path, given: Any, repetition: int) -> dict[str, Any]:
    """Run `textune train` whole, with a cache of its own so that tokenising and probing are part of the time."""
    with tempfile.TemporaryDirectory() as place:
        settings = (
            f"test={rows.with_name('test.csv')}", "text=text", "label=label", "method=lora", "method.r=8",
            "method.alpha=16", f"max_length={MAX_LENGTH}", f"batch_size={BATCH_SIZE}", f"epochs={given.epochs}",
            "learning_rate=1e-3", "validation_fraction=0", f"precision={given.precision}", f"seed={41 + repetition}",
            f"runs_dir={place}", "name=run",
        )  # fmt: skip
        environment = choose_environment(given.allocator, given.threads, ours=True, cache=Path(place) / "cache")
        done = run_side(textune("train", rows, *settings, "--json"), environment)
        run = Path(place) / "run"
        begin, end = find_training(run)
        engine = json.loads((run / "textune.json").read_text(encoding="utf-8"))["engine"]
    each = (end - begin) / (given.rows * given.epochs)
    return {
        "wall_seconds": round(done.seconds, 2), "startup_seconds": round(begin - done.started, 2),
        "training_seconds": round(end - begin, 2), "steady_seconds_per_document": round(each, 5),
        "documents_per_second": round(1 / each, 2), "unit": "seconds",
        "peak_rss_anon_mb": done.peak_anonymous_mb(), "peak_resident_mb": round(done.peak_bytes / 1e6, 1),
        "precision": engine["precision"]["name"], "engine": engine["name"], "dropout": DROPOUT[side], "scaled": False,
        "accuracy_on_few_test_rows": json.loads(done.output)["accuracy"],
    }  # fmt: skip


def summarise(results: Results, repetitions: int) -> None:
    """Write the medians and how many times as fast ours is, in wall time and in steady state."""
    if results.find(figure="training, ours against others", repetitions=repetitions):
        return
    medians = {}
    for side in SIDES:
        lines = [line for line in results.find(figure=FIGURE, side=side) if line["repetition"] <= repetitions]
        keys = ("wall_seconds", "steady_seconds_per_document", "startup_seconds", "peak_rss_anon_mb")
        if len(lines) == repetitions:
            medians[side] = {key: median(lines, key) for key in keys} | {
                key: lines[0][key] for key in ("precision", "dropout", "scaled")
            }
    ours = medians.get("ours")
    for side, own in medians.items():
        if ours is None or side == "ours":
            continue
        wall, steady = (ratio(own[key], ours[key]) for key in ("wall_seconds", "steady_seconds_per_document"))
        results.add(
            {"figure": "training, ours against others", "side": side, "value": wall, "unit": "times as fast",
             "wall_ratio": wall, "steady_ratio": steady, "repetitions": repetitions, "median": own,
             "median_of_ours": ours, "precision": own["precision"], "dropout": own["dropout"], "scaled": own["scaled"]}
        )  # fmt: skip


def count_tokens(results: Results, rows: Path) -> None:
    """Count the tokens that one epoch computes under each side's batches, padding included."""
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    from textune.tokens import encode_texts, load_tokenizer
    from textune.tokens.batches import plan_epoch

    texts = load_rows(rows)[0]
    lengths = encode_texts(load_tokenizer(resolve_backbone("minilm").folder), texts, None, MAX_LENGTH).lengths
    generator = torch.Generator().manual_seed(42)
    shuffled = np.random.default_rng(42).permutation(len(lengths))
    grouped = np.asarray(get_length_grouped_indices(lengths.tolist(), BATCH_SIZE, generator=generator))

    def pad(order: np.ndarray[Any, Any]) -> int:
        batches = np.split(order, range(BATCH_SIZE, len(order), BATCH_SIZE))
        return int(sum(lengths[batch].max() * len(batch) for batch in batches))

    buckets = plan_epoch(lengths, BATCH_SIZE, 42, 0)
    counted = {
        "N": MAX_LENGTH * len(lengths), "D": pad(shuffled), "S": pad(grouped),
        "P": int(sum(lengths[batch].max() * len(batch) for batch in buckets)), "ours": int(lengths.sum()),
    }  # fmt: skip
    for side, tokens in counted.items():
        if not results.find(figure="tokens computed per epoch", side=side):
            results.add(
                {"figure": "tokens computed per epoch", "side": side, "value": tokens, "unit": "tokens",
                 "ratio_to_ours": ratio(tokens, counted["ours"]), "scaled": False, "repetitions": 1,
                 "steps": math.ceil(len(lengths) / BATCH_SIZE)}
            )  # fmt: skip


if __name__ == "__main__":
    main()
