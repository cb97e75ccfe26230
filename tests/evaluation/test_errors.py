"""Confident errors and confusions come in order, with the right rows and names."""

from __future__ import annotations

import numpy as np
import pytest

from textune.evaluation import ConfidentError, count_confusions, evaluate, find_confident_errors
from textune.evaluation.errors import find_confident_set_errors

LABELS = ("no", "yes", "maybe")
PROBABILITIES = np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0.05, 0.95, 0], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
TARGETS = np.array([0, 0, 0, 1, -1])
TEXTS = ["t0", "t1", "t2", "t3", "t4"]


def test_confident_errors_come_surest_first_with_their_row_numbers():
    found = find_confident_errors(PROBABILITIES, TARGETS, LABELS, TEXTS, [10, 11, 12, 13, 14], unknown=["other"])
    assert found == [
        ConfidentError(12, "t2", "no", "yes", 0.95),
        ConfidentError(14, "t4", "other", "maybe", 0.8),
        ConfidentError(11, "t1", "no", "yes", 0.7),
        ConfidentError(13, "t3", "yes", "no", 0.6),
    ]
    assert find_confident_errors(PROBABILITIES, TARGETS, LABELS, TEXTS, range(5), 2)[1].true == "(unknown label)"
    assert len(find_confident_errors(PROBABILITIES, TARGETS, LABELS, TEXTS, range(5), 2)) == 2


def test_no_rows_and_no_errors_give_nothing():
    assert find_confident_errors(np.empty((0, 3)), np.empty(0, int), LABELS, [], []) == []
    assert find_confident_errors(PROBABILITIES[:1], TARGETS[:1], LABELS, TEXTS[:1], [0]) == []
    with pytest.raises(ValueError, match="4 texts"):
        find_confident_errors(PROBABILITIES, TARGETS, LABELS, TEXTS[:4], range(5))


def test_confusions_are_counted_without_the_right_answers():
    evaluation = evaluate(PROBABILITIES, TARGETS, LABELS)
    assert count_confusions(evaluation) == [("no", "yes", 2), ("yes", "no", 1)]
    assert count_confusions(evaluation, 1) == [("no", "yes", 2)]


def test_rows_that_only_an_unknown_label_makes_wrong_are_errors():
    scores, true = np.array([[0.9, 0.1], [0.2, 0.7], [0.6, 0.1]]), np.array([[1, 0], [0, 1], [0, 0]])
    found = find_confident_set_errors(
        scores, true, scores >= 0.5, ["a", "b"], ["x", "y", "z"], [1, 2, 3], unknown=[["new"], [], []]
    )
    assert [(each.row, each.decision, each.probability) for each in found] == [
        (1, "unknown label: new", 0.9),
        (3, "false positive: a", 0.6),
    ]
