"""A finished run measured on other labelled rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import AnyRun, Manifest, check_writable, expand_home, find_run, read_manifest
from textune.config import RunConfig, build_used
from textune.config.aliases import resolve_aliases
from textune.data import (
    Examples,
    NamedColumns,
    Table,
    build_labelled,
    describe_near,
    read_table,
    sample_examples,
)
from textune.errors import BundleError, flag, note
from textune.evaluation import SeenRows
from textune.files import write_text_atomically
from textune.inference import Predictor
from textune.run.predictions import labels_of, write_predictions
from textune.run.save import update_manifest
from textune.run.seen_rows import SeenRowsWarning, attach_seen, find_seen_rows
from textune.run.table_checks import describe_skipped_rows, refuse_foreign_labels
from textune.run.tables import read_options
from textune.run.test_reads import TEST_READS, count_test_reads, note_test_read
from textune.tasks import AnyEvaluation, build_task

METRICS, PREDICTIONS = "metrics.json", "predictions.parquet"


class NotNotedWarning(UserWarning):
    """The run's folder cannot be written, so it does not say that test rows were read."""


@dataclass(frozen=True)
class Measured:
    """A run on other rows. seen: rows that it was trained on. unwritten: what could not be noted in its folder, why."""

    evaluation: AnyEvaluation
    probabilities: NDArray[Any]
    seen: SeenRows
    unwritten: str | None = None


def evaluate(
    run: AnyRun,
    data: Any,
    *,
    device: str = "auto",
    precision: str = "auto",
    output: str | Path | None = None,
    **settings: Any,
) -> AnyEvaluation:
    """Measure a finished run on other labelled rows and note that these rows were read.

    run: a folder, a `Run`, or the name of a run in the folder `runs`.
    settings: text=, label=, sample= and so on; backbone= and trust= as for `Predictor.load`; for a model that writes
    max_new_tokens= and so on. Any other setting is refused.
    output: an empty or new folder for the figures and the predictions.
    A SeenRowsWarning tells of rows that the run was trained on; `seen` of what is returned has their counts, and
    `seen.unseen` the figures on the others. Raises DataError for a table that has none of the run's labels.
    """
    place = None if output is None else check_output(output)
    settings = resolve_aliases(settings)
    config = build_used("evaluate", settings)
    folder = find_run(run)
    manifest = read_manifest(folder, verify=False)
    examples = read_labelled(manifest, data, config)
    refuse_foreign_rows(manifest, examples)  # here already, before the model is loaded
    for sentence in examples.notes:
        note(sentence)
    predictor = Predictor.load(
        folder, backbone=config.model.backbone, device=device, precision=precision, trust=config.model.trust
    )
    if predictor.generator is not None:
        seed = config.training.seed if "seed" in settings else None
        predictor.generator.set_writing(config.writing, seed, draws_rows=config.data.sample is not None)
    for sentence in describe_unknown(predictor, examples):
        note(sentence)
    measured = measure_rows(predictor, examples, folder, place)
    if measured.seen.seen or not measured.seen.checked:
        note("; ".join(measured.seen.describe()), SeenRowsWarning)
    if measured.unwritten is not None:
        note(f"{measured.unwritten}; output=FOLDER keeps the results elsewhere", NotNotedWarning)
    return measured.evaluation


def measure_rows(predictor: Predictor, examples: Examples, run: Path, output: Path | None = None) -> Measured:
    """Measure a run on labelled rows: on all of them, and on those that it was not trained on.

    output: a folder for the figures, the predictions and, where the run's folder cannot be written, the note of this
    reading. Raises DataError for rows that have none of the run's labels.
    """
    refuse_foreign_rows(predictor.manifest, examples)
    unwritten = _note_read(run, examples, output)
    predictor.long_texts.take_note()  # what was counted before is not of these rows
    probabilities = predictor.answer_examples(examples)
    cut = predictor.long_texts.take_note() if predictor.generator is None else predictor.generator.cut
    if cut is not None:
        note(cut)

    def measure(rows: NDArray[np.int64]) -> AnyEvaluation | None:
        if not predictor.task.has_figures(probabilities[rows]):
            return None
        return measure_some(predictor, examples.take(rows), probabilities[rows])

    seen = find_seen_rows(run, predictor.manifest, examples, measure)
    evaluation = attach_seen(measure_some(predictor, examples, probabilities), seen)
    measured = Measured(evaluation, probabilities, seen, unwritten)
    if output is not None:
        _write_results(output, measured, predictor, examples)
    return measured


