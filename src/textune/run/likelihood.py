"""Label likelihood as a row of the ladder: the backbone chooses among the labels before tuning, if it is causal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textune.errors import ConfigError, ModelError
from textune.run.prepare import Prepared

if TYPE_CHECKING:
    from textune.inference import Predictor
    from textune.inference.zero_shot import ZeroShot

MOST_ROWS, FEWEST_ROWS = 200, 10
_MOST_WORK = {"cpu": 4e12, "cuda": 4e14}
"""Parameters times tokens: about a minute."""


def predict_by_likelihood(
    prepared: Prepared, predictor: Predictor
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Return evaluation rows and their probabilities by label likelihood: int64 [rows], float64 [rows, labels].

    At most 200 random rows, fewer with a large model. None where the backbone is not causal, the task has no one label
    for a text, texts come in pairs, or too few rows could be measured.
    """
    from textune.inference.zero_shot import ZeroShot, explain_not_causal

    examples, settings = prepared.data.evaluation[1], prepared.config.training
    if not predictor.task.chooses_one or examples.text_pairs() is not None:
        return None
    if explain_not_causal(prepared.backbone) is not None:
        return None
    try:
        zero_shot = ZeroShot.open(
            prepared.backbone,
            prepared.data.labels.names,
            max_length=predictor.manifest.max_length,
            device=settings.device,
            precision=settings.precision,
        )
    except (ConfigError, ModelError):  # the labels do not fit into max_length, or the output layer is missing
        return None
    rows = choose_rows(len(examples), _count_work(zero_shot, examples.texts()), zero_shot.device, settings.seed)
    if rows is None:
        return None
    texts = examples.texts()
    return rows, zero_shot.predict_proba([texts[row] for row in rows])


def choose_rows(rows: int, work: float, device: str, seed: int) -> NDArray[np.int64] | None:
    """Return the rows to measure, in order; None where they would be too few. work: of one row."""
    limit = min(MOST_ROWS, int(_MOST_WORK.get(device, _MOST_WORK["cpu"]) / work))
    if limit < min(FEWEST_ROWS, rows):
        return None
    return np.sort(np.random.default_rng(seed).permutation(rows)[:limit])


def _count_work(zero_shot: ZeroShot, texts: list[str]) -> float:
    """Return the parameters times the tokens of an average row."""
    sample = texts[:50]
    tokens = np.mean([len(prompt) for prompt in zero_shot.encode_prompts(sample)]) + zero_shot.label_tokens
    return float(tokens * zero_shot.manifest.total_parameters)
