"""Figures of generated answers against hand-made cases, a slow reference and what must hold for any answers."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.errors import BundleError, DataError, ModelError
from textune.evaluation import (
    GenerationEvaluation,
    SeenRows,
    evaluate_generation,
    measure_difference,
    measure_perplexity,
    normalise_answer,
    rouge_l,
)
from textune.evaluation.generation import count_common_subsequence, split_words
from textune.report.leads import is_clear
from textune.tasks import build_task

WORDS = st.lists(st.sampled_from("abcd"), max_size=70)


def longest_common_subsequence(first: list[str], second: list[str]) -> int:
    """Return the length by the textbook's recursion."""

    @functools.cache
    def solve(i: int, j: int) -> int:
        if not i or not j:
            return 0
        if first[i - 1] == second[j - 1]:
            return solve(i - 1, j - 1) + 1
        return max(solve(i - 1, j), solve(i, j - 1))

    for i in range(len(first)):  # shallow recursion
        solve(i, len(second))
    return solve(len(first), len(second))


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("The CAT, sat!", "the cat sat", 1.0),  # case and punctuation do not count
        ("the cat", "the cat sat on", 2 * 1.0 * 0.5 / 1.5),  # precision 1, recall 1/2
        ("police kill the gunman", "police killed the gunman", 0.75),  # Lin 2004
        ("the gunman kill police", "police killed the gunman", 0.5),  # in Lin's own example too
        ("sat cat the", "the cat sat", 1 / 3),  # order counts
        ("", "the cat", 0.0),
        ("the cat", "", 0.0),
        ("", "", 1.0),
        ("!", "!", 1.0),
        ("!", "?", 0.0),
        ("dog", "cat", 0.0),
        ("猫が好き", "猫が嫌い", 0.5),  # characters where a script has no spaces
        ("राम की किताब", "राम का किताब", 2 / 3),  # vowel signs make another word
    ],
)
def test_rouge_l_of_cases_by_hand(answer: str, reference: str, score: float) -> None:
    assert rouge_l(answer, reference) == pytest.approx(score)


@given(WORDS, WORDS)
@settings(max_examples=200, deadline=None)
def test_common_subsequence_equals_the_slow_reference(first: list[str], second: list[str]) -> None:
    length = longest_common_subsequence(first, second)
    assert count_common_subsequence(first, second) == length
    score = rouge_l(" ".join(first), " ".join(second))
    if first and second:
        precision, recall = length / len(first), length / len(second)
        expected = 2 * precision * recall / (precision + recall) if length else 0.0
        assert score == pytest.approx(expected)
    assert score == rouge_l(" ".join(second), " ".join(first)) and 0 <= score <= 1


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ("  Yes. ", "yes.", True),
        ("a\n b", "A  B", True),
        ("ﬁne", "fine", True),
        ("yes", "yes.", False),
        ("", " ", True),
    ],
)
def test_exact_match_ignores_case_and_spaces_alone(first: str, second: str, equal: bool) -> None:
    assert (normalise_answer(first) == normalise_answer(second)) is equal


def test_words_are_lower_case_without_punctuation() -> None:
    assert split_words("It's 3 o'clock, naïve Straße!") == ["it", "s", "3", "o", "clock", "naïve", "strasse"]
    assert split_words("हिन्दी में, बात।") == ["हिन्दी", "में", "बात"]
    assert split_words("قَالَ نعم") == ["قَالَ", "نعم"]
    assert split_words("की你हो好 ❤️ ok") == ["की", "你", "हो", "好", "ok"]


def test_perplexity_is_that_of_all_tokens() -> None:
    sums, tokens = np.array([2.0, 12.0, 0.0]), np.array([1, 3, 0])
    loss, perplexity, intervals = measure_perplexity(sums, tokens)
    assert loss == pytest.approx(14 / 4) and perplexity == pytest.approx(math.exp(3.5))
    assert intervals["loss"].low <= loss <= intervals["loss"].high
    assert intervals["perplexity"].low == pytest.approx(math.exp(intervals["loss"].low))
    alone = measure_perplexity(sums[:1], tokens[:1])
    assert alone[0] == 2 and not alone[2], "one row says nothing about others"
    same = measure_perplexity(tokens * 0.5 + 0.0, tokens)
    assert same[2]["loss"].low == pytest.approx(same[2]["loss"].high) == pytest.approx(0.5)
    json.dumps(measure_perplexity(np.array([1e6, 1e6]), np.array([1, 1]))[1], allow_nan=False)


def test_intervals_cover_the_true_loss_about_95_times_in_100() -> None:
    rng, covered = np.random.default_rng(0), 0
    for trial in range(200):
        tokens = rng.integers(1, 30, 60)
        sums = rng.gamma(2.0, 1.0, 60) * tokens  # 2 nats per token on average
        interval = measure_perplexity(sums, tokens, seed=trial)[2]["loss"]
        covered += interval.low <= 2.0 <= interval.high
    assert 178 <= covered <= 199


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_losses_that_are_not_finite_name_their_row(bad: float) -> None:
    with pytest.raises(ModelError, match="row 2"):
        measure_perplexity(np.array([1.0, bad]), np.array([1, 1]))


def test_no_rows_and_no_tokens_are_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        evaluate_generation([], [], [])
    with pytest.raises(DataError, match="no row has a token"):
        measure_perplexity(np.zeros(2), np.zeros(2, np.int64))
    with pytest.raises(DataError):
        measure_difference(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="1 references"):
        evaluate_generation(["a", "b"], ["a"], [False, False])


