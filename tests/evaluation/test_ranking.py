"""Average precision, ROC AUC, curves and Matthews' correlation against scikit-learn and cases done by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from textune.evaluation import evaluate, evaluate_multi_label
from textune.evaluation.multilabel import samples_f1
from textune.evaluation.ranking import MOST_CURVES, draw_curves, matthews_correlation, measure_ranking

LABELS = ("a", "b", "c", "d")


def draw(rows: int, classes: int, seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities with many ties, and targets of which some are unknown."""
    random = np.random.default_rng(seed)
    scores = random.integers(1, levels + 1, (rows, classes)).astype(np.float64)
    return scores / scores.sum(axis=1, keepdims=True), random.integers(-1, classes, rows)


many = (st.integers(1, 60), st.integers(2, 5), st.integers(0, 10_000), st.integers(1, 6))


@settings(max_examples=150, deadline=None)
@given(*many)
def test_ranking_is_scikit_learns(rows, classes, seed, levels):
    probabilities, targets = draw(rows, classes, seed, levels)
    single = measure_ranking(probabilities, targets)
    several = measure_ranking(probabilities, np.equal.outer(targets, np.arange(classes)).astype(np.float32))
    assert single == several, "one class against all others is one label of several"
    for label in range(classes):
        true = targets == label
        if not true.any():
            assert single.average_precision[label] is None and single.roc_auc[label] is None
            continue
        theirs = sk.average_precision_score(true, probabilities[:, label])
        assert single.average_precision[label] == pytest.approx(theirs, abs=1e-12)
        if true.all():
            assert single.roc_auc[label] is None
        else:
            assert single.roc_auc[label] == pytest.approx(sk.roc_auc_score(true, probabilities[:, label]), abs=1e-12)
    for mean, each in (
        (single.mean_average_precision, single.average_precision),
        (single.mean_roc_auc, single.roc_auc),
    ):
        defined = [value for value in each if value is not None]
        assert mean == (pytest.approx(np.mean(defined)) if defined else None)


def test_ranking_by_hand():
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    ranking = measure_ranking(scores, np.array([[1], [0], [1], [0]]))
    assert ranking.average_precision == (pytest.approx((1 + 2 / 3) / 2),)
    assert ranking.roc_auc == (pytest.approx(3 / 4),)
    tied = measure_ranking(np.full((4, 1), 0.5), np.array([[1], [0], [1], [0]]))
    assert (tied.average_precision, tied.roc_auc) == ((0.5,), (0.5,))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_class_that_is_not_finite_has_no_ranking(wrong):
    scores = np.array([[0.9, 0.1], [wrong, 0.2]])
    ranking = measure_ranking(scores, np.array([0, 1]))
    assert ranking.average_precision == (None, 1.0) and ranking.roc_auc == (None, 1.0)


@settings(max_examples=100, deadline=None)
@given(*many)
def test_matthews_correlation_is_scikit_learns(rows, classes, seed, levels):
    probabilities, targets = draw(rows, classes, seed, levels)
    unknown = [("new", "newer")[i % 2] for i in range(int((targets < 0).sum()))]
    evaluation = evaluate(probabilities, targets, LABELS[:classes] + ("e",) * (classes > 4), unknown=unknown)
    names = iter(unknown)
    words = [str(t) if t >= 0 else next(names) for t in targets]
    answers = [str(p) for p in probabilities.argmax(1)]
    if len(set(words)) == 1 or len(set(answers)) == 1:
        assert evaluation.mcc is None
        assert evaluation.to_dict()["probability_figures"]["undefined"]["mcc"]
    else:
        assert evaluation.mcc == pytest.approx(sk.matthews_corrcoef(words, answers), abs=1e-12)
    assert evaluation.to_dict()["mcc"] == evaluation.mcc


def test_matthews_correlation_by_hand():
    assert matthews_correlation(4, 4, (2, 2), (2, 2)) == 1
    assert matthews_correlation(0, 4, (2, 2), (2, 2)) == -1
    assert matthews_correlation(2, 4, (2, 2), (2, 2)) == 0
    assert matthews_correlation(4, 4, (4, 0), (4, 0)) is None


@settings(max_examples=100, deadline=None)
@given(*many)
def test_figures_over_decisions_are_scikit_learns(rows, classes, seed, levels):
    probabilities, _ = draw(rows, classes, seed, levels)
    random = np.random.default_rng(seed)
    true = random.random(probabilities.shape) < 0.3
    unknown = [("new",) if random.random() < 0.2 else () for _ in range(rows)]
    evaluation = evaluate_multi_label(
        probabilities, true, [str(i) for i in range(classes)], [0.3] * classes, unknown=unknown
    )
    extra = np.array([[bool(names)] for names in unknown]) if any(unknown) else np.zeros((rows, 0), bool)
    whole, given_ = np.hstack([true, extra]), np.hstack([probabilities >= 0.3, np.zeros_like(extra)])
    theirs = sk.f1_score(whole, given_, average="samples", zero_division=1.0)
    assert evaluation.samples_f1 == pytest.approx(theirs, abs=1e-12)
    if len(np.unique(whole)) == 1 or len(np.unique(given_)) == 1:
        assert evaluation.mcc is None
    else:
        assert evaluation.mcc == pytest.approx(sk.matthews_corrcoef(whole.ravel(), given_.ravel()), abs=1e-12)


def test_a_row_without_labels_that_is_given_none_is_right():
    nothing, one = np.zeros((1, 2), bool), np.array([[True, False]])
    assert samples_f1(nothing, nothing) == 1
    assert samples_f1(one, nothing) == samples_f1(nothing, one) == 0
    assert samples_f1(one, np.array([[True, True]])) == pytest.approx(2 / 3)


@settings(max_examples=60, deadline=None)
@given(*many)
def test_curves_are_points_of_scikit_learns(rows, classes, seed, levels):
    probabilities, targets = draw(rows, classes, seed, levels)
    curves = draw_curves(probabilities, targets, measure_ranking(probabilities, targets))
    assert {curve.label for curve in curves} == set(targets.tolist()) - {-1}
    for curve in curves:
        precision, recall, _ = sk.precision_recall_curve(targets == curve.label, probabilities[:, curve.label])
        points = {(round(r, 4), round(p, 4)) for r, p in zip(recall, precision, strict=True)}
        assert set(zip(curve.recall, curve.precision, strict=True)) <= points
        assert list(curve.recall) == sorted(set(curve.recall)) and curve.recall[-1] == 1
        for r, p in zip(curve.recall, curve.precision, strict=True):  # the best that reaches this recall
            assert p == pytest.approx(max(q for s, q in points if s == r), abs=1e-4)


def test_curves_stay_small():
    random = np.random.default_rng(0)
    probabilities, targets = random.dirichlet(np.ones(100), 5_000), random.integers(0, 100, 5_000)
    ranking = measure_ranking(probabilities, targets)
    curves = draw_curves(probabilities, targets, ranking)
    lowest = sorted(range(100), key=lambda label: ranking.average_precision[label] or 0)[:MOST_CURVES]
    assert [curve.label for curve in curves] == lowest
    assert all(len(curve.recall) <= 40 for curve in curves)
    assert len(json.dumps([vars(curve) for curve in curves])) < 30_000
