"""The rows that a run's errors are looked for in: those of its own evaluation, or those of another table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import PLAN, SETTINGS, Manifest, read_metrics
from textune.config import RunConfig, build_config, load_settings
from textune.data import (
    Examples,
    LabelForm,
    Labels,
    NamedColumns,
    Table,
    build_examples,
    read_table,
    reuse_columns,
    sample_examples,
)
from textune.data.label_sets import ONE, format_set
from textune.errors import BundleError, TextuneError
from textune.files import read_json
from textune.inference import LoadOptions, Predictor
from textune.printable import count
from textune.run.other_rows import PREDICTIONS, describe_unknown, label_table, measure_rows
from textune.run.places import PLACED, find_places
from textune.run.predictions import read_predictions
from textune.run.tables import read_options
from textune.tasks import task_of

_OWN_TABLES = ("validation", "test")
"""The settings that name the table of the rows of the same split."""


@dataclass(frozen=True, eq=False)
class PredictedRows:
    """Labelled rows with a run's answers.

    probabilities: float64 [rows, labels]. table: the setting that names their table: data, validation or test.
    split: test, validation, or the name of another table. source: a sentence on where rows and columns come from.
    columns: the whole table with the positions of the rows in it, if it could be read.
    """

    examples: Examples
    probabilities: NDArray[Any]
    labels: Labels
    table: str
    split: str
    source: str
    columns: tuple[Table, NDArray[np.int64]] | None = None
    notes: tuple[str, ...] = ()


def read_stored(folder: Path, manifest: Manifest) -> PredictedRows:
    """Return the rows that the run was evaluated on, from evaluation/predictions.parquet; raise BundleError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "evaluation" / PREDICTIONS
    if not path.is_file():
        raise BundleError(
            f"{path}: is missing: the run keeps no answers on its evaluation rows",
            hint="name a labelled table: textune errors RUN DATA",
        )
    try:
        stored = read_predictions(path, manifest)
        names = [f"probability_{label}" for label in manifest.labels]
        table = pq.read_table(path, columns=names)
        probabilities = np.stack([table[name].to_numpy() for name in names], axis=1)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise BundleError(f"{path}: cannot be read: {error}", hint="restore it from a copy of the run") from error
    sets = task_of(manifest).reads_sets
    cells = [format_set(labels) if sets else labels for labels in stored["label"]]
    form = LabelForm("lists", manifest.columns.label_separator, task=manifest.task) if sets else ONE
    text = pa.large_string()
    columns = {"row": pa.array(stored["row"], pa.int64()), "text": pa.array(stored["text"], text)}
    if "text_pair" in stored:
        columns["text_pair"] = pa.array(stored["text_pair"], text)
    columns["label"] = pa.array(cells, text)
    split = str(read_metrics(folder, manifest).get("split", "test"))
    examples = Examples(pa.table(columns), f"the {split} rows", form=replace(form, task=manifest.task))
    labels = Labels(manifest.labels, manifest.labels)
    return PredictedRows(examples, probabilities, labels, "data", split, f"the run's own {split} rows")


def read_own_settings(folder: Path, unused: Collection[str] = ("backbone", "init", "fixes")) -> RunConfig:
    """Return the settings of a finished run, with its tables as they can be reached from here; raise TextuneError.

    unused: settings whose files are not looked for.
    """
    config = build_config(load_settings(folder / SETTINGS))
    plan: Mapping[str, Any] = read_json(folder / PLAN, "the run's plan") if (folder / PLAN).is_file() else {}
    return find_places(config, plan, folder, dict.fromkeys(unused))


def add_own_table(rows: PredictedRows, folder: Path, manifest: Manifest) -> PredictedRows:
    """Return the rows with the columns of the run's own table, if it is still there and has the same texts.

    The setting that names their table is found in any case: it says which rows a review file corrects.
    """
    try:
        named_tables = build_config(load_settings(folder / SETTINGS)).data
        name = rows.split if rows.split in _OWN_TABLES and getattr(named_tables, rows.split) is not None else "data"
        rows = replace(rows, table=name)
        data = read_own_settings(folder, [other for other in PLACED if other != name]).data
        table = read_table(getattr(data, name), read_options(data))
        named = NamedColumns(data.test_text, data.test_text_pair) if name == "test" else NamedColumns()
        used = reuse_columns(table, manifest.columns, named, need_label=False)
        positions = match_texts(rows.examples, build_examples(table, used))
    except TextuneError as error:
        reason = str(error).splitlines()[0]
        return replace(rows, source=f"{rows.source}; of their table only texts and labels are known ({reason})")
    if positions is None:
        changed = f"{table.name} no longer has the same rows, so only texts and labels are looked at"
        return replace(rows, source=f"{rows.source}; {changed}")
    at = rows.examples.rows() - table.first_row
    return replace(rows, source=f"{rows.source}, with the columns of {table.name}", columns=(table, at))


def match_texts(stored: Examples, others: Examples) -> NDArray[np.int64] | None:
    """Return the position of each stored row in other rows, or None if any has no row of its number and text."""
    numbers = others.rows()
    order = np.argsort(numbers, kind="stable")
    at = np.searchsorted(numbers[order], stored.rows())
    if not len(numbers) or (at >= len(numbers)).any():
        return None
    positions = order[at]
    same = bool((numbers[positions] == stored.rows()).all())
    found = others.take(positions)
    same = same and found.texts() == stored.texts() and found.text_pairs() == stored.text_pairs()
    return np.asarray(positions, np.int64) if same else None


def predict_table(
    folder: Path, manifest: Manifest, data: Any, config: RunConfig, options: LoadOptions
) -> PredictedRows:
    """Return the rows of a labelled table with the run's answers.

    Where the table holds the rows that the run was evaluated on, they alone are taken, with the answers that are there
    already. All other tables are classified.
    """
    table = read_table(data, read_options(config.data))
    labelled = label_table(manifest, table, replace(config, data=replace(config.data, sample=None)))
    examples = sample_examples(labelled, config.data.sample, config.split_seed)
    labels = Labels(manifest.label_values, manifest.labels)
    try:
        stored: PredictedRows | None = read_stored(folder, manifest)
    except BundleError:
        stored = None
    positions = None if stored is None else match_texts(stored.examples, examples)
    if stored is not None and positions is not None:
        with_columns = add_own_table(stored, folder, manifest)
        return replace(
            with_columns,
            examples=examples.take(positions),
            labels=labels,
            source=f"the run's own {stored.split} rows, with the columns of {table.name}",
            columns=(table, stored.examples.rows() - table.first_row),
        )
    predictor = Predictor.load(folder, **vars(options))
    measured = measure_rows(predictor, examples, folder)
    notes = [*examples.notes, *describe_unknown(predictor, examples)]
    notes += measured.seen.describe() if measured.seen.seen or not measured.seen.checked else []
    notes += [measured.unwritten] if measured.unwritten else []
    at = examples.rows() - table.first_row
    source = f"{_name_sample(len(examples), len(labelled), config.data.sample)} of {table.name}, classified now"
    return PredictedRows(
        examples, measured.probabilities, labels, "data", table.name, source, (table, at), tuple(notes)
    )


def _name_sample(taken: int, rows: int, sample: str | None) -> str:
    """Return which of the labelled rows were taken. sample: the setting."""
    if taken == rows:
        return f"all {count(rows, 'labelled row')}"
    which = f"the first {taken:,}" if sample is not None and sample.startswith("first") else f"a sample of {taken:,}"
    return f"{which} of the {count(rows, 'labelled row')}"
