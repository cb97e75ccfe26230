"""The second half of a run: four classifiers measured on the same rows, and the evaluation folder written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from textune.bundle import SETTINGS, Manifest, TextColumns
from textune.config import RunConfig, build_config
from textune.data import (
    MULTI,
    Examples,
    Labels,
    build_examples,
    choose_columns,
    choose_form,
    match_label_columns,
    read_table,
    refuse_part_of_columns,
)
from textune.evaluation import AnyEvaluation, ConfidentError, MultiLabelEvaluation, Task, build_task
from textune.files import append_json_line, read_json_lines, write_text_atomically
from textune.inference import Predictor
from textune.report import BASE, MAJORITY, PROBE, TFIDF, TUNED, CardInput, ReportInput, render_card, write_report
from textune.report.snippets import reload_by_textune, reload_without_textune
from textune.run.costs import Costs
from textune.run.save import update_manifest
from textune.run.tables import read_options
from textune.version import __version__

TEST_READS = "test_reads.jsonl"


class Untuned(Protocol):
    """The backbone before tuning: logits float32 [rows, classes] of a linear probe on it, and of its new random head.

    probe_seconds: what solving the probe took before it was asked here.
    """

    probe_seconds: float

    @property
    def has_probe(self) -> bool:
        """Whether a probe can be solved."""

    def probe_logits(self, examples: Examples) -> np.ndarray[Any, Any]:
        """Returns the probe's."""

    def base_logits(self, examples: Examples) -> np.ndarray[Any, Any]:
        """Returns the random head's."""


@dataclass(frozen=True)
class Measured:
    """One classifier on the evaluation rows. seconds: training and prediction, where known."""

    name: str
    key: str
    evaluation: AnyEvaluation
    seconds: float | None
    difference: Any = None

    def as_row(self) -> dict[str, Any]:
        """Returns the form that reports take."""
        return {
            "name": self.name, "evaluation": self.evaluation, "seconds": self.seconds, "difference": self.difference
        }  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """All classifiers on one split, the tuned one last, and its most confident errors."""

    split: str
    rows: tuple[Measured, ...]
    errors: tuple[ConfidentError, ...]

    @property
    def tuned(self) -> AnyEvaluation:
        """The tuned model's figures."""
        return self.rows[-1].evaluation

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of metrics.json."""
        return {
            "split": self.split,
            "task": self.tuned.task,
            "models": {r.key: r.evaluation.to_dict() | {"seconds": r.seconds} for r in self.rows},
        }


def measure_run(
    predictor: Predictor, untuned: Untuned, train: Examples, split: str, examples: Examples, labels: Labels,
    folder: Path, *, seed: int, training_seconds: float, validation: Examples | None = None,
) -> Figures:  # fmt: skip
    """Measures four simpler classifiers and the tuned model on the same rows.

    They are the majority class, TF-IDF + logistic regression, the linear probe on the frozen backbone, and the base
    model before tuning.

    The tuned model's figures come from the Predictor, loaded from the saved bundle. With several labels per text the
    rivals' thresholds are tuned on the validation rows, as the tuned model's are.
    """
    if split == "test":
        note_test_read(folder, examples, "train")
    task, names = predictor.task, labels.names
    targets, unknown = labels.encode_examples(examples), labels.find_unknown(examples)
    started = time.monotonic()
    tuned = predictor.predict_proba(examples.texts(), examples.text_pairs())
    tuned_seconds = training_seconds + time.monotonic() - started
    rows = []
    for name, key, predict in _list_rivals(task, untuned, train, validation, examples, labels, seed):
        started = time.monotonic()
        own, probabilities = predict()
        seconds = time.monotonic() - started + (untuned.probe_seconds if key == "probe" else 0.0)
        evaluation = own.evaluate(probabilities, targets, names, seed=seed, unknown=unknown)
        difference = task.compare(targets, tuned, probabilities, own, unknown, seed)
        rows.append(Measured(name, key, evaluation, seconds, difference))
    evaluation = task.evaluate(tuned, targets, names, seed=seed, unknown=unknown)
    rows.append(Measured(TUNED, "tuned", evaluation, tuned_seconds))
    errors = collect_errors(predictor, tuned, examples)
    write_predictions(folder / "evaluation" / "predictions.parquet", examples, tuned, predictor)
    return Figures(split, tuple(rows), tuple(errors))


def _list_rivals(
    task: Task, untuned: Untuned, train: Examples, validation: Examples | None, examples: Examples, labels: Labels,
    seed: int,
) -> list[tuple[str, str, Callable[[], tuple[Task, np.ndarray[Any, Any]]]]]:  # fmt: skip
    """Returns name, key, and what gives each rival's thresholds and its probabilities of the evaluation rows."""
    seen, rows, classes = labels.encode_examples(train), len(examples), len(labels)
    held = None if task.thresholds is None or validation is None else validation
    held_targets = np.zeros((0, classes)) if held is None else labels.encode_examples(held)

    def tune(first: np.ndarray[Any, Any]) -> Task:
        """Takes the probabilities of the validation rows."""
        return build_task(task.name).tune(lambda: first, held_targets)

    def run_tfidf() -> tuple[Task, np.ndarray[Any, Any]]:
        texts = joined_texts(examples) if held is None else joined_texts(held) + joined_texts(examples)
        both = task.predict_tfidf(joined_texts(train), seen, texts, classes, seed)
        return tune(both[: len(both) - rows]), both[len(both) - rows :]

    def run_untuned(logits: Callable[[Examples], np.ndarray[Any, Any]]) -> tuple[Task, np.ndarray[Any, Any]]:
        first = np.zeros((0, classes)) if held is None else task.probabilities(logits(held))
        return tune(first), task.probabilities(logits(examples))

    return [
        (MAJORITY, "majority", lambda: task.predict_majority(seen, rows, classes)),
        (TFIDF, "tfidf", run_tfidf),
        *([(PROBE, "probe", lambda: run_untuned(untuned.probe_logits))] if untuned.has_probe else []),
        (BASE, "base", lambda: run_untuned(untuned.base_logits)),
    ]


