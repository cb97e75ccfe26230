"""Tables of prompts and chats: every form gives the same rows, and no prompt is on both sides of a split."""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.config import DataConfig, WritingConfig
from textune.data import (
    Examples,
    ReadOptions,
    build_rows,
    find_columns,
    inspect_examples,
    read_table,
    split_examples,
    split_folds,
)
from textune.data.dialogues import PAIRS, read_prompt
from textune.errors import DataError

CHATS = [
    [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": f"Answer {i}."}] for i in range(3)
] + [
    [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "Bye"},
    ]
]


def read(source: Any, **generation: Any) -> Examples:
    table = read_table(source, ReadOptions())
    settings = WritingConfig(**generation)
    columns = find_columns(table, DataConfig(task="generation"), settings)
    return build_rows(table, columns, "generation", "|")[0]


def write_chats(path: Path) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in CHATS), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({"messages": CHATS}), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["messages"])
            writer.writerows([json.dumps(chat)] for chat in CHATS)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
def test_chats_are_read_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    examples = read(write_chats(tmp_path / f"chats{suffix}"))
    assert examples.labels() == ["Answer 0.", "Answer 1.", "Answer 2.", "Bye"]
    assert [read_prompt(text) for text in examples.texts()] == [chat[:-1] for chat in CHATS]


def test_a_chat_of_several_messages_is_no_list_written_as_text() -> None:
    chats = read([{"messages": CHATS[3]}] * 4)
    assert inspect_examples(chats).odd_texts == ()
    lists = read([{"prompt": str(["word", i]), "completion": "b"} for i in range(4)])
    assert "are lists written as text" in inspect_examples(lists).odd_texts[0].what


@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
def test_usual_names_of_columns_are_found(pair: tuple[str, str]) -> None:
    rows = [{"id": str(i), pair[0]: f"p{i}", pair[1].title(): f"c{i}"} for i in range(3)]
    examples = read(rows)
    assert examples.texts() == ["p0", "p1", "p2"] and examples.labels() == ["c0", "c1", "c2"]


@pytest.mark.parametrize("name", ["dialogue", "conversation"])
def test_a_chat_in_plain_text_is_a_prompt(name: str) -> None:
    rows = [{name: text, "summary": "They greet."} for text in ("", "Ann: Hello\nBob: Hi")]
    examples = read(rows)
    assert examples.texts() == ["Ann: Hello\nBob: Hi"] and examples.labels() == ["They greet."]


def test_rows_without_prompt_or_answer_are_counted() -> None:
    examples = read([{"prompt": p, "completion": c} for p, c in (("a", "b"), (" ", "b"), ("c", ""), ("\u200b", "b"))])
    assert len(examples) == 1 and examples.no_text == (2, 4) and examples.no_label == (3,)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("hello", "no valid JSON"),
        ("[]", "no list of messages"),
        ('[{"role": "robot", "content": "x"}]', "has the role 'robot'"),
        ('[{"role": "user"}]', "no text as its content"),
        ('["hi"]', "not an object"),
        ('[{"role": ["user"], "content": "x"}]', r"has the role \['user'\]"),
        ('[{"from": {"a": 1}, "value": "x"}]', "has the role {'a': 1}"),
    ],
)
def test_a_cell_that_is_no_chat_is_named(cell: str, message: str) -> None:
    with pytest.raises(DataError, match=f"row 2: .*{message}"):
        read([{"messages": json.dumps(CHATS[0])}, {"messages": cell}])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_prompts_and_completions_may_be_messages(tmp_path: Path, suffix: str) -> None:
    rows = [{"prompt": chat[:-1], "completion": chat[-1:]} for chat in CHATS]
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    examples = read(path)
    assert examples.labels() == [chat[-1]["content"] for chat in CHATS]
    assert [read_prompt(text) for text in examples.texts()] == [chat[:-1] for chat in CHATS]


@pytest.mark.parametrize(
    ("completion", "message"),
    [
        (json.dumps(CHATS[0]), "the completion is a chat, but not of one answer alone"),
        (json.dumps(CHATS[0][:1]), "the completion is a chat, but not of one answer alone"),
        ('[{"role": "assistant", "content": ', "the completion is not a chat: no valid JSON"),
        ('[{"role": "robot", "content": "x"}]', "the completion message 1 has the role 'robot'"),
    ],
)
def test_a_completion_that_is_no_answer_is_named(completion: str, message: str) -> None:
    with pytest.raises(DataError, match=f"row 2: {message}"):
        read([{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": completion}])


@pytest.mark.parametrize(
    "text",
    [
        '[{"value": 3, "unit": "kg"}]',
        '[{"from": "Berlin", "to": "Paris"}]',
        '[{"from": ["a", "b"]}]',
        '[{"content": "milk", "grams": 20}, {"content": "egg", "grams": 5}]',
    ],
)
def test_other_objects_in_json_are_texts(text: str) -> None:
    examples = read([{"prompt": text, "completion": text}])
    assert examples.texts() == examples.labels() == [text]
    assert read_prompt(text) is None


def test_answers_that_follow_one_another_are_one() -> None:
    turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four"), ("assistant", "five")]
    chat = [{"role": role, "content": content} for role, content in turns]
    examples = read([{"messages": json.dumps(chat)}])
    assert examples.labels() == ["four\n\nfive"]
    assert [read_prompt(text) for text in examples.texts()] == [chat[:3]]


def test_brackets_without_end_are_no_chat() -> None:
    deep = "[" * 100_000
    with pytest.raises(DataError, match="row 1: is not a chat: its JSON is nested too deeply"):
        read([{"messages": deep}])
    assert read_prompt(deep) is None, "plain text"
    with pytest.raises(ValueError, match="nested too deeply"):
        read_prompt('[{"role": ' + deep)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "x"}, "no column 'x'"),
        ({"messages": "m", "prompt": "a"}, "no column"),
        ({}, "no columns of prompts"),
    ],
)
def test_columns_that_are_missing_are_named(settings: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read([{"a": "1", "b": "2"}], **settings)


PROMPTS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", "g1", "g2"])), min_size=12, max_size=40)


@given(PROMPTS, st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_no_prompt_is_in_two_parts(rows: list[tuple[str, str]], seed: int) -> None:
    cells = [
        {"prompt": text.upper() if i % 2 else f" {text} ", "completion": f"answer {i}", "group": group or None}
        for i, (text, group) in enumerate(rows)
    ]
    table = read_table(cells, ReadOptions())
    columns = find_columns(table, DataConfig(task="generation", group="group"), WritingConfig())
    examples = build_rows(table, columns, "generation", "|")[0]
    try:
        parts = split_examples(examples, validation_fraction=0.2, test_fraction=0.2, seed=seed, grouped=False)
    except DataError:
        return  # too few groups
    pieces = [part for part in (parts.train, parts.validation, parts.test) if part is not None]
    assert sum(map(len, pieces)) == len(examples)
    texts = [{text.strip().casefold() for text in part.texts()} for part in pieces]
    groups = [set(part.groups() or ()) - {None} for part in pieces]
    for keys in (texts, groups):
        assert sum(map(len, keys)) == len(set().union(*keys))
    with contextlib.suppress(DataError):
        fold = split_folds(examples, 2, seed)
        prompts = np.array([text.strip().casefold() for text in examples.texts()])
        assert not set(prompts[fold == 0]) & set(prompts[fold == 1])
