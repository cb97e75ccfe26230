"""The second half of a run: four classifiers measured on the same rows, and the evaluation folder written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import textune
from textune.bundle import Manifest, append_json_line, read_json_lines, write_text_atomically
from textune.config import RunConfig, build_config
from textune.data import Examples, Labels, build_examples, choose_columns, read_table
from textune.evaluation import (
    ConfidentError,
    Evaluation,
    find_confident_errors,
    paired_difference,
    predict_majority,
    predict_tfidf,
)
from textune.evaluation import evaluate as evaluate_rows
from textune.predict import Predictor, softmax
from textune.preparation import read_options
from textune.report import BASE, MAJORITY, TFIDF, TUNED, CardInput, ReportInput, render_card, write_report
from textune.saving import update_manifest

TEST_READS = "test_reads.jsonl"


@dataclass(frozen=True)
class Measured:
    """One classifier on the evaluation rows. seconds: training and prediction, where known."""

    name: str
    key: str
    evaluation: Evaluation
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
    def tuned(self) -> Evaluation:
        """The tuned model's figures."""
        return self.rows[-1].evaluation

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of metrics.json."""
        return {
            "split": self.split,
            "models": {r.key: r.evaluation.to_dict() | {"seconds": r.seconds} for r in self.rows},
        }


def measure_run(
    predictor: Predictor, base_logits: Callable[[Examples], np.ndarray[Any, Any]], train: Examples, split: str,
    examples: Examples, labels: Labels, folder: Path, *, seed: int, training_seconds: float,
) -> Figures:  # fmt: skip
    """Measures majority class, TF-IDF + logistic regression, the base model and the tuned model on the same rows.

    The tuned model's figures come from the Predictor, loaded from the saved bundle.
    """
    if split == "test":
        note_test_read(folder, examples, "train")
    targets = np.asarray(labels.encode(examples.labels() or []), np.int64)
    seen = np.asarray(labels.encode(train.labels() or []), np.int64)
    classes = len(labels.names)

    def run_tfidf() -> np.ndarray[Any, Any]:
        return predict_tfidf(joined_texts(train), seen, joined_texts(examples), classes, seed)

    started = time.monotonic()
    tuned = predictor.predict_proba(examples.texts(), examples.text_pairs())
    tuned_seconds = training_seconds + time.monotonic() - started
    rivals: list[tuple[str, str, Callable[[], np.ndarray[Any, Any]]]] = [
        (MAJORITY, "majority", lambda: predict_majority(seen, len(examples), classes)),
        (TFIDF, "tfidf", run_tfidf),
        (BASE, "base", lambda: softmax(base_logits(examples))),
    ]
    unknown = [v for v, t in zip(examples.labels() or [], targets, strict=True) if t < 0]
    correct = tuned.argmax(1) == targets
    rows = []
    for name, key, predict in rivals:
        started = time.monotonic()
        probabilities = predict()
        seconds = time.monotonic() - started
        evaluation = evaluate_rows(probabilities, targets, labels.names, seed=seed, unknown=unknown)
        difference = paired_difference(correct, probabilities.argmax(1) == targets, seed)
        rows.append(Measured(name, key, evaluation, seconds, difference))
    evaluation = evaluate_rows(tuned, targets, labels.names, seed=seed, unknown=unknown)
    rows.append(Measured(TUNED, "tuned", evaluation, tuned_seconds))
    errors = collect_errors(tuned, targets, labels.names, examples)
    write_predictions(folder / "evaluation" / "predictions.parquet", examples, tuned, labels.names)
    return Figures(split, tuple(rows), tuple(errors))


def collect_errors(
    probabilities: np.ndarray[Any, Any],
    targets: np.ndarray[Any, Any],
    labels: Sequence[str],
    examples: Examples,
) -> list[ConfidentError]:
    """Returns the twenty wrong answers that the model was surest of."""
    unknown = [v for v, t in zip(examples.labels() or [], targets, strict=True) if t < 0]
    texts, rows = joined_texts(examples), examples.rows()
    return find_confident_errors(probabilities, targets, labels, texts, rows, 20, unknown=unknown)


def joined_texts(examples: Examples) -> list[str]:
    """Returns one text per row; the two of a pair with a bar between them."""
    pairs = examples.text_pairs()
    if pairs is None:
        return examples.texts()
    return [f"{a} | {b}" for a, b in zip(examples.texts(), pairs, strict=True)]


def write_predictions(
    path: Path, examples: Examples, probabilities: np.ndarray[Any, Any], labels: Sequence[str]
) -> None:
    """Writes row number, text, true label, predicted label and all probabilities as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"row": examples.rows(), "text": examples.texts()}
    if (pairs := examples.text_pairs()) is not None:
        columns["text_pair"] = pairs
    columns["label"] = examples.labels()
    columns["predicted_label"] = [labels[i] for i in probabilities.argmax(1)]
    columns["probability"] = probabilities.max(1)
    columns |= {f"probability_{name}": probabilities[:, i] for i, name in enumerate(labels)}
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


