"""Tokens joined to words: the spans are those of the text, in every script and for every kind of tokenizer."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from textune.config import LongText
from textune.explain import words
from textune.explain.words import join_words, locate_tokens
from textune.tokens import encode_texts
from tiny import build_byte_pairs, build_word_pieces

CORPUS = ["the film isn't good, it's 3.5 times worse", "eine schöne Geschichte", "我不喜欢这部电影", "หนังเรื่องนี้ดีมาก"] * 3
SAMPLES = (
    *CORPUS[:4],
    "👍🏽👍🏽 très bien !!! ...",
    "naïve cafe\u0301",
    "मुझे यह फिल्म",
    "نمی\u200cآید",
    "a\tb\n\nc",
    "この映画は",
)
text_of_samples = st.lists(
    st.one_of(st.sampled_from(SAMPLES), st.text(st.characters(exclude_categories=("Cs",)), max_size=9)),
    min_size=1,
    max_size=4,
).map(" ".join)


@cache
def open_tokenizer(kind: str) -> Tokenizer:
    """Return one tokenizer of each kind: they differ in what they call a word, and in spaces and bytes."""
    if kind == "word pieces":
        return build_word_pieces().backend_tokenizer
    if kind == "bytes":
        return build_byte_pairs().backend_tokenizer
    if kind == "pieces across words":  # as in the first Llama: no word borders at all
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        trainer: Any = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"])
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=["<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


KINDS = ("word pieces", "bytes", "pieces across words", "unigram")


def locate(tokenizer: Tokenizer, text: str, pair: str | None = None, length: int = 500, **form: Any) -> list[Any]:
    long_text = LongText(**form)
    read = encode_texts(tokenizer, [text], None if pair is None else [pair], length, long_text)
    return locate_tokens(tokenizer, text, pair, read, long_text)


@pytest.mark.parametrize("kind", KINDS)
@given(text=text_of_samples)
@settings(max_examples=40, deadline=None)
def test_words_cover_what_is_read_and_no_two_overlap(kind: str, text: str) -> None:
    (place,) = locate(open_tokenizer(kind), text)
    chosen = place.side == 0
    starts, ends = place.starts[chosen], place.ends[chosen]
    found = join_words(text, starts.tolist(), ends.tolist())
    assert found.spans == sorted(found.spans)
    assert all(
        a < b for span in zip(found.spans, found.spans[1:], strict=False) for a, b in [(span[0][1] - 1, span[1][0])]
    )
    inside = np.zeros(len(text), bool)
    for start, end in found.spans:
        assert text[start:end] == text[start:end].strip() != ""
        inside[start:end] = True
    for start, end, word in zip(starts, ends, found.of_token, strict=True):
        shown = [at for at in range(start, end) if not text[at].isspace()]
        assert all(inside[at] for at in shown)
        if shown:
            assert found.spans[word][0] <= shown[0] and shown[-1] < found.spans[word][1]
    if len(starts) and found.spans:
        scores = np.random.default_rng(0).normal(size=len(starts))
        assert np.bincount(found.of_token, weights=scores).sum() == pytest.approx(scores.sum())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it doesn't work, at 3.5 volts!!!", ["it", "doesn't", "work", ",", "at", "3.5", "volts", "!!!"]),
        ("well-made naïve cafe\u0301s", ["well", "-", "made", "naïve", "cafe\u0301s"]),
        ("‘don’t’ snake_case", ["‘", "don’t", "’", "snake_case"]),
        ("मुझे फिल्म", ["मुझे", "फिल्म"]),
        ("نمی\u200cآید خوب", ["نمی\u200cآید", "خوب"]),
        ("ok👍🏽 fine", ["ok", "👍🏽", "fine"]),
        ("我 不好", ["我", "不", "好"]),
    ],
)
def test_a_word_is_what_a_person_calls_one(text: str, expected: list[str]) -> None:
    places = [at for at, character in enumerate(text) if not character.isspace()]  # a token for each character
    found = join_words(text, places, [at + 1 for at in places])
    assert [text[start:end] for start, end in found.spans] == expected


def test_a_token_over_two_words_joins_them_and_an_empty_one_counts_for_the_next() -> None:
    found = join_words("new york is big", [0, 0, 8, 8, 12, 15], [0, 8, 9, 11, 15, 15])
    assert found.spans == [(0, 8), (9, 11), (12, 15)]
    assert found.of_token.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_text_without_words_has_none() -> None:
    assert join_words("  ", [0], [2]).spans == []
    assert join_words("", [], []).spans == []


FORMS = [
    {"form": "truncate"},
    {"form": "head_tail", "head_fraction": 0.5},
    {"form": "window", "max_windows": 3, "overlap": 2},
]


@pytest.mark.parametrize("kind", ["word pieces", "bytes"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form["form"])
def test_a_long_text_is_located_from_its_ends_alone(
    kind: str, form: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, text = open_tokenizer(kind), "the film was good and the music very dull. " * 300
    whole = locate(tokenizer, text, length=12, **form)
    read = [text[a:b] for place in whole for a, b in zip(place.starts, place.ends, strict=True) if a < b]
    assert read[:2] == [text[: len(read[0])], text[whole[0].starts[2] : whole[0].ends[2]]]
    if form["form"] == "head_tail":
        assert whole[0].ends.max() >= len(text) - 2
    lengths: list[int] = []
    encode_part = words._encode_part
    monkeypatch.setattr(words, "_CHARACTERS_PER_TOKEN", 1)
    monkeypatch.setattr(words, "_FEWEST_CHARACTERS", 20)
    monkeypatch.setattr(words, "_encode_part", lambda *a: (lengths.append(a[3]), encode_part(*a))[1])
    parts = locate(tokenizer, text, length=12, **form)
    assert lengths and max(lengths) < len(text) / 2, "the whole text was tokenized"
    for a, b in zip(whole, parts, strict=True):
        for name in ("side", "starts", "ends"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_text_of_a_pair_has_places_of_its_own(kind: str) -> None:
    first, second = "the film was good", "isn't it a dull one"
    (place,) = locate(open_tokenizer(kind), first, second)
    for side, text in ((0, first), (1, second)):
        chosen = place.side == side
        found = join_words(text, place.starts[chosen].tolist(), place.ends[chosen].tolist())
        assert " ".join(text[a:b] for a, b in found.spans) == text
