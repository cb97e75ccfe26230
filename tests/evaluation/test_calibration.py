"""The temperature and the calibration error: known ones are found, and nothing is made worse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.evaluation import sigmoid
from textune.evaluation.calibration import FEWEST_ROWS, expected_calibration_error, fit_temperature, search_temperature
from textune.progress import Silent
from textune.run.calibrate import Calibration, HeldOut, fit_calibration
from textune.tasks import build_task

Array = np.ndarray[Any, Any]


def draw(rows: int, classes: int, seed: int, *, several: bool = False) -> tuple[Array, Array]:
    """Return logits, and targets drawn by the very probabilities that the logits say."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(rows, classes))
    if several:
        return logits, (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return logits, (logits + random.gumbel(size=logits.shape)).argmax(1)


def measure_loss(logits: Array, targets: Array) -> float:
    """Mean log loss, written once more."""
    if targets.ndim == 2:
        return float(np.mean(np.logaddexp(0, np.where(targets > 0, -logits, logits))))
    known = targets >= 0
    logits, targets = logits[known], targets[known]
    shifted = logits - logits.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(targets)), targets]))


@given(st.floats(0.3, 5), st.integers(2, 6), st.booleans(), st.integers(0, 9))
@settings(max_examples=30)
def test_a_known_temperature_is_found(temperature: float, classes: int, several: bool, seed: int) -> None:
    logits, targets = draw(6_000, classes, seed, several=several)
    assert fit_temperature(logits * temperature, targets) == pytest.approx(temperature, rel=0.1)


@given(st.integers(FEWEST_ROWS, 80), st.integers(2, 5), st.floats(0.01, 50), st.booleans(), st.integers(0, 999))
@settings(max_examples=60)
def test_the_loss_never_rises(rows: int, classes: int, size: float, several: bool, seed: int) -> None:
    logits, targets = draw(rows, classes, seed, several=several)
    scores = (logits * size).astype(np.float32)
    temperature = fit_temperature(scores, targets)
    loss = measure_loss(scores.astype(np.float64) / temperature, targets)
    assert math.isfinite(temperature) and temperature > 0
    # one row more of doubt is added to what is fitted, so the loss of the rows themselves may rise by about as much
    assert loss <= measure_loss(scores.astype(np.float64), targets) + 10 / rows


def nothing(classes: int) -> HeldOut:
    return HeldOut(np.zeros((0, classes), np.float32), np.zeros((0, classes), np.float32))


def test_rows_without_an_error_ask_for_no_certainty() -> None:
    targets = np.arange(50) % 2
    logits = np.where(np.arange(2) == targets[:, None], 1.0, -1.0)
    sure = 1 / (1 + np.exp(-2 / search_temperature(logits, targets, 0.5)[0]))
    assert sure == pytest.approx(1 - 0.5 / 51, abs=1e-3), "as if half of one more row were wrong"
    cautious = search_temperature(logits, targets)[0]
    assert 1 / (1 + np.exp(-2 / cautious)) == pytest.approx(1 - 1 / 52, abs=1e-3)


def test_few_rows_at_chance_do_not_ask_for_the_highest_temperature() -> None:
    targets = np.arange(FEWEST_ROWS) % 2
    logits = np.where(np.arange(2) == (np.arange(FEWEST_ROWS) // 2 % 2)[:, None], 1.0, -1.0)
    assert (logits.argmax(1) == targets).mean() == 0.5
    assert search_temperature(logits, targets, 0.5)[0] > 19
    few = fit_temperature(logits, targets)
    many = fit_temperature(np.tile(logits, (50, 1)), np.tile(targets, 50))
    assert 1 < few < 3 < many, "rows outweigh what was assumed before them"


@given(st.integers(FEWEST_ROWS, 200), st.integers(2, 5), st.floats(0.1, 10), st.booleans(), st.integers(0, 99))
@settings(max_examples=40)
def test_a_fitted_temperature_is_nearer_to_1(rows: int, classes: int, size: float, several: bool, seed: int) -> None:
    logits, targets = draw(rows, classes, seed, several=several)
    free, held = search_temperature(size * logits, targets, 0.5)[0], fit_temperature(size * logits, targets)
    assert abs(np.log(held)) <= abs(np.log(free)) + 1e-3


def test_too_few_rows_leave_probabilities_as_they_are() -> None:
    logits, targets = draw(FEWEST_ROWS, 3, 0)
    assert fit_temperature(5 * logits, targets) != 1.0
    assert fit_temperature(5 * logits[:-1], targets[:-1]) == 1.0
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, np.int64)) == 1.0


def test_labels_that_are_not_known_do_not_count() -> None:
    logits, targets = draw(90, 3, 1)
    strange = np.where(np.arange(90) % 2, targets, -1)
    assert fit_temperature(4 * logits, strange) == fit_temperature(4 * logits[1::2], targets[1::2])
    assert fit_temperature(4 * logits, strange) != fit_temperature(4 * logits, targets)
    few = np.where(np.arange(90) < FEWEST_ROWS - 1, targets, -1)
    assert fit_temperature(4 * logits, few) == 1.0


