"""Writing answers: prompts in batches, greedy or sampled, with the limits and stop tokens of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import Manifest
from textune.config import WritingConfig
from textune.data import Examples
from textune.errors import ConfigError, note
from textune.tasks import Task
from textune.tasks.generation import WRITTEN
from textune.tokens.batches import Batch, EncodedSplit, Padding, plan_inference
from textune.tokens.dialogues import Dialogues, count_learned

if TYPE_CHECKING:
    from textune.engine import Engine

ANSWER_ROWS = 100
"""Evaluation rows for which answers are written, unless answer_rows= says otherwise."""
_TOKENS_PER_BATCH = 4_096
_ROWS_PER_BATCH = 32
_LOWEST_TEMPERATURE = 1e-4
"""Below it logits divided by it overflow; 0 takes the most likely token, which is what it would give."""
_ANSWER_STREAM = 3  # the choice of rows uses another random stream than samples and splits


@dataclass(frozen=True)
class Sampling:
    """How answers are written. temperature: 0 takes the most likely token each time."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def with_settings(self, **changed: Any) -> Sampling:
        """Return a copy with what was set; raise ConfigError for values that cannot be."""
        made = replace(self, **{name: value for name, value in changed.items() if value is not None})
        for name, kind in (("max_new_tokens", Integral), ("temperature", Real), ("top_p", Real), ("seed", Integral)):
            value = getattr(made, name)
            if isinstance(value, bool) or not isinstance(value, kind):
                raise ConfigError(f"{name}={value!r}: must be a {'whole ' if kind is Integral else ''}number")
        valid = made.temperature == 0 or _LOWEST_TEMPERATURE <= made.temperature < math.inf
        for name, fits, allowed in (
            ("max_new_tokens", made.max_new_tokens >= 1, "at least 1"),
            ("temperature", valid, f"0, for the most likely token each time, or at least {_LOWEST_TEMPERATURE:g}"),
            ("top_p", 0 < made.top_p <= 1, "above 0 and at most 1"),
            ("seed", 0 <= made.seed < 2**31, f"from 0 to {2**31 - 1}"),
        ):
            if not fits:
                raise ConfigError(f"{name}={getattr(made, name)}: out of range; it must be {allowed}")
        return made

    def choose(self, **changed: Any) -> Sampling:
        """Return a copy with what a person set; raise ConfigError also for what would have no effect."""
        made = self.with_settings(**changed)
        for name in ("top_p", "seed"):
            if changed.get(name) is not None and not made.temperature:
                raise ConfigError(
                    f"{name}={getattr(made, name):g}: only applies where answers are sampled",
                    hint="set temperature= as well",
                )
        return made


@dataclass(frozen=True)
class Written:
    """One answer. tokens: how many were written. endless: whether the limit ended it, and no stop token."""

    text: str
    tokens: int
    endless: bool

    @property
    def probabilities(self) -> dict[str, float]:
        """Nothing: an answer has no classes."""
        return {}

    @property
    def answer(self) -> dict[str, float]:
        """Nothing: an answer has no classes."""
        return {}