def write_evaluation(
    folder: Path, manifest: Manifest, figures: Figures, *, facts: list[tuple[str, str]], summary: list[tuple[str, str]],
    warnings: list[str], library_name: str, base_model: str | None,
) -> Path:  # fmt: skip
    """Writes evaluation/metrics.json, evaluation/report.html and the model card; returns the report's path."""
    target = folder / "evaluation"
    target.mkdir(exist_ok=True)
    content = figures.to_dict() | {
        "summary": dict(summary), "data": dict(facts), "warnings": warnings,
        "confident_errors": [vars(e) for e in figures.errors],
    }  # fmt: skip
    write_text_atomically(target / "metrics.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    report = target / "report.html"
    rows = [row.as_row() for row in figures.rows]
    write_report(
        ReportInput(
            title=folder.name,
            created=manifest.created,
            textune_version=textune.__version__,
            task_summary=summary,
            labels=manifest.labels,
            split=figures.split,
            comparison=rows,
            history=read_json_lines(folder / "metrics.jsonl"),
            confident_errors=figures.errors,
            data_facts=facts,
            warnings=warnings,
            settings_yaml=(folder / "config.yaml").read_text(encoding="utf-8"),
            reload_lines=_reload_lines(folder.name),
        ),
        report,
    )
    card = CardInput(
        title=folder.name,
        textune_version=textune.__version__,
        base_model=base_model,
        library_name=library_name,
        labels=manifest.labels,
        split=figures.split,
        comparison=rows,
        facts=summary,
        warnings=warnings,
        reload_lines=_reload_without_textune(manifest, folder.name),
        tags=[manifest.method],
    )
    write_text_atomically(folder / "README.md", render_card(card))
    return report


def _reload_lines(name: str) -> str:
    return f'import textune\nmodel = textune.load("{name}")\nmodel.predict(["a text to classify"])'


def _reload_without_textune(manifest: Manifest, name: str) -> str:
    names = ", ".join(f"{i}: {label!r}" for i, label in enumerate(manifest.labels))
    if "adapter_config.json" in manifest.files:
        return (
            "from peft import AutoPeftModelForSequenceClassification\n"
            "from transformers import AutoTokenizer\n"
            f"labels = {{{names}}}\n"
            "model = AutoPeftModelForSequenceClassification.from_pretrained(\n"
            f"    {name!r}, num_labels=len(labels), id2label=labels)\n"
            f"tokenizer = AutoTokenizer.from_pretrained({name!r})"
            + ("" if manifest.long_text.form == "truncate" else "  # texts longer than max_length: with textune only")
        )
    return (
        f"# once, with textune: textune export {name} --to merged --output merged\n"
        "from transformers import pipeline\n"
        'classify = pipeline("text-classification", "merged")'
    )


def read_labelled(predictor: Predictor, data: Any, config: RunConfig) -> Examples:
    """Reads a labelled table for a finished run, with the run's columns where the table has them."""
    columns, options = predictor.manifest.columns, read_options(config.data)
    table = read_table(data, options)
    there = set(table.columns)
    chosen = choose_columns(
        table,
        text=config.data.text or (columns.text if set(columns.text) <= there else None),
        text_pair=config.data.text_pair or columns.text_pair,
        label=config.data.label or (columns.label if columns.label in there else None),
        joiner=columns.joiner,
    )
    return build_examples(table, chosen)


def evaluate(
    run: str | Path, data: Any, *, device: str = "auto", precision: str = "auto", **settings: Any
) -> Evaluation:
    """Measures a finished run on other labelled rows and notes that these rows were read."""
    predictor = Predictor.load(run, device=device, precision=precision)
    examples = read_labelled(predictor, data, build_config(settings))
    return measure_predictor(predictor, examples, Path(run))[0]


def measure_predictor(predictor: Predictor, examples: Examples, run: Path) -> tuple[Evaluation, np.ndarray[Any, Any]]:
    """Returns the figures on labelled rows and the probabilities behind them."""
    manifest = predictor.manifest
    note_test_read(run, examples, "evaluate")
    update_manifest(run, test_reads=count_test_reads(run))
    targets = encode_targets(manifest, examples)
    probabilities = predictor.predict_proba(examples.texts(), examples.text_pairs())
    unknown = [v for v, t in zip(examples.labels() or [], targets, strict=True) if t < 0]
    return evaluate_rows(probabilities, targets, manifest.labels, seed=manifest.seed, unknown=unknown), probabilities


def encode_targets(manifest: Manifest, examples: Examples) -> np.ndarray[Any, Any]:
    """Returns the class number of each row for a finished run, -1 for labels that it does not know."""
    labels = Labels(manifest.label_values, manifest.labels)
    return np.asarray(labels.encode(examples.labels() or []), np.int64)
