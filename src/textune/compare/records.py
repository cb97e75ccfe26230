"""A finished run as read for a comparison: settings, scores, costs, and predictions row by row."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import PLAN, SETTINGS, Manifest
from textune.config import build_config, load_settings
from textune.errors import BundleError, DataError
from textune.evaluation import Difference
from textune.files import read_json
from textune.report.comparison import COSTS
from textune.run import load_run
from textune.run.predictions import read_predictions
from textune.tasks import PROBE, AnyEvaluation, read_evaluation, task_of

SOURCES = ("data", "validation", "test", "fixes")
"""The settings that say where a run's rows come from."""
_SEEN = ("training_exact", "training_near", "validation_exact", "validation_near")


@dataclass(frozen=True)
class ProbeRecord:
    """A run's baseline of frozen embeddings and logistic regression, on the rows of the run's own figures.

    name: of the kind of model. lead: the tuned model's, row by row. seconds: training and prediction, where known.
    """

    name: str
    evaluation: AnyEvaluation
    lead: Difference | None
    seconds: float | None


@dataclass(frozen=True)
class RunRecord:
    """One finished run.

    settings: all that affect what is trained. sources: absolute paths of the files that they name, where noted.
    split: "test" or "validation". costs: None where the run recorded none.
    rows: int64 [rows], numbers in the source. labels: the true labels by name. texts: SHA-256.
    true, predicted: bool [rows, classes]; unknown: bool [rows, labels], true labels that the model does not know.
    seen: how many of the rows were also among its training or validation rows, as far as it recorded that.
    probe: None for a run that did not measure one.
    """

    folder: Path
    manifest: Manifest
    settings: Mapping[str, Any]
    sources: Mapping[str, str]
    split: str
    evaluation: AnyEvaluation
    costs: Mapping[str, float | None]
    rows: NDArray[np.int64]
    labels: tuple[Any, ...]
    texts: str
    true: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    seen: int
    probe: ProbeRecord | None = None

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return self.manifest.seed

    @property
    def split_seed(self) -> int:
        """The seed of samples and splits."""
        split_seed = self.settings.get("split_seed")
        return self.seed if split_seed is None else int(split_seed)


def read_run(folder: str | Path) -> RunRecord:
    """Read a finished run; raise BundleError if it is not one or its predictions are missing.

    ConfigError where runs of its task cannot be compared.
    """
    run = load_run(folder)
    if (refusal := task_of(run.manifest).refuse_comparison()) is not None:
        raise refusal
    metrics, evaluation = run.metrics, run.folder / "evaluation"
    stored = _read_predictions(evaluation / "predictions.parquet", run.manifest)
    settings = build_config(load_settings(run.folder / SETTINGS)).identity()
    try:
        return _build_record(run.folder, run.manifest, settings, _read_sources(run.folder), metrics, stored)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{evaluation}: its metrics or predictions are damaged ({type(error).__name__}: {error})",
            hint="train the run again: a comparison needs them",
        ) from error


def _read_sources(folder: Path) -> dict[str, str]:
    """Return the absolute path of every file that the run's settings name; none for runs that did not note them."""
    plan = read_json(folder / PLAN, "the run's plan") if (folder / PLAN).is_file() else {}
    places = plan.get("places")
    named = places if isinstance(places, Mapping) else {}
    return {name: os.path.normpath(named[name]) for name in SOURCES if isinstance(named.get(name), str)}


def _build_record(
    folder: Path,
    manifest: Manifest,
    settings: Mapping[str, Any],
    sources: Mapping[str, str],
    metrics: Mapping[str, Any],
    stored: Mapping[str, list[Any]],
) -> RunRecord:
    true_sets = [v if isinstance(v, list) else [v] for v in stored["label"]]
    predicted_sets = [v if isinstance(v, list) else [v] for v in stored["predicted_label"]]
    number = {name: i for i, name in enumerate(manifest.labels)}
    predicted = _mark(predicted_sets, number)
    costs = metrics.get("costs", {}) | {"trainable_parameters": manifest.trainable_parameters}
    seen = metrics.get("seen_rows")  # none in older runs, and in those without hashes of their rows
    return RunRecord(
        folder,
        manifest,
        settings,
        sources,
        metrics["split"],
        read_evaluation(metrics["models"]["tuned"]),
        {key: costs.get(key) for key in COSTS},
        np.asarray(stored["row"], np.int64),
        tuple(tuple(v) if isinstance(v, list) else v for v in stored["label"]),
        _hash_texts(stored),
        _mark(true_sets, number),
        predicted,
        _mark_unknown(true_sets, set(number)),
        sum(int(seen[part]) for part in _SEEN) if seen else 0,
        _read_probe(metrics),
    )


