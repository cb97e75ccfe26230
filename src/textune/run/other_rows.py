"""A finished run measured on other labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from textune.bundle import Manifest, TextColumns
from textune.config import RunConfig, build_config
from textune.data import (
    Examples,
    Labels,
    build_examples,
    choose_columns,
    choose_form,
    match_label_columns,
    read_table,
    refuse_part_of_columns,
)
from textune.inference import Predictor
from textune.run.save import update_manifest
from textune.run.tables import read_options
from textune.run.test_reads import count_test_reads, note_test_read
from textune.tasks import AnyEvaluation


def evaluate(
    run: str | Path, data: Any, *, device: str = "auto", precision: str = "auto", **settings: Any
) -> AnyEvaluation:
    """Measure a finished run on other labelled rows and note that these rows were read."""
    predictor = Predictor.load(run, device=device, precision=precision)
    examples = read_labelled(predictor, data, build_config(settings))
    return measure_predictor(predictor, examples, Path(run))[0]


def measure_predictor(predictor: Predictor, examples: Examples, run: Path) -> tuple[AnyEvaluation, NDArray[Any]]:
    """Return the figures on labelled rows and the probabilities behind them."""
    manifest, labels = predictor.manifest, labels_of(predictor.manifest)
    note_test_read(run, examples, "evaluate")
    update_manifest(run, test_reads=count_test_reads(run))
    probabilities = predictor.predict_proba(examples.texts(), examples.text_pairs())
    evaluation = predictor.task.evaluate(
        probabilities,
        predictor.task.encode_targets(labels, examples),
        manifest.labels,
        seed=manifest.seed,
        unknown=predictor.task.find_unknown(labels, examples),
    )
    return evaluation, probabilities


def read_labelled(predictor: Predictor, data: Any, config: RunConfig) -> Examples:
    """Read a labelled table for a finished run, with the run's columns where the table has them."""
    columns, options = predictor.manifest.columns, read_options(config.data)
    table = read_table(data, options)
    there = set(table.columns)
    if config.data.label is None:
        refuse_part_of_columns(table, columns.indicators, "name its label columns with label=")
    chosen = choose_columns(
        table,
        text=config.data.text or (columns.text if set(columns.text) <= there else None),
        text_pair=config.data.text_pair or columns.text_pair,
        label=config.data.label or _labels_there(columns, there),
        joiner=columns.joiner,
    )
    form = choose_form(table, chosen, predictor.manifest.task, columns.label_separator)
    form = match_label_columns(form, table, chosen, columns.indicators, "label")
    return build_examples(table, chosen, form)


def _labels_there(columns: TextColumns, there: set[str]) -> tuple[str, ...] | None:
    """Return the run's label columns where the table has them, else None: look for others."""
    names = columns.indicators or ((columns.label,) if columns.label is not None else ())
    return names if names and set(names) <= there else None


def labels_of(manifest: Manifest) -> Labels:
    """Return the classes of a finished run."""
    return Labels(manifest.label_values, manifest.labels)
