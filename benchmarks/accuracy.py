"""Equal accuracy: the lean engine beside the reference engine and a plain peft loop, paired on the same test rows.

    python benchmarks/accuracy.py --data FOLDER --output results/accuracy.jsonl [--sides lean P reference]
        [--only amazon_reviews ag_news] [--seeds 1 2 3]

amazon_reviews: 1,000 training rows, 4 epochs, max_length 512, all 2,000 test rows. ag_news: all 4,990 training rows, 3
epochs, all 7,600 test rows, max_length 128 to keep it cheap (few of its texts are longer). MiniLM, LoRA of rank 8,
batches of 16, 1e-3, no validation rows: the last weights count. Each (data, side, seed) is a process and a line, which
keeps which rows were right, as bits in hexadecimal; what stands in --output is not run again. The interval of the mean
difference holds rows and seeds, as that of `textune compare` does. Where a run collapsed
(ten points below its side's best seed), the difference is given a second time without that seed.
"""

from __future__ import annotations

import argparse
import json
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
    hold_to,
    load_rows,
    read_rows,
    run_side,
    write_rows,
)

SIDES = ("lean", "P", "reference")
JOBS: dict[str, tuple[int | None, int, int]] = {"amazon_reviews": (1_000, 4, 512), "ag_news": (None, 3, 128)}
"""Data -> training rows (None: all), epochs, max_length."""
FIGURE, DIFFERENCE = "accuracy run", "accuracy, lean beyond others"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=list(SIDES))
    parser.add_argument("--only", nargs="*", choices=JOBS, default=list(JOBS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--rows", type=int, help="fewer training rows, for a trial")
    parser.add_argument("--test-rows", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--allocator", choices=ALLOCATORS, default="tuned")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run_one(**json.loads(given.one))))
        return
    hold_to(given.threads)
    results = Results(given.output, describe_setting(given.threads) | {"allocator": given.allocator, "dropout": 0.0})
    command = (
        f"python benchmarks/accuracy.py {'' if given.data is None else '--data FOLDER '}--allocator {given.allocator}"
    )
    for name in given.only:
        rows, epochs, max_length = JOBS[name]
        rows, epochs = given.rows or rows, given.epochs or epochs
        job = {"data": name if given.data else "rotten_tomatoes", "train_rows": rows, "epochs": epochs,
               "max_length": max_length, "test_rows": given.test_rows}  # fmt: skip
        with tempfile.TemporaryDirectory() as place:
            train = write_rows(Path(place) / "train.csv", *read_rows(given.data, name, "train", slice(0, rows)))
            test = write_rows(Path(place) / "test.csv", *read_rows(given.data, name, "test", slice(0, given.test_rows)))
            for seed in given.seeds:
                for side in given.sides:
                    if results.find(figure=FIGURE, side=side, seed=seed, **job):
                        continue
                    one = {"side": side, "seed": seed, "train": str(train), "test": str(test), "epochs": epochs,
                           "max_length": max_length}  # fmt: skip
                    environment = choose_environment(given.allocator, given.threads, ours=side != "P")
                    done = run_side([sys.executable, __file__, "--one", json.dumps(one)], environment)
                    line = {"figure": FIGURE, "side": side, "seed": seed, "unit": "share of test rows"} | job
                    line |= {"repetitions": 1, "scaled": False, "wall_seconds": round(done.seconds, 1)}
                    results.add(line | done.figures() | {"command": command})
        summarise(results, job, given, command)


def run_one(side: str, seed: int, train: str, test: str, epochs: int, max_length: int) -> dict[str, Any]:
    """Train one side in this process and return which test rows it got right."""
    texts, labels = load_rows(Path(train))
    test_texts, test_labels = load_rows(Path(test))
    if side == "P":
        answers, precision = run_plain(texts, labels, test_texts, seed, epochs, max_length)
    else:
        answers, precision = run_textune(side, texts, labels, test_texts, seed, epochs, max_length)
    right = np.array([a == b for a, b in zip(answers, test_labels, strict=True)])
    return {"value": round(float(right.mean()), 5), "rows": len(right), "precision": precision,
            "right": np.packbits(right).tobytes().hex()}  # fmt: skip


def run_plain(
    texts: list[str], labels: list[str], test: list[str], seed: int, epochs: int, max_length: int
) -> tuple[list[str], str]:
    import torch

    import baselines
    from textune.backbones import resolve_backbone
    from textune.engine import probe_precision

    baselines.MAX_LENGTH = max_length
    names = sorted(set(labels))
    fp32 = probe_precision("auto", torch.device("cpu")).name == "fp32"
    loop = baselines.PlainLoop(resolve_backbone("minilm").folder, len(names), fp32=fp32, seed=seed)
    loop.train(loop.encode(texts), [names.index(label) for label in labels], epochs, lambda documents: None)
    return [names[answer] for answer in loop.predict(test)], "fp32" if fp32 else "bf16 base, fp32 adapters"


def run_textune(
    side: str, texts: list[str], labels: list[str], test: list[str], seed: int, epochs: int, max_length: int
) -> tuple[list[str], str]:
    import polars as pl

    from textune.config import build_config
    from textune.inference import Predictor
    from textune.progress import Plain
    from textune.run import train_only

    with tempfile.TemporaryDirectory() as place:
        flat = {
            "data": "rows", "text": "text", "label": "label", "test_fraction": 0, "validation_fraction": 0,
            "method": "lora", "epochs": epochs, "batch_size": 16, "learning_rate": 1e-3, "max_length": max_length,
            "seed": seed, "engine": side, "runs_dir": place, "name": "run",
        }  # fmt: skip
        frame = pl.DataFrame({"text": texts, "label": labels})
        run = train_only(build_config(flat), Plain(seconds_between_lines=60), {"data": frame})
        predictor = Predictor.load(run, device="cpu", engine=side)
        values = dict(zip(predictor.labels, predictor.manifest.label_values, strict=True))
        return [str(values[answer]) for answer in predictor.predict(test)], predictor.precision


def unpack(line: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return which rows were right: bool [rows]."""
    bits = np.frombuffer(bytes.fromhex(line["right"]), np.uint8)
    return np.unpackbits(bits, count=line["rows"]).astype(bool)


def summarise(results: Results, job: dict[str, Any], given: Any, command: str) -> None:
    """Write the mean difference of lean and each other side with its interval, over the seeds that both have."""
    ours = {line["seed"]: line for line in results.find(figure=FIGURE, side="lean", **job)}
    for side in SIDES[1:]:
        theirs = {line["seed"]: line for line in results.find(figure=FIGURE, side=side, **job)}
        every = sorted(ours.keys() & theirs.keys() & set(given.seeds))
        whole = [s for s in every if not any(_has_collapsed(lines, s) for lines in (ours, theirs))]
        for seeds in [every, whole] if whole != every else [every]:
            if seeds and not results.find(figure=DIFFERENCE, side=side, seeds=seeds, **job):
                results.add(compare(side, ours, theirs, seeds) | {"command": command} | job)


def _has_collapsed(lines: dict[int, dict[str, Any]], seed: int) -> bool:
    return bool(lines[seed]["value"] < max(line["value"] for line in lines.values()) - 0.1)


def compare(
    side: str, ours: dict[int, dict[str, Any]], theirs: dict[int, dict[str, Any]], seeds: list[int]
) -> dict[str, Any]:
    """Return the mean difference over these seeds with its interval."""
    from textune.evaluation import compare_pair, count_correct

    mine, other = (count_correct([unpack(lines[seed]) for seed in seeds]) for lines in (ours, theirs))
    lead = compare_pair(mine, other, seeds, seeds).lead
    return {
        "figure": DIFFERENCE, "side": side, "seeds": seeds, "value": round(lead.mean * 100, 3),
        "unit": "points of accuracy", "interval": [round(v * 100, 3) for v in (lead.low, lead.high)],
        "lean": round(float(np.mean([ours[s]["value"] for s in seeds])), 5), "rows": ours[seeds[0]]["rows"],
        "scaled": False,
        "other": round(float(np.mean([theirs[s]["value"] for s in seeds])), 5), "repetitions": len(seeds),
        "precision": theirs[seeds[0]]["precision"], "precision_of_lean": ours[seeds[0]]["precision"],
        "each_lean": [ours[s]["value"] for s in seeds], "each_other": [theirs[s]["value"] for s in seeds],
    }  # fmt: skip


if __name__ == "__main__":
    main()
