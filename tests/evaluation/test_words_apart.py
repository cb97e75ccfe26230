"""Words that separate classes: the formula by hand, and pairs of confused classes with their words."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from textune.evaluation.words_apart import PRIOR_WORDS, count_words, find_confused_pairs, find_words_apart, score_words


def test_scores_are_those_of_the_formula() -> None:
    first, second = Counter({"good": 8, "the": 20}), Counter({"good": 2, "bad": 6, "the": 22})
    background = first + second
    total, prior = sum(background.values()), PRIOR_WORDS
    for word, score in score_words(first, second, background).items():
        a = prior * background[word] / total
        y_i, y_j, n_i, n_j = first[word], second[word], 28, 30
        delta = math.log((y_i + a) / (n_i + prior - y_i - a)) - math.log((y_j + a) / (n_j + prior - y_j - a))
        assert score == pytest.approx(delta / math.sqrt(1 / (y_i + a) + 1 / (y_j + a)))


def test_nothing_separates_groups_of_the_same_kind() -> None:
    words, shares = [f"w{i}" for i in range(2_000)], 1 / np.arange(1, 2_001)
    found = 0
    for seed in range(5):
        random = np.random.default_rng(seed)
        groups = [[" ".join(random.choice(words, 30, p=shares / shares.sum())) for _ in range(300)] for _ in range(2)]
        apart = find_words_apart(groups[0], groups[1], count_words(groups[0] + groups[1]))
        found += len(apart.first) + len(apart.second)
    assert found <= 1


def test_groups_swapped_turn_the_sign() -> None:
    first, second = Counter({"a": 5, "b": 9}), Counter({"a": 7, "c": 3})
    scores, swapped = (score_words(x, y, first + second) for x, y in ((first, second), (second, first)))
    assert scores == pytest.approx({word: -score for word, score in swapped.items()})


def test_telling_words_come_first_and_common_ones_not_at_all() -> None:
    good, bad = ["the film was lovely"] * 60, ["the film was grim and slow"] * 60
    found = find_words_apart(good, bad, count_words(good + bad))
    assert next(word for word, _ in found.first) == "lovely"
    assert {word for word, _ in found.second} >= {"grim", "slow"}
    assert not {"the", "film"} & {word for word, _ in found.second}
    empty = find_words_apart([], [], Counter())
    assert empty.first == empty.second == ()
    assert find_words_apart(["one"], ["one"], Counter({"one": 2})).first == ()


def test_confused_pairs_count_both_ways() -> None:
    labels = ("a", "b", "c")
    true, given = np.eye(3, dtype=bool)[[0, 0, 0, 1, 2, 2]], np.eye(3, dtype=bool)[[1, 1, 0, 0, 1, 2]]
    pairs = find_confused_pairs(true, given, labels, ["x"] * 6)
    assert [(p.a, p.b, p.a_as_b, p.b_as_a, p.rows, p.examples) for p in pairs] == [
        ("a", "b", 2, 1, 3, (0, 1, 3)),
        ("b", "c", 0, 1, 1, (4,)),
    ]
    assert find_confused_pairs(true, true, labels, ["x"] * 6) == []


def test_with_several_labels_one_must_be_missing_and_another_given() -> None:
    true = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [1, 1, 0]], bool)
    given = np.array([[0, 1, 0], [0, 1, 1], [0, 1, 1], [0, 0, 0]], bool)
    (pair,) = find_confused_pairs(true, given, ("a", "b", "c"), list("wxyz"))
    assert (pair.a, pair.b, pair.a_as_b, pair.b_as_a) == ("a", "b", 2, 0), "too many and too few are no confusion"


def test_the_words_of_a_pair_are_those_of_its_two_classes() -> None:
    labels, true = ("cat", "dog", "bird"), np.eye(3, dtype=bool)[[0] * 40 + [1] * 40 + [2] * 40]
    given = true.copy()
    given[:3], given[40:42] = true[40], true[0]
    texts = ["it purrs all day"] * 40 + ["it barks all night"] * 40 + ["it sings at dawn"] * 40
    (pair,) = find_confused_pairs(true, given, labels, texts)
    assert (pair.a, pair.b, pair.a_as_b, pair.b_as_a) == ("cat", "dog", 3, 2)
    first, second = ([word for word, _ in words] for words in (pair.words.first, pair.words.second))
    assert set(first) == {"purrs", "day"} and set(second) == {"barks", "night"}
    assert pair.words == find_words_apart(texts[:40], texts[40:80], count_words(texts)), "no third class counts"


def test_a_word_that_one_text_repeats_separates_nothing():
    plain = [f"plain words of text {i}" for i in range(100)]
    first = [*plain[:49], " ".join(["burst"] * 60)]
    apart = find_words_apart(first, plain[50:], count_words(first + plain[50:]))
    assert not apart.first and not apart.second


def test_words_are_counted_over_all_texts():
    counts = count_words(["a"] * 5_000 + ["b"] * 4_999)
    assert counts["a"] == pytest.approx(counts["b"], rel=0.01)
