"""evaluation/predictions.parquet: both label columns say the same words, and every figure comes out of it again."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support

from label_tables import as_joined, write_table
from textune.compare.comparison import compare_runs
from textune.compare.records import read_run
from textune.run import Run
from textune.run.predictions import name_labels
from textune.tasks import task_of
from tiny import copy_changeable, make_rows, train_tiny

NAMED = {"0": "negative", "1": "positive"}
KINDS = ("words", "numbers", "names", "swapped", "several", "several-names")


def write_numbers(path: Path, rows: int, strange: int = 0) -> Path:
    """Write reviews labelled 0 and 1; the first of them carry a label of their own."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label"))
        for i, (text, label) in enumerate(make_rows(rows)):
            writer.writerow((text, "9" if i < strange else str(int(label == "positive"))))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> dict[str, Run]:
    place = tmp_path_factory.mktemp("predictions")
    numbers = write_numbers(place / "numbers.csv", 60)
    test = write_numbers(place / "test.csv", 30, strange=3)
    several = write_table(place / "several.csv", as_joined)
    settings: dict[str, dict[str, Any]] = {
        "words": {"data": place / "words.csv"},
        "numbers": {"data": numbers, "test": test},
        "names": {"data": numbers, "test": test, "labels": "0=negative,1=positive"},
        "swapped": {"data": numbers, "test": test, "labels": "0=1,1=0"},
        "several": {"data": several, "test_fraction": 0.3},
        "several-names": {"data": several, "test_fraction": 0.3, "labels": "blame=B,music=M,praise=P"},
    }
    (place / "words.csv").write_text("text,label\n" + "\n".join(",".join(row) for row in make_rows(60)))
    return {kind: train_tiny(backbone=backbone, folder=place / kind, **settings[kind]) for kind in KINDS}