def measure_some(predictor: Predictor, examples: Examples, probabilities: NDArray[Any]) -> AnyEvaluation:
    """Return the figures of probabilities that a run gave to labelled rows."""
    labels, task = labels_of(predictor.manifest), predictor.task
    return task.evaluate(
        probabilities,
        task.encode_targets(labels, examples),
        predictor.manifest.labels,
        seed=predictor.manifest.seed,
        unknown=task.find_unknown(labels, examples),
    )


def _note_read(run: Path, examples: Examples, output: Path | None) -> str | None:
    """Note in the run that these rows were read, else in `output`; return why that could not be noted anywhere."""
    try:
        note_test_read(run, examples, "evaluate")
        update_manifest(run, test_reads=count_test_reads(run))
    except OSError as error:
        if output is None:
            reason = error.strerror or error
            return (
                f"{run / TEST_READS}: cannot be written ({reason}), so the run does not note that these rows were read"
            )
        output.mkdir(parents=True, exist_ok=True)
        note_test_read(output, examples, "evaluate")
    return None


def check_output(output: str | Path) -> Path:
    """Return the folder for results; raise BundleError or ConfigError if it has files or cannot be written."""
    folder = expand_home(output)
    if folder.is_symlink() or folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise BundleError(f"{folder}: already exists and is not empty", hint=f"choose another {flag('output', '')}")
    check_writable(folder, flag("output", ""))
    return folder


def _write_results(folder: Path, measured: Measured, predictor: Predictor, examples: Examples) -> None:
    """Write metrics.json and predictions.parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder / PREDICTIONS, examples, measured.probabilities, predictor)
    text = json.dumps(measured.evaluation.to_dict(), indent=2, ensure_ascii=False)
    write_text_atomically(folder / METRICS, text + "\n")


def read_labelled(manifest: Manifest, data: Any, config: RunConfig) -> Examples:
    """Read a labelled table for the run of a manifest, with the run's columns where the table has them."""
    return label_table(manifest, read_table(data, read_options(config.data)), config)


def label_table(manifest: Manifest, table: Table, config: RunConfig) -> Examples:
    """Return the labelled rows of a table, or the sample of them, by the run's columns or those that settings name.

    Their notes say what the reader detected, and how many rows were skipped.
    Raises ConfigError for a setting of written answers, where the run gives labels.
    """
    task = build_task(manifest.task)
    task.check_writing(config.writing)
    named = NamedColumns(config.data.text, config.data.text_pair, config.data.label, config.writing, guess=False)
    known = (*manifest.label_values, *manifest.labels)
    separator = manifest.columns.label_separator
    examples, _, form = build_labelled(table, manifest.columns, named, manifest.task, separator, known)
    skipped = describe_skipped_rows(table.name, len(examples.no_text), len(examples.no_label), task)
    written = [form.note] if form.column_labels else []
    examples = replace(examples, notes=(*table.notes, *written, *examples.notes, *skipped))
    return sample_examples(examples, config.data.sample, config.split_seed)


def refuse_foreign_rows(manifest: Manifest, examples: Examples) -> None:
    """Raise DataError if rows have labels and the run knows none of them: every answer would count as an error."""
    labels = labels_of(manifest)
    refuse_foreign_labels(examples, build_task(manifest.task).find_unknown(labels, examples), labels)


def describe_unknown(predictor: Predictor, examples: Examples) -> list[str]:
    """Return for each label that the run does not know, but that looks like one of its own, what it differs in."""
    labels = labels_of(predictor.manifest)
    unknown = {label for found in predictor.task.find_unknown(labels, examples) for label in found}
    return [f"{examples.name}: {near}" for near in describe_near(sorted(unknown), labels.names)]
