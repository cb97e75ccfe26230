"""Several labels per text, end to end: train, resume, evaluate, predict, report, export, and what is refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import textune
from label_tables import LABELS, ROWS, as_joined, as_list, as_marks, make_rows, write_table
from textune.bundle import OldBundleWarning, read_manifest
from textune.config import build_config
from textune.errors import BundleError, ConfigError, DataError
from textune.export.merged import export_merged
from textune.inference import Predictor
from textune.process.interrupt import RunInterrupted
from textune.run import Run, resume
from textune.sklearn import TextClassifier
from tiny import StopAt, call_textune, hash_weights, settings_for, train_tiny


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("lists") / "lists.csv", as_list)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, backbone: Path, lists: Path) -> Run:
    return train_tiny(lists, backbone, tmp_path_factory.mktemp("run") / "several", epochs=25, learning_rate=1e-2)


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory, backbone: Path, lists: Path) -> Run:
    """A run of two epochs, where it need not learn."""
    return train_tiny(lists, backbone, tmp_path_factory.mktemp("brief") / "several")


def test_a_run_learns_and_its_folder_says_what_it_is(run: Run) -> None:
    manifest = read_manifest(run.folder)
    assert manifest.task == run.metrics["task"] == "multi_label" and manifest.labels == LABELS
    assert manifest.thresholds is not None and len(manifest.thresholds) == 3
    tuned, majority = (run.metrics["models"][key] for key in ("tuned", "majority"))
    assert tuned["micro"]["f1"] > majority["micro"]["f1"] + 0.05
    assert manifest.metrics["micro_f1"] == tuned["micro"]["f1"]
    settings = (run.folder / "config.yaml").read_text(encoding="utf-8")
    assert "task: multi_label" in settings and "metric: micro_f1" in settings
    evaluations = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert all({"micro_f1", "loss"} <= set(line) for line in evaluations if line["kind"] == "evaluation")


def test_predictions_are_the_labels_from_their_thresholds_on(run: Run) -> None:
    predictor = run.load()
    texts = [text for text, _ in make_rows()]
    probabilities = predictor.predict_proba(texts)
    assert probabilities.shape == (ROWS, 3) and not np.allclose(probabilities.sum(1), 1)
    cuts = predictor.manifest.thresholds
    expected = [tuple(n for n, p, t in zip(LABELS, row, cuts, strict=True) if p >= t) for row in probabilities]
    assert predictor.predict(texts) == run.predict(texts) == expected
    first = predictor.classify(texts)[7]
    assert first.labels == expected[7] and list(first.answer) == list(expected[7])
    assert first.probabilities == pytest.approx(dict(zip(LABELS, probabilities[7], strict=True)))


def test_thresholds_come_from_validation_rows_alone(run: Run, backbone: Path, lists: Path, tmp_path: Path) -> None:
    """Other test rows, the same thresholds; other validation labels, other thresholds."""
    rows = make_rows()
    other = write_table(tmp_path / "other.csv", as_list, 20)
    held = write_table(tmp_path / "held.csv", as_list, 40)
    for table in (other, held):  # copies of training rows tune nothing
        pl.read_csv(table, infer_schema=False).with_columns(pl.col("text") + " again").write_csv(table)
    found = {}
    for name, test, validation in (("a", other, held), ("b", held, held), ("c", other, other)):
        run = train_tiny(lists, backbone, tmp_path / name, test=test, validation=validation)
        found[name] = read_manifest(run.folder).thresholds
    assert found["a"] == found["b"] != found["c"]
    without = train_tiny(lists, backbone, tmp_path / "d", validation_fraction=0, epochs=1, sample=40)
    assert read_manifest(without.folder).thresholds == (0.5,) * 3
    fixed = train_tiny(lists, backbone, tmp_path / "e", threshold=0.3, epochs=1)
    assert read_manifest(fixed.folder).thresholds == (0.3,) * 3
    assert len(rows) == ROWS


def test_all_forms_of_the_same_labels_give_the_same_weights(brief: Run, backbone: Path, tmp_path: Path) -> None:
    marks = write_table(tmp_path / "marks.csv", as_marks)
    same = train_tiny(marks, backbone, tmp_path / "marks", label=",".join(LABELS))
    assert hash_weights(same.folder) == hash_weights(brief.folder)
    columns = read_manifest(same.folder).columns
    assert columns.indicators == LABELS and columns.label is None
    # evaluating takes the run's own label columns, or those that are named, in whatever form they are
    assert same.evaluate(marks).rows == ROWS
    listed = write_table(tmp_path / "more.csv", as_list)
    assert same.evaluate(listed, label="labels").rows == ROWS
    with pytest.raises(DataError, match=f"no column '{LABELS[0]}', which the run was trained on as label"):
        same.evaluate(listed)
    renamed = write_table(tmp_path / "renamed.csv", lambda labels: {f"is_{n}": m for n, m in as_marks(labels).items()})
    named = same.evaluate(renamed, label=",".join(f"is_{label}" for label in LABELS))
    assert named.to_dict() == same.evaluate(marks).to_dict()
    part = write_table(tmp_path / "part.csv", lambda labels: {"praise": "1", "label": "0"})
    with pytest.raises(DataError, match="of training, but not 'blame', 'music'"):
        same.evaluate(part)
    rows = [{"text": text, "labels": list(labels)} for text, labels in make_rows()]
    memory = textune.train(
        rows, **{k: v for k, v in settings_for("", backbone, tmp_path / "memory", epochs=1).items() if k != "data"}
    )
    assert memory.manifest.task == "multi_label"


def test_joined_labels_train_and_an_empty_cell_is_set_apart(backbone: Path, tmp_path: Path) -> None:
    progress = StopAt()
    table = write_table(tmp_path / "joined.csv", as_joined)
    found = train_tiny(table, backbone, tmp_path / "joined", progress)
    assert found.manifest.task == "multi_label"
    assert any("rows without label were skipped" in warning for warning in found.metrics["warnings"])
    assert any("task: multi_label" in line and "task=single_label" in line for line in progress.said)
    whole = train_tiny(table, backbone, tmp_path / "whole", task="single_label", label_smoothing=0.1)
    assert whole.manifest.task == "single_label" and "blame|music" in whole.manifest.labels


def test_an_interrupted_run_ends_in_the_same_weights_and_thresholds(
    brief: Run, backbone: Path, lists: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunInterrupted):
        train_tiny(lists, backbone, tmp_path / "again", StopAt(11, signal.SIGTERM))
    again = resume(tmp_path / "again")
    assert hash_weights(again.folder) == hash_weights(brief.folder)
    assert again.manifest.thresholds == brief.manifest.thresholds


def test_the_report_and_the_card_speak_of_labels(run: Run) -> None:
    page = run.report.read_text(encoding="utf-8")
    assert "micro F1" in page and "Hamming loss" in page and "threshold" in page and "average precision" in page
    assert "Confusion matrix" not in page and "Most frequent confusions" not in page
    assert "multi_label" in page
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    assert (
        "| model | micro F1 | macro F1 | log loss |" in card
        and "accuracy" not in card.partition("---\n")[2].partition("---")[0]
    )
    code = re.search(r"```python\n(.*?)```", card, re.S)[1]
    assert "sigmoid" in code and repr(run.manifest.thresholds[0]) in code


def test_the_cards_lines_give_the_same_labels(
    run: Run, backbone: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", card, re.S)[1]
    text = make_rows()[7][0]
    code = code.replace("a text to classify", text)
    adapter = json.loads((run.folder / "adapter_config.json").read_text(encoding="utf-8"))
    monkeypatch.chdir(run.folder.parent)
    monkeypatch.setattr("transformers.utils.hub.is_offline_mode", lambda: True, raising=False)
    (run.folder.parent / adapter["base_model_name_or_path"]).symlink_to(backbone)
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out.strip().splitlines()[-1] == str(list(run.predict([text])[0]))


def test_the_command_line_predicts_evaluates_and_reports(run: Run, lists: Path, work: Path) -> None:
    text = make_rows()[7][0]
    words = ("predict", str(run.folder), text)
    given = run.predict([text])[0]
    assert ", ".join(given) in call_textune(*words, cwd=work).stdout
    told = json.loads(call_textune(*words, "--json", cwd=work).stdout)["predictions"][0]
    assert tuple(told["labels"]) == given and set(told["probabilities"]) == set(LABELS)
    typed = call_textune("predict", str(run.folder), "-", cwd=work, stdin=f"{text}\n")
    assert ", ".join(given) in typed.stdout
    output = call_textune("evaluate", str(run.folder), str(lists), cwd=work).stdout
    assert (
        re.search("^micro F1", output, re.MULTILINE) and "Hamming loss" in output and "most confident errors" in output
    )
    stored = json.loads(call_textune("evaluate", str(run.folder), str(lists), "--json", cwd=work).stdout)
    assert stored["task"] == "multi_label" and stored["rows"] == ROWS
    assert "micro F1" in call_textune("report", str(run.folder), cwd=work).stdout
    report = json.loads(call_textune("report", str(run.folder), "--json", cwd=work).stdout)
    assert report["micro_f1"] == run.metrics["models"]["tuned"]["micro"]["f1"]
    assert "multi_label" in call_textune("inspect", str(run.folder), cwd=work).stdout


def test_files_get_joined_labels_or_lists(run: Run, work: Path) -> None:
    import pyarrow.parquet as pq

    rows = [text for text, _ in make_rows(9)]
    with (work / "in.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["text"], *([text] for text in rows), [" "]])
    expected = run.predict(rows)
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        call_textune("predict", str(run.folder), "in.csv", "--output", name, "--probabilities", cwd=work)
    with (work / "out.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["label"] for row in table] == [*("|".join(labels) for labels in expected), ""]
    assert set(table[0]) == {"text", "label", *(f"probability_{label}" for label in LABELS)}
    lines = [json.loads(line) for line in (work / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["label"] for line in lines] == [*map(list, expected), None]
    assert pq.read_table(work / "out.parquet")["label"].to_pylist() == [*map(list, expected), None]


def test_labels_of_test_rows_that_training_never_saw_are_counted(run: Run, work: Path) -> None:
    rows = [
        {"text": text, "labels": [*labels, *(["odd"] if i < 3 else [])]}
        for i, (text, labels) in enumerate(make_rows(20))
    ]
    evaluation = run.evaluate(rows)
    assert evaluation.unknown_labels == {"odd": 3}
    assert evaluation.rows == 20 and "odd" in evaluation.report_text()


def test_the_evaluation_folder_keeps_lists(run: Run) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(run.folder / "evaluation" / "predictions.parquet")
    assert table["label"].to_pylist()[0] is not None and "probability" not in table.column_names
    assert [tuple(v) for v in table["predicted_label"].to_pylist()] == run.load(precision="fp32").predict(
        table["text"].to_pylist()
    )
    errors = run.metrics["confident_errors"]
    assert all(error["true"] != error["predicted"] for error in errors)


def test_a_merged_export_is_of_its_kind_and_names_the_thresholds(run: Run, work: Path, backbone: Path) -> None:
    folder = export_merged(run.folder, work / "merged", backbone=str(backbone))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["problem_type"] == "multi_label_classification"
    thresholds = json.loads((folder / "thresholds.json").read_text(encoding="utf-8"))
    assert tuple(thresholds.values()) == run.manifest.thresholds and tuple(thresholds) == LABELS
    from transformers import pipeline

    text = make_rows()[7][0]
    told = pipeline("text-classification", str(folder), top_k=None)([text])[0]
    own = Predictor.load(run.folder, precision="fp32").classify([text])[0].probabilities
    assert {entry["label"]: entry["score"] for entry in told} == pytest.approx(own, abs=1e-4), "the pipeline's sigmoid"
    stdout = call_textune("export", str(run.folder), "--output", "other", "--backbone", str(backbone), cwd=work).stdout
    assert "thresholds.json" in stdout


def test_class_weights_change_what_is_learnt(
    run: Run, backbone: Path, lists: Path, reviews: Path, tmp_path: Path
) -> None:
    plain = train_tiny(lists, backbone, tmp_path / "plain", epochs=3)
    weighted = train_tiny(lists, backbone, tmp_path / "weighted", epochs=3, class_weights="blame=9,music=1,praise=1")
    texts = [text for text, _ in make_rows()]
    lead = weighted.load().predict_proba(texts).mean(0) - plain.load().predict_proba(texts).mean(0)
    assert lead[0] > 0.05 and lead[0] > lead[1:].max() + 0.05
    single = train_tiny(reviews, backbone, tmp_path / "single", class_weights={"positive": 20, "negative": 1})
    assert single.load().predict_proba(texts)[:, 1].mean() > 0.5
    assert "class_weights" in (single.folder / "config.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"class_weights": "blame=1,praise=2"}, "no weight for 'music'"),
        ({"class_weights": "blame=1,praise=2,musik=1"}, "unknown class 'musik'"),
        ({"labels": "blame,praise"}, "label 'music', which is none of this run's"),
        ({"label": "labels,text", "text": "text"}, "set as both text and label"),
        ({"task": "multi"}, "must be one of single_label, multi_label"),
        ({"threshold": 2}, "must be between 0 and 1"),
        ({"threshold": 0.5, "task": "single_label"}, "the most probable is given"),
        ({"label_separator": ""}, "label_separator= is empty"),
    ],
)
def test_bad_settings_leave_nothing_behind(
    settings: dict[str, Any], told: str, backbone: Path, lists: Path, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        train_tiny(lists, backbone, tmp_path / "run", **settings)
    assert told in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_label_without_rows_is_warned_of_and_cannot_be_balanced(backbone: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", lambda labels: as_marks(labels) | {"never": "no", "always": "yes"})
    names = ",".join((*LABELS, "never", "always"))
    found = train_tiny(table, backbone, tmp_path / "run", label=names)
    warnings = " ".join(found.metrics["warnings"])
    assert "no training rows: 'never'" in warnings and "in every training row: 'always'" in warnings
    with pytest.raises(ConfigError, match="'never' has no training row"):
        train_tiny(table, backbone, tmp_path / "balanced", label=names, class_weights="balanced")


def test_going_on_from_a_run_keeps_its_task(run: Run, backbone: Path, lists: Path, tmp_path: Path) -> None:
    settings = settings_for(lists, backbone, tmp_path / "more", init=str(run.folder), epochs=1)
    assert textune.train(**settings).manifest.task == "multi_label"
    with pytest.raises(ConfigError, match="the run of init= is multi_label"):
        textune.train(**(settings | {"task": "single_label", "name": "other"}))


def test_the_estimator_says_that_it_takes_one_label() -> None:
    for y in ([["a"], ["a", "b"]], np.array([[0, 1], [1, 0]]), [("a",), ("b",)]):
        with pytest.raises(ValueError, match="one label per text"):
            TextClassifier().fit(["x", "y"], y)


def test_settings_of_this_kind_are_read_from_everywhere() -> None:
    for label in ("toxic,insult", ["toxic", "insult"]):
        assert build_config({"label": label}).data.label == ("toxic", "insult")
    assert build_config({"label": "stars"}).data.label == ("stars",)


def test_runs_of_before_load_as_they_did(finished: Run, tmp_path: Path) -> None:
    """A manifest without the fields that came with several labels per text."""
    shutil.copytree(finished.folder, tmp_path / "old")
    path = tmp_path / "old" / "textune.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in ("indicators", "label_separator"):
        del content["columns"][name]
    content["format_version"] = 1
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.warns(OldBundleWarning, match="format 1"):
        old = Predictor.load(tmp_path / "old")
    assert old.manifest.task == "single_label" and old.manifest.thresholds is None
    assert old.predict(["a lovely film"]) == finished.predict(["a lovely film"])
    path.write_text(json.dumps(content | {"task": "ranking"}), encoding="utf-8")
    with pytest.raises(BundleError, match="the task 'ranking' is not known"), pytest.warns(OldBundleWarning):
        Predictor.load(tmp_path / "old")
