"""Rows for models that write: a prompt and its completion, or a chat whose last answer is the completion.

A chat is stored as two texts: the messages before the last answer as JSON, and that answer. So samples, splits,
fingerprints and checks treat a conversation like any other text with its label.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from textune.data.cells import compact_json
from textune.data.columns import Columns
from textune.data.examples import Examples
from textune.data.label_sets import LabelForm
from textune.data.table import Table
from textune.errors import DataError, suggest
from textune.printable import holds_text

Message = dict[str, str]
CHAT_COLUMNS = ("messages", "conversations", "conversation", "chat", "dialogue", "dialog")
PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "output"),
    ("prompt", "answer"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("input", "target"),
    ("input", "output"),
    ("source", "target"),
    ("text", "summary"),
    ("document", "summary"),
    ("dialogue", "summary"),
    ("conversation", "summary"),
    ("text", "target"),
)
"""Usual names of a prompt's column and its completion's, the likeliest first."""
ROLES = {"system": "system", "user": "user", "assistant": "assistant", "developer": "system"} | {
    "human": "user",
    "gpt": "assistant",
}
ANSWERS = "assistant"
CHAT_SHAPE = 'a chat is a list such as [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]'
_BEGINS_LIKE_A_CHAT = re.compile(r'\s*\[\s*\{\s*"(role|content|from|value)"\s*:')
_SAMPLE_ROWS = 100
_GAP = "\n\n"
"""Between answers that follow one another: together they are one."""
_NOTHING = "leave out rows without an answer, or check the columns"


def choose_dialogue_columns(
    table: Table, *, prompt: str | None, completion: str | None, messages: str | None, group: str | None = None
) -> Columns:
    """Return the columns of prompt and completion, or of chats (text and label are then one column).

    Raises DataError for a column that is missing, and where none can be found by name.
    """
    for setting, name in (("prompt", prompt), ("completion", completion), ("messages", messages), ("group", group)):
        if name is not None and name not in table.columns:
            raise DataError(
                f"{table.name}: no column '{name}' ({setting}={name}){suggest(name, table.columns)}",
                hint=f"columns: {', '.join(table.columns)}",
            )
    if messages is not None and (prompt is not None or completion is not None):
        raise DataError(f"{table.name}: messages= holds whole chats", hint="leave prompt= and completion= out")
    if messages is None and prompt is None and completion is None:
        messages = _find_chat(table)
    if messages is not None:
        return Columns((messages,), None, messages, group, " ", (f"chat column: '{messages}'",))
    prompt, completion, notes = _find_pair(table, prompt, completion)
    if prompt == completion:
        raise DataError(f"{table.name}: column '{prompt}' is both prompt and completion", hint="name two columns")
    return Columns((prompt,), None, completion, group, " ", notes)


def _find_chat(table: Table) -> str | None:
    """Return the first column that is named like one of chats and does not begin with plain text."""
    by_name = {column.casefold(): column for column in reversed(table.columns)}
    named = (by_name[name] for name in CHAT_COLUMNS if name in by_name)
    return next((column for column in named if _may_hold_chats(table.arrow.column(column))), None)


def _may_hold_chats(column: pa.ChunkedArray) -> bool:
    first = next((cell for cell in column.slice(0, _SAMPLE_ROWS).to_pylist() if holds_text(cell)), "[")
    return first.lstrip().startswith("[")


def _find_pair(table: Table, prompt: str | None, completion: str | None) -> tuple[str, str, tuple[str, ...]]:
    if prompt is not None and completion is not None:
        return prompt, completion, ()
    by_name = {column.casefold(): column for column in reversed(table.columns)}
    for first, second in PAIRS:
        one, other = prompt or by_name.get(first), completion or by_name.get(second)
        if one and other and one != other:
            return one, other, (f"prompt column: '{one}', completion column: '{other}' (by name)",)
    raise DataError(
        f"{table.name}: no columns of prompts and completions (columns: {', '.join(table.columns)})",
        hint="name them with prompt= and completion=, or name a column of chats with messages=",
    )


def build_dialogues(table: Table, columns: Columns, form: LabelForm) -> Examples:
    """Return the rows that have a prompt and an answer; the others are skipped and counted.

    Raises DataError for a cell that is no chat, and where no row is left.
    """
    prompts = table.arrow.column(columns.text[0]).to_pylist()
    answers = table.arrow.column(columns.label or columns.text[0]).to_pylist()
    if columns.chat:
        pairs = [_split_chat(cell, table, row) for row, cell in enumerate(prompts, table.first_row)]
        prompts, answers = [prompt for prompt, _ in pairs], [answer for _, answer in pairs]
    else:
        answers = [_read_answer(cell, table, row) for row, cell in enumerate(answers, table.first_row)]
    has_prompt = np.array([holds_text(prompt) for prompt in prompts], bool)
    has_answer = np.array([holds_text(answer) for answer in answers], bool)
    rows = np.arange(table.first_row, table.first_row + len(table), dtype=np.int64)
    cells: dict[str, Any] = {
        "row": pa.array(rows),
        "text": pa.array(prompts, pa.large_string()),
        "label": pa.array(answers, pa.large_string()),
    }
    if columns.group is not None:
        cells["group"] = table.arrow.column(columns.group)
    usable = pa.table(cells).filter(pa.array(has_prompt & has_answer))
    if not usable.num_rows:
        names = ", ".join(f"'{name}'" for name in dict.fromkeys((*columns.text, columns.label or "")))
        raise DataError(f"{table.name}: no row has a prompt and an answer in {names}", hint=_NOTHING)
    no_text, no_label = rows[~has_prompt].tolist(), rows[has_prompt & ~has_answer].tolist()
    return Examples(usable, table.name, tuple(no_text), tuple(no_label), form)


def _split_chat(cell: str | None, table: Table, row: int) -> tuple[str | None, str | None]:
    """Return the messages before the last answer as JSON, and that answer; None where there is none."""
    if cell is None or not cell.strip():
        return None, None
    try:
        messages = parse_messages(cell)
    except ValueError as error:
        raise DataError(f"{table.name}, row {row}: {error}", hint=CHAT_SHAPE) from None
    end = max((i for i, message in enumerate(messages, 1) if message["role"] == ANSWERS), default=None)
    if end is None:
        return cell, None
    first = end - 1
    while first and messages[first - 1]["role"] == ANSWERS:
        first -= 1
    answer = _GAP.join(message["content"] for message in messages[first:end])
    return (format_messages(messages[:first]) if first else None), answer


def _read_answer(cell: str | None, table: Table, row: int) -> str | None:
    """Return an answer as text; a chat of one answer gives what it says."""
    if cell is None or not begins_like_a_chat(cell):
        return cell
    try:
        messages = parse_messages(cell)
    except ValueError as error:
        raise DataError(f"{table.name}, row {row}: the completion {error}", hint=CHAT_SHAPE) from None
    if [message["role"] for message in messages] != [ANSWERS]:
        raise DataError(
            f"{table.name}, row {row}: the completion is a chat, but not of one answer alone",
            hint="put all messages into one column, and name it with messages=",
        )
    return messages[0]["content"]


def begins_like_a_chat(text: str) -> bool:
    """Return whether a text is meant as messages in JSON: not a list of other objects that has the same keys."""
    if _BEGINS_LIKE_A_CHAT.match(text) is None:
        return False
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return True
    return all(isinstance(item, Mapping) for item in content) and (
        any(_name_role(item) in ROLES for item in content)
        or all({"role", "content"} <= item.keys() for item in content)
    )


def _name_role(message: Mapping[str, Any]) -> str:
    """Return the role of a message as it was written, or an empty text."""
    role = message.get("role", message.get("from"))
    return role if isinstance(role, str) else ""


def format_messages(messages: Sequence[Mapping[str, str]]) -> str:
    """Return messages as JSON in one form, so that equal chats are equal texts."""
    return compact_json([{"role": m["role"], "content": m["content"]} for m in messages])


def parse_messages(text: str) -> list[Message]:
    """Return the messages of a chat in JSON; raise ValueError that says what is wrong."""
    try:
        content = json.loads(text)
    except ValueError:
        raise ValueError("is not a chat: no valid JSON") from None
    except RecursionError:
        raise ValueError("is not a chat: its JSON is nested too deeply") from None
    return check_messages(content)


def check_messages(content: Any) -> list[Message]:
    """Return messages with the roles system, user and assistant; raise ValueError that says what is wrong."""
    if not isinstance(content, list | tuple) or not content:
        raise ValueError("is not a chat: no list of messages")
    messages = []
    for number, message in enumerate(content, 1):
        if not isinstance(message, Mapping):
            raise ValueError(f"message {number} is not an object with role and content")
        role, text = _name_role(message), message.get("content", message.get("value"))
        if role not in ROLES:
            given = message.get("role", message.get("from"))
            raise ValueError(f"message {number} has the role {given!r}, not one of system, user and assistant")
        if isinstance(text, list) and all(isinstance(part, Mapping) and "text" in part for part in text):
            text = "".join(str(part["text"]) for part in text)
        if not isinstance(text, str):
            raise ValueError(f"message {number} has no text as its content")
        messages.append({"role": ROLES[role], "content": text})
    return messages


def read_prompt(text: str) -> list[Message] | None:
    """Return the messages that a prompt is made of, without answers at the end; None for plain text.

    Raises ValueError for what begins like a chat and is none.
    """
    if not text.lstrip().startswith("["):
        return None
    try:
        messages = parse_messages(text)
    except ValueError:
        if begins_like_a_chat(text):
            raise
        return None
    while messages and messages[-1]["role"] == ANSWERS:
        messages.pop()
    if not messages:
        raise ValueError("is a chat of answers alone, without a question")
    return messages
