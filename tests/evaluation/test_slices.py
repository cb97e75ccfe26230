"""Slices: planted ones are found first, chance is called at most 1 time in 20, and every figure is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import fisher_exact

from textune.evaluation.conditions import (
    list_column,
    list_labels,
    list_lengths,
    list_marked,
    list_negations,
    list_values,
    list_words,
    split_words,
)
from textune.evaluation.intervals import wilson_interval
from textune.evaluation.paired import adjust_holm
from textune.evaluation.slices import Condition, SliceSearch, adjust_by_subject, choose_fewest_rows, find_slices

ROWS = 400
WORDS = np.array([f"word{i}" for i in range(200)])
SHARES = 1 / np.arange(1, 201) / (1 / np.arange(1, 201)).sum()
DOMAINS = ("books", "kitchen", "music", "tools", "toys", "video")


def draw(seed: int, error_rate: float = 0.15) -> tuple[Any, list[Condition], list[str]]:
    """Return random errors, conditions on random texts and columns, and the domain of each row."""
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, size=random.integers(3, 30), p=SHARES)) for _ in range(ROWS)]
    domains = random.choice(DOMAINS, size=ROWS).tolist()
    wrong = random.random(ROWS) < error_rate
    true = random.integers(0, 2, ROWS)
    conditions = [
        *list_column("flurb", domains),
        *list_column("price", [f"{x:.2f}" for x in random.random(ROWS)]),
        *list_column("stars", [str(x) for x in random.integers(1, 6, ROWS)]),
        *list_column("sold", [f"201{y}-0{m}-11" for y, m in random.integers(1, 10, (ROWS, 2)).tolist()]),
        *list_lengths(texts),
        *list_negations([text.replace("word7 ", "not ") for text in texts]),
        *list_marked("max_length", ("cut", "whole"), random.random(ROWS) < 0.1),
        *list_labels("true label", ("no", "yes"), np.eye(2, dtype=bool)[true]),
        *list_labels("predicted label", ("no", "yes"), np.eye(2, dtype=bool)[np.where(wrong, 1 - true, true)]),
        *list_words(texts, choose_fewest_rows(ROWS)),
    ]
    return wrong, conditions, domains


def test_chance_is_called_at_most_one_time_in_twenty() -> None:
    found = [find_slices(*draw(seed)[:2]) for seed in range(200)]
    assert min(search.looks for search in found) > 150, "there must be something to look at"
    assert sum(bool(search.slices) for search in found) <= 10


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_slice_is_found_first(seed: int) -> None:
    """A third of the labels of one domain are flipped; the column's name means nothing."""
    wrong, conditions, domains = draw(seed, error_rate=0.08)
    chosen = np.array(domains) == "kitchen"
    flipped = chosen & (np.random.default_rng([seed, 1]).random(ROWS) < 1 / 3)
    search = find_slices(wrong ^ flipped, conditions)
    assert search.slices[0].description == "flurb is 'kitchen'"
    assert search.slices[0].rows == chosen.sum() and search.slices[0].kind == "column"


def condition(name: str, rows: Any, **options: Any) -> Condition:
    return Condition("column", options.pop("subject", name), name, np.flatnonzero(rows), **options)


def mark(rows: int, *spans: tuple[int, int]) -> Any:
    marks = np.zeros(rows, bool)
    for start, end in spans:
        marks[start:end] = True
    return marks


def test_figures_are_those_of_fisher_and_wilson() -> None:
    wrong, inside = mark(200, (0, 20), (100, 110)), mark(200, (0, 40))
    (found,) = find_slices(wrong, [condition("a", inside), condition("b", mark(200, (150, 200)))]).slices
    assert (found.rows, found.errors, found.description) == (40, 20, "a")
    assert found.error_rate == 0.5 and found.lift == pytest.approx(0.5 / 0.15)
    assert found.excess_errors == pytest.approx(20 - 40 * 0.15)
    assert found.p == pytest.approx(fisher_exact([[20, 20], [10, 150]], alternative="greater").pvalue)
    assert found.adjusted_p == pytest.approx(2 * found.p), "two conditions were looked at"
    assert found.interval == wilson_interval(0.5, 40)
    assert found.examples == (0, 1, 2)


