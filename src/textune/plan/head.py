"""The time to start the head: contrastive steps, features of the training rows, and the regression."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from textune.plan.forecast import time_growing
from textune.run.fit import SolvedHead, solve_head
from textune.run.prepare import Prepared
from textune.tokens.batches import EncodedSplit
from textune.training.head import MOST_ROWS, MOST_ROWS_ALONE, PROBE

if TYPE_CHECKING:
    from textune.training.head import Network


def rehearse_head(prepared: Prepared, network: Network, budget: float) -> tuple[float, SolvedHead]:
    """Return the seconds to solve the head, 0 if it starts random, and a head solved on some rows.

    budget: seconds for measuring it.
    """
    training = prepared.config.training
    if training.head_init != PROBE:
        return 0.0, SolvedHead()
    split = prepared.train
    all_rows = min(len(split), MOST_ROWS if prepared.method.trains_body else MOST_ROWS_ALONE)

    def run(rows: int) -> float:
        sample = np.linspace(0, len(split) - 1, rows).astype(np.int64)
        part = EncodedSplit(split.tokens.take(sample), split.targets[sample], split.source_rows[sample])
        started_at = time.perf_counter()
        network.compute_features(part)
        return time.perf_counter() - started_at

    rows, seconds = time_growing(run, all_rows, budget)
    started_at = time.perf_counter()
    probe = solve_head(prepared, network, rows)
    solving = time.perf_counter() - started_at - seconds
    # The regression's time grows with the rows, apart from a part that depends on the width only.
    total = seconds * all_rows / rows + max(solving, 0.0) * all_rows / rows
    if training.contrast_steps:
        # A step costs about three forward passes over 32 rows: one forward, and a backward as costly as two.
        total += training.contrast_steps * 3 * 32 * seconds / rows
    return total, SolvedHead(probe)
