"""Which engine runs a model: the lean one where it can, else the reference; each says why."""

from __future__ import annotations

from typing import Any

import torch

from textune.engine.budget import probe_token_budget
from textune.engine.lean import LeanEngine, NotLeanError
from textune.engine.precision import Precision
from textune.engine.reference import ReferenceEngine
from textune.errors import ModelError
from textune.families import Family

Engine = LeanEngine | ReferenceEngine


def open_engine(
    model: torch.nn.Module, precision: Precision, family: Family, *, equal_lengths: bool = False,
    wanted: str = "auto",
) -> tuple[Engine, str]:  # fmt: skip
    """Returns the engine, and why it is this one.

    wanted: "auto", "lean" or "reference". equal_lengths: texts of different lengths must not meet in one pass.
    Raises ModelError where the lean engine was asked for and cannot run the model.
    """
    reason = "as set"
    if wanted != "reference":
        try:
            if equal_lengths:
                raise NotLeanError("only texts of one length may share a pass")
            return LeanEngine(model, precision, family), "packed, no padding"
        except NotLeanError as error:
            reason = str(error)
            if wanted == "lean":
                raise ModelError(
                    f"engine=lean: it cannot run this model: {reason}", hint="leave engine out: the reference runs all"
                ) from None
    return ReferenceEngine(model, precision, family, equal_lengths=equal_lengths), reason


def probe_engine(engine: Engine, max_length: int, max_tokens: int | None) -> dict[str, Any]:
    """Returns what a run finds out once about this machine and keeps: the form of attention, the tokens at once.

    max_tokens: as set; None: by the memory there is.
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
