"""Time from the start of a process to the accuracy that the tutorial's run ends with.

    python benchmarks/time_to_accuracy.py --data FOLDER --output results/time_to_accuracy.jsonl
        [--only accuracy N ours embeddings] [--steps-n 20] [--repetitions 1] [--allocator tuned|own|plain]

The job: the first 1,000 training rows of amazon_reviews, 4 epochs, MiniLM. All sides are judged on the same 500 other
training rows; the 2,000 test rows are read once at the end and decide nothing.

"accuracy" is a real run of the tutorial's setting (N of `baselines.py`: Trainer and peft, fp32). Its result does not
depend on padding, so batches are padded to their longest text and computed in four parts of like length. It takes
the most time, and the machine may be busy meanwhile. "N" times that setting unchanged, padded to 512, on a few steps:
start-up + seconds per document x all documents, which is marked as scaled. "ours" is `textune train` with an empty
cache and the judge as its validation rows; the times at which evaluations are logged are taken from outside, so its
time holds every evaluation before. It is the first time at or above the accuracy of N. "embeddings" is logistic
regression with 3-fold cross-validation on mean embeddings in fp32 by transformers; its time ends when it is fitted.
Lines that are in --output are not measured again, so the parts may run at different times.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sides import (
    ALLOCATORS,
    Results,
    choose_environment,
    describe_setting,
    hold_to,
    load_rows,
    median,
    ratio,
    read_rows,
    run_side,
    seconds_since_start,
    textune,
    write_rows,
)

PARTS = ("accuracy", "N", "ours", "embeddings")
FIGURE, RUN = "time to accuracy", "time to accuracy, run"
GOAL = 60
MAX_LENGTH, SECONDS_BETWEEN_LOOKS = 512, 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--judge-rows", type=int, default=500)
    parser.add_argument("--test-rows", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps-n", type=int, default=20)
    parser.add_argument("--eval-every-steps", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=1, help="of the times; the accuracy of N is of one run")
    parser.add_argument("--allocator", choices=ALLOCATORS, default="tuned")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--embed", nargs=2, type=Path, metavar=("ROWS_FOLDER", "MODEL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.embed:
        print(json.dumps(fit_embeddings(*given.embed)))
        return
    hold_to(given.threads)
    command = (
        f"python benchmarks/time_to_accuracy.py {'' if given.data is None else '--data FOLDER '}--rows {given.rows} "
        f"--judge-rows {given.judge_rows} --test-rows {given.test_rows} --epochs {given.epochs} "
        f"--allocator {given.allocator}"
    )
    fixed = describe_setting(given.threads) | {
        "rows": given.rows, "judge_rows": given.judge_rows, "test_rows": given.test_rows, "epochs": given.epochs,
        "allocator": given.allocator, "data": "rotten_tomatoes" if given.data is None else "amazon_reviews",
        "command": command,
    }  # fmt: skip
    results = Results(given.output, fixed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, split, rows in (
            ("train", "train", slice(0, given.rows)),
            ("judge", "train", slice(given.rows, given.rows + given.judge_rows)),
            ("test", "test", slice(0, given.test_rows)),
        ):
            write_rows(place / f"{name}.csv", *read_rows(given.data, "amazon_reviews", split, rows))
        measures = {"N": measure_tutorial, "ours": measure_ours, "embeddings": measure_embeddings}
        if "accuracy" in given.only and not find_side(results, "accuracy"):
            results.add({"figure": RUN, "side": "accuracy", "repetition": 1} | find_accuracy(place, given))
        for repetition in range(1, given.repetitions + 1):
            for side in (side for side in measures if side in given.only):
                if not results.find(figure=RUN, side=side, repetition=repetition):
                    line = measures[side](place, given, repetition)
                    results.add({"figure": RUN, "side": side, "repetition": repetition} | line)
    summarise(results)


def run_baseline(place: Path, given: argparse.Namespace, *words: str) -> dict[str, Any]:
    """Run a side of `baselines.py` in fp32 and return what it prints."""
    from textune.backbones import resolve_backbone

    side, *options = words
    script = str(Path(__file__).with_name("baselines.py"))
    model = str(resolve_backbone("minilm").folder)
    command = [sys.executable, script, side, str(place / "train.csv"), model, "--fp32", *options]
    return run_side(command, choose_environment(given.allocator, given.threads, ours=False)).figures()


def find_accuracy(place: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Return the accuracy that the tutorial's setting ends with."""
    tables = (str(place / "judge.csv"), str(place / "test.csv"))
    found = run_baseline(place, given, "D", "--epochs", str(given.epochs), "--parts", "4", "--judge", *tables)
    return {
        "accuracy": round(found["accuracies"]["judge"], 5), "test_accuracy": round(found["accuracies"]["test"], 5),
        "steps": found["steps"], "precision": "fp32", "dropout": 0.1, "seconds_of_training": found["steady_seconds"],
        "note": "padded by batch and computed in four parts of like length: the accuracy counts, not the seconds",
    }  # fmt: skip