def _read_probe(metrics: Mapping[str, Any]) -> ProbeRecord | None:
    stored = metrics["models"].get("probe")
    if stored is None:
        return None
    lead = metrics.get("leads", {}).get("probe")  # none in older runs
    return ProbeRecord(
        metrics.get("names", {}).get("probe", PROBE),
        read_evaluation(stored),
        None if lead is None else Difference(**lead),
        stored.get("seconds"),
    )


def _mark(sets: Sequence[Sequence[Any]], number: Mapping[str, int]) -> NDArray[np.bool_]:
    """Return bool [rows, labels]: which of the model's labels each row has."""
    marks = np.zeros((len(sets), len(number)), bool)
    for row, names in enumerate(sets):
        marks[row, [number[name] for name in names if name in number]] = True
    return marks


def _mark_unknown(sets: Sequence[Sequence[Any]], known: set[str]) -> NDArray[np.bool_]:
    """Return bool [rows, unknown labels]: which unknown labels each row has."""
    names = sorted({str(label) for labels in sets for label in labels} - known)
    return np.array([[name in labels for name in names] for labels in sets], bool).reshape(len(sets), len(names))


def _read_predictions(path: Path, manifest: Manifest) -> dict[str, list[Any]]:
    import pyarrow as pa

    try:
        return read_predictions(path, manifest)
    except (OSError, KeyError, pa.ArrowException) as error:  # without a column it is no file of predictions
        raise BundleError(
            f"{path}: cannot read the predictions: {error}", hint="train the run again: a comparison needs them"
        ) from error


def _hash_texts(stored: Mapping[str, list[Any]]) -> str:
    digest = hashlib.sha256()
    for name in ("text", "text_pair"):
        for text in stored.get(name, ()):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def refuse_other_rows(runs: Sequence[RunRecord]) -> None:
    """Raise DataError if the runs were not all measured on the same rows; it names the run and the difference."""
    first = runs[0]
    for run in runs[1:]:
        if reason := _find_difference(first, run):
            raise DataError(
                f"{run.folder} and {first.folder} were not measured on the same rows: {reason}",
                hint="paired tests need the same rows: use the same test=, or the same split_seed= for all seeds",
            )


def _find_difference(one: RunRecord, other: RunRecord) -> str | None:
    if one.manifest.task != other.manifest.task:
        return f"one is {one.manifest.task}, the other {other.manifest.task}"
    if one.split != other.split:
        return f"{other.split} rows and {one.split} rows"
    if len(one.rows) != len(other.rows):
        return f"{len(other.rows):,} rows and {len(one.rows):,} rows"
    if one.manifest.labels != other.manifest.labels:
        return _tell_labels_apart(one.manifest.labels, other.manifest.labels)
    if different := np.flatnonzero(one.rows != other.rows).tolist():
        i = different[0]
        return f"{len(different):,} rows differ (row {other.rows[i]} and row {one.rows[i]})"
    if different := [i for i, (a, b) in enumerate(zip(one.labels, other.labels, strict=True)) if a != b]:
        i = different[0]
        return f"row {one.rows[i]} is labeled {other.labels[i]!r} and {one.labels[i]!r}"
    columns = [(c.text, c.text_pair, c.joiner) for c in (one.manifest.columns, other.manifest.columns)]
    if one.texts == other.texts:
        return None
    if columns[0] == columns[1]:
        return "the texts of the rows differ"
    tables = [run.sources.get("test", run.sources.get("data")) for run in (one, other)]
    names = {Path(table).name for table in tables if table is not None}
    if len(names) > 1:  # in one table, wherever it lies, they are other columns of the same rows
        return f"their texts differ, and are of other columns of other tables ({tables[1]} and {tables[0]})"
    return None


def _tell_labels_apart(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Return how two lists of labels differ."""
    lacking = [[label for label in one if label not in other] for one, other in ((theirs, ours), (ours, theirs))]
    if not any(lacking):
        return "their labels are in another order"
    shown = [f"{', '.join(some[:5])}{' and more' if len(some) > 5 else ''}" or "none" for some in lacking]
    return f"labels that only one of them has: {shown[0]}; and {shown[1]}"
