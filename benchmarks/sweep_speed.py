"""The Amazon sweep: 3 learning rates x 3 batch sizes x 5 epochs, in full and with halving, beside the sequential grid.

    python benchmarks/sweep_speed.py --data FOLDER --output results/sweep.jsonl
        [--only full halving S "S tuned"] [--rows 1000]

FOLDER holds amazon_reviews/train.csv and test.csv. The first 1,000 training rows are trained on and the next 1,000
choose; title and content joined, MiniLM, LoRA as it is by default, max_length 512. Both sweeps are `textune sweep` as a
person starts it, each in a process of its own with an empty cache; their wall time holds the winner's test on 1,000
rows, and `seconds_until_chosen` does not. S is the sequential grid of Trainer + peft in bf16 autocast, texts grouped by
length, with the validation rows read after every epoch. It is measured on one epoch of --part training rows, spread
evenly, at each batch size, and one reading of as many validation rows, and scaled by the tokens that its batches pad
to, fewer a row where there are more rows to group; its start-up counts once. `scaled` says so. "S tuned" is the same
under glibc's malloc tunables, for whoever sets them. The regret compares the validation figures of the full grid: the
best one's with that of the setting that halving chose.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from sides import choose_environment

RATES, BATCHES, MAX_LENGTH = (3e-4, 1e-3, 3e-3), (8, 16, 32), 512
COMMAND = "python benchmarks/sweep_speed.py --data FOLDER --output results/sweep.jsonl"
AGAINST = "amazon sweep against the sequential grid"
SIDES = ("full", "halving", "S", "S tuned")
TARGETS = ["query", "key", "value", "dense"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", nargs="*", choices=SIDES, default=list(SIDES))
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--validation-rows", type=int, default=1_000)
    parser.add_argument("--test-rows", type=int, default=1_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--part", type=int, default=160, help="rows that S is measured on")
    parser.add_argument("--grid", type=float, nargs="*", default=RATES, help="learning rates")
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure_s(given)))
        return
    source = given.data / "amazon_reviews"
    if not (source / "train.csv").is_file():
        raise SystemExit(f"{source}: train.csv is missing; --data must name the folder of the data sets")
    found = read_found(given)
    missing = [side for side in given.only if side not in found]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        cut_rows(source / "train.csv", place, given.rows, given.validation_rows)
        for side in missing:
            scaled = side.startswith("S")
            found[side] = time_s(given, place, side) if scaled else time_sweep(given, place, source / "test.csv", side)
            tell(given, found[side])
    for line in compare(found) if missing else ():
        tell(given, line)


def read_found(given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the sides that --output already has, by name."""
    path: Path | None = given.output
    lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.is_file() else []
    same = {"figure": "amazon sweep", "rows": given.rows, "validation_rows": given.validation_rows,
            "epochs": given.epochs}  # fmt: skip
    read = [json.loads(line) for line in lines]
    return {line["side"]: line for line in read if all(line.get(key) == value for key, value in same.items())}


