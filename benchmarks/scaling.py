"""How time and memory grow with the rows: whole `textune train` runs on made data of 1,000, 10,000 and 100,000 rows.

    python benchmarks/scaling.py --output results/scaling.jsonl [--sizes 1000 10000 100000] [--allocator own]

The data are made by a seed: a text is 12 words, nine of them neutral and three that speak for a label, of which two or
three are of the text's own; a tenth of the labels is turned round. MiniLM with LoRA, one epoch, max_length 16, batches
of 32, 500 validation and 500 test rows, each size in a process of its own. Memory is RssAnon, over the whole run and
while it trains; the smallest run's stands for the model's own. For the largest size two more processes encode the texts
with the token cache: the second only reopens it. Lines that stand in --output are not measured again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sides import (
    ALLOCATORS,
    Results,
    choose_environment,
    describe_setting,
    find_training,
    hold_to,
    load_rows,
    ratio,
    run_side,
    textune,
    write_rows,
)

MAX_LENGTH, HELD_OUT = 16, 500
NEUTRAL = (
    "the", "a", "this", "that", "very", "book", "film", "chair", "phone", "lamp", "table", "door", "seller", "price",
    "day", "week", "friend", "house", "train", "it", "was", "is", "with", "for", "from", "after", "before", "again",
    "there", "here", "box", "paper", "screen", "morning", "parcel",
)  # fmt: skip
GOOD = ("great", "lovely", "perfect", "superb", "happy", "bright", "solid", "quick", "warm", "clever", "honest")
BAD = ("awful", "broken", "poor", "dull", "cheap", "slow", "noisy", "cold", "ugly", "useless", "late", "rude")
FIGURE = "growth with rows"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--sizes", nargs="*", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--allocator", choices=ALLOCATORS, default="own")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--encode", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.encode:
        print(json.dumps(encode(given.encode)))
        return
    hold_to(given.threads)
    sizes = sorted(given.sizes)
    command = f"python benchmarks/scaling.py --sizes {' '.join(map(str, sizes))} --allocator {given.allocator}"
    fixed = describe_setting(given.threads) | {
        "allocator": given.allocator, "epochs": 1, "repetitions": 1, "dropout": 0.0, "scaled": False,
    }  # fmt: skip
    results = Results(given.output, fixed)
    for size in sizes:
        if not results.find(figure=FIGURE, rows=size):
            results.add({"figure": FIGURE, "side": "ours", "rows": size, "command": command} | measure(size, given))
    found = [results.find(figure=FIGURE, rows=size)[0] for size in sizes]
    for line in found[1:]:
        if not results.find(figure="growth beyond the smallest", rows=line["rows"], base_rows=sizes[0]):
            keys = ("peak_rss_anon_mb", "training_rss_anon_mb")
            results.add(
                {"figure": "growth beyond the smallest", "side": "ours", "rows": line["rows"], "base_rows": sizes[0],
                 "value": ratio(line["seconds_per_1000_rows"], found[0]["seconds_per_1000_rows"]),
                 "unit": "training seconds per 1,000 rows, over those of the smallest",
                 "precision": line["precision"], "command": command}
                | {f"{key}_beyond": round(line[key] - found[0][key], 1) for key in keys}
            )  # fmt: skip
    if not results.find(figure="reopening cached tokens", rows=sizes[-1]):
        results.add({"figure": "reopening cached tokens", "side": "ours", "rows": sizes[-1], "precision": None,
                     "command": command} | reopen(sizes[-1], given))  # fmt: skip


def make_rows(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Return made texts and labels."""
    choose = random.Random(seed)
    texts, labels = [], []
    for _ in range(count):
        good = choose.random() < 0.5
        own, other = (GOOD, BAD) if good else (BAD, GOOD)
        words = choose.choices(NEUTRAL, k=9) + choose.choices(own, k=2) + choose.choices(choose.choice((own, other)))
        choose.shuffle(words)
        texts.append(" ".join(words))
        labels.append("good" if good != (choose.random() < 0.1) else "bad")
    return texts, labels


def measure(size: int, given: Any) -> dict[str, Any]:
    """Make the rows, trains and measures."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        paths = {
            name: write_rows(place / f"{name}.csv", *make_rows(rows, seed))
            for seed, (name, rows) in enumerate((("train", size), ("validation", HELD_OUT), ("test", HELD_OUT)))
        }
        settings = (
            f"validation={paths['validation']}", f"test={paths['test']}", "text=text", "label=label", "method=lora",
            "epochs=1", f"max_length={MAX_LENGTH}", "batch_size=32", "seed=1", f"runs_dir={place}", "name=run",
        )  # fmt: skip
        environment = choose_environment(given.allocator, given.threads, ours=True, cache=place / "cache")
        done = run_side(textune("train", paths["train"], *settings, "--json"), environment)
        begin, end = find_training(place / "run")
        told = json.loads(done.output)
        engine = json.loads((place / "run" / "textune.json").read_text(encoding="utf-8"))["engine"]
    return {
        "wall_seconds": round(done.seconds, 2), "training_seconds": round(end - begin, 2), "unit": "seconds",
        "value": round(done.seconds, 2), "seconds_per_1000_rows": round((end - begin) / size * 1_000, 3),
        "wall_seconds_per_1000_rows": round(done.seconds / size * 1_000, 3), "accuracy": told["accuracy"],
        "peak_rss_anon_mb": done.peak_anonymous_mb(), "training_rss_anon_mb": done.peak_anonymous_mb(begin, end),
        "precision": engine["precision"]["name"], "warnings": told["warnings"],
    }  # fmt: skip


def reopen(size: int, given: Any) -> dict[str, Any]:
    """Encode the texts in one process and reopens them in another."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rows = write_rows(place / "train.csv", *make_rows(size, 0))
        environment = choose_environment(given.allocator, given.threads, ours=True, cache=place / "cache")
        words = [sys.executable, __file__, "--encode", str(rows)]
        first, second = (run_side(words, environment).figures() for _ in range(2))
    return {"value": second["milliseconds"], "unit": "ms", "first_ms": first["milliseconds"],
            "tokens": second["tokens"], "ratio": ratio(first["milliseconds"], second["milliseconds"])}  # fmt: skip


def encode(rows: Path) -> dict[str, Any]:
    """Times `encode_cached` in this process."""
    from textune.backbones import resolve_backbone
    from textune.tokens import encode_cached, load_tokenizer

    texts = load_rows(rows)[0]
    tokenizer = load_tokenizer(resolve_backbone("minilm").folder)
    begun = time.perf_counter()
    tokens = encode_cached(tokenizer, texts, None, MAX_LENGTH, "made data")
    return {"milliseconds": round((time.perf_counter() - begun) * 1e3, 2), "tokens": len(tokens.ids)}


if __name__ == "__main__":
    main()