def test_all_figures_of_a_few_answers_and_their_way_through_json() -> None:
    answers, references = ["Yes", "no no", " \n", "a b c d"], ["yes", "no", "x", "a b"]
    sums, tokens = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 1, 1, 2])
    figures = evaluate_generation(answers, references, [False, False, False, True], loss_sums=sums, tokens=tokens)
    assert (figures.exact_match, figures.empty, figures.endless, figures.rows) == (0.25, 0.25, 0.25, 4)
    assert figures.rouge_l == pytest.approx((1 + 2 / 3 + 0 + 2 / 3) / 4)
    assert figures.loss == 2 and figures.tokens == 5
    assert set(figures.intervals) == {"exact_match", "rouge_l", "empty", "endless", "loss", "perplexity"}
    for name, interval in figures.intervals.items():
        assert interval.low <= getattr(figures, name) <= interval.high and interval.low < interval.high, name
    stored = json.loads(json.dumps(figures.to_dict(), allow_nan=False))
    assert GenerationEvaluation.from_dict(stored) == figures and stored["task"] == "generation"
    assert figures.headline.value == figures.rouge_l and figures.summary["perplexity"] == figures.perplexity
    assert [f.name for f in figures.further] == ["exact match", "empty answers", "endless answers"]
    for damaged in ({}, stored | {"rouge_l": "x"}, stored | {"other": 1}, stored | {"intervals": [1]}):
        with pytest.raises(BundleError, match="cannot be read"):
            GenerationEvaluation.from_dict(damaged)
    bare = evaluate_generation(answers, references, [False] * 4)
    assert bare.loss is None and "perplexity" not in bare.summary and "loss" not in bare.intervals


def test_seen_rows_stand_beside_the_figures_of_answers() -> None:
    figures = evaluate_generation(["a", "b"], ["a", "c"], [False, False])
    seen = SeenRows(6, training_exact=3, unseen=figures)
    found = replace(figures, seen=seen)
    assert "seen_rows" not in figures.to_dict() and "seen" not in found.to_dict()
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["seen_rows"]["training_exact"] == 3 and GenerationEvaluation.from_dict(stored) == figures
    assert repr(found) == "GenerationEvaluation(ROUGE-L 50.0% on 2 rows)"
    assert "empty answers 0%" in str(found) and "trained on 3 of these 6 rows" in str(found)
    assert str(figures) == str(found).partition("\nthe run")[0]


def test_a_figure_names_the_rows_that_it_is_measured_on() -> None:
    """Answers are written for some rows, and the loss is of all of them."""
    figures = evaluate_generation(
        ["a"], ["a"], [False], loss_sums=np.array([1.0, 2.0, 3.0]), tokens=np.array([1, 1, 1])
    )  # fmt: skip
    task = build_task("generation")
    assert figures.rows == 1 and figures.loss_rows == 3 and "of 3 rows" in figures.report_text()
    assert task.name_rows(figures, "test") == "1 test rows with answers (loss and perplexity: 3 rows)"
    assert "over 3 tokens of 3 rows" in task.explain_figures(figures)[0]
    equal = evaluate_generation(["a"], ["a"], [False], loss_sums=np.array([1.0]), tokens=np.array([1]))
    for same in (equal, evaluate_generation(["a"], ["a"], [False])):
        assert task.name_rows(same, "test") == "1 test rows"
    for unseen, told in (
        (figures, "ROUGE-L 100% on 1 of the other 6 rows, for which answers were written (95%"),
        (None, "no answer was written for the other 6 rows, so no figure"),
        (replace(figures, rows=6), "ROUGE-L 100% on the other 6 rows (95%"),
    ):
        assert SeenRows(9, training_exact=3, unseen=unseen).describe_unseen().startswith(told)
    assert SeenRows(9, training_exact=9).describe_unseen().startswith("all 9 rows were seen")


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ((), "(2 exact)"),
        (("checkpoint",), "(2 exact), which chose its checkpoint"),
        (("checkpoint", "temperature"), "(2 exact), which chose its checkpoint and its temperature"),
        (("a", "b", "c"), "(2 exact), which chose its a, its b and its c"),
    ],
)
def test_validation_rows_are_said_to_have_chosen_only_what_they_chose(chosen: tuple[str, ...], told: str) -> None:
    assert SeenRows(9, validation_exact=2, chosen=chosen).describe()[0].endswith(told)


def test_figures_are_the_same_for_a_seed_and_in_any_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    answers = [" ".join(rng.choice(list("abcde"), 6)) for _ in range(30)]
    references = [" ".join(rng.choice(list("abcde"), 6)) for _ in range(30)]
    first = evaluate_generation(answers, references, [False] * 30, seed=3)
    monkeypatch.setattr("textune.evaluation.generation._MOST_DRAWS_AT_ONCE", 500)
    assert evaluate_generation(answers, references, [False] * 30, seed=3) == first
    assert evaluate_generation(answers, references, [False] * 30, seed=4) != first


def test_a_difference_is_paired() -> None:
    rng = np.random.default_rng(0)
    before = rng.random(50)
    found = measure_difference(before, before + 0.1)
    assert found.mean == pytest.approx(0.1) and found.low < 0.1 < found.high and found.p_value is not None
    assert found.p_value < 0.001
    noisy = measure_difference(before, rng.random(50))
    assert noisy.low < noisy.mean < noisy.high and noisy.p_value is not None and noisy.p_value > 0.05
    for rows in (1, 2, 3, 5):  # all better: the chance of that is 2 in 2 ** rows
        few = measure_difference(np.zeros(rows), np.linspace(0.3, 0.5, rows))
        assert few.p_value == pytest.approx(2 / 2**rows) and not is_clear(few)
