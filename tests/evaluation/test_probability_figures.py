"""Calibration, Brier score and log loss against scikit-learn and cases done by hand, with and without temperature."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from textune.errors import BundleError
from textune.evaluation import (
    Evaluation,
    MultiLabelEvaluation,
    add_before,
    evaluate,
    evaluate_multi_label,
    expected_calibration_error,
    measure_calibration,
    measure_probabilities,
    sigmoid,
    softmax,
    undo_temperature,
)
from textune.evaluation import probability_figures as module
from textune.evaluation.intervals import wilson_interval
from textune.tasks import build_task

Array = np.ndarray[Any, Any]


def draw(rows: int, classes: int, seed: int, *, several: bool = False, sharp: float = 1.0) -> tuple[Array, Array]:
    """Return logits that are `sharp` times too large, and targets drawn by the right ones."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(rows, classes))
    if several:
        return sharp * logits, (random.random(logits.shape) < sigmoid(logits)).astype(np.float32)
    return sharp * logits, (logits + random.gumbel(size=logits.shape)).argmax(1)


def to_probabilities(logits: Array, *, several: bool) -> Array:
    return sigmoid(logits) if several else softmax(logits)


def as_unknown(targets: Array, seed: int) -> Array:
    """Return the targets with some rows at -1."""
    return np.where(np.random.default_rng(seed).random(len(targets)) < 0.2, -1, targets)


@settings(max_examples=120, deadline=None)
@given(st.integers(1, 80), st.integers(2, 5), st.integers(0, 10_000))
def test_scores_of_one_label_are_scikit_learns(rows, classes, seed):
    logits, targets = draw(rows, classes, seed)
    probabilities, targets = softmax(logits), as_unknown(targets, seed)
    figures, known = measure_calibration(probabilities, targets), targets >= 0
    assert figures.calibration_error == pytest.approx(expected_calibration_error(probabilities, targets), abs=1e-12)
    if not known.any():
        assert figures.brier is None and figures.log_loss is None
        return
    true, scores = targets[known], probabilities[known]
    assert figures.log_loss == pytest.approx(sk.log_loss(true, scores, labels=range(classes)))
    if classes == 2:
        assert figures.brier == pytest.approx(sk.brier_score_loss(true, scores[:, 1], pos_label=1))
    else:
        assert figures.brier == pytest.approx(((scores - np.eye(classes)[true]) ** 2).sum(axis=1).mean())


@settings(max_examples=120, deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 10_000))
def test_scores_of_several_labels_are_those_of_all_decisions(rows, labels, seed):
    logits, targets = draw(rows, labels, seed, several=True)
    probabilities = sigmoid(logits)
    figures = measure_calibration(probabilities, targets)
    flat, true = probabilities.ravel(), targets.ravel().astype(int)
    assert figures.calibration_error == pytest.approx(expected_calibration_error(probabilities, targets), abs=1e-12)
    assert figures.brier == pytest.approx(((flat - true) ** 2).mean())
    assert figures.log_loss == pytest.approx(sk.log_loss(true, flat, labels=[0, 1]))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 80), st.integers(2, 4), st.integers(0, 10_000), st.booleans())
def test_bins_hold_every_prediction_once(rows, classes, seed, several):
    logits, targets = draw(rows, classes, seed, several=several)
    probabilities = to_probabilities(logits, several=several)
    figures = measure_calibration(probabilities, targets if several else as_unknown(targets, seed), seed=seed)
    sure = probabilities.ravel() if several else probabilities.max(1)
    right = targets.ravel() > 0 if several else probabilities.argmax(1) == as_unknown(targets, seed)
    assert sum(b.count for b in figures.bins) == len(sure)
    for b in figures.bins:
        inside = (sure >= b.low - 1e-12) & ((sure < b.high - 1e-12) | (b.high == 1))
        assert b.count == inside.sum() and b.high - b.low == pytest.approx(1 / 15)
        assert b.probability == pytest.approx(sure[inside].mean()) and b.right == pytest.approx(right[inside].mean())
        assert b.interval.low <= b.right + 1e-12 and b.right - 1e-12 <= b.interval.high
        if not several:
            assert b.interval == wilson_interval(b.right, b.count)
    assert figures.interval is not None and figures.calibration_error is not None
    assert 0 <= figures.interval.low <= figures.calibration_error <= figures.interval.high <= 1
    assert figures.tendency == pytest.approx(float(sure.mean() - right.mean()), abs=1e-12)