def read(run: Run) -> pa.Table:
    return pq.read_table(run.folder / "evaluation" / "predictions.parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_both_label_columns_use_the_names(kind: str, runs: dict[str, Run]) -> None:
    table, manifest = read(runs[kind]), runs[kind].manifest
    assert table["label"].type == table["predicted_label"].type or not kind.startswith("several")
    for column in ("label", "predicted_label"):
        cells = [cell if isinstance(cell, list) else [cell] for cell in table[column].to_pylist()]
        assert {label for cell in cells for label in cell} <= {*manifest.labels, "9"}, column
    if kind in ("numbers", "names", "swapped"):
        strange = [row for row, label in zip(table["row"].to_pylist(), table["label"].to_pylist(), strict=True)
                   if label == "9"]  # fmt: skip
        assert strange == [1, 2, 3], "a label that the model does not know stays as it is written"
    if kind == "names":
        numbers = read(runs["numbers"])["label"].to_pylist()
        assert [NAMED.get(label, label) for label in numbers] == table["label"].to_pylist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_comes_out_of_the_predictions(kind: str, runs: dict[str, Run]) -> None:
    table, run = read(runs[kind]), runs[kind]
    labels, task = run.manifest.labels, task_of(run.manifest)
    probabilities = np.stack([table[f"probability_{name}"].to_numpy() for name in labels], 1)
    true = [label if isinstance(label, list) else [label] for label in table["label"].to_pylist()]
    unknown = [tuple(name for name in names if name not in labels) for names in true]
    targets: Any
    if kind.startswith("several"):
        targets = np.array([[name in names for name in labels] for names in true], np.float32)
        expected = [list(answer) for answer in task.answer(probabilities, labels)]
    else:
        targets = np.array([labels.index(name) if name in labels else -1 for [name] in true])
        expected = list(task.answer(probabilities, labels))
    assert table["predicted_label"].to_pylist() == expected
    found = task.evaluate(probabilities, targets, labels, seed=run.manifest.seed, unknown=unknown).to_dict()
    stored = run.metrics["models"]["tuned"]
    assert json.loads(json.dumps(found)) == {k: v for k, v in stored.items() if k != "seconds"}
    wrong = {row for row, a, b in zip(table["row"].to_pylist(), table["label"].to_pylist(), expected, strict=True)
             if a != b}  # fmt: skip
    assert {error["row"] for error in run.metrics["confident_errors"]} <= wrong


@pytest.mark.parametrize("kind", ["words", "numbers", "names", "swapped"])
def test_the_figures_of_one_label_are_those_of_scikit_learn(kind: str, runs: dict[str, Run]) -> None:
    table, tuned = read(runs[kind]), runs[kind].metrics["models"]["tuned"]
    labels = list(runs[kind].manifest.labels)
    true, predicted = table["label"].to_pylist(), table["predicted_label"].to_pylist()
    assert tuned["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    for average in ("macro", "weighted"):
        expected = f1_score(true, predicted, average=average, zero_division=0.0)
        assert tuned[average]["f1"] == pytest.approx(expected), average
    each = precision_recall_fscore_support(true, predicted, labels=labels, zero_division=0.0)
    if kind == "words":
        for i, figures in enumerate(tuned["classes"]):
            found = [figures[name] for name in ("precision", "recall", "f1", "support")]
            assert found == pytest.approx([values[i] for values in each])
    known = [i for i, label in enumerate(true) if label in labels]
    probabilities = np.stack([table[f"probability_{name}"].to_numpy() for name in labels], 1)[known]
    numbers = [labels.index(true[i]) for i in known]
    assert tuned["log_loss"] == pytest.approx(log_loss(numbers, probabilities, labels=range(len(labels))))


@pytest.mark.parametrize("kind", ["several", "several-names"])
def test_the_figures_of_several_labels_are_those_of_scikit_learn(kind: str, runs: dict[str, Run]) -> None:
    table, tuned = read(runs[kind]), runs[kind].metrics["models"]["tuned"]
    labels = runs[kind].manifest.labels
    true, predicted = (
        np.array([[name in cell for name in labels] for cell in table[column].to_pylist()])
        for column in ("label", "predicted_label")
    )
    for average in ("micro", "macro", "weighted"):
        expected = f1_score(true, predicted, average=average, zero_division=0.0)
        assert tuned[average]["f1"] == pytest.approx(expected), average


@pytest.mark.parametrize("kind", ["names", "swapped", "several-names"])
def test_predictions_of_older_runs_are_read_like_new_ones(kind: str, runs: dict[str, Run], tmp_path: Path) -> None:
    """They have the true labels as in the data, and no word about it."""
    run = runs[kind]
    old = copy_changeable(run.folder, tmp_path / "old")
    path = old / "evaluation" / "predictions.parquet"
    table = pq.read_table(path)
    values = dict(zip(run.manifest.labels, run.manifest.label_values, strict=True))
    back = [[values[n] for n in cell] if isinstance(cell, list) else values.get(cell, cell)
            for cell in table["label"].to_pylist()]  # fmt: skip
    assert name_labels(run.manifest, back) == table["label"].to_pylist()
    place = table.column_names.index("label")
    table = table.set_column(place, "label", pa.array(back, table["label"].type)).replace_schema_metadata(None)
    pq.write_table(table, path)
    new, older = read_run(run.folder), read_run(old)
    assert new.labels == older.labels
    for name in ("true", "predicted", "unknown"):
        assert np.array_equal(getattr(new, name), getattr(older, name)), name


def test_the_demo_has_the_same_words_in_both_columns(runs: dict[str, Run], backbone: Path, tmp_path: Path) -> None:
    run = train_tiny(
        "embedded:rotten_tomatoes", backbone, tmp_path / "demo", labels="0=negative,1=positive", sample="80"
    )
    table = read(run)
    assert {*table["label"].to_pylist()} == {"negative", "positive"}
    right = [a == b for a, b in zip(table["label"].to_pylist(), table["predicted_label"].to_pylist(), strict=True)]
    assert np.mean(right) == run.metrics["models"]["tuned"]["accuracy"]
    with pytest.raises(Exception, match="same rows"):
        compare_runs([run.folder, runs["words"].folder])
