"""Prompts and answers as token ids: through a chat template or as plain text, with marks on what is learned.

The parts of a row are tokenized one by one, so a prompt has the same ids in training and in use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.data import CHAT_SHAPE, Message, read_prompt
from textune.errors import ConfigError, DataError, ModelError
from textune.files import expand_home
from textune.tokens.tokenize import Tokenized

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PLAIN = "plain"
TEMPLATE_FILE = "chat_template.jinja"
WITHOUT_THINKING = "{%- set enable_thinking = false %}\n"
"""Before a chat template, it has a prompt end where an answer without reasoning begins."""
_LEAST_PROMPT = 0.25
"""A long answer leaves the prompt at least this share of max_length; its end is then cut off."""
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
Part = tuple[str, bool]
"""Text of a row, and whether it is learned."""


@dataclass(frozen=True)
class Dialogues:
    """How prompts and answers become token ids.

    template: Jinja, or None for plain text. special: the texts of bos_token and the like, for the template.
    leading: ids before a plain prompt. end: the id that ends an answer, if the tokenizer has one. stops: all ids that
    end an answer, that one included.
    """

    tokenizer: Tokenizer
    template: str | None
    special: Mapping[str, str]
    leading: tuple[int, ...]
    end: int | None
    stops: tuple[int, ...]

    @property
    def template_sha256(self) -> str:
        """Hash of the chat template, which a file may hold that changes."""
        return hashlib.sha256((self.template or "").encode()).hexdigest()

    def without_thinking(self, answers: Sequence[str]) -> Dialogues:
        """Return these with prompts that end after the empty reasoning, if the template writes one before each answer.

        Qwen3's template does, and a model that learned it with the answers would write it each time. If the answers
        contain reasoning, the template is left unchanged.
        """
        template = self.template or ""
        if "enable_thinking" not in template or template.startswith(WITHOUT_THINKING):
            return self
        thinking = any("</think>" in answer for answer in answers)
        return self if thinking else replace(self, template=WITHOUT_THINKING + template)

    def encode_rows(
        self, prompts: Sequence[str], answers: Sequence[str], max_length: int, places: Sequence[str] | None = None
    ) -> Tokenized:
        """Tokenize rows and mark the answers. What is too long loses its beginning, then the end of its answer.

        places: names of the rows for messages. Raises DataError for a chat that the template refuses.
        """
        named = places or [f"row {number}" for number in range(1, len(prompts) + 1)]
        rows = [
            self.split_row(prompt, answer, place) for prompt, answer, place in zip(prompts, answers, named, strict=True)
        ]
        encoded = iter(self._encode([text for parts in rows for text, _ in parts]))
        ids: list[int] = []
        marks: list[bool] = []
        offsets, full = [0], []
        for parts in rows:
            row, learned = self._join([(next(encoded), mark) for _, mark in parts])
            full.append(len(row))
            row, learned = self._cut(row, learned, max_length)
            ids += row
            marks += learned
            offsets.append(len(ids))
        dtype: Any = np.uint16 if max(ids, default=0) < 2**16 else np.int32
        return Tokenized(
            np.array(ids, dtype),
            np.array(offsets, np.int64),
            np.array(full, np.int32),
            None,
            max_length,
            learned=np.array(marks, bool),
        )

    def encode_prompts(self, prompts: Sequence[str], max_length: int) -> list[list[int]]:
        """Return the ids after which the answers begin; a prompt that is too long loses its beginning."""
        return [self.cut_prompt(ids, max_length) for ids in self.encode_whole_prompts(prompts)]

    def encode_whole_prompts(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the ids after which the answers begin, however many; raise DataError for what is no prompt."""
        texts = [self.write_prompt(prompt, f"prompt {number}") for number, prompt in enumerate(prompts, 1)]
        return [[*self.leading, *ids] for ids in self._encode(texts)]

    def cut_prompt(self, ids: list[int], max_length: int) -> list[int]:
        """Return a prompt's ids without its beginning where they are too many."""
        if len(ids) <= max_length:
            return ids
        first = self._count_leading(ids)
        return [*ids[:first], *ids[first:][-max(max_length - first, 1) :]]

    def check_rows(self, prompts: Sequence[str], answers: Sequence[str], places: Sequence[str]) -> None:
        """Raise DataError for a chat that cannot be written. places: names of the rows."""
        for prompt, answer, place in zip(prompts, answers, places, strict=True):
            self.split_row(prompt, answer, place)

    def find_ended(self, prompts: Sequence[str], answers: Sequence[str]) -> list[int]:
        """Return the rows in which an answer holds a token that ends it, and more text, which is not learned."""
        ends = list(filter(None, (self.tokenizer.decode([id], skip_special_tokens=False) for id in self.stops)))

        def is_ended(text: str) -> bool:
            return any(end in text for end in ends) and any(id in self.stops for id in self._encode([text])[0][:-1])

        return [
            row
            for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
            if any(is_ended(text.rstrip()) for text in (*_list_answers(prompt), answer))
        ]

    def write_prompt(self, prompt: str, place: str = "the prompt") -> str:
        """Return the text after which the answer begins; raise DataError for a chat that cannot be written."""
        if self.template is None:
            return _end_line(_take_plain(prompt, place))
        return self._render(_list_messages(prompt, place), place, ask=True)

    def split_row(self, prompt: str, answer: str, place: str = "the row") -> list[Part]:
        """Return the parts of a row; in a chat every answer is learned that the template leaves as it was written."""
        if self.template is None:
            return [(_end_line(_take_plain(prompt, place)), False), (answer, True)]
        messages = [*_list_messages(prompt, place), {"role": "assistant", "content": answer}]
        whole = self._render(messages, place)
        parts: list[Part] = []
        done = 0
        for number, message in enumerate(messages):
            if message["role"] != "assistant" or not number:
                continue
            head = self._render(messages[:number], place, ask=True)
            tail = whole if number == len(messages) - 1 else self._render(messages[: number + 1], place)
            if not (whole.startswith(tail) and tail.startswith(head) and len(head) >= done):
                if number < len(messages) - 1:
                    continue
                raise ModelError(
                    "the chat template writes a conversation otherwise when its answer is known, so the answer "
                    "cannot be told from the prompt",
                    hint="give another chat_template=, or chat_template=plain",
                )
            parts += [(whole[done : len(head)], False), (whole[len(head) : len(tail)], True)]
            done = len(tail)
        return parts

    def decode(self, ids: Sequence[int]) -> str:
        """Return an answer as text, without the token that ends it."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _render(self, messages: Sequence[Message], place: str, *, ask: bool = False) -> str:
        from jinja2 import TemplateError, TemplateSyntaxError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            texts, _ = render_jinja_template(
                conversations=[list(messages)],
                chat_template=self.template,
                add_generation_prompt=ask,
                **self.special,
            )
        except TemplateSyntaxError as error:
            raise ConfigError(
                f"the chat template is not valid Jinja: line {error.lineno}: {error.message}",
                hint="correct it, or give another chat_template=",
            ) from error
        except TemplateError as error:
            raise DataError(
                f"{place}: the chat template refuses this conversation: {error}",
                hint="change the messages, or give another chat_template=",
            ) from error
        except Exception as error:  # a template computes: it may divide by zero, or add a text to a number
            raise DataError(
                f"{place}: the chat template fails: {type(error).__name__}: {error}",
                hint="correct it, or give another chat_template=",
            ) from error
        text = str(texts[0])
        for message in messages:
            if message["role"] != "assistant" and message["content"].strip() not in text:
                raise DataError(
                    f"{place}: the chat template leaves out the message of the role {message['role']}",
                    hint="give another chat_template=, or leave such messages out",
                )
        return text

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        try:
            return [e.ids for e in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        except (UnicodeEncodeError, TypeError) as error:
            raise DataError("a prompt or an answer contains a lone surrogate, not a valid character") from error

    def _join(self, parts: Sequence[tuple[list[int], bool]]) -> tuple[list[int], list[bool]]:
        """Return the ids of a row and their marks: an answer is learned up to the token that ends it."""
        row, learned = list(self.leading), [False] * len(self.leading)
        for number, (ids, mark) in enumerate(parts, 1):
            end = next((i for i, token in enumerate(ids, 1) if token in self.stops), None) if mark else None
            if mark and number == len(parts):
                ids = ids[:end] if end else [*ids, *([] if self.end is None else [self.end])]
                end = len(ids)
            row += ids
            learned += [mark and (end is None or i < end) for i in range(len(ids))]
        return row, learned

    def _count_leading(self, ids: Sequence[int]) -> int:
        """Return how many ids at the beginning are no text: a template writes the first one itself."""
        begins = bool(ids) and ids[0] == self.tokenizer.token_to_id(self.special.get("bos_token", ""))
        return len(self.leading) or int(begins)

    def _cut(self, row: list[int], learned: list[bool], max_length: int) -> tuple[list[int], list[bool]]:
        if len(row) <= max_length:
            return row, learned
        answer = len(learned) - next((i for i in range(len(learned) - 1, -1, -1) if not learned[i]), -1) - 1
        least = min(len(row) - answer, int(max_length * _LEAST_PROMPT))
        excess = max(answer - (max_length - least), 0)
        row, learned = row[: len(row) - excess], learned[: len(row) - excess]
        first = self._count_leading(row)
        kept = max_length - first
        if len(row) > max_length and kept > 0:
            row, learned = row[:first] + row[-kept:], learned[:first] + learned[-kept:]
        return row[-max_length:], learned[-max_length:]


def _end_line(prompt: str) -> str:
    """Return a plain prompt with white space at its end, a line break where it has none."""
    return prompt if prompt[-1:].isspace() else f"{prompt}\n"


def _take_plain(prompt: str, place: str) -> str:
    """Return a prompt without a template: the words of one question; raise ConfigError for a longer chat."""
    messages = _list_messages(prompt, place)
    if [message["role"] for message in messages] != ["user"]:
        raise ConfigError(
            f"{place} is a chat of several messages, and there is no chat template to write it with",
            hint="give one with chat_template=FILE",
        )
    return messages[0]["content"]


def _list_messages(prompt: str, place: str) -> list[Message]:
    try:
        return read_prompt(prompt) or [{"role": "user", "content": prompt}]
    except ValueError as error:
        raise DataError(f"{place} {error}", hint=CHAT_SHAPE) from None


def count_answered(prompt: str) -> int:
    """Return how many messages of a chat are answers to others, the last answer not among them."""
    messages = read_prompt(prompt) or []
    return sum(message["role"] == "assistant" for message in messages[1:])  # a greeting answers nothing


def _list_answers(prompt: str) -> list[str]:
    """Return the answers within a chat."""
    return [message["content"] for message in read_prompt(prompt) or () if message["role"] == "assistant"]


def open_dialogues(
    folder: Path, tokenizer: Tokenizer, stops: Sequence[int], chat_template: str | None = None
) -> Dialogues:
    """Return how the tokenizer in a folder writes dialogues.

    stops: ids that the model's config names. chat_template: a file, Jinja text, "plain", or None for the tokenizer's.
    Raises ConfigError for a template that cannot be read.
    """
    settings = _read_json(folder / "tokenizer_config.json")
    special = {name: text for name in _SPECIAL if (text := _read_token(settings.get(name)))}
    ids = {name: tokenizer.token_to_id(text) for name, text in special.items()}
    end = ids.get("eos_token")
    end = end if end is not None else next(iter(stops), None)
    every = tuple(dict.fromkeys((*([] if end is None else [end]), *stops)))
    template = read_template(folder, settings) if chat_template is None else _choose_template(chat_template)
    leading: list[int] = []
    if template is None:
        for token in tokenizer.encode("", add_special_tokens=True).ids:
            if token in every:
                break
            leading.append(token)
    return Dialogues(tokenizer, template, special, tuple(leading), end, every)


def list_stops(config: Mapping[str, Any], folder: Path) -> tuple[int, ...]:
    """Return the ids that end a text, by a model's config.json and generation_config.json."""
    found: list[int] = []
    for content in (config, _read_json(folder / "generation_config.json")):
        value = content.get("eos_token_id")
        found += value if isinstance(value, list) else [] if value is None else [value]
    return tuple(dict.fromkeys(int(token) for token in found))