def test_calibration_by_hand():
    probabilities = np.tile([0.9, 0.1], (10, 1))
    figures = measure_calibration(probabilities, np.array([0] * 7 + [1] * 2 + [-1]))
    assert figures.calibration_error == pytest.approx(0.2), "the unknown label is an error"
    assert figures.tendency == pytest.approx(0.2)
    assert figures.brier == pytest.approx((7 * 0.01 + 2 * 0.81) / 9), "and has no Brier score"
    assert figures.log_loss == pytest.approx(-(7 * np.log(0.9) + 2 * np.log(0.1)) / 9)
    assert [(b.count, b.low, b.high) for b in figures.bins] == [(10, pytest.approx(13 / 15), pytest.approx(14 / 15))]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("rows", [100, 600])
def test_the_interval_covers_the_true_error(rows, several):
    """True calibration covers 0, too sharp probabilities the error of very many rows."""
    for sharp, least in ((1.0, 0.9), (2.0, 0.8)):
        logits, targets = draw(60_000, 4, 99, several=several, sharp=sharp)
        true = measure_calibration(to_probabilities(logits, several=several), targets).calibration_error
        covered, called = 0, 0
        for seed in range(60):
            logits, targets = draw(rows, 4, seed, several=several, sharp=sharp)
            found = measure_calibration(to_probabilities(logits, several=several), targets, seed=seed)
            goal = 0.0 if sharp == 1 else true
            covered += found.interval.low <= goal <= found.interval.high
            called += found.interval.low > 0
        assert covered >= least * 60, (sharp, covered)
        assert called <= 6 if sharp == 1 else called > 40


def test_decisions_that_go_together_are_fewer():
    """Twenty labels that are always the same say no more than one."""
    logits, targets = draw(300, 1, 3, several=True)
    one = measure_calibration(sigmoid(logits), targets)
    same = measure_calibration(sigmoid(np.tile(logits, 20)), np.tile(targets, 20))
    assert same.calibration_error == pytest.approx(one.calibration_error)
    assert same.interval.high - same.interval.low == pytest.approx(one.interval.high - one.interval.low, rel=0.25)
    free = measure_calibration(
        *(f(a) for f, a in zip((sigmoid, np.asarray), draw(300, 20, 3, several=True), strict=True))
    )
    assert free.chance < 0.5 * same.chance


def test_the_seed_decides_the_interval():
    logits, targets = draw(200, 3, 0, sharp=2)
    first, again, other = (measure_calibration(softmax(logits), targets, seed=seed) for seed in (1, 1, 2))
    assert first == again and first.interval != other.interval
    assert first.calibration_error == other.calibration_error


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000), st.floats(0.05, 20), st.booleans())
def test_undoing_the_temperature_gives_the_probabilities_of_the_logits(classes, seed, temperature, several):
    logits = 3 * np.random.default_rng(seed).normal(size=(30, classes))
    scaled = to_probabilities(logits / temperature, several=several)
    undone = undo_temperature(scaled, temperature, several=several)
    # A sigmoid near 1 holds few digits of its logit: at 1 - 1e-16 it is known to one part in a hundred.
    assert undone == pytest.approx(to_probabilities(logits, several=several), abs=1e-9 if temperature > 0.3 else 1e-3)
    if not several:
        assert undone.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 1.7, 20.0])