def measure_tutorial(place: Path, given: argparse.Namespace, repetition: int) -> dict[str, Any]:
    """Measure a few steps padded to 512, and scale them to the whole job."""
    found = run_baseline(place, given, "N", "--steps", str(given.steps_n), "--seed", str(41 + repetition))
    each = found["steady_seconds"] / found["documents"]
    return {
        "seconds": round(found["startup_seconds"] + each * given.rows * given.epochs, 2),
        "startup_seconds": round(found["startup_seconds"], 2), "seconds_per_document": round(each, 5),
        "scaled": f"{found['steps']} steps, {found['documents']} documents; seconds = start-up + seconds per "
                  "document x documents", "precision": "fp32", "dropout": 0.1,
    }  # fmt: skip


def measure_ours(place: Path, given: argparse.Namespace, repetition: int) -> dict[str, Any]:
    """Run `textune train` whole and return when each evaluation was logged, and how accurate it was."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        runs = Path(folder)
        settings = (
            f"validation={place / 'judge.csv'}", f"test={place / 'test.csv'}", "text=text", "label=label",
            f"max_length={MAX_LENGTH}", f"epochs={given.epochs}", f"eval_every_steps={given.eval_every_steps}",
            f"seed={41 + repetition}", f"runs_dir={runs}", "name=run",
        )  # fmt: skip
        environment = choose_environment(given.allocator, given.threads, ours=True, cache=runs / "cache")
        with watch_log(runs / "run" / "metrics.jsonl") as seen:
            done = run_side(textune("train", place / "train.csv", *settings, "--json"), environment)
        evaluations, evaluating, before = [], 0.0, done.started
        for when, line in seen:
            if line["kind"] == "evaluation":
                evaluations.append(
                    {"step": line["step"], "epoch": line["epoch"], "accuracy": round(line["accuracy"], 5),
                     "seconds": round(when - done.started, 2), "seconds_of_evaluations": round(evaluating, 2)}
                )  # fmt: skip
                # The evaluation before the first step stands beside other work, so only later ones are told apart.
                evaluating += when - before if line["step"] else 0.0
            before = when
        precision = json.loads((runs / "run" / "textune.json").read_text(encoding="utf-8"))["engine"]["precision"]
    return {
        "evaluations": evaluations, "wall_seconds": round(done.seconds, 2), "precision": precision["name"],
        "test_accuracy": json.loads(done.output)["accuracy"], "dropout": 0.0, "scaled": False,
    }  # fmt: skip


@contextmanager
def watch_log(path: Path) -> Iterator[list[tuple[float, dict[str, Any]]]]:
    """Yield a list that gets each line of a growing log with the time at which it was first seen."""
    seen: list[tuple[float, dict[str, Any]]] = []
    ended = threading.Event()

    def read() -> None:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
        seen.extend((time.time(), json.loads(line)) for line in lines[len(seen) :])

    def watch() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            read()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
    read()


def measure_embeddings(place: Path, given: argparse.Namespace, repetition: int) -> dict[str, Any]:
    """Run embeddings and logistic regression in a process of their own."""
    from textune.backbones import resolve_backbone

    words = [sys.executable, __file__, "--embed", str(place), str(resolve_backbone("minilm").folder)]
    return run_side(words, choose_environment(given.allocator, given.threads, ours=False)).figures()


def fit_embeddings(place: Path, folder: Path) -> dict[str, Any]:
    """Fit logistic regression on embeddings of the training rows; return when it stood, and its accuracies."""
    import torch
    import transformers
    from sklearn.linear_model import LogisticRegressionCV

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    model = transformers.AutoModel.from_pretrained(str(folder), dtype=torch.float32).eval()

    def embed(texts: Sequence[str]) -> Any:
        """Return L2-normalised mean embeddings, computed in batches of like length."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = torch.empty(len(texts), model.config.hidden_size)
        with torch.inference_mode():
            for begin in range(0, len(order), 32):
                rows = order[begin : begin + 32]
                batch = tokenizer(
                    [texts[i] for i in rows], truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors="pt"
                )
                weights = batch["attention_mask"][..., None].float()
                found[rows] = (model(**batch).last_hidden_state * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(found).numpy()

    texts, labels = load_rows(place / "train.csv")
    classifier = LogisticRegressionCV(Cs=[1, 10, 100], cv=3, max_iter=300, random_state=0).fit(embed(texts), labels)
    seconds = seconds_since_start()
    figures: dict[str, Any] = {"seconds": round(seconds, 2), "precision": "fp32", "scaled": False}
    for name, key in (("judge", "accuracy"), ("test", "test_accuracy")):
        texts, labels = load_rows(place / f"{name}.csv")
        figures[key] = round(float(classifier.score(embed(texts), labels)), 5)
    return figures


def summarise(results: Results) -> None:
    """Add the line with the ratios where every part has been measured and there is no such line yet."""
    found = {side: find_side(results, side) for side in PARTS}
    if not all(found.values()) or results.find(figure=FIGURE):
        return
    target = found["accuracy"][0]["accuracy"]
    reached = [find_first(line["evaluations"], target) for line in found["ours"]]
    # A run that never gets there has no time, and then the median of the others would say too much.
    ours = median(filter(None, reached), "seconds") if all(reached) else None
    tutorial, embeddings = median(found["N"], "seconds"), median(found["embeddings"], "seconds")
    arrives = all(line["accuracy"] >= target for line in found["embeddings"])
    value = ratio(tutorial, ours)
    results.add(
        {"figure": FIGURE, "value": value, "goal": GOAL, "met": value is not None and value >= GOAL,
         "unit": "seconds of N / seconds of textune", "accuracy": target, "seconds_of_n": tutorial,
         "seconds_of_textune": ours, "first_at": reached[0], "seconds_of_embeddings": embeddings,
         "embeddings_reach_it": arrives, "embeddings_over_textune": ratio(embeddings, ours) if arrives else None,
         "accuracy_of_embeddings": median(found["embeddings"], "accuracy"),
         "best_accuracy_of_textune": max(e["accuracy"] for line in found["ours"] for e in line["evaluations"]),
         "test_accuracies": {side: median(found[side], "test_accuracy") for side in PARTS if side != "N"},
         "repetitions": len(found["ours"]), "scaled": found["N"][0]["scaled"]}
    )  # fmt: skip


def find_side(results: Results, side: str) -> list[dict[str, Any]]:
    """Return the runs of a side. How accurate N becomes does not depend on the threads, so any number will do."""
    if side != "accuracy":
        return results.find(figure=RUN, side=side)
    counts = {line.get("threads") for line in results.lines}
    return [line for count in sorted(counts, key=str) for line in results.find(figure=RUN, side=side, threads=count)]


def find_first(evaluations: Sequence[dict[str, Any]], target: float) -> dict[str, Any] | None:
    """Return the first evaluation at or above an accuracy; None where there is none."""
    return next((evaluation for evaluation in evaluations if evaluation["accuracy"] >= target), None)


if __name__ == "__main__":
    main()
