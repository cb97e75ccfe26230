"""Baselines on made data: right where the words tell, bounded, and never in the way."""

from __future__ import annotations

import numpy as np
import pytest

from textune.errors import DataError
from textune.evaluation import answer_most_frequent, answer_nearest, baselines, predict_majority, predict_tfidf

WORDS = {0: "dull slow awful", 1: "great fun clever", 2: "rain sun wind"}


def make_rows(count: int, classes: int, seed: int) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, count)
    filler = ["the", "a", "film", "and", "of", "it"]
    texts = [" ".join([*rng.choice(filler, 5), rng.choice(WORDS[t].split())]) for t in targets]
    return texts, targets


def test_majority_answers_the_largest_class_with_the_shares():
    probabilities = predict_majority(np.array([1, 1, 0, -1, -1, -1]), 3, 3)
    assert probabilities.shape == (3, 3)
    assert probabilities[0] == pytest.approx([1 / 3, 2 / 3, 0])
    with pytest.raises(DataError):
        predict_majority(np.array([-1]), 3, 3)


def test_tfidf_learns_what_the_words_tell():
    texts, targets = make_rows(300, 3, 0)
    unseen, truth = make_rows(200, 3, 1)
    probabilities = predict_tfidf(texts, targets, unseen, 3, seed=0)
    assert (probabilities.argmax(axis=1) == truth).mean() == 1.0
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(200), abs=1e-6)
    assert np.array_equal(probabilities, predict_tfidf(texts, targets, unseen, 3, seed=0))


def test_tfidf_keeps_the_column_of_a_class_without_rows_at_zero():
    texts, targets = make_rows(200, 2, 0)
    unseen, truth = make_rows(50, 2, 1)
    probabilities = predict_tfidf(texts, targets * 2, unseen, 4, seed=0)  # classes 0 and 2 of 4
    assert probabilities.shape == (50, 4)
    assert not probabilities[:, [1, 3]].any()
    assert np.array_equal(probabilities.argmax(axis=1), truth * 2)


def test_tfidf_learns_nothing_from_rows_without_a_label():
    texts, targets = make_rows(100, 2, 0)
    misleading = [*texts, *["great"] * 50]
    unlabelled = np.concatenate([targets, np.full(50, -1)])
    assert np.array_equal(
        predict_tfidf(misleading, unlabelled, texts, 2, seed=0),
        predict_tfidf(texts, targets, texts, 2, seed=0),
    )


@pytest.mark.parametrize(
    ("texts", "targets"),
    [(["good", "fine"], [1, 1]), (["", " "], [0, 1]), (["?", "!"], [0, 1])],
    ids=["one class", "empty texts", "no words"],
)
def test_tfidf_falls_back_to_the_shares(texts, targets):
    probabilities = predict_tfidf(texts, np.array(targets), ["x", "y", "z"], 2, seed=0)
    assert np.array_equal(probabilities, predict_majority(np.array(targets), 3, 2))


def test_tfidf_reads_scripts_without_spaces():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 200)
    signs = [("糟", "烂"), ("好", "棒")]
    filler = list("这部电影真的非常我觉得今天看了一场朋友说")
    texts = ["".join(rng.permutation([*rng.choice(filler, 16), rng.choice(signs[t])])) for t in targets]
    probabilities = predict_tfidf(texts[:150], targets[:150], texts[150:], 2, seed=0)
    assert (probabilities.argmax(axis=1) == targets[150:]).mean() > 0.85  # as words: chance


def test_rows_are_bounded_by_count_and_by_characters(monkeypatch):
    texts, targets = ["word " * 20] * 100, np.arange(100) % 2
    monkeypatch.setattr(baselines, "_MOST_TRAINING_ROWS", 40)
    chosen = baselines._sample_rows(texts, targets, seed=0)
    assert len(chosen) == 40 and len(set(chosen.tolist())) == 40
    assert not np.array_equal(chosen, baselines._sample_rows(texts, targets, seed=1))
    monkeypatch.setattr(baselines, "_MOST_CHARACTERS", 1000)
    assert len(baselines._sample_rows(texts, targets, seed=0)) == 10


def test_prediction_in_parts_is_prediction(monkeypatch):
    texts, targets = make_rows(60, 2, 0)
    whole = predict_tfidf(texts, targets, texts, 2, seed=0)
    monkeypatch.setattr(baselines, "_ROWS_AT_ONCE", 7)
    assert predict_tfidf(texts, targets, texts, 2, seed=0) == pytest.approx(whole)
    assert predict_tfidf(texts, targets, [], 2, seed=0).shape == (0, 2)


def test_the_most_frequent_answer_is_the_first_of_several() -> None:
    assert answer_most_frequent(["b", "a", "a", "b"], 2) == ["b", "b"]
    with pytest.raises(DataError):
        answer_most_frequent([], 2)


def test_the_nearest_prompt_gives_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ["where is my card", "the card was stolen", "top up by bank transfer", "hello", "hello"]
    answers = ["card", "stolen", "top-up", "often", "often"]
    asked = [*prompts, "my card is not here: where", "xyz", "a transfer"]
    expected = [*answers, "card", "often", "top-up"]  # "often" is what a prompt without a known word gets
    assert answer_nearest(prompts, answers, asked, seed=0) == expected
    monkeypatch.setattr(baselines, "_MOST_SIMILARITIES", 7)
    assert answer_nearest(prompts, answers, asked, seed=0) == expected, "in any block size"
    assert answer_nearest(["!", "?"], ["a", "b"], ["!"], seed=0) == ["a"], "no words at all"
    with pytest.raises(DataError):
        answer_nearest([], [], ["a"], seed=0)
