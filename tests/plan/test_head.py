"""The forecast of the head's start: contrastive steps as training takes them, and heads that are not solved."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from textune.config import build_config
from textune.errors import ModelError
from textune.plan.head import rehearse_head
from textune.plan.rehearsal import rehearse
from textune.progress import Silent
from textune.run.prepare import Prepared, prepare
from textune.tokens.batches import EncodedSplit
from textune.training.head import Network
from tiny import make_rows, settings_for, write_reviews

PER_ROW, STEPS = 0.01, 40


def prepare_few(backbone: Path, folder: Path, rows: int, classes: int = 2, long: int = 1, **settings: Any) -> Prepared:
    """Prepare a run on this many rows of each class, all for training. long: how often a text is repeated."""
    for name, count in (("data", rows * classes), ("test", 2 * classes)):
        lines = [f"{name} {' '.join([text] * long)},{label}" for text, label in make_rows(count, classes)]
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    more = {"test": str(folder / "test.csv"), "validation_fraction": None, "epochs": 1, "learn_names": False}
    flat = settings_for(folder / "data.csv", backbone, folder / "run", **more | {"contrast_steps": STEPS} | settings)
    return prepare(build_config(flat), Silent())


@pytest.fixture
def forecast_rows(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the forecast rows of a contrastive step, in training and in the trainings that calibrate it."""

    def compute_features(split: EncodedSplit) -> np.ndarray[Any, Any]:
        return np.eye(64, dtype=np.float32)[split.targets]

    def time_growing(compute: Any, rows: int, *_: Any) -> list[tuple[int, float]]:
        compute(rows)
        return [(rows, PER_ROW * rows)]

    def forecast(prepared: Prepared, max_tokens: int = 10_000) -> tuple[float, float]:
        network = SimpleNamespace(has_output_layer=True, compute_features=compute_features)
        opened: Any = SimpleNamespace(network=network, max_tokens=max_tokens)
        found = rehearse_head(prepared, opened, lambda *_: None, 1.0)
        features = PER_ROW * len(prepared.train)
        step = STEPS * 3 * PER_ROW
        halves = found.calibration - 2 * features
        return (found.seconds - features) / step, halves / step

    monkeypatch.setattr("textune.plan.head.time_growing", time_growing)
    monkeypatch.setattr("textune.plan.head._forecast_solving", lambda *_: (0.0, None))
    return forecast


@pytest.mark.parametrize(
    ("rows", "classes", "of_all", "of_halves"), [(8, 2, 16, 8 + 8), (8, 3, 24, 12 + 12), (40, 2, 32, 32 + 32)]
)
def test_a_contrastive_step_is_forecast_with_the_rows_it_takes(
    rows: int, classes: int, of_all: int, of_halves: int, forecast_rows: Any, backbone: Path, tmp_path: Path
) -> None:
    prepared = prepare_few(backbone, tmp_path, rows, classes)
    assert prepared.calibrates_out_of_fold
    assert forecast_rows(prepared) == pytest.approx((of_all, of_halves))


def test_long_texts_leave_fewer_rows_for_a_step_and_names_add_some(
    forecast_rows: Any, backbone: Path, tmp_path: Path
) -> None:
    prepared = prepare_few(backbone, tmp_path, 40, long=10)
    assert set(prepared.train.tokens.lengths.tolist()) == {32}
    assert forecast_rows(prepared, max_tokens=320) == pytest.approx((10, 20))
    named = prepare_few(backbone, tmp_path, 8, learn_names=True)
    assert named.names is not None
    assert forecast_rows(named) == pytest.approx((18, 10 + 10))


def test_a_head_that_cannot_be_solved_is_forecast_as_it_will_start(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training only warns that such a head starts random."""

    def find_none(network: Network) -> None:
        raise ModelError("the head has no trained linear layer with one output per class")

    monkeypatch.setattr(Network, "find_output_layer", find_none)
    (tmp_path / "rehearsal").mkdir()
    config = build_config(settings_for(write_reviews(tmp_path / "reviews.csv"), backbone, tmp_path / "run"))
    forecast = rehearse(config, tmp_path / "rehearsal", 0.5, time.time(), Silent())
    assert forecast.seconds["head"] == 0 and forecast.seconds["steps"] > 0