def read_template(folder: Path, settings: Mapping[str, Any] | None = None) -> str | None:
    """Return the chat template that is saved with a tokenizer, or None."""
    path = folder / TEMPLATE_FILE
    if path.is_file():
        return _read_text(path, ModelError)
    template = (_read_json(folder / "tokenizer_config.json") if settings is None else settings).get("chat_template")
    if isinstance(template, list):  # several by name
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default", next(iter(named.values()), None))
    return template if isinstance(template, str) and template else None


def _choose_template(chat_template: str) -> str | None:
    if chat_template == PLAIN:
        return None
    if "{" in chat_template:
        return chat_template
    path = expand_home(chat_template)
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # such as a name that is too long
        exists = False
    if not exists:
        raise ConfigError(
            f"chat_template={chat_template[:80]}: no such file, and no Jinja text",
            hint="give a file, a template, or plain",
        )
    return _read_text(path, ConfigError)


def _read_text(path: Path, error_kind: type[ConfigError | ModelError]) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise error_kind(f"{path}: the chat template is not UTF-8: {error}", hint="save it as UTF-8") from error
    except OSError as error:
        raise error_kind(f"{path}: the chat template cannot be read: {error.strerror or error}") from error


def _read_token(token: Any) -> str:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def count_learned(tokens: Tokenized) -> NDArray[np.int64]:
    """Return how many tokens of each row are learned: int64 [rows]."""
    assert tokens.learned is not None
    sums = np.concatenate([[0], np.cumsum(tokens.learned, dtype=np.int64)])
    return np.asarray(sums[tokens.offsets[1:]] - sums[tokens.offsets[:-1]], np.int64)


