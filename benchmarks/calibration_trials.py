"""A temperature for few rows: from rows out of fold, or from few validation rows; judged on held-out training rows.

    python benchmarks/calibration_trials.py --data FOLDER --output results/calibration.jsonl [--only DATA ...]
        [--sizes 8c 32c] [--seeds 1 2 3] [--folds 2]

Each trial trains textune's default on the drawn rows, and once more on each fold's complement; the fold's rows then
give the temperature. Expected calibration error and log loss of the judging rows, without a temperature, with that one,
and with the best for the judging rows, which no rule can know. With `--folds 0` a fifth of the drawn rows validates and
gives the temperature instead. No test row is read. Finished trials are not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rule_trials import DATA, JUDGED, draw, read_training_rows
from textune.cli.environment import tune_libraries
from textune.config import build_config
from textune.engine import predict_logits
from textune.evaluation import expected_calibration_error
from textune.evaluation.calibration import fit_temperature, search_temperature
from textune.files import append_json_line, read_json_lines
from textune.progress import Silent
from textune.run.fit import fit
from textune.run.prepare import Prepared, Shared, prepare
from textune.tokens.batches import EncodedSplit

SETS = ("rotten_tomatoes", "sms_spam", "ag_news")
Logits = NDArray[np.float32]


def main() -> None:
    """Run the trials that the output lacks."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(SETS))
    parser.add_argument("--sizes", nargs="*", default=["8c", "32c"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--judged", type=int, help="rows to judge by, where long texts would take long")
    arguments = parser.parse_args()
    done = {tuple(t[k] for k in ("data", "size", "seed", "folds")) for t in read_json_lines(arguments.output)}
    for size, seed, name in itertools.product(arguments.sizes, arguments.seeds, arguments.only):
        if (name, size, seed, arguments.folds) in done:
            continue
        trial: dict[str, Any] = {"data": name, "size": size, "seed": seed, "folds": arguments.folds}
        trial |= run_trial(name, arguments.data, size, seed, arguments.folds, arguments.judged)
        append_json_line(arguments.output, trial)
        print(trial, flush=True)


def run_trial(name: str, folder: Path, size: str, seed: int, folds: int, most: int | None = None) -> dict[str, Any]:
    """Train once on all drawn rows and once without each fold; return the figures of the judging rows."""
    frame, fixed, held_out = read_training_rows(name, folder), DATA[name], most or JUDGED.get(name, 500)
    judge, learn = frame[:held_out], draw(frame[held_out:], size, "label", seed)
    flat = {"data": "rows", "test": "rows", "text": "text", "label": "label", "seed": seed}
    config = build_config(flat | {"validation_fraction": 0 if folds else 0.2} | fixed)
    prepared = prepare(config, Silent(), Shared({"data": learn, "test": judge}))
    assert prepared.data.test is not None
    judged, train = prepared.encode(prepared.data.test), prepared.train
    asked = [judged] if prepared.validation is None else [judged, prepared.validation]
    seconds, (logits, *unseen) = train_and_predict(prepared, asked)
    targets, more_seconds = asked[-1].targets, 0.0
    if folds:
        order = np.random.default_rng(seed).permutation(len(train))
        order = order[np.argsort(train.targets[order], kind="stable")]
        targets = train.targets[order]
        unseen = [np.zeros((len(train), logits.shape[1]), np.float32)]
        for fold in range(folds):
            outside = np.arange(fold, len(train), folds)
            inside = np.setdiff1d(np.arange(len(train)), outside)
            part = replace(prepared, train=train.take(order[inside]))
            more, (unseen[0][outside],) = train_and_predict(part, [train.take(order[outside])])
            more_seconds += more
    found: dict[str, Any] = {
        "judged": len(judged), "rows": len(train), "fitted_on": len(targets), "classes": logits.shape[1],
        "seconds": round(seconds, 1),
        "more_seconds": round(more_seconds, 1), "contrast_steps": prepared.config.training.contrast_steps,
        "accuracy": round(float((logits.argmax(1) == judged.targets).mean()), 4),
        "accuracy_unseen": round(float((unseen[0].argmax(1) == targets).mean()), 4),
    }  # fmt: skip
    fitted, best = fit_temperature(unseen[0], targets), search_temperature(logits, judged.targets)[0]
    for key, temperature in {"none": 1.0, "fitted": fitted, "best": best}.items():
        found[key] = judge_temperature(logits, judged.targets, temperature)
    return found


def train_and_predict(prepared: Prepared, asked: list[EncodedSplit]) -> tuple[float, list[Logits]]:
    """Train; return the seconds and the logits of other rows."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        fitted = fit(prepared, Path(place), Silent())
        seconds = time.monotonic() - started
        return seconds, [predict_logits(fitted.opened.engine, split, prepared.padding) for split in asked]


def judge_temperature(logits: Logits, targets: NDArray[Any], temperature: float) -> dict[str, float]:
    """Return a temperature with calibration error and log loss of these rows."""
    shares = np.exp(logits / temperature - (logits / temperature).max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    loss = -np.log(np.maximum(shares[np.arange(len(shares)), targets], 1e-12)).mean()
    error = expected_calibration_error(shares, targets)
    return {"temperature": round(temperature, 3), "ece": round(error, 4), "loss": round(float(loss), 4)}


if __name__ == "__main__":
    main()
