"""Tables of prompts and answers, made from labelled ones, for the recipes that tune a model to write.

The replies of chat-smollm are one sentence for each intent: a demonstration of tuning, not a banking assistant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from textune.data import ReadOptions, read_table
from textune.errors import DataError
from textune.files import write_text_atomically

Row = Mapping[str, str]
Pair = tuple[str, str]
_LONGEST_TITLE, _LONGEST_CONTENT = 12, 150
"""Words."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def reply_to_request(row: Row) -> Pair | None:
    """Return a request and the reply of its intent, such as card_arrival. Columns: text, label or label_text."""
    intent = row.get("label_text") or row.get("label") or ""
    words = intent.replace("_", " ").replace("?", "").strip()
    if not row.get("text", "").strip() or not words:
        return None
    reply = (
        f"I understand that this is about {words.lower()}. You find the steps in the app under Help, {words.lower()}. "
        "If that does not help, write 'agent' and a colleague takes over."
    )
    return row["text"].strip(), reply


def reply_to_review(row: Row) -> Pair | None:
    """Return a film review and a reply to its sentiment (label 0 or 1), used offline instead of requests."""
    tone = {"0": "We are sorry that you did not like it.", "1": "We are glad that you liked it."}.get(row["label"])
    if tone is None or not row["text"].strip():
        return None
    return row["text"].strip(), f"Thank you for your review. {tone} If you want to tell us more, write 'agent'."


def title_review(row: Row) -> Pair | None:
    """Return a request for a product review's title, and the title. Columns: content, title."""
    return _ask_for_title(row.get("content", ""), row.get("title", ""))


def title_film_review(row: Row) -> Pair | None:
    """Return a film review without its first sentence, and that sentence, used offline instead of a title."""
    first, *others = _SENTENCE.split(row["text"].replace("<br />", " ").strip(), maxsplit=1)
    return _ask_for_title(others[0], first) if others else None


def _ask_for_title(content: str, title: str) -> Pair | None:
    title = " ".join(title.split())
    if not content.strip() or not 1 <= len(title.split()) <= _LONGEST_TITLE:
        return None
    words = " ".join(content.split()[:_LONGEST_CONTENT])
    return f"Write a short title for this review.\n\n{words}", title


@dataclass(frozen=True)
class Answers:
    """How a recipe's table is made. stand_in: embedded rows for --offline, and how pairs are made of them."""

    build: Callable[[Row], Pair | None]
    stand_in: str
    build_stand_in: Callable[[Row], Pair | None]


ANSWERS = {
    "chat-smollm": Answers(reply_to_request, "embedded:rotten_tomatoes", reply_to_review),
    "titles-smollm": Answers(title_review, "embedded:imdb", title_film_review),
}
_TEST_EVERY, _MOST_STAND_INS = 4, 4_000


def write_answers(source: str, build: Callable[[Row], Pair | None], target: Path) -> int:
    """Write the pairs of a table as JSON lines with prompt and completion; return how many.

    Raises DataError where the table has none.
    """
    pairs = list(_build_pairs(source, build))
    if not pairs:
        raise DataError(f"{source}: no row of it makes a prompt and an answer", hint="name the data with --data FOLDER")
    _write(pairs, target)
    return len(pairs)


def write_stand_ins(answers: Answers, train: Path, test: Path) -> tuple[int, int]:
    """Write pairs of embedded rows, every fourth as a test row; return how many of each."""
    pairs = list(dict(_build_pairs(answers.stand_in, answers.build_stand_in)).items())  # no prompt twice
    step = max(1, len(pairs) // _MOST_STAND_INS)  # the rows are in the order of their labels
    pairs = pairs[::step]
    held_out = pairs[::_TEST_EVERY]
    rest = [pair for i, pair in enumerate(pairs) if i % _TEST_EVERY]
    _write(rest, train)
    _write(held_out, test)
    return len(rest), len(held_out)


def _build_pairs(source: str, build: Callable[[Row], Pair | None]) -> Iterator[Pair]:
    for row in read_table(source, ReadOptions()).arrow.to_pylist():
        pair = build({key: "" if value is None else str(value) for key, value in row.items()})
        if pair is not None:
            yield pair


def _write(pairs: list[Pair], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"prompt": prompt, "completion": answer}, ensure_ascii=False) for prompt, answer in pairs]
    write_text_atomically(target, "\n".join(lines) + "\n")
