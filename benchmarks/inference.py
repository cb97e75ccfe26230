"""Classifying texts on two cores: transformers' pipeline, onnxruntime and textune, tokenising included.

    python benchmarks/inference.py --data FOLDER --output results/inference.jsonl [--run RUN] [--allocator tuned|plain]
        [--rows 1000] [--repetitions 3] [--padded-rows 96]

The texts: the first 1,000 test rows of amazon_reviews; the model: MiniLM with LoRA, trained here on 1,000 training rows
for 2 epochs, or --run. The pipeline reads the merged export in batches of 16, padded to 512 tokens (on so few rows,
scaled) or to the longest text of the batch. onnxruntime reads textune's exports in textune's batches of like length;
int8 is measured on 1,000 other training rows and taken whatever it costs. Every side is a process of its own, in turns;
loading is not counted, tokenising is, after a first batch. Latency: one text at a time, median over 50 texts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sides import (
    Results,
    choose_environment,
    describe_setting,
    export_run,
    hold_to,
    load_rows,
    median,
    ratio,
    read_rows,
    run_side,
    train_small,
    write_rows,
)

Predict = Callable[[Sequence[str]], Sequence[str]]
PADDED = "pipeline, padded to 512"
SIDES = {
    PADDED: ("merged", "fp32"),
    "pipeline, dynamic padding": ("merged", "fp32"),
    "onnxruntime, fp32": ("onnx", "fp32"),
    "onnxruntime, int8": ("onnx-int8", "int8"),
    "textune, fp32": ("run", "fp32"),
    "textune": ("run", "auto"),
}
"""Side -> the form of the model that it reads, and its precision."""
FIGURE, FIRST, LATENCY_TEXTS = "inference", 32, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--run", type=Path, help="a finished run to measure with")
    parser.add_argument("--train-rows", type=int, default=1_000)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--padded-rows", type=int, default=96, help="rows of the pipeline padded to 512")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=list(SIDES))
    parser.add_argument("--allocator", choices=("tuned", "plain"), default="tuned")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "FOLDER", "ROWS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], Path(given.one[1]), Path(given.one[2]))))
        return
    hold_to(given.threads)
    command = (
        f"python benchmarks/inference.py {'' if given.data is None else '--data FOLDER '}--rows {given.rows} "
        f"--allocator {given.allocator}"
    )
    fixed = describe_setting(given.threads) | {
        "allocator": given.allocator, "rows": given.rows, "dropout": 0.0, "command": command,
        "data": "rotten_tomatoes" if given.data is None else "amazon_reviews",
    }  # fmt: skip
    results = Results(given.output, fixed)
    todo = [
        (repetition, side)
        for repetition in range(1, given.repetitions + 1)
        for side in [*given.sides[repetition - 1 :], *given.sides[: repetition - 1]]
        if not results.find(figure=FIGURE, side=side, repetition=repetition)
    ]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        environment = choose_environment(given.allocator, given.threads, ours=True, cache=place / "cache")
        forms = prepare(place, given, {SIDES[side][0] for _, side in todo}, environment) if todo else {}
        rows = write_rows(place / "rows.csv", *read_rows(given.data, "amazon_reviews", "test", slice(0, given.rows)))
        few = write_rows(
            place / "padded.csv", *read_rows(given.data, "amazon_reviews", "test", slice(0, given.padded_rows))
        )
        for repetition, side in todo:
            form, precision = SIDES[side]
            words = [sys.executable, __file__, "--one", side, str(forms[form]), str(few if side == PADDED else rows)]
            done = run_side(words, environment)
            line = {"figure": FIGURE, "side": side, "repetition": repetition, "unit": "documents per second"}
            told = f"measured on the first {given.padded_rows} rows: speed, tokens and accuracy are of these"
            line |= {"scaled": told if side == PADDED else False, "precision": precision}
            line |= {"peak_rss_anon_mb": done.peak_anonymous_mb(), "wall_seconds": round(done.seconds, 2)}
            results.add(line | done.figures())
    summarise(results, given.repetitions)


def prepare(place: Path, given: Any, forms: set[str], environment: dict[str, str]) -> dict[str, Path]:
    """Train a run where none is given, and exports it in the forms that are needed; return the folder of each."""
    run = given.run or train_small(place, given.data, given.train_rows, given.epochs, environment)
    others = write_rows(place / "others.csv", *read_rows(given.data, "amazon_reviews", "train", slice(1_000, 2_000)))
    exported = {form: export_run(run, form, place, environment, others) for form in sorted(forms - {"run"})}
    if "onnx-int8" in exported:
        manifest = json.loads((exported["onnx-int8"] / "textune.json").read_text(encoding="utf-8"))
        print(f"int8, as the export measured it: {json.dumps(manifest['exported']['quality'])}", file=sys.stderr)
    return {"run": run} | exported


def measure(side: str, folder: Path, rows: Path) -> dict[str, Any]:
    """Load one side in this process and times it."""
    texts, labels = load_rows(rows)
    begun = time.perf_counter()
    predict, precision = (open_pipeline if side.startswith("pipeline") else open_predictor)(side, folder)
    predict(texts[:FIRST])
    loaded, begun = time.perf_counter() - begun, time.perf_counter()
    answers = predict(texts)
    seconds = time.perf_counter() - begun
    each = []
    for text in (texts * LATENCY_TEXTS)[:LATENCY_TEXTS]:
        begun = time.perf_counter()
        predict([text])
        each.append((time.perf_counter() - begun) * 1e3)
    from textune.tokens import encode_texts, load_tokenizer

    tokens = int(encode_texts(load_tokenizer(folder), texts, None, 512).lengths.sum())
    right = sum(answer == label for answer, label in zip(answers, labels, strict=True))
    return {
        "value": round(len(texts) / seconds, 2), "documents_per_second": round(len(texts) / seconds, 2),
        "tokens_per_second": round(tokens / seconds), "documents": len(texts), "tokens": tokens,
        "seconds": round(seconds, 3), "loading_seconds": round(loaded, 2), "accuracy": round(right / len(texts), 4),
        "latency_ms": round(statistics.median(each), 2), "precision": precision,
    }  # fmt: skip


def open_pipeline(side: str, folder: Path) -> tuple[Predict, str]:
    """Return transformers' pipeline on the CPU."""
    import transformers

    padding = "max_length" if side == PADDED else True
    classify = transformers.pipeline("text-classification", str(folder), device="cpu", batch_size=16)

    def predict(texts: Sequence[str]) -> list[str]:
        return [str(one["label"]) for one in classify(list(texts), truncation=True, max_length=512, padding=padding)]

    return predict, "fp32"


