"""Prompts that ask for one of several labels: template, tokens of the labels, texts cut to fit. No torch."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textune.errors import ConfigError, flag

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

DEFAULT_TEMPLATE = "Text: {text}\nLabels: {labels}\nLabel:"
_FIELDS = ("text", "labels")


@dataclass(frozen=True)
class Choices:
    """A template filled with labels. head, tail: what stands before and after the text. labels: tokens of each."""

    head: str
    tail: str
    labels: tuple[tuple[int, ...], ...]


def read_labels(words: str) -> tuple[str, ...]:
    """Return the labels of `spam,ham`; raise ConfigError for fewer than two, empty ones and repetitions."""
    return check_labels(words.split(","), words, 'separate them by commas, as in "spam,ham"')


def check_labels(labels: Sequence[str], given: object, hint: str) -> tuple[str, ...]:
    """Return the labels without blanks around them; raise ConfigError as `read_labels` does. given: for messages."""
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise ConfigError(f"the labels {given!r}: must be a list of strings", hint=hint)
    found = tuple(label.strip() for label in labels)
    if len(found) < 2 or not all(found):
        raise ConfigError(f"the labels {given!r}: at least two labels are needed, none of them empty", hint=hint)
    if len(set(found)) < len(found):
        twice = next(label for label in found if found.count(label) > 1)
        raise ConfigError(f"the labels {given!r}: '{twice}' is there twice")
    return found


def build_choices(tokenizer: Tokenizer, labels: Sequence[str], template: str = DEFAULT_TEMPLATE) -> Choices:
    """Fill the labels into a template and tokenize them as they would follow it.

    template: has {text} once, may have {labels}, and ends in words after the text, such as "Label:".
    Raises ConfigError for a template that does not.
    """
    problem = _find_problem(template)
    if problem is not None:
        raise ConfigError(f"{flag('template', '')}: {problem}", hint=f"for example: {DEFAULT_TEMPLATE!r}")
    filled, listed = {"head": "", "tail": ""}, ", ".join(labels)
    part = "head"
    for literal, name, *_ in string.Formatter().parse(template):
        filled[part] += literal
        if name == "text":
            part = "tail"
        elif name == "labels":
            filled[part] += listed
    head, tail = filled["head"], filled["tail"]
    # Tokenized with the words before it, a label gets the tokens that it has there: sentencepiece marks beginnings.
    before = _encode(tokenizer, tail)
    tokens = []
    for label in labels:
        whole = _encode(tokenizer, f"{tail} {label}")
        shared = next((i for i, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before))
        if shared < len(before) or len(whole) == len(before):
            raise ConfigError(
                f"{flag('template', '')}: its end and the label '{label}' share a token",
                hint="end it with a punctuation mark",
            )
        tokens.append(tuple(whole[len(before) :]))
    for number, label in enumerate(labels):
        if (first := labels[tokens.index(tokens[number])]) != label:
            raise ConfigError(
                f"the labels '{first}' and '{label}' are the same tokens to this model, so it cannot tell them apart",
                hint="write them differently",
            )
    return Choices(head, tail, tuple(tokens))


def encode_prompts(
    tokenizer: Tokenizer, texts: Sequence[str], choices: Choices, max_length: int
) -> tuple[list[list[int]], int]:
    """Return the token ids of every prompt, and how many texts were cut: one that is too long loses its end.

    max_length: tokens of a prompt with its longest label. Raises ConfigError where the template alone is too long.
    """
    room = max_length - max(map(len, choices.labels))
    empty = len(_strip(tokenizer.encode(choices.head + choices.tail)))
    if empty >= room:
        raise ConfigError(
            f"the template and its labels have {empty} tokens, of at most {room} before the label",
            hint="give a larger max_length=, fewer labels or a shorter template",
        )
    fitted = [_fit(tokenizer, text, choices, room) for text in texts]
    return [ids for ids, _ in fitted], sum(cut for _, cut in fitted)


def _fit(tokenizer: Tokenizer, text: str, choices: Choices, room: int) -> tuple[list[int], bool]:
    """Return the ids of a prompt, and whether its text was cut."""
    begin, whole = len(choices.head), text
    while True:
        encoding = tokenizer.encode(choices.head + text + choices.tail)
        ids = _strip(encoding)
        if len(ids) <= room or not text:
            return ids, text != whole
        end = begin + len(text)
        ends = [stop for start, stop in encoding.offsets if begin < stop <= end and start < stop]
        left = len(ends) - (len(ids) - room)
        cut = ends[left - 1] - begin if left > 0 else 0
        text = text[: min(cut, len(text) - 1)].rstrip()


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids without special tokens."""
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def _strip(encoding: Encoding) -> list[int]:
    """Return the ids without special tokens at the end: a label follows, not the end of the text."""
    ids, special = list(encoding.ids), encoding.special_tokens_mask
    while ids and special[len(ids) - 1]:
        ids.pop()
    return ids


def _find_problem(template: str) -> str | None:
    """Return what is wrong with a template, or None."""
    try:
        parsed = [(name, *how) for _, name, *how in string.Formatter().parse(template) if name is not None]
    except ValueError:
        return "its braces do not match; write {{ and }} for braces that are words of the prompt"
    fields = [name for name, *_ in parsed]
    unknown = [name for name in fields if name not in _FIELDS]
    if unknown:
        return f"{{{unknown[0]}}} is not known; {{text}} and {{labels}} are"
    if formatted := next((name for name, spec, conversion in parsed if spec or conversion), None):
        return f"{{{formatted}}} takes no format; write {{{formatted}}} alone"
    if fields.count("text") != 1:
        return "it must have {text} once"
    if template.endswith("{text}") or not template.rpartition("{text}")[2].strip():
        return "it must have words after {text}, to which a label is the answer"
    if template != template.rstrip():
        return "it must not end in a space, because one is put before the label"
    return None
