"""A finished run as a comparison sees it: settings, figures, costs, and its answers row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import SETTINGS, Manifest
from textune.config import build_config, load_settings
from textune.errors import BundleError, DataError
from textune.report.comparison import COSTS
from textune.run import load_run
from textune.run.other_rows import labels_of
from textune.tasks import AnyEvaluation, read_evaluation


@dataclass(frozen=True)
class RunRecord:
    """One finished run.

    settings: all that decide what is trained. split: "test" or "validation". costs: numbers, None where the run kept
    none. rows: int64 [rows], numbers in the source. labels: the true labels as the source has them. texts: SHA-256.
    true, given: bool [rows, classes]; unknown: bool [rows, labels], true labels that the model does not know.
    """

    folder: Path
    manifest: Manifest
    settings: Mapping[str, Any]
    split: str
    evaluation: AnyEvaluation
    costs: Mapping[str, float | None]
    rows: NDArray[np.int64]
    labels: tuple[Any, ...]
    texts: str
    true: NDArray[np.bool_]
    given: NDArray[np.bool_]
    unknown: NDArray[np.bool_]

    @property
    def seed(self) -> int:
        """The seed it was trained with."""
        return self.manifest.seed

    @property
    def split_seed(self) -> int:
        """The seed that samples and splits were drawn with."""
        own = self.settings.get("split_seed")
        return self.seed if own is None else int(own)


def read_run(folder: str | Path) -> RunRecord:
    """Read a finished run; raise BundleError where it is none, or where its predictions are missing."""
    run = load_run(folder)
    metrics, place = run.metrics, run.folder / "evaluation"
    stored = _read_predictions(place / "predictions.parquet")
    settings = build_config(load_settings(run.folder / SETTINGS)).identity()
    try:
        return _build_record(run.folder, run.manifest, settings, metrics, stored)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{place}: its figures or answers are not whole ({type(error).__name__}: {error})",
            hint="train the run again: a comparison needs them",
        ) from error


def _build_record(
    folder: Path,
    manifest: Manifest,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    stored: Mapping[str, list[Any]],
) -> RunRecord:
    labels = labels_of(manifest)
    sets = [v if isinstance(v, list) else [v] for v in stored["label"]]
    answers = [v if isinstance(v, list) else [v] for v in stored["predicted_label"]]
    number = {name: i for i, name in enumerate(manifest.labels)}
    given = np.zeros((len(answers), len(labels)), bool)
    for row, names in enumerate(answers):
        given[row, [number[name] for name in names]] = True
    figures = {k: v for k, v in metrics["models"]["tuned"].items() if k != "seconds"}
    kept = metrics.get("costs", {}) | {"trainable_parameters": manifest.trainable_parameters}
    return RunRecord(
        folder,
        manifest,
        settings,
        metrics["split"],
        read_evaluation(figures),
        {key: kept.get(key) for key in COSTS},
        np.asarray(stored["row"], np.int64),
        tuple(tuple(v) if isinstance(v, list) else v for v in stored["label"]),
        _hash_texts(stored),
        labels.encode_sets(sets) > 0,
        given,
        _mark_unknown(sets, {*labels.values, *labels.names}),
    )


def _mark_unknown(sets: Sequence[Sequence[Any]], known: set[str]) -> NDArray[np.bool_]:
    """Return bool [rows, labels that no model knows]: each is a class of its own that nobody ever gives."""
    names = sorted({str(label) for own in sets for label in own} - known)
    return np.array([[name in own for name in names] for own in sets], bool).reshape(len(sets), len(names))


def _read_predictions(path: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("row", "text", "text_pair", "label", "predicted_label")
    try:
        table = pq.read_table(path)
        return {name: table[name].to_pylist() for name in names if name in table.column_names}
    except (OSError, pa.ArrowException) as error:
        raise BundleError(
            f"{path}: the run's answers cannot be read: {error}", hint="train the run again: a comparison needs them"
        ) from error


def _hash_texts(stored: Mapping[str, list[Any]]) -> str:
    digest = hashlib.sha256()
    for name in ("text", "text_pair"):
        for text in stored.get(name, ()):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def refuse_other_rows(runs: Sequence[RunRecord]) -> None:
    """Raise DataError, naming the run and why, where the runs were not all measured on the same rows."""
    first = runs[0]
    for run in runs[1:]:
        if reason := _find_difference(first, run):
            raise DataError(
                f"{run.folder} and {first.folder} were not measured on the same rows: {reason}",
                hint="pairs need the same rows: train with the same test=, or with one split_seed= for all seeds",
            )


def _find_difference(one: RunRecord, other: RunRecord) -> str | None:
    if one.manifest.task != other.manifest.task:
        return f"one is {one.manifest.task}, the other {other.manifest.task}"
    if one.split != other.split:
        return f"{other.split} rows here, {one.split} rows there"
    if len(one.rows) != len(other.rows):
        return f"{len(other.rows):,} rows here, {len(one.rows):,} there"
    if one.manifest.labels != other.manifest.labels:
        return f"the labels are {', '.join(other.manifest.labels[:5])} here, {', '.join(one.manifest.labels[:5])} there"
    if apart := np.flatnonzero(one.rows != other.rows).tolist():
        place = apart[0]
        return f"{len(apart):,} are other rows of the table (row {other.rows[place]} here, row {one.rows[place]} there)"
    if wrong := [i for i, (a, b) in enumerate(zip(one.labels, other.labels, strict=True)) if a != b]:
        place = wrong[0]
        return f"row {one.rows[place]} is labelled {other.labels[place]!r} here, {one.labels[place]!r} there"
    read = [(c.text, c.text_pair, c.joiner) for c in (one.manifest.columns, other.manifest.columns)]
    if read[0] == read[1] and one.texts != other.texts:
        return "the rows have other texts"
    return None
