"""How long the head's start takes: contrastive steps, features of the training rows, and the regression."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from textune.plan.forecast import time_growing
from textune.run.fit import solve_head
from textune.run.prepare import Prepared
from textune.tokens.batches import EncodedSplit
from textune.training.head import MOST_ROWS, MOST_ROWS_ALONE, PROBE

if TYPE_CHECKING:
    from textune.training.head import Network


def rehearse_head(prepared: Prepared, network: Network, budget: float) -> float:
    """Return the seconds until the head is solved; 0 where it starts random. budget: seconds that this may take."""
    training = prepared.config.training
    if training.head_init != PROBE:
        return 0.0
    split = prepared.train
    wanted = min(len(split), MOST_ROWS if prepared.method.trains_body else MOST_ROWS_ALONE)

    def run(rows: int) -> float:
        chosen = np.linspace(0, len(split) - 1, rows).astype(np.int64)
        part = EncodedSplit(split.tokens.take(chosen), split.targets[chosen], split.source_rows[chosen])
        started = time.perf_counter()
        network.compute_features(part)
        return time.perf_counter() - started

    rows, seconds = time_growing(run, wanted, budget)
    started = time.perf_counter()
    solve_head(prepared, network, rows)
    solving = time.perf_counter() - started - seconds
    # A regression's time grows with the rows, but for what it spends on the width alone.
    total = seconds * wanted / rows + max(solving, 0.0) * wanted / rows
    if training.contrast_steps:
        # A step is a forward pass and about two of them backwards, over 32 rows.
        total += training.contrast_steps * 3 * 32 * seconds / rows
    return total
