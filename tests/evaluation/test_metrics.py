"""Figures against scikit-learn, labels unknown to the model, and what is stored."""

from __future__ import annotations

import json
import re
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from textune.errors import BundleError, DataError, ModelError
from textune.evaluation import Evaluation, evaluate
from textune.evaluation.metrics import NAMELESS
from textune.evaluation.text import percent

LABELS = ("a", "b", "c", "d")


def make_probabilities(predicted: np.ndarray, classes: int, seed: int = 0) -> np.ndarray:
    scores = np.random.default_rng(seed).random((len(predicted), classes))
    scores[np.arange(len(predicted)), predicted] += 1.5
    return scores / scores.sum(axis=1, keepdims=True)


pairs_of_classes = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), min_size=1, max_size=80)


@settings(max_examples=120, deadline=None)
@given(pairs_of_classes)
def test_figures_are_scikit_learns(pairs):
    true, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    unknown = ["new" if i % 3 else "newer" for i in range(int((true < 0).sum()))]
    evaluation = evaluate(make_probabilities(predicted, 4), true, LABELS, unknown=unknown)

    names = iter(unknown)
    words_true = [LABELS[t] if t >= 0 else next(names) for t in true]
    words_predicted = [LABELS[p] for p in predicted]
    for average, ours in (("macro", evaluation.macro), ("weighted", evaluation.weighted)):
        theirs = sk.precision_recall_fscore_support(words_true, words_predicted, average=average, zero_division=0)[:3]
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(theirs, abs=1e-12)
    assert evaluation.accuracy == pytest.approx(sk.accuracy_score(words_true, words_predicted))
    assert evaluation.rows == len(pairs)
    assert evaluation.rows == np.sum(evaluation.confusion) + sum(evaluation.unknown_labels.values())
    known = true >= 0
    assert np.array_equal(
        np.array(evaluation.confusion),
        sk.confusion_matrix(true[known], predicted[known], labels=range(4)) if known.any() else np.zeros((4, 4)),
    )


@settings(max_examples=80, deadline=None)
@given(pairs_of_classes)
def test_report_text_is_scikit_learns_in_percent(pairs):
    true, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    evaluation = evaluate(make_probabilities(predicted, 4), true, LABELS)
    words_true = [LABELS[t] if t >= 0 else NAMELESS for t in true]
    words_predicted = [LABELS[p] for p in predicted]
    occurring = [w for w in (*LABELS, NAMELESS) if w in words_true or w in words_predicted]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sk.classification_report(words_true, words_predicted, labels=occurring, digits=9, zero_division=0)
    # Where nothing is right, scikit-learn counts the rows as 1.0 instead of 1.
    theirs = re.sub(r"(\d+)\.0$", r"  \1", theirs, flags=re.MULTILINE)
    in_percent = re.sub(r"\b[01]\.\d{9}\b", lambda share: percent(float(share[0])), theirs)
    assert evaluation.report_text().split()[: len(in_percent.split())] == in_percent.split()


def test_log_loss_is_scikit_learns_over_the_known_rows():
    rng = np.random.default_rng(1)
    true = rng.integers(-1, 4, 200)
    probabilities = rng.dirichlet(np.ones(4), 200)
    evaluation = evaluate(probabilities, true, LABELS)
    known = true >= 0
    assert evaluation.log_loss == pytest.approx(sk.log_loss(true[known], probabilities[known], labels=range(4)))
    certain = evaluate(np.array([[1.0, 0.0]]), np.array([1]), ("no", "yes"))
    assert certain.log_loss is not None and 30 < certain.log_loss < 40  # finite even for a certain error


def test_unknown_labels_are_errors_and_told():
    probabilities = make_probabilities(np.array([0, 1, 1, 0]), 2)
    true = np.array([0, 1, -1, -1])
    evaluation = evaluate(probabilities, true, ("no", "yes"), unknown=["maybe", "\x1b[31mred"])
    assert evaluation.accuracy == 0.5
    assert evaluation.unknown_labels == {"maybe": 1, "\x1b[31mred": 1}
    assert evaluation.classes[0].precision == 0.5  # the unknown row answered "no" costs precision
    text = evaluation.report_text()
    assert "maybe" in text and "counted as errors" in text
    assert "\x1b" not in text  # a label cannot steer the terminal
    only_unknown = evaluate(probabilities, np.full(4, -1), ("no", "yes"))
    assert (only_unknown.accuracy, only_unknown.log_loss) == (0.0, None)
    assert only_unknown.unknown_labels == {NAMELESS: 4}


def test_one_predicted_class_gives_zeros_not_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation = evaluate(make_probabilities(np.zeros(10, int), 3), np.arange(10) % 2, ("a", "b", "c"))
    assert [f.f1 for f in evaluation.classes] == pytest.approx([2 / 3, 0, 0])
    assert evaluation.macro.f1 == pytest.approx(1 / 3)  # "c" occurs nowhere and does not count
    assert "neither in these rows nor predicted: c" in evaluation.report_text()


def test_what_is_stored_comes_back_to_the_bit():
    rng = np.random.default_rng(2)
    evaluation = evaluate(rng.dirichlet(np.ones(3), 50), rng.integers(-1, 3, 50), ("x", "y", "ü"))
    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))) == evaluation
    stored = evaluation.to_dict()
    del stored["macro"]
    with pytest.raises(BundleError, match="macro"):
        Evaluation.from_dict(stored)
    with pytest.raises(BundleError):
        Evaluation.from_dict(evaluation.to_dict() | {"classes": [{"label": "x", "bogus": 1}]})


def test_bad_input_is_refused_by_name():
    good = np.array([[0.5, 0.5]])
    with pytest.raises(DataError, match="no row"):
        evaluate(np.empty((0, 2)), np.empty(0, int), ("a", "b"))
    with pytest.raises(ModelError, match="not finite for 1 of 1 rows"):
        evaluate(np.array([[np.nan, 0.5]]), np.array([0]), ("a", "b"))
    for probabilities, true, labels in [
        (good, np.array([0, 1]), ("a", "b")),
        (good, np.array([0]), ("a", "b", "c")),
        (good, np.array([2]), ("a", "b")),
        (good, np.array([-2]), ("a", "b")),
    ]:
        with pytest.raises(ValueError):
            evaluate(probabilities, true, labels)
    with pytest.raises(ValueError, match="2 names"):
        evaluate(good, np.array([-1]), ("a", "b"), unknown=["x", "y"])


def test_many_rows_and_classes_take_little_time():
    rng = np.random.default_rng(3)
    true = rng.integers(0, 77, 10_000)
    probabilities = rng.dirichlet(np.ones(77), 10_000)
    start = time.process_time()
    evaluate(probabilities, true, [str(i) for i in range(77)])
    assert time.process_time() - start < 4  # 0.2 to 1 s alone; room for a busy machine


def test_a_matrix_of_many_classes_is_stored_by_its_filled_cells():
    labels = [f"c{i}" for i in range(300)]
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(300), 400)
    evaluation = evaluate(probabilities, random.integers(0, 300, 400), labels)
    stored = json.loads(json.dumps(evaluation.to_dict()))
    assert len(json.dumps(stored["confusion"])) < 10_000
    assert Evaluation.from_dict(stored) == evaluation
    few = evaluate(probabilities[:, :3], random.integers(0, 3, 400), labels[:3])
    assert few.to_dict()["confusion"] == [list(row) for row in few.confusion]
