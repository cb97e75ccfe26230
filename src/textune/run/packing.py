"""Whether a run packs its short rows: what it saves on the run's own steps, and whether model and method allow it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from textune.backbones.families import Family
from textune.config import RunConfig
from textune.config.defaults import Decision
from textune.errors import ModelError
from textune.methods import Method
from textune.tokens import Tokenized
from textune.tokens.batches import plan_epoch, split_micro_batches
from textune.tokens.packed_rows import count_padded, plan_tightly

_WORTH = 0.1
"""Packing is chosen where it saves this share of the tokens: longer rows take more attention."""
_MOST_STEPS = 256


@dataclass(frozen=True)
class Saving:
    """What packing does to some steps. rows: of the data. packed: rows they become.

    tokens: without padding. before, after: with it, unpacked and packed.
    """

    rows: int
    packed: int
    tokens: int
    before: int
    after: int

    @property
    def share(self) -> float:
        """The share of the tokens that packing saves."""
        return 1 - self.after / max(self.before, 1)

    def __str__(self) -> str:
        padding = [(whole - self.tokens) / max(whole, 1) for whole in (self.before, self.after)]
        return (
            f"{self.rows:,} rows become {self.packed:,} packed ones, {self.share:.1%} fewer tokens: the padding is "
            f"{padding[1]:.1%} of them instead of {padding[0]:.1%}"
        )


def choose_packing(
    config: RunConfig, family: Family, method: Method, tokens: Tokenized
) -> tuple[RunConfig, list[Decision]]:
    """Decide packing of a model that writes; every setting of training must be decided.

    tokens: of the training rows. Raises ModelError where packing is asked for and cannot be.
    """
    asked, reason = config.writing.packing, explain_no_packing(family, method)
    if asked and reason:
        raise ModelError(f"packing=true: {reason}", hint="leave packing= out: the rows are padded then")
    saving = None if reason or asked is False else measure_saving(tokens, config)
    packing = asked if asked is not None else saving is not None and saving.share >= _WORTH
    decided = replace(config, writing=replace(config.writing, packing=packing))
    if packing:
        return decided, [Decision("packing", "true", str(saving))]
    if asked is not None:
        return decided, []
    saved = f"it would save {saving.share:.1%} of the tokens, too few" if saving is not None else ""
    return decided, [Decision("packing", "false", reason or saved)]


def explain_no_packing(family: Family, method: Method) -> str | None:
    """Return why rows cannot be packed, or None."""
    if not family.packs:
        return f"{family.name} models are not known to keep the rows of a packed row apart"
    if method.needs_equal_lengths(family):
        return f"with method={method.key} only rows of equal length share a forward pass"
    return None


def measure_saving(tokens: Tokenized, config: RunConfig) -> Saving:
    """Return what packing does to the first epoch's steps, or to the first of many, on one device."""
    training, lengths = config.training, tokens.lengths
    assert training.batch_size is not None
    rows = packed = before = after = filled = 0
    for step in plan_epoch(lengths, training.batch_size, training.seed, 0)[:_MOST_STEPS]:
        size = training.micro_batch_size or training.batch_size
        for batch in split_micro_batches(step, size, None, lengths[step], training.max_tokens):
            sizes = lengths[batch]
            plan = plan_tightly(sizes)
            rows, packed, filled = rows + len(batch), packed + len(plan), filled + int(np.sum(sizes))
            before += len(batch) * int(np.max(sizes))
            after += count_padded(sizes, plan)
    return Saving(rows, packed, filled, before, after)
