"""Prompts and answers as tokens: answers alone are learned, whatever the template and the length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.errors import ConfigError, DataError, ModelError
from textune.tokens import load_tokenizer
from textune.tokens.dialogues import Dialogues, count_answered, count_answers, count_spans, open_dialogues
from tiny import CHAT_TEMPLATE, build_byte_pairs

WRITTEN = st.text("abc xyz", min_size=1, max_size=30).filter(str.strip)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tokenizer")
    build_byte_pairs().save_pretrained(str(place))
    return place


@pytest.fixture(scope="module", params=["plain", CHAT_TEMPLATE], ids=["plain", "chat"])
def dialogues(folder: Path, request: Any) -> Dialogues:
    return open_dialogues(folder, load_tokenizer(folder), (), request.param)


def learned_texts(dialogues: Dialogues, tokens: Any) -> list[str]:
    parts = [tokens.ids[a:b][tokens.learned[a:b]] for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)]
    return [dialogues.decode(part.tolist()) for part in parts]


@given(st.lists(st.tuples(WRITTEN, WRITTEN), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_the_answer_and_its_end_are_learned_and_nothing_else(dialogues: Dialogues, rows: list[Any]) -> None:
    prompts, answers = zip(*rows, strict=True)
    tokens = dialogues.encode_rows(prompts, answers, 500)
    assert learned_texts(dialogues, tokens) == list(answers)
    for start, end, prompt in zip(tokens.offsets, tokens.offsets[1:], prompts, strict=False):
        row, marks = tokens.ids[start:end], tokens.learned[start:end]
        assert int(row[-1]) == dialogues.end and marks[-1], "the token that ends an answer is learned, too"
        asked = dialogues.encode_prompts([prompt], 500)[0]
        assert row[: len(asked)].tolist() == asked, "a prompt has the same ids in use"
        assert not marks[: len(asked)].any() and marks[len(asked) :].all()


@given(WRITTEN, WRITTEN, st.integers(6, 40))
@settings(max_examples=20, deadline=None)
def test_what_is_too_long_loses_the_beginning_of_its_prompt(
    dialogues: Dialogues, prompt: str, answer: str, longest: int
) -> None:
    whole = dialogues.encode_rows([prompt], [answer], 500)
    cut = dialogues.encode_rows([prompt], [answer], longest)
    assert len(cut.ids) == min(len(whole.ids), longest)
    assert cut.learned is not None and cut.learned.any() and whole.learned is not None
    if whole.learned.sum() <= 0.7 * longest - 1:  # the answer leaves room for a prompt
        assert cut.learned.sum() == whole.learned.sum()
        assert cut.ids[cut.learned].tolist() == whole.ids[whole.learned].tolist()
    assert int(cut.full_lengths[0]) == len(whole.ids)


THINKING = (
    "{% for m in messages %}[{{ m['role'] }}]"
    "{% if m['role'] == 'assistant' and loop.last and '</think>' not in m['content'] %}<think>\n\n</think>\n\n"
    "{% endif %}"
    "{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""As Qwen3's: before the last answer stands an empty reasoning, in prompts only where thinking is turned off."""


def test_an_empty_reasoning_belongs_to_the_prompt(folder: Path) -> None:
    dialogues = open_dialogues(folder, load_tokenizer(folder), (), THINKING)
    without = dialogues.without_thinking(["Paris", "Rome"])
    tokens = without.encode_rows(["capital"], ["Paris"], 500)
    assert learned_texts(without, tokens) == ["Paris"]
    asked = without.encode_prompts(["capital"], 500)[0]
    assert tokens.ids[: len(asked)].tolist() == asked and "</think>" in without.write_prompt("capital")
    assert without.without_thinking(["Paris"]) is without, "a run that is opened again has it already"
    answers = ["<think>\nin France\n</think>\n\nParis"]
    assert dialogues.without_thinking(answers) is dialogues, "such a model is to reason itself"
    plain = open_dialogues(folder, load_tokenizer(folder), (), CHAT_TEMPLATE)
    assert plain.without_thinking(["Paris"]) is plain


def test_a_prompt_that_is_cut_keeps_the_token_that_begins_a_text(folder: Path) -> None:
    template = "{{ bos_token }}" + CHAT_TEMPLATE
    dialogues = open_dialogues(folder, load_tokenizer(folder), (), template)
    begin = dialogues.tokenizer.token_to_id(dialogues.special["bos_token"])
    (whole,) = dialogues.encode_prompts(["word " * 50], 500)
    (cut,) = dialogues.encode_prompts(["word " * 50], 30)
    assert whole[0] == begin and cut == [begin, *whole[-29:]]
    row = dialogues.encode_rows(["word " * 50], ["yes"], 30).ids.tolist()
    assert row[0] == begin and len(row) == 30