def test_logits_that_say_nothing_keep_their_temperature() -> None:
    targets = np.arange(60) % 2
    assert fit_temperature(np.zeros((60, 2)), targets) == 1.0
    assert fit_temperature(np.full((60, 2), np.nan), targets) == 1.0


def test_what_is_calibrated_has_no_error() -> None:
    sure = np.repeat([0.6, 0.8, 0.9], 100)
    right = np.concatenate([np.arange(100) < 60, np.arange(100) < 80, np.arange(100) < 90])
    probabilities = np.column_stack([sure, 1 - sure])
    assert expected_calibration_error(probabilities, np.where(right, 0, 1)) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(np.eye(3)[[0, 1, 2]], np.array([0, 1, 2])) == 0
    assert expected_calibration_error(np.zeros((0, 2)), np.zeros(0, np.int64)) == 0


def test_what_is_always_sure_and_half_right_is_half_wrong() -> None:
    assert expected_calibration_error(np.eye(2)[[0, 0, 0, 0]], np.array([0, 1, 0, 1])) == pytest.approx(0.5)
    assert expected_calibration_error(np.eye(2)[[0, 0]], np.array([-1, -1])) == pytest.approx(1), "-1 is never right"
    low = np.tile([0.5, 0.25, 0.25], (10, 1))
    assert expected_calibration_error(low, np.zeros(10, np.int64)) == pytest.approx(0.5), "too modest is wrong, too"


def test_with_several_labels_every_one_is_judged() -> None:
    probabilities = np.tile([1.0, 0.0, 0.5], (4, 1))
    targets = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 0]], np.float32)
    assert expected_calibration_error(probabilities, targets) == pytest.approx(0)
    targets[:2, 0] = 0
    assert expected_calibration_error(probabilities, targets) == pytest.approx(0.5 / 3)


@given(st.integers(1, 60), st.integers(2, 5), st.integers(1, 20), st.integers(0, 99))
@settings(max_examples=60)
def test_the_error_is_the_mean_gap_over_bins(rows: int, classes: int, bins: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(classes), rows)
    targets = random.integers(-1, classes, rows)
    total = 0.0
    sure, right = probabilities.max(1), probabilities.argmax(1) == targets
    for b in range(bins):
        inside = (sure >= b / bins) & ((sure < (b + 1) / bins) | (b == bins - 1))
        if inside.any():
            total += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    assert expected_calibration_error(probabilities, targets, bins) == pytest.approx(total)


class Heard(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def test_one_label_per_text_gets_a_temperature() -> None:
    logits, targets = draw(500, 3, 0)
    heard = Heard()
    found = fit_calibration(
        build_task("single_label"), HeldOut((3 * logits).astype(np.float32), targets, "rows"), heard
    )
    assert found.temperature == pytest.approx(3, rel=0.15) and found.thresholds is None
    assert heard.said == [f"temperature: {found.temperature:.2f} (fitted on 500 rows)"]
    scaled = np.exp(3 * logits / found.temperature)
    scaled /= scaled.sum(1, keepdims=True)
    plain = np.exp(3 * logits)
    plain /= plain.sum(1, keepdims=True)
    assert expected_calibration_error(scaled, targets) < 0.5 * expected_calibration_error(plain, targets)
    assert np.array_equal(scaled.argmax(1), plain.argmax(1)), "it changes no answer"


def test_a_temperature_at_its_limit_is_told() -> None:
    logits, targets = draw(500, 3, 0)
    for scores, answers, word in ((9 * logits, targets[::-1], "close to chance"), (logits / 90, targets, "lower than")):
        fit_calibration(build_task("single_label"), HeldOut(scores, answers, "rows"), heard := Heard())
        assert "at its limit" in heard.said[1] and word in heard.said[1]


def test_thresholds_are_of_probabilities_after_the_temperature() -> None:
    logits, targets = draw(500, 2, 0, several=True)
    for size in (1.0, 4.0):
        found = fit_calibration(build_task("multi_label"), HeldOut(size * logits, targets, "rows"), Silent())
        assert found.temperature == pytest.approx(size, rel=0.2) and found.thresholds is not None
        assert all(0.1 < threshold < 0.6 for threshold in found.thresholds)
    fixed = fit_calibration(build_task("multi_label", fixed=0.3), HeldOut(logits, targets, "rows"), heard := Heard())
    assert fixed.thresholds == (0.3, 0.3) and heard.said[-1].endswith("(as set)")


def test_without_rows_nothing_is_changed() -> None:
    assert fit_calibration(build_task("single_label"), nothing(3), Silent()) == Calibration()
    heard = Heard()
    found = fit_calibration(build_task("multi_label"), nothing(2), heard)
    assert found == Calibration(1.0, (0.5, 0.5))
    assert "no held-out rows" in heard.said[-1]


@pytest.mark.parametrize(("rows", "labels"), [(16, 100), (40, 100), (40, 28)])
def test_many_rare_labels_do_not_make_what_is_calibrated_modest(rows: int, labels: int) -> None:
    found = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        logits = random.normal(-6, 2, (rows, labels))
        found.append(fit_temperature(logits, random.random(logits.shape) < sigmoid(logits)))
    assert 0.9 < np.median(found) < 1.1
