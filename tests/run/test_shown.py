"""What Python shows and prints of a run and of what is made with it: one line, and a few."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import textune
from textune.evaluation.multilabel import evaluate_multi_label
from textune.plan.forecast import Forecast
from textune.run import Run
from textune.search.sweep import Sweep
from tiny import FAST, train_tiny, write_reviews

PARTS = ("start", "prepare", "load", "head", "frozen", "steps", "evaluations", "checkpoints", "save", "measure")


def forecast(finished: Run) -> Forecast:
    return Forecast("lora", "minilm", dict.fromkeys(PARTS, 6.0), 1234.5, 90.0, 120.0, 1000, 2000, {}, ("a note",))


def evaluate_sets(finished: Run) -> Any:
    scores, targets = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[1, 0], [0, 1]])
    return evaluate_multi_label(scores, targets, ("a", "b"), thresholds=(0.5, 0.5))


def make_sweep(finished: Run) -> Sweep:
    return Sweep(Path("runs/s"), {"trials": [{}, {}]}, finished)


SHOWN: Mapping[str, tuple[Callable[[Run], Any], str, str]] = {
    "run": (lambda run: run, "Run('", "accuracy"),
    "sweep": (make_sweep, "Sweep('runs/s', 2 trials)", "winner"),
    "predictor": (lambda run: run.load(), "Predictor(lora on ", "labels: negative, positive"),
    "forecast": (forecast, "Forecast(lora on minilm: 1 min 00 s, 1,234 MB memory, 90 MB disk)", "a note"),
    "evaluation": (
        lambda run: textune.evaluate(run, [{"text": "unseen", "label": "positive"}] * 2),
        "Evaluation(accuracy ",
        "macro F1",
    ),
    "evaluation of sets": (evaluate_sets, "MultiLabelEvaluation(micro F1 100% on 2 rows)", "macro F1 100%"),
}


@pytest.mark.parametrize("kind", SHOWN)
def test_shown_in_a_line_and_printed_in_a_few(kind: str, finished: Run) -> None:
    make, short, printed = SHOWN[kind]
    made = make(finished)
    assert repr(made).startswith(short) and "\n" not in repr(made) and len(repr(made)) < 200, repr(made)
    lines = str(made).splitlines()
    assert 2 <= len(lines) <= 12 and printed in str(made) and max(map(len, lines)) < 250, str(made)


def test_a_sweep_takes_several_values_in_plain_settings(work: Path, backbone: Path) -> None:
    rows = write_reviews(work / "d.csv", rows=60)
    settings = {name: value for name, value in FAST.items() if name != "learning_rate"}
    made = textune.sweep(
        rows, backbone=str(backbone), **settings | {"epochs": 1}, name="s", learning_rate=[1e-3, 5e-3], method="head"
    )
    assert repr(made) == "Sweep('runs/s', 2 trials)" and "2 trials\nwinner runs/s/winner" in str(made)


def test_a_comparison_is_shown_so_too(finished: Run, reviews: Path, backbone: Path, tmp_path: Path) -> None:
    other = train_tiny(reviews, backbone, tmp_path / "other", method="head", epochs=1)
    made = textune.compare(finished, other)
    assert re.fullmatch(r"Comparison\(2 candidates on 12 test rows, best: \w+, accuracy \d+\.\d%\)", repr(made))
    lines = str(made).splitlines()
    assert len(lines) <= 7 and lines[0] == "on 12 test rows" and "95% interval" in lines[1], lines
