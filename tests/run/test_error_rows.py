"""Rows whose errors are looked at are not their own neighbors, and odd rows end neither an analysis nor a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import textune
from textune.data import Labels, find_copies
from textune.data.examples import Examples
from textune.errors import BundleError
from textune.evaluation.decisions import Decisions
from textune.inference import Predictor
from textune.process.interrupt import RunInterrupted
from textune.run import Run
from textune.run.error_analysis import find_errors
from textune.run.neighbours import TrainingSpace
from textune.tasks import build_task, find_decisions
from textune.tasks.multi_label import MultiLabel
from textune.tasks.single_label import SingleLabel
from tiny import StopAt, make_rows, train_tiny, write_reviews


def test_rows_are_not_their_own_nearest_whichever_way_they_are_asked_for(backbone: Path, tmp_path: Path) -> None:
    rows = [f"{text} {i},{'ab'[(i // 7) % 2]}" for i, (text, _) in enumerate(make_rows(120))]
    table = tmp_path / "a.csv"
    table.write_text("\n".join(["text,label", *rows]))
    run = train_tiny(table, backbone, tmp_path / "run", test_fraction=0, validation_fraction=0.3, epochs=1)
    for data in (None, str(table)):
        found = find_errors(run.folder, data, nearest=True)
        assert found.nearest and all(row != near[0].row for row, near in found.nearest.items())


def make_space(texts: list[str], names: list[str]) -> TrainingSpace:
    import pyarrow as pa

    from textune.data import LabelForm

    arrow = pa.table({"text": texts, "label": names, "row": np.arange(1, len(texts) + 1)})
    examples = Examples(arrow, "rows", "0", LabelForm())
    labels = Labels(("a", "b"), ("a", "b"))
    features = np.random.default_rng(0).normal(size=(len(texts), 8)).astype(np.float32)
    marks = labels.encode_sets(examples.label_sets())
    return TrainingSpace(examples, labels, features, features, features[0] * 0, marks, lambda _: features)


@pytest.mark.parametrize("texts", [["good"] * 30 + ["bad"] * 30, ["good"] * 60])
def test_training_rows_of_few_texts_are_reviewed_whatever_the_seed(texts: list[str]) -> None:
    space = make_space(texts, ["a"] * 30 + ["b"] * 30)
    for seed in range(8):
        found = space.predict_out_of_fold(SingleLabel(), seed)
        assert np.isfinite(found).all() and found.shape == (60, 2)


def test_copies_of_a_row_are_found() -> None:
    space = make_space(["one", "two", "One ", "three"], ["a", "b", "a", "b"])
    again = make_space(["three", "one", "four"], ["a", "b", "a"])
    assert find_copies(space.examples, again.examples).tolist() == [3, 0, -1]


def test_errors_of_unknown_labels_alone_are_not_explained(backbone: Path, tmp_path: Path) -> None:
    table = tmp_path / "sets.jsonl"
    rows = [{"text": text, "labels": [label, "film"]} for text, label in make_rows(60)]
    table.write_text("\n".join(map(json.dumps, rows)))
    run = train_tiny(table, backbone, tmp_path / "run", epochs=1, task="multi_label")
    texts = [f"{text} again" for text, _ in make_rows(20)]
    answers = Predictor.load(run.folder).predict(texts)
    new = tmp_path / "new.jsonl"
    lines = [{"text": text, "labels": [*answer, "new"]} for text, answer in zip(texts, answers, strict=True)]
    new.write_text("\n".join(map(json.dumps, lines)))
    found = find_errors(run.folder, str(new), explain=True)
    assert found.confident and not found.explanations
    assert all(error.decision == "unknown label: new" for error in found.confident)


def test_a_run_on_a_data_frame_is_resumed_with_it(backbone: Path, tmp_path: Path) -> None:
    table = [{"text": text, "label": label} for text, label in make_rows(60)]
    settings: dict[str, Any] = {"backbone": str(backbone), "epochs": 3, "max_length": 32, "device": "cpu",
                                "precision": "fp32", "threads": 1, "contrast_steps": 0, "name": "run",
                                "runs_dir": str(tmp_path)}  # fmt: skip
    with pytest.raises(RunInterrupted):
        textune.train(table, progress=StopAt(3), **settings)
    with pytest.raises(BundleError, match="was started on a data frame") as refused:
        textune.resume(tmp_path / "run")
    assert "data=FRAME" in str(refused.value.hint)
    assert textune.resume(tmp_path / "run", data=table).manifest.metrics


def test_a_measured_run_is_kept_whatever_comes_after(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(folder: Path) -> Run:
        raise KeyboardInterrupt

    monkeypatch.setattr("textune.run.api.load_run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(write_reviews(tmp_path / "a.csv", 40), backbone, tmp_path / "run", epochs=1)
    assert (tmp_path / "run" / "evaluation" / "report.html").is_file()


def test_a_floor_that_a_rare_label_misses_is_told_as_what_it_is() -> None:
    targets = np.zeros((200, 2))
    targets[:100, 0], targets[:8, 1] = 1, 1
    scores = np.where(targets > 0, 0.95, 0.05)
    scores[:50, 0], scores[150:154, 1] = 0.6, 0.92
    tuned = MultiLabel(decisions=Decisions("precision>=0.9")).tune(lambda: scores, targets)
    (told,) = tuned.describe_tuning(scores, targets, ["common", "rare"])
    assert "too few held-out rows of 'rare' for a separate threshold" in told


def test_unknown_labels_count_where_the_confidence_to_abstain_is_found() -> None:
    targets = np.tile([[1, 0], [0, 1]], (50, 1))
    task = build_task("multi_label").with_decisions(Decisions(abstain_rule="accuracy>=0.9"))
    task = task.tune(lambda: np.where(targets > 0, 0.9, 0.1), targets)
    scores = np.where(targets > 0, 0.9, 0.1)
    assert not find_decisions(task, scores, targets).warnings
    unknown = np.arange(100) % 2
    assert any("no confidence reaches it" in line for line in find_decisions(task, scores, targets, unknown).warnings)