def test_more_looks_ask_for_more() -> None:
    """What is significant by itself is not, if it was one of a hundred that were looked at."""
    wrong = mark(200, (0, 8), (100, 120))
    alone = [condition("a", mark(200, (0, 25)))]
    others = [condition(f"other {i}", mark(200, (50 + i, 75 + i))) for i in range(100)]
    assert [s.description for s in find_slices(wrong, alone).slices] == ["a"]
    assert 0.01 < find_slices(wrong, alone).slices[0].p < 0.05
    search = find_slices(wrong, [*alone, *others])
    assert "a" not in [s.description for s in search.slices] and search.looks == 101


def test_subjects_of_equal_size_give_plain_holm_and_others_share_their_weight() -> None:
    p = [0.01, 0.04, 0.03, 0.2]
    assert adjust_by_subject(np.array(p), list("abcd")).tolist() == pytest.approx(adjust_holm(p))
    assert adjust_by_subject(np.array(p), list("aaaa")).tolist() == pytest.approx(adjust_holm(p))
    # weights 1/2, 1/4, 1/4: 0.01 / (1/2), then 0.03 / (1/4) of the half that is left
    assert adjust_by_subject(np.array([0.01, 0.03, 0.5]), list("abb")) == pytest.approx([0.02, 0.06, 0.5])


def test_the_costliest_comes_first_and_a_smaller_stronger_one_follows() -> None:
    wrong = mark(1000, (0, 60), (500, 520))
    search = find_slices(wrong, [condition("small", mark(1000, (500, 522))), condition("large", mark(1000, (0, 100)))])
    assert [s.description for s in search.slices] == ["large", "small"]
    assert search.slices[0].lift < search.slices[1].lift


def test_what_another_slice_accounts_for_is_left_out() -> None:
    """Words of a bad domain are no slices of their own; equal rows are named together."""
    wrong = mark(600, (0, 40), (300, 310))
    cause = mark(600, (0, 100))
    near = mark(600, (0, 36), (42, 100), (200, 210))
    half = mark(600, (0, 20), (40, 70), (400, 420))
    conditions = [condition("half", half), condition("near", near), condition("cause", cause), condition("same", cause)]
    search = find_slices(wrong, conditions)
    assert [s.description for s in search.slices] == ["cause"]
    assert search.slices[0].also == ("same", "near"), "half shares too few rows to be called the same"
    assert search.looks == 3, "the same rows are one look"


def test_rows_of_two_slices_count_for_the_first() -> None:
    """The rows that two slices share err as often as the first: those rows alone are no third slice."""
    wrong = np.zeros(1000, bool)
    wrong[[i for i in range(100) if i % 5]] = True  # 80% of the first
    wrong[100:130] = True  # 30% of what the second has alone
    wrong[200::20] = True
    names = {"first": (0, 100), "second": (80, 200), "shared": (70, 100)}
    found = find_slices(wrong, [condition(name, mark(1000, span)) for name, span in names.items()]).slices
    assert [each.description for each in found] == ["first", "second"]


def test_two_conditions_together_are_found_where_neither_is_to_blame() -> None:
    random = np.random.default_rng(0)
    old, loud = random.random((2, 800)) < 0.5
    wrong = (old & loud & (random.random(800) < 0.4)) | (random.random(800) < 0.03)
    pair = [condition("old", old, paired=True), condition("loud", loud, paired=True)]
    found = find_slices(wrong, pair).slices
    assert found[0].description == "old, and loud" or found[0].description == "loud, and old"
    assert find_slices(wrong, [condition("old", old, paired=True)]).examined == {"column": 1}
    same_subject = [condition("old", old, paired=True, subject="x"), condition("loud", loud, paired=True, subject="x")]
    assert find_slices(wrong, same_subject).examined == {"column": 2}


@pytest.mark.parametrize("wrong", [mark(50), mark(50, (0, 50)), mark(0)])
def test_no_errors_nothing_but_errors_and_no_rows_have_no_slices(wrong: Any) -> None:
    search = find_slices(wrong, [condition("a", mark(len(wrong), (0, 20)))])
    assert search == SliceSearch(len(wrong), int(wrong.sum()), (), search.examined, 10)
    assert search.to_dict()["slices"] == []


def test_small_conditions_and_those_on_all_rows_are_not_looked_at() -> None:
    wrong = mark(100, (0, 9))
    conditions = [condition("nine", mark(100, (0, 9))), condition("all", mark(100, (0, 100)))]
    assert find_slices(wrong, conditions).looks == 0
    assert [s.description for s in find_slices(wrong, conditions, fewest_rows=5).slices] == ["nine"]
    assert [choose_fewest_rows(n) for n in (0, 1000, 4000, 10**6)] == [10, 10, 20, 50]


