"""Which weights of a run to keep, and how to draw its batches: judged on held-out training rows, paired by seed.

    python benchmarks/checkpoint_trials.py --data FOLDER --output results/checkpoints.jsonl [--only DATA ...]
        [--seeds 1 2 3 4 5] [--sizes 1000] [--forms bucket random refit]

Each trial trains LoRA by textune's rules on 1,000 rows (or as --sizes says: 64c is 64 of each class), of which the rule
holds some out for validation, and judges by other training rows: the last weights, those that textune keeps ("kept";
"head_first" if it kept the solved head wherever that is not beaten), the best by accuracy and by loss, the mean of the
last two evaluations' weights, a moving average of all steps, the solved head before the first step, shares of the way
from there to the last weights, and a refit on training and validation rows. "bucket" draws batches of like length, as
textune does; "random" draws them at random. Finished trials are not repeated.
`--summary` prints means and paired differences.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax

from rule_trials import DATA, JUDGED, draw, read_training_rows
from textune.cli.environment import tune_libraries
from textune.config import build_config
from textune.engine import predict_logits
from textune.files import append_json_line, read_json_lines
from textune.progress import Silent
from textune.run.fit import build_trainer, open_training, solve_head
from textune.run.prepare import Shared, prepare
from textune.tokens import batches as batching
from textune.training.checkpoint import CheckpointState, trainable_parameters
from textune.training.head import MOST_ROWS, set_head

SETS = ("sms_spam", "rotten_tomatoes", "banking77", "ag_news", "amazon_reviews")
FORMS = ("bucket", "random", "refit")
_AVERAGE_OVER = 0.1  # of all steps: the horizon of the moving average
_SAME_PASSES = 0.05  # by how much passes may differ, since the last step of each is a part of a batch
_SHARES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1)  # of the way from the solved head to the last weights
_Weights = dict[str, torch.Tensor]


def run_trial(name: str, folder: Path, size: str, seed: int, form: str) -> dict[str, Any]:
    """Train once and return the judged accuracy and loss of every choice of weights."""
    frame = read_training_rows(name, folder)
    fixed = DATA[name]
    held_out = JUDGED.get(name, 500)
    judge, learn = frame[:held_out], draw(frame[held_out:], size, "label", seed)
    settings = {"data": "rows", "test": "rows", "label": "label", "text": "text", "seed": seed} | fixed
    shared = Shared({"data": learn, "test": judge})
    work = prepare(build_config(settings | {"validation_fraction": 0.1}), Silent(), shared)
    if form == "refit":  # as many epochs as the rule chose before the validation rows came back
        epochs = work.config.training.epochs
        work = prepare(build_config(settings | {"validation_fraction": 0, "epochs": epochs}), Silent(), shared)
    judged = work.encode(work.data.evaluation[1])
    padding = work.padding
    with tempfile.TemporaryDirectory() as place, batches(form):
        opened = open_training(work, Path(place), Silent())
        engine = opened.engine
        set_head(opened.network, solve_head(work, opened.network, MOST_ROWS))
        trainer = build_trainer(work, opened, Path(place), Silent())
        parameters = trainable_parameters(engine.model)

        def copy() -> _Weights:
            return {key: value.detach().clone() for key, value in parameters.items()}

        def judge_weights(weights: _Weights) -> tuple[float, float]:
            with torch.no_grad():
                for key, value in parameters.items():
                    value.copy_(weights[key])
            engine.refresh()
            logits = predict_logits(engine, judged, padding)
            loss = -log_softmax(logits, axis=1)[np.arange(len(judged)), judged.targets].mean()
            return round(float((logits.argmax(1) == judged.targets).mean()), 4), round(float(loss), 4)

        average, kept, scores = copy(), [copy()], [trainer.measure()[0] if work.validation is not None else {}]
        keep = 1.0 - 1.0 / max(2.0, _AVERAGE_OVER * trainer.total_steps)
        started = time.monotonic()
        engine.train()
        for step, batch in trainer.remaining_steps(CheckpointState(step=0, plan="")):
            trainer.take_step(step, batch, first=step == 1)
            for key, value in parameters.items():
                average[key].lerp_(value.detach(), 1.0 - keep)
            if step % trainer.eval_every == 0 or step == trainer.total_steps:
                kept.append(copy())
                scores.append(trainer.measure()[0] if work.validation is not None else {})
        seconds = time.monotonic() - started
        last_two = {key: (kept[-1][key] + kept[-2][key]) / 2 for key in parameters}
        found = {"head": kept[0], "last": kept[-1], "mean_of_two": last_two, "average": average}
        for share in _SHARES:
            found[f"share_{share}"] = {key: kept[0][key].lerp(kept[-1][key], share) for key in parameters}
        if work.validation is not None:
            by_accuracy = max(range(len(kept)), key=lambda i: (scores[i]["accuracy"], -scores[i]["loss"]))
            by_loss = min(range(len(kept)), key=lambda i: scores[i]["loss"])
            found |= {"best_accuracy": kept[by_accuracy], "best_loss": kept[by_loss]}
            for choice, ties in (("kept", True), ("head_first", False)):
                found[choice] = kept[choose_kept([s["accuracy"] for s in scores], len(work.validation), ties)]
        if form != "bucket":  # these forms are compared by their last weights alone
            found = {"last": found["last"]}
        figures = {key: judge_weights(weights) for key, weights in found.items()}
    return {"steps": trainer.total_steps, "train_rows": len(work.train), "judged": len(judged),
            "accuracy": {key: accuracy for key, (accuracy, _) in figures.items()},
            "loss": {key: loss for key, (_, loss) in figures.items()}, "seconds": round(seconds, 1)}  # fmt: skip


def choose_kept(accuracies: Sequence[float], rows: int, head_may_tie: bool) -> int:
    """Return which evaluation's weights are kept: the last that is within one standard error of the best before it.

    head_may_tie: whether that holds for the first evaluation, too, which is that of the solved head.
    """
    chosen, best = 0, accuracies[0]
    for i, value in enumerate(accuracies[1:], 1):
        error = (value * (1 - value) / rows) ** 0.5
        if value > best or (value > best - error and (head_may_tie or chosen)):
            chosen = i
        best = max(best, value)
    return chosen


@contextmanager
def batches(form: str) -> Iterator[None]:
    """Draw batches at random while the block runs, where `form` says so."""
    before = batching._BATCHES_PER_BUCKET
    batching._BATCHES_PER_BUCKET = 1 if form == "random" else before
    try:
        yield
    finally:
        batching._BATCHES_PER_BUCKET = before


def summarize(trials: Sequence[dict[str, Any]]) -> None:
    """Print the mean accuracy of every choice and its difference from the last weights in buckets, in points.

    Trials are paired if they were judged by the same rows and took as many steps, but for those that a refit's
    validation rows add: a few are older than today's number of epochs, or were judged by fewer rows.
    """
    by_cell: dict[tuple[str, Any, int], dict[str, float]] = {}
    buckets = {cell_of(trial): trial for trial in trials if trial["form"] == "bucket"}
    for trial in trials:
        base_trial = buckets.get(cell_of(trial))
        if base_trial is None or not is_paired(trial, base_trial):
            continue
        cell = by_cell.setdefault(cell_of(trial), {})
        cell |= {f"{trial['form']}/{key}": value for key, value in trial["accuracy"].items()}
    base = "bucket/last"
    for choice in sorted({key for cell in by_cell.values() for key in cell}):
        line = [f"{choice:24}"]
        for name in (*SETS, ""):
            cells = [c for (data, _, _), c in by_cell.items() if name in ("", data) and choice in c and base in c]
            gaps = np.array([c[choice] - c[base] for c in cells]) * 100
            if len(gaps) > 1:
                error = gaps.std(ddof=1) / len(gaps) ** 0.5
                line.append(f"{name or 'all'} {gaps.mean():+.2f} (se {error:.2f}, {len(gaps)})")
        print("  ".join(line))


def cell_of(trial: dict[str, Any]) -> tuple[str, Any, int]:
    """Return data set, rows and seed: what the trials of a pair share."""
    return trial["data"], trial["rows"], trial["seed"]


def is_paired(trial: dict[str, Any], base: dict[str, Any]) -> bool:
    """Return whether both were judged by the same rows after as many passes over their training rows."""
    passes = trial["steps"] / trial["train_rows"] / (base["steps"] / base["train_rows"])
    return bool(trial["judged"] == base["judged"] and abs(passes - 1) < _SAME_PASSES)


def main(words: Sequence[str] | None = None) -> None:
    """Run the trials that the output lacks, or print what it holds."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=FORMS)
    parser.add_argument("--sizes", nargs="*", default=["1000"])
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args(words)
    trials = read_json_lines(arguments.output)
    if arguments.summary:
        summarize(trials)
        return
    if arguments.data is None:
        parser.error("--data is needed to run trials")
    done = {_key(trial) for trial in trials}
    for size, seed, name, form in itertools.product(arguments.sizes, arguments.seeds, arguments.only, arguments.forms):
        trial = {"data": name, "rows": int(size) if size.isdigit() else size, "seed": seed, "form": form}
        if _key(trial) in done:
            continue
        trial |= run_trial(name, arguments.data, size, seed, form)
        append_json_line(arguments.output, trial)
        print(json.dumps(trial), flush=True)


def _key(trial: dict[str, Any]) -> tuple[Any, ...]:
    return trial["data"], trial["rows"], trial["seed"], trial["form"]


if __name__ == "__main__":
    main()