def collect_errors(
    predictor: Predictor, probabilities: np.ndarray[Any, Any], examples: Examples
) -> list[ConfidentError]:
    """Returns the twenty wrong answers that the model was surest of."""
    labels = labels_of(predictor.manifest)
    return predictor.task.find_errors(
        probabilities, labels.encode_examples(examples), labels.names, joined_texts(examples), examples.rows(),
        labels.find_unknown(examples),
    )  # fmt: skip


def joined_texts(examples: Examples) -> list[str]:
    """Returns one text per row; the two of a pair with a bar between them."""
    pairs = examples.text_pairs()
    if pairs is None:
        return examples.texts()
    return [f"{a} | {b}" for a, b in zip(examples.texts(), pairs, strict=True)]


def write_predictions(
    path: Path, examples: Examples, probabilities: np.ndarray[Any, Any], predictor: Predictor
) -> None:
    """Writes row number, text, true label, predicted label and all probabilities as Parquet.

    With several labels per text both label columns hold lists.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"row": examples.rows(), "text": examples.texts()}
    if (pairs := examples.text_pairs()) is not None:
        columns["text_pair"] = pairs
    answers = predictor.task.answer(probabilities, predictor.labels)
    if examples.task == MULTI:
        lists = pa.list_(pa.string())
        columns["label"] = pa.array([list(labels) for labels in examples.label_sets()], lists)
        columns["predicted_label"] = pa.array([list(labels) for labels in answers], lists)
    else:
        columns |= {"label": examples.labels(), "predicted_label": list(answers), "probability": probabilities.max(1)}
    columns |= {f"probability_{name}": probabilities[:, i] for i, name in enumerate(predictor.labels)}
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)


def note_test_read(folder: Path, examples: Examples, command: str) -> None:
    """Adds a line to test_reads.jsonl: these rows were measured on."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"), "command": command, "rows": len(examples),
        "fingerprint": examples.fingerprint,
    }  # fmt: skip
    append_json_line(folder / TEST_READS, line)


def count_test_reads(folder: Path) -> int:
    """Returns how often a test set was measured on."""
    return len(read_json_lines(folder / TEST_READS))


def count_reads_of_own_rows(folder: Path) -> int:
    """Returns how often the test rows that a run's figures are of were measured on, at least.

    Not what `evaluate` read elsewhere; and not where it read these rows among others, which is not known.
    """
    reads = read_json_lines(folder / TEST_READS)
    if not reads or reads[0]["command"] != "train":
        return 0
    return [line["fingerprint"] for line in reads].count(reads[0]["fingerprint"])


