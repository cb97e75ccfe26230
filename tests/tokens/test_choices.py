"""Prompts with a choice of labels: templates, tokens of labels in their place, and texts that lose only their end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.errors import ConfigError
from textune.tokens.choices import build_choices, encode_prompts, read_labels
from tiny import build_byte_pairs, build_word_pieces

TEMPLATE = "Q {text} A:"


@pytest.fixture(scope="module", params=["byte pairs", "word pieces"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    built = build_byte_pairs() if request.param == "byte pairs" else build_word_pieces()
    return built.backend_tokenizer


@pytest.mark.parametrize(("words", "labels"), [("spam,ham", ("spam", "ham")), (" a b , c", ("a b", "c"))])
def test_labels_are_separated_by_commas(words: str, labels: tuple[str, ...]) -> None:
    assert read_labels(words) == labels


@pytest.mark.parametrize("words", ["", "spam", "spam,", "spam,,ham", "a,b,a"])
def test_labels_that_make_no_choice_are_refused(words: str) -> None:
    with pytest.raises(ConfigError, match="the labels "):
        read_labels(words)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("no field:", "{text} once"),
        ("{text} {text}:", "{text} once"),
        ("{text} {label}:", "{label} is not known"),
        ("{text}", "words after {text}"),
        ("{text}  ", "words after {text}"),
        ("{text} A: ", "must not end in a space"),
        ("{text A:", "braces do not match"),
        ("{text:.3} A:", "takes no format; write {text} alone"),
        ("{text!r} A:", "takes no format; write {text} alone"),
        ("{labels:>9} {text} A:", "takes no format; write {labels} alone"),
        ("{text} {labels!s:x} A:", "takes no format; write {labels} alone"),
    ],
)
def test_templates_that_ask_nothing_are_refused(tokenizer: Any, template: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_choices(tokenizer, ("good", "bad"), template)
    assert problem in str(caught.value)


def test_labels_and_braces_are_filled_in(tokenizer: Any) -> None:
    choices = build_choices(tokenizer, ("good", "bad"), "{labels} {{x}}: {text} {labels}?")
    assert (choices.head, choices.tail) == ("good, bad {x}: ", " good, bad?")


def test_prompt_and_label_are_the_tokens_of_the_whole(tokenizer: Any) -> None:
    """A label has the tokens that it has after the prompt, and no special token stands between them."""
    choices = build_choices(tokenizer, ("good", "a fine film"), TEMPLATE)
    prompt = encode_prompts(tokenizer, ["the film"], choices, 100)[0][0]
    for label, tokens in zip(("good", "a fine film"), choices.labels, strict=True):
        whole = tokenizer.encode(f"Q the film A: {label}")
        joined = prompt + list(tokens)
        assert whole.ids[: len(joined)] == joined
        assert all(whole.special_tokens_mask[len(joined) :]), "only the end of the text is left out"


@given(st.text(st.sampled_from("abc film. é"), max_size=80), st.integers(22, 60))
@settings(max_examples=100, deadline=None, suppress_health_check=[])
def test_a_long_text_loses_its_end_alone(tokenizer: Any, text: str, longest: int) -> None:
    choices = build_choices(tokenizer, ("good", "bad"), TEMPLATE)
    (prompt,), cut = encode_prompts(tokenizer, [text], choices, longest)
    room = longest - max(map(len, choices.labels))
    assert len(prompt) <= room
    whole = tokenizer.encode(f"Q {text} A:")
    whole_ids = whole.ids[: len(whole.ids) - (1 if whole.special_tokens_mask[-1] else 0)]
    assert cut == (len(whole_ids) > room), "it is counted"
    if len(whole_ids) <= room:
        assert prompt == whole_ids
    else:
        tail = tokenizer.encode(" A:", add_special_tokens=False).ids
        assert prompt[-len(tail) :] == tail, "the words after the text stay"
        kept = len(prompt) - len(tail)
        assert prompt[: kept - 1] == whole_ids[: kept - 1], "and the beginning"


def test_a_template_that_fills_the_prompt_is_refused(tokenizer: Any) -> None:
    choices = build_choices(tokenizer, ("good", "bad"), TEMPLATE)
    with pytest.raises(ConfigError, match="the template and its labels"):
        encode_prompts(tokenizer, ["x"], choices, 3)
