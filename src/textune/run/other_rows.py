"""A finished run measured on other labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from textune.bundle import Manifest
from textune.config import RunConfig, build_config
from textune.data import Examples, Labels, NamedColumns, build_labelled, describe_near, read_table
from textune.inference import Predictor
from textune.run.save import update_manifest
from textune.run.tables import read_options
from textune.run.test_reads import count_test_reads, note_test_read
from textune.tasks import AnyEvaluation


def evaluate(
    run: str | Path, data: Any, *, device: str = "auto", precision: str = "auto", **settings: Any
) -> AnyEvaluation:
    """Measure a finished run on other labelled rows and note that these rows were read.

    settings: text=, label=, sample= and so on; backbone= and trust= as for `Predictor.load`.
    """
    config = build_config(settings)
    predictor = Predictor.load(
        run, backbone=config.model.backbone, device=device, precision=precision, trust=config.model.trust
    )
    examples = read_labelled(predictor, data, config)
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
    manifest, data_config = predictor.manifest, config.data
    table = read_table(data, read_options(data_config))
    named = NamedColumns(data_config.text, data_config.text_pair, data_config.label, guess=False)
    known = (*manifest.label_values, *manifest.labels)
    return build_labelled(table, manifest.columns, named, manifest.task, manifest.columns.label_separator, known)[0]


def describe_unknown(predictor: Predictor, examples: Examples) -> list[str]:
    """Return for each label that the run does not know, but that looks like one of its own, what it differs in."""
    labels = labels_of(predictor.manifest)
    unknown = {label for found in predictor.task.find_unknown(labels, examples) for label in found}
    return [f"{examples.name}: {near}" for near in describe_near(sorted(unknown), labels.names)]


def labels_of(manifest: Manifest) -> Labels:
    """Return the classes of a finished run."""
    return Labels(manifest.label_values, manifest.labels)