def write_evaluation(
    folder: Path, manifest: Manifest, figures: Figures, *, facts: list[tuple[str, str]], summary: list[tuple[str, str]],
    costs: Costs, warnings: list[str], library_name: str, base_model: str | None,
) -> Path:  # fmt: skip
    """Writes evaluation/metrics.json, evaluation/report.html and the model card; returns the report's path.

    summary: for people. costs: the same as numbers, for comparisons.
    """
    target = folder / "evaluation"
    target.mkdir(exist_ok=True)
    content = figures.to_dict() | {
        "summary": dict(summary), "costs": vars(costs), "data": dict(facts), "warnings": warnings,
        "confident_errors": [vars(e) for e in figures.errors],
    }  # fmt: skip
    write_text_atomically(target / "metrics.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    report = target / "report.html"
    rows = [row.as_row() for row in figures.rows]
    write_report(
        ReportInput(
            title=folder.name,
            created=manifest.created,
            textune_version=__version__,
            task_summary=summary,
            labels=manifest.labels,
            split=figures.split,
            comparison=rows,
            history=read_json_lines(folder / "metrics.jsonl"),
            confident_errors=figures.errors,
            data_facts=facts,
            warnings=warnings,
            settings_yaml=(folder / SETTINGS).read_text(encoding="utf-8"),
            reload_lines=reload_by_textune(folder.name),
        ),
        report,
    )
    card = CardInput(
        title=folder.name,
        textune_version=__version__,
        base_model=base_model,
        library_name=library_name,
        labels=manifest.labels,
        split=figures.split,
        comparison=rows,
        facts=summary,
        warnings=warnings,
        reload_lines=reload_without_textune(manifest, folder.name),
        tags=[manifest.method],
        task=manifest.task,
    )
    write_text_atomically(folder / "README.md", render_card(card))
    return report


def read_labelled(predictor: Predictor, data: Any, config: RunConfig) -> Examples:
    """Reads a labelled table for a finished run, with the run's columns where the table has them."""
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
    """Returns the run's label columns where the table has them, else None: look for others."""
    names = columns.indicators or ((columns.label,) if columns.label is not None else ())
    return names if names and set(names) <= there else None


def evaluate(
    run: str | Path, data: Any, *, device: str = "auto", precision: str = "auto", **settings: Any
) -> AnyEvaluation:
    """Measures a finished run on other labelled rows and notes that these rows were read."""
    predictor = Predictor.load(run, device=device, precision=precision)
    examples = read_labelled(predictor, data, build_config(settings))
    return measure_predictor(predictor, examples, Path(run))[0]


def measure_predictor(
    predictor: Predictor, examples: Examples, run: Path
) -> tuple[AnyEvaluation, np.ndarray[Any, Any]]:
    """Returns the figures on labelled rows and the probabilities behind them."""
    manifest, labels = predictor.manifest, labels_of(predictor.manifest)
    note_test_read(run, examples, "evaluate")
    update_manifest(run, test_reads=count_test_reads(run))
    probabilities = predictor.predict_proba(examples.texts(), examples.text_pairs())
    evaluation = predictor.task.evaluate(
        probabilities, labels.encode_examples(examples), manifest.labels, seed=manifest.seed,
        unknown=labels.find_unknown(examples),
    )  # fmt: skip
    return evaluation, probabilities


def labels_of(manifest: Manifest) -> Labels:
    """Returns the classes of a finished run."""
    return Labels(manifest.label_values, manifest.labels)


def summarise_figures(split: str, tuned: AnyEvaluation) -> dict[str, Any]:
    """Returns what the manifest keeps of the tuned model's figures."""
    figures = {"accuracy": tuned.accuracy, "macro_f1": tuned.macro.f1}
    if isinstance(tuned, MultiLabelEvaluation):
        figures["micro_f1"] = tuned.micro.f1
    intervals = {f"{name}_interval": list(vars(tuned.intervals[name]).values()) for name in figures}
    return {"split": split, "rows": tuned.rows, **figures, **intervals}


def peak_memory_mb() -> float:
    """Returns the most memory this process ever had resident, in MB (10^6 bytes)."""
    import resource
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
