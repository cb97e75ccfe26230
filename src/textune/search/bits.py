"""Bits per byte: the score by which models that write are compared, whatever their tokenizers.

A loss is a mean over tokens, and a tokenizer with larger tokens has fewer of them. So the same text, predicted equally
well, has another loss. Divided by the size of the text, the losses of all tokenizers mean the same.
"""

from __future__ import annotations

import math

import numpy as np

from textune.data import Examples
from textune.errors import ConfigError
from textune.evaluation.text import BITS_PER_BYTE, LOSSES
from textune.search.settings import SweepSettings
from textune.tokens import Tokenized
from textune.tokens.dialogues import Dialogues, count_learned, count_learned_bytes

CHANGES_TOKENS = ("backbone", "max_length")
"""Settings that change over which tokens a loss is the mean."""


def choose_loss(search: SweepSettings) -> str:
    """Return the score by which trials of a model that writes are compared; raise ConfigError for another one."""
    changing = [d.name for d in search.space.dimensions if d.name in CHANGES_TOKENS]
    if search.metric not in (None, *LOSSES):
        raise ConfigError(
            f"sweep.metric={search.metric}: written answers have no such score during training",
            hint="leave it out: trials are compared by the validation loss",
        )
    if changing and search.metric == "loss":
        raise ConfigError(
            f"sweep.metric=loss: trials of several {changing[0]} values have losses over other tokens",
            hint="leave it out: they are compared by bits per byte",
        )
    return BITS_PER_BYTE if changing else search.metric or "loss"


def measure_bits(loss: float, tokens: Tokenized, dialogues: Dialogues) -> float:
    """Return the bits that a byte of the answers takes. loss: nats per learned token of these rows."""
    return loss * int(count_learned(tokens).sum()) / max(count_learned_bytes(tokens, dialogues), 1) / math.log(2)


def describe_cut_answers(examples: Examples, tokens: Tokenized, dialogues: Dialogues) -> tuple[str, ...]:
    """Return a warning where answers were cut, because a trial that reads more is then scored on other text."""
    long = np.flatnonzero(tokens.full_lengths > tokens.max_length)
    prompts, answers = examples.texts(), examples.labels() or []
    whole = dialogues.encode_rows([prompts[row] for row in long], [answers[row] for row in long], 10**9)
    cut = int((count_learned(whole) > count_learned(tokens)[long]).sum())
    if not cut:
        return ()
    return (
        f"{cut:,} of {len(tokens):,} validation answers are cut to max_length={tokens.max_length}: the score is over "
        "other text than that of trials that read more",
    )
