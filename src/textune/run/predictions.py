"""Answers on evaluation rows: written as a table, and the most confident errors among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from textune.bundle import Manifest
from textune.data import Examples, Labels
from textune.evaluation import ConfidentError
from textune.inference import Predictor
from textune.tasks import EvaluatedRows


def write_predictions(path: Path, examples: Examples, probabilities: NDArray[Any], predictor: Predictor) -> None:
    """Write row number, text, true label, predicted label and all probabilities as Parquet.

    With several labels per text both label columns hold lists.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"row": examples.rows(), "text": examples.texts()}
    if (pairs := examples.text_pairs()) is not None:
        columns["text_pair"] = pairs
    answers = predictor.task.answer(probabilities, predictor.labels)
    columns |= predictor.task.prediction_columns(examples, probabilities, answers)
    columns |= predictor.task.probability_columns(probabilities, predictor.labels)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)


def collect_errors(predictor: Predictor, probabilities: NDArray[Any], examples: Examples) -> list[ConfidentError]:
    """Return the twenty wrong answers with the highest probability."""
    labels, task = labels_of(predictor.manifest), predictor.task
    rows = EvaluatedRows(joined_texts(examples), examples.rows(), task.find_unknown(labels, examples))
    return task.find_errors(probabilities, task.encode_targets(labels, examples), labels.names, rows)


def labels_of(manifest: Manifest) -> Labels:
    """Return the classes of a finished run."""
    return Labels(manifest.label_values, manifest.labels)


def joined_texts(examples: Examples) -> list[str]:
    """Return one text per row; the two of a pair with a bar between them."""
    pairs = examples.text_pairs()
    if pairs is None:
        return examples.texts()
    return [f"{a} | {b}" for a, b in zip(examples.texts(), pairs, strict=True)]
