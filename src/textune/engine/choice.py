"""The choice of an engine for a model: lean if it supports the model, else reference, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from textune.backbones.families import Family
from textune.engine.budget import probe_token_budget
from textune.engine.lean import LeanEngine, NotLeanError
from textune.engine.precision import Precision
from textune.engine.prefix_cache import choose_layers, open_prefix
from textune.engine.reference import ReferenceEngine
from textune.errors import ModelError
from textune.progress import Progress
from textune.tokens import Tokenized
from textune.tokens.batches import Padding

Engine = LeanEngine | ReferenceEngine


def open_engine(
    model: torch.nn.Module,
    precision: Precision,
    family: Family,
    *,
    equal_lengths: bool = False,
    wanted: str = "auto",
) -> tuple[Engine, str]:
    """Return the engine and the reason for choosing it.

    wanted: "auto", "lean" or "reference". equal_lengths: a pass may only contain texts of equal length.
    Raises ModelError if wanted is "lean" and the lean engine does not support the model.
    """
    reason = "as set"
    if wanted != "reference":
        try:
            if equal_lengths:
                raise NotLeanError("only texts of equal length may share a batch")
            return LeanEngine(model, precision, family), "packed, no padding"
        except NotLeanError as error:
            reason = str(error)
            if wanted == "lean":
                raise ModelError(
                    f"engine=lean: does not support this model: {reason}",
                    hint="leave engine out: the reference engine runs every model",
                ) from None
    return ReferenceEngine(model, precision, family, equal_lengths=equal_lengths), reason


def probe_engine(engine: Engine, max_length: int, max_tokens: int | None) -> dict[str, Any]:
    """Return what a run probes once on this machine and stores: the form of attention, the tokens per pass.

    max_tokens: as set; None: from the device's memory.
    """
    probes: dict[str, Any] = {"max_tokens": max_tokens}
    lean = isinstance(engine, LeanEngine)
    if isinstance(engine, LeanEngine):
        probes["fused_attention_from"] = engine.probe_attention(max_length)
    if max_tokens is None:
        bytes_each = 2 if lean and engine.precision.name == "bf16" else 4
        probes["max_tokens"] = probe_token_budget(
            engine.model.config, max_length, engine.device, lean=lean, bytes_each=bytes_each
        )
    return probes


def choose_prefix(engine: Engine, splits: Sequence[Tokenized], epochs: float) -> int:
    """Return how many of the lowest layers are computed once and cached for all epochs; 0: none."""
    return choose_layers(engine, splits, epochs) if isinstance(engine, LeanEngine) else 0


def keep_prefix(engine: Engine, splits: Sequence[Tokenized], layers: int, padding: Padding, progress: Progress) -> None:
    """Compute the lowest layers' states for these splits, or load them from the cache, and let the engine use them."""
    if not layers or not isinstance(engine, LeanEngine):
        return
    prefixes = []
    with progress.task("frozen layers", sum(map(len, splits))) as task:
        for tokens in splits:
            prefixes.append(open_prefix(engine, tokens, layers, padding, task.advance))
    cached = [prefix for prefix in prefixes if prefix is not None]
    engine.keep(*cached)
    size = sum(prefix.states.nbytes for prefix in cached) / 1e6
    progress.say(
        f"frozen layers: {layers} of {engine.layers}, computed once and cached for every epoch ({size:,.0f} MB)"
        if cached
        else "frozen layers: not enough disk space to cache their output"
    )