def open_predictor(side: str, folder: Path) -> tuple[Predict, str]:
    """Return textune's Predictor, of a run or of an exported folder."""
    from textune.inference import Predictor

    exported = side.startswith("onnxruntime")
    wanted = "auto" if exported else SIDES[side][1]
    predictor = Predictor.load(folder, device="cpu", precision=wanted, engine="auto" if exported else "lean")
    return predictor.predict, predictor.precision


def summarise(results: Results, repetitions: int) -> None:
    """Write the medians of each side, and how many times as fast textune is."""
    if results.find(figure="inference, textune against others", repetitions=repetitions):
        return
    keys = ("documents_per_second", "tokens_per_second", "latency_ms", "accuracy", "peak_rss_anon_mb")
    medians = {}
    for side in SIDES:
        lines = [line for line in results.find(figure=FIGURE, side=side) if line["repetition"] <= repetitions]
        if len(lines) == repetitions:
            medians[side] = {key: median(lines, key) for key in keys} | {"precision": lines[0]["precision"]}
    ours = medians.get("textune")
    for side, own in medians.items():
        if ours is not None and side != "textune":
            speed = ratio(ours["documents_per_second"], own["documents_per_second"])
            results.add(
                {"figure": "inference, textune against others", "side": side, "value": speed, "unit": "times as fast",
                 "latency_ratio": ratio(own["latency_ms"], ours["latency_ms"]), "repetitions": repetitions,
                 "scaled": side == PADDED, "precision": own["precision"], "median": own, "median_of_textune": ours}
            )  # fmt: skip


if __name__ == "__main__":
    main()
