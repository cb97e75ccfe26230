"""Flipped labels are doubted first, right ones hardly, for one label and for several."""

from __future__ import annotations

import numpy as np
import pytest

from textune.evaluation.doubtful import find_doubtful

ROWS, CLASSES = 600, 4


def draw(exclusive: bool, seed: int = 0):
    """Return true marks and probabilities of a decent model."""
    random = np.random.default_rng(seed)
    if exclusive:
        true = np.eye(CLASSES, dtype=bool)[random.integers(0, CLASSES, ROWS)]
        scores = np.exp(random.normal(0, 1, (ROWS, CLASSES)) + 4 * true)
        return true, scores / scores.sum(axis=1, keepdims=True), random
    true = random.random((ROWS, CLASSES)) < 0.25
    return true, 1 / (1 + np.exp(-(random.normal(0, 1, true.shape) + np.where(true, 3, -3)))), random


@pytest.mark.parametrize("voted", [False, True])
@pytest.mark.parametrize("exclusive", [True, False])
def test_flipped_labels_come_first(exclusive: bool, voted: bool) -> None:
    true, probabilities, random = draw(exclusive)
    flipped = np.sort(random.choice(ROWS, 30, replace=False))
    given = true.copy()
    given[flipped] = np.roll(true[flipped], 1, axis=1) if exclusive else true[flipped] ^ np.eye(CLASSES, dtype=bool)[0]
    votes = np.clip(probabilities + random.normal(0, 0.05, probabilities.shape), 0, 1) if voted else None
    found = find_doubtful(given, probabilities, votes, exclusive=exclusive)
    first = found[:30]
    assert len({d.row for d in first} & set(flipped.tolist())) >= 24
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    right = [d for d in first if d.row in flipped]
    assert np.mean([(d.suggested == true[d.row]).all() for d in right]) > 0.9
    assert all((d.suggested != given[d.row]).any() for d in found)


def test_neighbors_alone_raise_a_doubt() -> None:
    given = np.eye(2, dtype=bool)[[0] * 10 + [1] * 10]
    unsure = np.where(given, 0.7, 0.3)
    unsure[0], unsure[1:10:2], unsure[10::2] = (0.49, 0.51), (0.8, 0.2), (0.2, 0.8)
    votes = given.astype(float)
    votes[0], votes[1] = (0, 1), (0.3, 0.7)
    (found,) = find_doubtful(given, unsure, votes, exclusive=True)
    assert found.row == 0 and found.unlike and not found.confident
    assert find_doubtful(given, unsure, exclusive=True) == []


def test_neighbors_of_no_use_change_little() -> None:
    true, probabilities, random = draw(True)
    given = true.copy()
    given[:30] = np.roll(true[:30], 1, axis=1)
    noise = np.eye(CLASSES)[random.integers(0, CLASSES, ROWS)]
    alone, both = (find_doubtful(given, probabilities, votes, exclusive=True) for votes in (None, noise))
    assert [d.row for d in alone] == [d.row for d in both] and not any(d.unlike for d in both)


def test_a_better_model_comes_before_a_worse_one() -> None:
    true, probabilities, _ = draw(True)
    given = true.copy()
    given[:30] = np.roll(true[:30], 1, axis=1)
    mixed = probabilities.copy()
    mixed[450:] = probabilities[450:][::-1]  # as sure as before, and of less use
    better, worse = (find_doubtful(given, p, exclusive=True) for p in (probabilities, mixed))
    assert better[0].score > 1.5 * worse[0].score > 0


def test_a_label_is_suggested_from_what_its_own_rows_usually_get() -> None:
    """Rows of the second label get 0.6: 0.65 for it raises a doubt, though rows of the first get 0.95."""
    given = np.eye(2, dtype=bool)[[0] * 20 + [1] * 20]
    probabilities = np.where(given, 0.95, 0.05)
    probabilities[20:] = (0.4, 0.6)
    probabilities[0], probabilities[20] = (0.35, 0.65), (0.8, 0.2)
    (found,) = find_doubtful(given, probabilities, exclusive=True)
    assert (found.row, found.label, found.confident) == (0, 1, True), "0.8 is less than the first label usually gets"


def test_with_several_labels_missing_and_given_ones_have_thresholds_of_their_own() -> None:
    """Rows with the label get 0.6, rows without it 0.05: 0.7 asks for it, and 0.3 does not take it away."""
    given = np.array([[True]] * 10 + [[False]] * 20)
    probabilities = np.where(given, 0.6, 0.05)
    probabilities[0], probabilities[10] = 0.3, 0.7
    (found,) = find_doubtful(given, probabilities, exclusive=False)
    assert (found.row, found.label, found.suggested.tolist(), found.confident) == (10, 0, [True], True)


def test_no_rows_have_no_doubts() -> None:
    nothing = np.zeros((0, 3))
    assert find_doubtful(nothing > 0, nothing, exclusive=True) == []
    assert find_doubtful(nothing > 0, nothing, exclusive=False) == []


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_knows_nothing_of_the_labels_doubts_none(exclusive):
    random = np.random.default_rng(0)
    given = np.eye(3, dtype=bool)[random.integers(0, 3, 300)]
    noise, votes = (random.dirichlet(np.ones(3), 300) for _ in range(2))
    assert find_doubtful(given, noise, None, exclusive=exclusive) == []
    assert find_doubtful(given, noise, votes, exclusive=exclusive) == []