def count_answers(tokens: Tokenized) -> NDArray[np.int64]:
    """Return how many tokens the last answer of each row has: int64 [rows]."""
    assert tokens.learned is not None
    others = np.maximum.accumulate(np.where(tokens.learned, -1, np.arange(len(tokens.learned))))
    starts, ends = tokens.offsets[:-1], tokens.offsets[1:]
    return np.asarray(ends - 1 - np.maximum(others[ends - 1], starts - 1), np.int64)


def count_spans(tokens: Tokenized) -> NDArray[np.int64]:
    """Return how many answers of each row are learned: int64 [rows]."""
    assert tokens.learned is not None
    begins = tokens.learned & ~np.concatenate([[False], tokens.learned[:-1]])
    begins[tokens.offsets[:-1]] = tokens.learned[tokens.offsets[:-1]]
    sums = np.concatenate([[0], np.cumsum(begins, dtype=np.int64)])
    return np.asarray(sums[tokens.offsets[1:]] - sums[tokens.offsets[:-1]], np.int64)


def count_learned_bytes(tokens: Tokenized, dialogues: Dialogues) -> int:
    """Return the size in UTF-8 of all text that is learned, without the tokens that end it."""
    assert tokens.learned is not None
    spans = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    learned = [tokens.ids[start:end][tokens.learned[start:end]] for start, end in spans]
    return sum(len(dialogues.decode(ids.tolist()).encode("utf-8", "surrogatepass")) for ids in learned)
