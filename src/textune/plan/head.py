"""How long the head's start takes: contrastive steps, features of the training rows, and the regression."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from textune.inference import padding_of
from textune.plan.forecast import time_growing
from textune.tokens.batches import EncodedSplit
from textune.training.head import MOST_ROWS, MOST_ROWS_ALONE, PROBE, compute_features

if TYPE_CHECKING:
    from textune.engine import Engine
    from textune.run.steps import RunSteps


def rehearse_head(work: RunSteps, engine: Engine, budget: float) -> float:
    """Returns the seconds until the head is solved; 0 where it starts random. budget: seconds that this may take."""
    training = work.config.training
    if training.head_init != PROBE:
        return 0.0
    split, family, classes = work.train, work.backbone.family, len(work.data.labels)
    wanted = min(len(split), MOST_ROWS if work.method.trains_body else MOST_ROWS_ALONE)

    def run(rows: int) -> float:
        chosen = np.linspace(0, len(split) - 1, rows).astype(np.int64)
        part = EncodedSplit(split.tokens.take(chosen), split.targets[chosen], split.source_rows[chosen])
        started = time.perf_counter()
        compute_features(engine, family, classes, part, padding_of(work.backbone))
        return time.perf_counter() - started

    rows, seconds = time_growing(run, wanted, budget)
    started = time.perf_counter()
    work.solve_probe(engine, rows)
    solving = time.perf_counter() - started - seconds
    # A regression's time grows with the rows, but for what it spends on the width alone.
    total = seconds * wanted / rows + max(solving, 0.0) * wanted / rows
    if training.contrast_steps:
        # A step is a forward pass and about two of them backwards, over 32 rows.
        total += training.contrast_steps * 3 * 32 * seconds / rows
    return total