def test_certain_probabilities_stay_finite(several, temperature):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        undone = undo_temperature(np.array([[1.0, 0.0], [0.0, 1.0]]), temperature, several=several)
        found = measure_calibration(
            np.array([[1.0, 0.0]] * 3), np.eye(2)[[0, 0, 1]] if several else np.array([0, 0, 1])
        )
    assert np.isfinite(undone).all() and undone[0, 0] > 0.8 > 0.2 > undone[0, 1]
    assert found.log_loss is not None and np.isfinite(found.log_loss)


@pytest.mark.parametrize("several", [False, True])
def test_figures_before_the_temperature_are_those_of_the_logits(several):
    logits, targets = draw(400, 3, 5, several=several, sharp=2)
    logits = logits.astype(np.float32)
    probabilities = to_probabilities(logits / 1.9, several=several)  # as a predictor gives them
    found = add_before(measure_probabilities(probabilities, targets), probabilities, targets, 1.9)
    plain = measure_calibration(to_probabilities(logits, several=several), targets)
    assert found.before is not None and found.temperature == 1.9
    for name in ("calibration_error", "brier", "log_loss"):
        assert getattr(found.before, name) == pytest.approx(getattr(plain, name), abs=1e-6)
    assert found.before.calibration_error > found.calibration.calibration_error
    assert found.curves
    unchanged = add_before(found, probabilities, targets, 1.0)
    assert unchanged.before is None and unchanged.temperature == 1


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 1.6])
def test_parts_of_the_rows_add_up(several, temperature, monkeypatch):
    logits, targets = draw(100, 3, 7, several=several)
    probabilities = to_probabilities(logits, several=several)
    whole = measure_calibration(probabilities, targets, temperature=temperature)
    monkeypatch.setattr(module, "_MOST_CELLS_AT_ONCE", 20)
    parts = measure_calibration(probabilities, targets, temperature=temperature)
    for name in ("calibration_error", "brier", "log_loss", "chance"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), abs=1e-12)
    assert [b.count for b in parts.bins] == [b.count for b in whole.bins]


UNDEFINED = {
    "no rows": (np.zeros((0, 2)), np.zeros(0, np.int64), {"brier", "log_loss", "calibration_error"}, "no rows"),
    "only unknown labels": (np.full((3, 2), 0.5), np.full(3, -1), {"brier", "log_loss"}, "the model knows"),
    "NaN": (np.array([[np.nan, 0.5]]), np.array([1]), {"brier", "log_loss", "calibration_error"}, "not finite"),
    "one class only": (np.full((3, 2), 0.5), np.zeros(3, np.int64), {"mean_roc_auc"}, "true of some rows"),
    "no label is true": (np.full((3, 2), 0.5), np.zeros((3, 2)), {"mean_average_precision"}, "no class has rows"),
    "no row has several": (np.zeros((0, 2)), np.zeros((0, 2)), {"brier", "log_loss"}, "no rows"),
}