def test_chats_whose_earlier_answers_are_rewritten_are_counted(folder: Path) -> None:
    chat = [{"role": role, "content": role} for role in ("assistant", "user", "assistant", "user")]
    prompts = [json.dumps(chat[1:]), json.dumps(chat), json.dumps(chat[:2]), "plain"]
    answers = ["yes"] * 4
    assert [count_answered(prompt) for prompt in prompts] == [1, 1, 0, 0], "a greeting answers nothing"
    rewriting = open_dialogues(folder, load_tokenizer(folder), (), THINKING)
    assert count_spans(rewriting.encode_rows(prompts, answers, 500)).tolist() == [1, 1, 1, 1]
    keeping = open_dialogues(folder, load_tokenizer(folder), (), CHAT_TEMPLATE)
    assert count_spans(keeping.encode_rows(prompts, answers, 500)).tolist() == [2, 2, 1, 1]


def test_every_answer_of_a_chat_is_learned(folder: Path) -> None:
    dialogues = open_dialogues(folder, load_tokenizer(folder), (), CHAT_TEMPLATE)
    chat = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    tokens = dialogues.encode_rows([json.dumps(chat)], ["four"], 500)
    assert tokens.learned is not None
    edges = np.flatnonzero(np.diff(tokens.learned.astype(int)))
    assert len(edges) == 3, "two spans, the last to the end"
    assert count_answers(tokens).tolist() == [len("four") + 1], "a byte is a token, and the end is one more"
    assert learned_texts(dialogues, tokens) == ["twofour"]
    assert (tokens.ids[tokens.learned] == dialogues.end).sum() == 2


def test_answers_that_go_on_after_their_end_are_found(dialogues: Dialogues) -> None:
    answers = ["yes", "yes</s> and more", "yes</s>", "yes</s>\n", "</s>a", "</ s> and more"]
    assert dialogues.find_ended(["a"] * len(answers), answers) == [1, 4]
    chat = [{"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b</s>c"), ("user", "</s>d"))]
    assert dialogues.find_ended([json.dumps(chat), json.dumps(chat[2:])], ["e", "e"]) == [0]


def test_without_a_template_a_question_stands_as_it_is_and_a_chat_is_refused(folder: Path) -> None:
    plain = open_dialogues(folder, load_tokenizer(folder), (), "plain")
    asked = [{"role": "user", "content": "one"}]
    assert plain.encode_prompts([json.dumps(asked)], 50) == plain.encode_prompts(["one"], 50)
    chat = json.dumps([{"role": "system", "content": "be kind"}, *asked])
    for call in (lambda: plain.encode_prompts([chat], 50), lambda: plain.encode_rows([chat], ["two"], 50)):
        with pytest.raises(ConfigError, match=r"(prompt|row) 1 is a chat of several messages, and there is no chat"):
            call()


def test_a_template_that_rewrites_answers_is_refused(folder: Path) -> None:
    rewriting = "{% for m in messages %}{{ m.content }}{{ messages | length }}{% endfor %}"
    rewriting += "{% if add_generation_prompt %}>{% endif %}"
    dialogues = open_dialogues(folder, load_tokenizer(folder), (), rewriting)
    with pytest.raises(ModelError, match="chat template"):
        dialogues.encode_rows(["a"], ["b"], 50)


def test_a_conversation_that_the_template_refuses_is_named(folder: Path) -> None:
    template = "{{ raise_exception('roles must alternate') }}"
    dialogues = open_dialogues(folder, load_tokenizer(folder), (), template)
    with pytest.raises(DataError, match=r"prompt 1: .*roles must alternate"):
        dialogues.encode_prompts(["a"], 50)


@pytest.mark.parametrize(("template", "error"), [("{{ 1/0 }}", "ZeroDivisionError"), ("{{ 1 + 'a' }}", "TypeError")])
def test_a_template_that_fails_is_no_bug_of_ours(folder: Path, template: str, error: str) -> None:
    dialogues = open_dialogues(folder, load_tokenizer(folder), (), template)
    with pytest.raises(DataError, match=rf"prompt 1: the chat template fails: {error}: "):
        dialogues.encode_prompts(["a"], 50)


def test_a_template_that_is_no_jinja_is_refused(folder: Path) -> None:
    damaged = "{% for m in messages %}\n{{ m.content ]}{% endfor %}"
    dialogues = open_dialogues(folder, load_tokenizer(folder), (), damaged)
    with pytest.raises(ConfigError, match=r"not valid Jinja: line 2: unexpected '\]'"):
        dialogues.encode_prompts(["a"], 50)


def test_a_template_that_is_no_file_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        open_dialogues(folder, load_tokenizer(folder), (), "missing.jinja")