def cut_rows(source: Path, place: Path, rows: int, validation_rows: int) -> None:
    """Write train.csv and validation.csv; no row is in both."""
    with source.open(encoding="utf-8", newline="") as stream:
        header, *lines = list(csv.reader(stream))
    for name, part in (("train", lines[:rows]), ("validation", lines[rows : rows + validation_rows])):
        with (place / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([header, *part])


def tell(given: argparse.Namespace, line: dict[str, Any]) -> None:
    from textune.engine.budget import describe_processor

    line = line | {"rows": given.rows, "validation_rows": given.validation_rows, "epochs": given.epochs,
                   "machine": describe_processor(), "command": COMMAND}  # fmt: skip
    print(json.dumps(line), flush=True)
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        with given.output.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def time_sweep(given: argparse.Namespace, place: Path, test: Path, side: str) -> dict[str, Any]:
    """Run `textune sweep` and return its times and what it chose."""
    settings = {
        "data": str(place / "train.csv"), "validation": str(place / "validation.csv"), "test": str(test),
        "test_sample": f"first:{given.test_rows}", "text": "title,content", "label": "label", "epochs": given.epochs,
        "max_length": MAX_LENGTH, "name": side, "runs_dir": str(place),
        "sweep": {"space": {"learning_rate": list(given.grid), "batch_size": list(given.batches)},
                  "halving": side == "halving"},
    }  # fmt: skip
    (place / "sweep.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    started, chosen = time.monotonic(), 0.0
    environment = os.environ | {"TEXTUNE_CACHE": str(place / f"cache-{side}")}
    words = [sys.executable, "-m", "textune", "sweep", str(place / "sweep.yaml"), "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, text=True, stdout=pipe, stderr=pipe, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            print(line, end="", file=sys.stderr)
            if line.startswith("winner: "):
                chosen = time.monotonic() - started
        assert process.stdout is not None
        told = process.stdout.read()
    wall = time.monotonic() - started
    if process.returncode:
        raise SystemExit(f"textune sweep ended with {process.returncode}")
    done = json.loads(told)
    return {
        "figure": "amazon sweep", "side": side, "scaled": False, "wall_seconds": round(wall, 1),
        "seconds_until_chosen": round(chosen, 1), "seconds_trained": round(done["saving"]["seconds_trained"], 1),
        "epochs_trained": round(done["saving"]["epochs_trained"], 2),
        "epochs_in_full": done["saving"]["epochs_in_full"],
        "winner": done["winner"]["settings"], "validation_accuracy": done["winner"]["scores"]["accuracy"],
        "test_accuracy": done["winner"]["accuracy"], "test_rows": done["winner"]["rows"],
        "test_interval": done["winner"]["intervals"]["accuracy"], "test_reads": done["winner"]["test_reads"],
        "trials": [{k: t[k] for k in ("settings", "state", "scores", "epochs", "seconds")} for t in done["trials"]],
    }  # fmt: skip


def time_s(given: argparse.Namespace, place: Path, side: str) -> dict[str, Any]:
    """Return the sequential grid's time, measured on a part in a process of its own and scaled."""
    from textune.backbones import resolve_backbone

    words = [sys.executable, __file__, "--data", str(place), "--side", str(resolve_backbone("minilm").folder)]
    words += ["--part", str(given.part), "--batches", *map(str, given.batches)]
    started = time.monotonic()
    environment = choose_environment("tuned" if side == "S tuned" else "own", os.cpu_count() or 1, ours=False)
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    part = json.loads(done.stdout.splitlines()[-1])
    startup = time.monotonic() - started - part["measured_seconds"]
    return scale_s(given, side, part, startup)


def scale_s(given: argparse.Namespace, side: str, part: dict[str, Any], startup: float) -> dict[str, Any]:
    """Return the time of the whole grid from that of its part."""
    reading = part["seconds_per_validation_row"] * given.validation_rows
    runs = [
        given.epochs * (each["seconds_per_row"] * each["padding_of_all"] / each["padding"] * given.rows + reading)
        for each in part["batches"]
        for _ in given.grid
    ]  # fmt: skip
    return {
        "figure": "amazon sweep", "side": side, "scaled": True, "wall_seconds": round(startup + sum(runs), 1),
        "startup_seconds": round(startup, 1), "measured": part,
    }  # fmt: skip


def measure_s(given: argparse.Namespace) -> dict[str, Any]:
    """Train some steps at each batch size and read some validation rows, as an expert's Trainer does."""
    import peft
    import transformers

    transformers.set_seed(42)
    tokenizer = transformers.AutoTokenizer.from_pretrained(given.side)
    every, held = (read_encoded(given.data / f"{name}.csv", tokenizer) for name in ("train", "validation"))
    train, held = (rows[:: max(1, len(rows) // given.part)] for rows in (every, held))
    begun: list[float] = []

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            begun.append(time.monotonic())

        def on_train_end(self, *_: Any, **__: Any) -> None:
            begun.append(time.monotonic())

    found, total, reading = [], 0.0, math.inf
    for size in given.batches:
        base = transformers.AutoModelForSequenceClassification.from_pretrained(given.side, num_labels=2)
        model = peft.get_peft_model(base, peft.LoraConfig("SEQ_CLS", r=8, lora_alpha=16, target_modules=TARGETS))
        arguments = transformers.TrainingArguments(
            output_dir=str(given.data / "trainer"), use_cpu=True, per_device_train_batch_size=size,
            per_device_eval_batch_size=32, num_train_epochs=1, learning_rate=1e-3, warmup_steps=0.1,
            save_strategy="no", report_to="none", logging_strategy="no", disable_tqdm=True, bf16=True,
            train_sampling_strategy="group_by_length", seed=42,
        )  # fmt: skip
        collator = transformers.DataCollatorWithPadding(tokenizer)
        begun.clear()
        trainer = transformers.Trainer(model, arguments, collator, train, held, callbacks=[Watch()])
        trainer.train()
        # a whole epoch, since the longest texts come first
        seconds = begun[-1] - begun[0]
        total += seconds
        padding = {"padding": count_padded(train, size), "padding_of_all": count_padded(every, size)}
        found.append({"batch_size": size, "rows": len(train), "seconds_per_row": seconds / len(train)} | padding)
        if math.isinf(reading):
            started = time.monotonic()
            trainer.evaluate()
            reading = (time.monotonic() - started) / len(held)
            total += time.monotonic() - started
    return {"batches": found, "seconds_per_validation_row": reading, "measured_seconds": total}


def count_padded(rows: list[dict[str, Any]], size: int) -> float:
    """Return the average tokens per row, padding included, of batches grouped by length."""
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    lengths = [len(row["input_ids"]) for row in rows]
    order = get_length_grouped_indices(lengths, size, generator=torch.Generator().manual_seed(42))
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    padded: int = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return round(padded / len(rows), 2)


def read_encoded(path: Path, tokenizer: Any) -> list[dict[str, Any]]:
    """Return token ids and labels of each row."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    ids = tokenizer([f"{r['title']} {r['content']}" for r in rows], truncation=True, max_length=MAX_LENGTH)["input_ids"]
    return [{"input_ids": own, "labels": int(r["label"] == "positive")} for own, r in zip(ids, rows, strict=True)]


def compare(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how many times as fast as S each sweep was, and what halving cost."""
    lines = []
    for side in ("full", "halving"):
        for other in ("S", "S tuned"):
            if side in found and other in found:
                times = found[other]["wall_seconds"] / found[side]["seconds_until_chosen"]
                lines.append({"figure": AGAINST, "side": side, "other": other, "times": round(times, 2)})
    if "full" in found and "halving" in found:
        by_setting = {json.dumps(t["settings"]): t["scores"]["accuracy"] for t in found["full"]["trials"]}
        chosen, best = (by_setting[json.dumps(found[side]["winner"])] for side in ("halving", "full"))
        times = found["full"]["seconds_until_chosen"] / found["halving"]["seconds_until_chosen"]
        picked, right = found["halving"]["winner"], found["full"]["winner"]
        lines.append(
            {"figure": "regret of halving", "points": round(100 * (best - chosen), 2), "chosen": picked, "best": right,
             "same_winner": picked == right, "times_as_fast": round(times, 2)}
        )  # fmt: skip
    return lines


if __name__ == "__main__":
    main()
