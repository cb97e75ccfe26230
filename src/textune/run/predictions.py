"""Answers on evaluation rows: written as a table, and the most confident errors among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from textune.bundle import Manifest, refuse_altered
from textune.data import Examples, Labels
from textune.evaluation import ConfidentError
from textune.inference import Predictor
from textune.tasks import EvaluatedRows


def write_predictions(path: Path, examples: Examples, probabilities: NDArray[Any], predictor: Predictor) -> None:
    """Write row number, text, true label, predicted label and all probabilities as Parquet.

    Both label columns hold the names that the model gives, or lists of them with several labels per text; a true label
    that the model does not know stays as it is written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"row": examples.rows(), "text": examples.texts()}
    if (pairs := examples.text_pairs()) is not None:
        columns["text_pair"] = pairs
    answers = predictor.task.answer(probabilities, predictor.labels)
    columns |= predictor.task.prediction_columns(examples, probabilities, answers)
    true = columns["label"] if isinstance(columns["label"], pa.Array) else pa.array(columns["label"])
    columns["label"] = pa.array(name_labels(predictor.manifest, true.to_pylist()), true.type)
    columns |= predictor.task.probability_columns(probabilities, predictor.labels)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata({_LABELS: "names"}), path)


_LABELS = "textune_labels"
"""Says in the file's metadata what true labels are written as; without it, as in the data."""


def name_labels(manifest: Manifest, labels: Sequence[Any]) -> list[Any]:
    """Return true labels by the names that the model gives; those that it does not know stay as they are."""
    names = dict(zip(manifest.labels, manifest.labels, strict=True))
    names |= dict(zip(manifest.label_values, manifest.labels, strict=True))

    def name(label: Any) -> Any:
        return [names.get(each, each) for each in label] if isinstance(label, list) else names.get(label, label)

    return [name(label) for label in labels]


def read_predictions(path: Path, manifest: Manifest) -> dict[str, list[Any]]:
    """Return row numbers, texts and labels of predictions, also of runs that wrote true labels as in the data.

    Raises BundleError for a file that the run did not write, OSError or pyarrow's exceptions.
    """
    import pyarrow.parquet as pq

    refuse_altered(path.parents[1], manifest, f"{path.parent.name}/{path.name}")
    table = pq.read_table(path)
    names = ("row", "text", "text_pair", "label", "predicted_label")
    stored = {name: table[name].to_pylist() for name in names if name in table.column_names}
    if _LABELS.encode() not in (table.schema.metadata or {}):
        stored["label"] = name_labels(manifest, stored["label"])
    return stored


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