def shown(conditions: list[Condition]) -> dict[str, list[int]]:
    return {c.description: c.rows.tolist() for c in conditions}


def test_columns_are_read_as_what_they_hold() -> None:
    assert shown(list_column("domain", ["a", "b ", None, "a", " "])) == {
        "domain is 'a'": [0, 3],
        "domain is 'b'": [1],
        "domain is empty": [2, 4],
    }
    stars = shown(list_column("stars", [str(1 + i % 5) for i in range(20)]))
    assert list(stars) == [f"stars is '{n}'" for n in range(1, 6)] and stars["stars is '2'"] == [1, 6, 11, 16]
    prices = shown(list_column("price", [str(i / 2) for i in range(100)]))
    assert list(prices) == [
        "price 0 to 9.5",
        "price 10 to 19.5",
        "price 20 to 29.5",
        "price 30 to 39.5",
        "price 40 to 49.5",
    ]
    assert prices["price 10 to 19.5"] == list(range(20, 40))
    skewed = shown(list_column("votes", ["0"] * 90 + [str(i) for i in range(1, 20)]))
    assert skewed["votes 0"] == list(range(90)) and sum(map(len, skewed.values())) == 109
    dates = shown(list_column("day", ["2023-05-01", "2023-06-07T10:00:00", "2024-05-30", ""]))
    assert dates["day in 2023"] == [0, 1] and dates["day in 2024-05"] == [2] and dates["day is empty"] == [3]
    mixed = list_column("code", [*map(str, range(50)), *(["none"] * 50)])
    assert mixed[0].description == "code is 'none'", "half of it is no number"
    assert len(list_column("id", [f"id{i}" for i in range(1000)])) == 100, "many values are capped"


def test_a_name_that_is_no_plain_text_stays_on_its_line() -> None:
    (found,) = list_values("column", "c", ["a\n\x1b[31m"], "c is '{}'")
    assert "\n" not in found.description and "\x1b" not in found.description


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don’t stop, it's OK!", ["don't", "stop", "it's", "ok"]),
        ("好电影 ok", ["好", "电", "影", "ok"]),
        ("дом-Улица 12", ["дом", "улица", "12"]),
        ("", []),
    ],
)
def test_words_of_any_script(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_words_and_their_pairs_are_counted_once_per_text() -> None:
    texts = ["very good good", "very bad bad", "good", "bad very good", "plain", "very good"] * 3
    found = shown(list_words(texts, 6))
    assert found["has the word 'bad'"] == [1, 3, 7, 9, 13, 15]
    assert found["has the words 'very good'"] == [0, 3, 5, 6, 9, 11, 12, 15, 17]
    assert "has the word 'plain'" not in found, "too rare"
    assert "has the word 'good'" not in found, "in more than half of the texts"
    assert list_words([], 1) == [] and list_words(["", "!"], 1) == []


def test_a_pair_of_words_that_is_as_good_as_one_of_them_is_left_out() -> None:
    texts = ["very unique"] * 10 + ["very plain"] * 10 + ["quite plain"] * 30
    found = shown(list_words(texts, 5))
    assert "has the word 'unique'" in found and "has the words 'very unique'" not in found
    assert "has the words 'very plain'" in found, "half of the texts with 'very' have it"


def test_negations_of_several_kinds() -> None:
    texts = ["it is not good", "I didn’t", "never", "nothing to add", "note this knot", "kein Wort", "dont go", ""]
    has, without = list_negations(texts)
    assert has.rows.tolist() == [0, 1, 2, 3, 5, 6] and without.rows.tolist() == [4, 7]


@pytest.mark.parametrize("name", ["Q3 ${e://Field/Product}", "tags{}", "{", "}", "price {usd} {0}"])
def test_a_column_name_with_braces_is_shown_as_it_is(name: str) -> None:
    columns = (["x", "{}", None] * 20, [f"{n / 7}" for n in range(60)], [f"201{n % 9}-01-11" for n in range(60)])
    found = [condition for cells in columns for condition in list_column(name, cells)]
    assert len(found) > 9
    assert all(condition.description.startswith(f"{name} ") for condition in found)