class Generator:
    """Writes answers with one model. max_positions: of the model. limited: answers so far that the limit ended.

    cut: a sentence about the prompts whose beginnings the last call of `write` or `answer` cut off.
    """

    def __init__(
        self, manifest: Manifest, engine: Engine, dialogues: Dialogues, padding: Padding, task: Task, max_positions: int
    ) -> None:
        stored = manifest.writing
        self.sampling = Sampling().with_settings(
            max_new_tokens=stored.get("max_new_tokens"),
            temperature=stored.get("temperature"),
            top_p=stored.get("top_p"),
            seed=manifest.seed,
        )
        self.answer_rows = int(stored.get("answer_rows") or ANSWER_ROWS)
        self._manifest, self._engine, self._dialogues = manifest, engine, dialogues
        self._padding, self._task, self._max_positions = padding, task, max_positions
        self.limited = 0
        self.cut: str | None = None

    def set_writing(self, writing: WritingConfig, seed: int | None = None, *, draws_rows: bool = False) -> None:
        """Take limits and sampling as a person set them; raise ConfigError for what cannot be.

        draws_rows: whether the seed also draws a sample of rows, so that it needs no temperature.
        """
        if draws_rows and not (self.sampling.temperature if writing.temperature is None else writing.temperature):
            seed = None
        self.sampling = self.sampling.choose(
            max_new_tokens=writing.max_new_tokens, temperature=writing.temperature, top_p=writing.top_p, seed=seed
        )
        self.answer_rows = writing.answer_rows or self.answer_rows
        self._find_room(self.sampling.max_new_tokens)

    def write(
        self,
        prompts: Sequence[str],
        sampling: Sampling | None = None,
        on_text: Callable[[str], None] | None = None,
        start: int = 0,
    ) -> list[Written]:
        """Return the answer to each prompt; a note says where the beginnings of prompts are cut off.

        on_text: called with each new piece of text; for a single prompt. start: prompts before these, where a file is
        answered in pieces: sampled answers are then others than those of the pieces before.
        """
        sampling = sampling or self.sampling
        encoded = self._cut(prompts, sampling)
        if self.cut is not None:
            note(self.cut)
        answers = self._write(encoded, sampling, on_text, start)
        self.limited += sum(answer.endless for answer in answers)
        return answers

    def plan(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the rows of each batch in which `write` answers prompts. Batch by batch the answers are the same."""
        new_tokens = self.sampling.max_new_tokens
        return list(_plan(self._encode(prompts, new_tokens), new_tokens))

    def check_prompts(self, prompts: Sequence[str], places: Sequence[str]) -> None:
        """Raise DataError for a chat that cannot be written. places: names of the prompts."""
        for prompt, place in zip(prompts, places, strict=True):
            self._dialogues.write_prompt(prompt, place)

    def _cut(self, prompts: Sequence[str], sampling: Sampling) -> list[list[int]]:
        """Return the ids after which the answers begin, and keep in `cut` how many prompts lost some."""
        whole, room = self._dialogues.encode_whole_prompts(prompts), self._find_room(sampling.max_new_tokens)
        self.cut = None
        if cut := sum(len(ids) > room for ids in whole):
            reason = f"the run's max_length={room}"
            if room < self._manifest.max_length:
                reason = f"max_new_tokens={sampling.max_new_tokens} and the model's {self._max_positions} positions"
            which = "the prompt lost its" if len(prompts) == 1 else f"{cut:,} of {len(prompts):,} prompts lost their"
            self.cut = f"{which} beginning: {room:,} tokens are read ({reason})"
        return [self._dialogues.cut_prompt(ids, room) for ids in whole]

    def _write(
        self,
        encoded: Sequence[list[int]],
        sampling: Sampling,
        on_text: Callable[[str], None] | None = None,
        start: int = 0,
    ) -> list[Written]:
        found: dict[int, Written] = {}
        for rows in _plan(encoded, sampling.max_new_tokens):
            drawn = replace(sampling, seed=_choose_seed(sampling.seed, start + min(rows)))
            ids = self._continue([encoded[row] for row in rows], drawn, on_text)
            for row, answer in zip(rows, ids, strict=True):
                found[row] = self._read(answer)
        return [found[row] for row in range(len(encoded))]

    def predict_next(self, prompts: Sequence[str]) -> NDArray[Any]:
        """Return the logits of the first token of each answer: float32 [prompts, vocabulary].

        Of each batch, only these are kept: those of all positions can take many times the memory of the model.
        """
        encoded = self._encode(prompts, 1)
        lengths = np.array([len(ids) for ids in encoded], np.int64)
        most_tokens = self._task.defaults.most_tokens or _TOKENS_PER_BATCH
        logits = np.zeros((len(encoded), 0), np.float32)
        self._engine.eval()
        for rows in plan_inference(lengths, most_tokens, _ROWS_PER_BATCH):
            found = self._read_next([encoded[row] for row in rows])
            if not logits.size:
                logits = np.zeros((len(encoded), found.shape[1]), np.float32)
            logits[rows] = found
        return logits

    def _read_next(self, prompts: Sequence[Sequence[int]]) -> NDArray[Any]:
        """Return the logits behind the last token of each prompt of one batch."""
        import torch

        lengths = np.array([len(ids) for ids in prompts], np.int64)
        ids = np.full((len(prompts), int(lengths.max())), self._padding.pad_token_id, np.int64)
        for row, tokens in enumerate(prompts):
            ids[row, : len(tokens)] = tokens
        mask = (np.arange(ids.shape[1])[None] < lengths[:, None]).astype(np.int64)
        columns, places = np.unique(lengths - 1, return_inverse=True)
        with torch.inference_mode():
            logits = self._engine(Batch(ids, mask, None, np.arange(len(prompts)), columns=columns))
        return np.asarray(logits[torch.arange(len(prompts)), torch.from_numpy(places)].cpu().numpy(), np.float32)

    def measure_losses(
        self, prompts: Sequence[str], answers: Sequence[str], places: Sequence[str] | None = None
    ) -> NDArray[Any]:
        """Return the sum of the losses and the number of tokens of each expected answer: float32 [rows, 2].

        places: names of the rows, for messages.
        """
        from textune.engine import predict_logits

        tokens = self._dialogues.encode_rows(prompts, answers, self._manifest.max_length, places)
        split = EncodedSplit(tokens, count_learned(tokens), np.arange(len(tokens)))
        return predict_logits(self._engine, split, self._padding, self._task)

    def answer(self, examples: Examples) -> NDArray[Any]:
        """Return losses of all rows, and answers to some of them: `WRITTEN` [rows]; `cut` tells of cut prompts."""
        prompts, expected = examples.texts(), examples.labels() or []
        chosen = choose_answered(len(examples), self.answer_rows, self._manifest.seed)
        encoded = self._cut([prompts[row] for row in chosen], self.sampling)
        outputs = np.zeros(len(examples), WRITTEN)
        losses = self.measure_losses(prompts, expected, examples.places())
        outputs["answer"], outputs["loss"], outputs["tokens"] = None, losses[:, 0], losses[:, 1]
        for row, written in zip(chosen, self._write(encoded, self.sampling), strict=True):
            outputs["answer"][row], outputs["endless"][row] = written.text, written.endless
        outputs["written"][chosen] = True
        return outputs

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the ids after which the answers begin."""
        return self._encode(prompts, 1)

    def _encode(self, prompts: Sequence[str], new_tokens: int) -> list[list[int]]:
        return self._dialogues.encode_prompts(prompts, self._find_room(new_tokens))

    def _find_room(self, new_tokens: int) -> int:
        """Return the tokens of a prompt at most; raise ConfigError where there is room for none."""
        return min(self._manifest.max_length, find_room(new_tokens, self._max_positions))

    def _continue(
        self, prompts: Sequence[list[int]], sampling: Sampling, on_text: Callable[[str], None] | None
    ) -> list[list[int]]:
        import torch

        width = max(map(len, prompts))
        ids = np.full((len(prompts), width), self._padding.pad_token_id, np.int64)
        mask = np.zeros(ids.shape, np.int64)
        for row, tokens in enumerate(prompts):
            ids[row, width - len(tokens) :] = tokens
            mask[row, width - len(tokens) :] = 1
        options: dict[str, Any] = {
            "max_new_tokens": sampling.max_new_tokens,
            "do_sample": sampling.temperature > 0,
            "eos_token_id": list(self._dialogues.stops) or None,
            "pad_token_id": self._padding.pad_token_id,
            "num_beams": 1,
        }
        if sampling.temperature > 0:
            options |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        engine: Any = self._engine  # the reference engine: the lean one takes no model that writes
        streamer = None if on_text is None else _Streamer(self._dialogues.decode, self._dialogues.stops, on_text)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sampling.seed)
            written = engine.write(ids, mask, options, streamer)
        return [[int(token) for token in row] for row in written]

    def _read(self, ids: Sequence[int]) -> Written:
        stop = next((i for i, token in enumerate(ids) if token in self._dialogues.stops), None)
        kept = list(ids) if stop is None else list(ids[:stop])
        return Written(self._dialogues.decode(kept), len(kept), stop is None)