@pytest.mark.parametrize("case", UNDEFINED)
def test_what_is_undefined_is_none_with_a_reason(case):
    probabilities, targets, missing, reason = UNDEFINED[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = add_before(measure_probabilities(probabilities, targets), probabilities, targets, 1.5)
    values = vars(figures.calibration) | {
        "mean_average_precision": figures.ranking.mean_average_precision,
        "mean_roc_auc": figures.ranking.mean_roc_auc,
    }
    undefined = {name for name in values if values[name] is None} - {"interval", "chance"}
    assert missing <= undefined == figures.undefined.keys()
    assert any(reason in figures.undefined[name] for name in missing)
    stored = module.store_figures({}, figures, None)
    assert module.read_figures(json.loads(json.dumps(stored, allow_nan=False))) == figures
    lines = "\n".join(module.describe_probabilities(figures, None))
    assert "nan" not in lines.lower() and "undefined (" in lines


def make_evaluation(several: bool) -> tuple[Any, Array, Array]:
    logits, targets = draw(150, 3, 1, several=several, sharp=2)
    probabilities, labels = to_probabilities(logits, several=several), ("x", "y", "ü")
    if several:
        return evaluate_multi_label(probabilities, targets, labels, [0.4] * 3), probabilities, targets
    targets[:2] = -1
    return evaluate(probabilities, targets, labels, unknown=["new", "newer"]), probabilities, targets


@pytest.mark.parametrize("several", [False, True])
def test_an_evaluation_holds_stores_and_tells_them(several):
    evaluation, probabilities, targets = make_evaluation(several)
    task = build_task(evaluation.task)
    assert evaluation.probability_figures == measure_probabilities(probabilities, targets)
    assert evaluation.probability_figures.calibration.log_loss == pytest.approx(evaluation.log_loss)
    whole = task.with_temperature(1.8).add_before(evaluation, probabilities, targets, 0)
    stored = json.loads(json.dumps(whole.to_dict(), allow_nan=False))
    assert type(evaluation).from_dict(stored) == whole
    assert stored["probability_figures"]["mean_roc_auc"] == whole.probability_figures.ranking.mean_roc_auc
    text = whole.report_text()
    for words in (
        "expected calibration error: ",
        "Brier score: 0.",
        "mean average precision: ",
        "mean ROC AUC: 0.",
        "Matthews correlation: 0.",
        "before the temperature of 1.80: expected calibration error ",
    ):
        assert text.count(words) == 1, words
    assert ("samples F1: " in text) == several
    assert [name for name, _ in task.answer_figures(whole)][-1] == "Matthews correlation"


@pytest.mark.parametrize("several", [False, True])
def test_figures_stored_without_them_still_read(several):
    evaluation, _, _ = make_evaluation(several)
    old = evaluation.to_dict()
    for name in ("probability_figures", "mcc", "samples_f1"):
        old.pop(name, None)
    kind = MultiLabelEvaluation if several else Evaluation
    read = kind.from_dict(json.loads(json.dumps(old)))
    assert read.probability_figures is None and read.mcc == evaluation.mcc
    assert "probability_figures" not in read.to_dict()
    assert "calibration" not in read.report_text() and read.headline == evaluation.headline
    task = build_task(read.task)
    assert task.with_temperature(1.5).add_before(read, np.zeros((0, 3)), np.zeros(0), 0) is read
    assert task.add_before(evaluation, np.zeros((0, 3)), np.zeros(0), 0) is evaluation, "no temperature is known"
    for broken in ({}, {"calibration": {}}, 7, {"calibration": None}):
        with pytest.raises(BundleError, match="cannot be read"):
            kind.from_dict(old | {"probability_figures": broken})


def test_new_keys_leave_the_old_ones_alone():
    """What was stored before is stored as before, in the same order."""
    evaluation, _, _ = make_evaluation(False)
    assert list(evaluation.to_dict()) == [
        "rows",
        "accuracy",
        "macro",
        "weighted",
        "classes",
        "confusion",
        "intervals",
        "log_loss",
        "unknown_labels",
        "mcc",
        "probability_figures",
    ]


@pytest.mark.parametrize("shift", [0.0, 0.2, -0.2])
def test_decisions_that_go_together_count_once(shift):
    """Labels that repeat each other tell no more than one of them, also where probabilities are off."""
    random = np.random.default_rng(6)
    scores = random.uniform(0.3, 0.7, (300, 1))
    true = (random.random((300, 1)) < scores + shift).astype(np.float32)
    once, repeated = (measure_calibration(np.tile(scores, k), np.tile(true, k), seed=0) for k in (1, 8))
    apart = measure_calibration(np.tile(scores, (8, 1)), np.tile(true, (8, 1)), seed=0)
    assert repeated.calibration_error == pytest.approx(once.calibration_error)
    width, same, narrow = (each.interval.high - each.interval.low for each in (once, repeated, apart))
    assert same == pytest.approx(width, rel=0.15) and repeated.chance == pytest.approx(once.chance, rel=0.15)
    assert narrow < 0.6 * width or shift == 0
