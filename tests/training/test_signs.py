"""Signs of trouble: overfitting is named when it is there, and every sign is shown once and logged each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from textune.progress import Silent
from textune.training.log import TrainingLog
from textune.training.signs import Signs, explain_overfitting


@pytest.mark.parametrize(
    ("training", "validation"),
    [
        ([0.5, 0.1], [0.5, 0.9]),
        ([0.5, 0.3, 0.2], [0.5, 0.4, 0.41]),
        ([0.5, 0.3, 0.2], [0.5, 0.4, 0.6]),
        ([0.5, 0.1, 0.01, 0.01], [0.5, 0.4, 0.7, 0.6]),
        ([0.1, 0.05, 0.01], [0.5, 0.4, 0.3]),
    ],
    ids=["too early", "within chance", "training loss is high", "falls again", "falls"],
)
def test_no_overfitting(training: list[float], validation: list[float]) -> None:
    assert explain_overfitting(training, validation, list(range(len(training)))) is None


def test_overfitting_names_both_losses_and_the_best_step() -> None:
    message = explain_overfitting([0.4, 0.1, 0.03, 0.01], [0.5, 0.4, 0.5, 0.62], [10, 20, 30, 40])
    assert message is not None and "training loss is 0.010" in message and "0.400 at step 20 to 0.620" in message


def test_a_damaged_line_of_the_log_ends_no_resume(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, tensorboard=False, active=True)
    for step in (1, 2, 3):
        log.write({"kind": "step", "step": step, "loss": 0.5})
    log.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        path.read_text()
        .replace('"step": 2', '"stfp": 2')
        .replace('"loss": 0.5}\n{"kind": "step", "step": 3', '"lofs": 0.5}\n{"kind": "step", "step": 3')
    )
    again = TrainingLog(tmp_path, tensorboard=False, active=True)
    again.forget_after(3)
    assert again.losses == [0.5, 0.5]


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4])
def test_a_resumed_training_warns_as_one_in_one_go(stop: int, tmp_path: Path) -> None:
    losses = [(0.6, 0.5), (0.1, 0.52), (0.05, 0.6), (0.03, 0.8), (0.02, 0.9)]
    progress, log = Silent(), TrainingLog(tmp_path, tensorboard=False, active=True)
    log.write({"kind": "evaluation", "step": 0, "epoch": 0.0, "loss": 0.7})
    signs = Signs(progress, log)
    for step, (training, validation) in enumerate(losses, 1):
        if step == stop + 1:  # the next step was begun, and is repeated
            log.write({"kind": "evaluation", "step": step, "epoch": 1.0, "train_loss": 9.0, "loss": 0.1})
            log.close()
            log = TrainingLog(tmp_path, tensorboard=False, active=True)
            log.forget_after(step - 1)
            signs = Signs(progress, log)
        log.write({"kind": "evaluation", "step": step, "epoch": 1.0, "train_loss": training, "loss": validation})
        signs.warn_if_overfitting()
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    warnings = [(line["step"], line["text"]) for line in lines if line["kind"] == "warning"]
    assert [step for step, _ in warnings] == [3, 4, 5]
    assert all("rose from 0.500 at step 1 to" in text for _, text in warnings)


def test_a_sign_is_shown_once_and_logged_each_time(tmp_path: Path) -> None:
    progress, log = Silent(), TrainingLog(tmp_path, tensorboard=False, active=True)
    signs = Signs(progress, log)
    for step in (1, 2, 3):
        signs.warn("not learning", step, f"flat at {step}")
        signs.warn("overfitting", step, None)
    log.close()
    assert progress.warnings == ["flat at 1"]
    lines = [json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert [line["text"] for line in lines if line["kind"] == "warning"] == ["flat at 1", "flat at 2", "flat at 3"]