def _choose_seed(seed: int, row: int) -> int:
    """Return the seed of a batch by its first row: with one for all, equal batches would get equal answers."""
    return int(np.random.SeedSequence((seed, row)).generate_state(1, np.uint64)[0]) if row else seed


class _Streamer:
    """Passes on the text of one answer as its tokens come; half a character waits for its other half."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[int], emit: Callable[[str], None]):
        self._decode, self._stops, self._emit = decode, stops, emit
        self._ids: list[int] = []
        self._shown = ""
        self._prompt = True

    def put(self, value: Any) -> None:
        """Take the prompt, then one token at a time."""
        if self._prompt:
            self._prompt = False
            return
        self._ids += [int(token) for token in value.flatten().tolist() if token not in self._stops]
        text = self._decode(self._ids)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            self._show(text)

    def end(self) -> None:
        """Pass on what is left."""
        self._show(self._decode(self._ids))

    def _show(self, text: str) -> None:
        if text.startswith(self._shown) and len(text) > len(self._shown):
            self._emit(text[len(self._shown) :])
            self._shown = text


def find_room(new_tokens: int, max_positions: int) -> int:
    """Return the positions that answers leave to a prompt; raise ConfigError where they leave none."""
    if new_tokens >= max_positions:
        raise ConfigError(
            f"max_new_tokens={new_tokens}: the model has only {max_positions} positions",
            hint="set a smaller max_new_tokens=",
        )
    return max_positions - new_tokens


def choose_answered(rows: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return the rows for which answers are written: at most so many, drawn once by the seed, in order."""
    if rows <= most:
        return np.arange(rows)
    drawn = np.random.default_rng([seed, _ANSWER_STREAM]).choice(rows, size=most, replace=False)
    return np.sort(drawn)


def _plan(prompts: Sequence[Sequence[int]], new_tokens: int) -> Iterator[list[int]]:
    """Yield batches of prompts of like length."""
    rows: list[int] = []
    for row in sorted(range(len(prompts)), key=lambda row: len(prompts[row])):
        tokens = (len(rows) + 1) * (len(prompts[row]) + new_tokens)
        if rows and (tokens > _TOKENS_PER_BATCH or len(rows) == _ROWS_PER_BATCH):
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
