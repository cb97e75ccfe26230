"""The ladder of a model that writes: two baselines, the base model and the tuned one, on the same rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import Manifest
from textune.data import Examples
from textune.evaluation import answer_most_frequent, answer_nearest
from textune.evaluation.generation import Sample
from textune.inference import Predictor, choose_device
from textune.run.fit import build_model, open_engine
from textune.run.prepare import Prepared
from textune.tasks.generation import WRITTEN

Outputs = NDArray[Any]
MOST_SAMPLES = 10
_EXCERPT = 600


def list_written_rivals(
    prepared: Prepared, tuned: Outputs, folder: Path, manifest: Manifest
) -> list[tuple[str, Callable[[], Outputs]]]:
    """Return key and answers of the simpler models, cheapest first."""
    train, examples = prepared.data.train, prepared.data.evaluation[1]
    prompts, answers = train.texts(), train.labels() or []
    chosen = np.flatnonzero(tuned["written"])

    def place(written: Sequence[str]) -> Outputs:
        outputs = np.zeros(len(examples), WRITTEN)
        outputs["answer"], outputs["loss"] = None, np.nan
        for row, answer in zip(chosen, written, strict=True):
            outputs["answer"][row], outputs["written"][row] = answer, True
        return outputs

    texts = examples.texts()
    return [
        ("frequent", lambda: place(answer_most_frequent(answers, len(chosen)))),
        ("nearest", lambda: place(answer_nearest(prompts, answers, [texts[row] for row in chosen], manifest.seed))),
        ("base", lambda: open_base(prepared, folder, manifest).answer_examples(examples)),
    ]


def open_base(prepared: Prepared, folder: Path, manifest: Manifest) -> Predictor:
    """Return the base model before tuning, with the tokenizer and the settings of the run."""
    from textune.engine import probe_precision

    training = prepared.config.training
    device = choose_device(training.device)
    module, _ = build_model(prepared)  # a method starts as the identity
    module.eval().requires_grad_(False)
    engine, _ = open_engine(prepared, module.to(device), probe_precision(training.precision, device))
    return Predictor.from_engine(folder, manifest, engine.eval(), prepared.backbone)


def collect_samples(examples: Examples, base: Outputs, tuned: Outputs) -> list[Sample]:
    """Return a few rows with both answers, evenly spread over those that have them."""
    rows = np.flatnonzero(base["written"] & tuned["written"])
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, MOST_SAMPLES).astype(np.int64))] if len(rows) else rows
    numbers, prompts, expected = examples.rows(), examples.texts(), examples.labels() or []

    def cut(text: Any) -> str:
        return text if len(text := str(text)) <= _EXCERPT else f"{text[:_EXCERPT]}..."

    return [
        Sample(
            int(numbers[row]),
            cut(prompts[row]),
            cut(expected[row]),
            cut(base["answer"][row]),
            cut(tuned["answer"][row]),
        )
        for row in rows
    ]


def time_call(call: Callable[[], Outputs]) -> tuple[Outputs, float]:
    """Return what a function gives, and the seconds it took."""
    started_at = time.monotonic()
    return call(), time.monotonic() - started_at
