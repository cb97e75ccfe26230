"""The most confident errors with their words: in a run's report and in `textune errors --explain`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from reports import HOSTILE, hostile_report
from textune.data import Examples
from textune.errors import ModelError
from textune.evaluation import ConfidentError
from textune.explain import Explanation, WordScore
from textune.report import render_report
from textune.run import Run, evaluate, explained_errors
from textune.run.error_analysis import find_errors
from textune.run.explained_errors import count_explained, find_label
from tiny import StopAt, call_here, make_rows


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows whose labels are all wrong."""
    path = tmp_path_factory.mktemp("flipped") / "flipped.csv"
    other = {"positive": "negative", "negative": "positive"}
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *((text, other[label]) for text, label in make_rows(20))])
    return path


def test_errors_are_explained_for_the_wrong_answer(capsys: Any, finished: Run, flipped: Path) -> None:
    found = find_errors(finished.folder, str(flipped), explain=True)
    assert len(found.confident) > 10 == len(found.explanations)
    for error in found.confident[:10]:
        explanation = found.explanations[error.row]
        assert (explanation.label, explanation.text) == (error.predicted, error.text)
        assert explanation.probability == pytest.approx(error.probability, abs=0.02)
    listed = found.to_dict()["confident_errors"]
    assert [("explanation" in error) for error in listed] == [i < 10 for i in range(len(listed))]
    json.dumps(listed)
    code, printed, _ = call_here(capsys, "errors", str(finished.folder), str(flipped), "--explain")
    assert code == 0 and "[+++" in printed and "  for: " in printed
    assert all(len(line) <= 80 for line in printed.splitlines())
    assert not find_errors(finished.folder, str(flipped)).explanations


def test_a_report_explains_few_errors_and_only_among_many_rows() -> None:
    assert [count_explained(rows) for rows in (0, 99, 100, 499, 500, 100_000)] == [0, 0, 1, 4, 5, 5]


@pytest.mark.parametrize(
    ("decision", "label"), [(None, "a, b"), ("false positive: joy", "joy"), ("false negative: to: do", "to: do")]
)
def test_the_label_of_a_wrong_decision_is_explained(decision: str | None, label: str) -> None:
    assert find_label(ConfidentError(1, "text", "x", "a, b", 0.9, decision)) == label


def test_a_report_goes_on_without_explanations_and_says_why(
    finished: Run, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    def fail(*arguments: Any, **options: Any) -> list[Explanation]:
        raise ModelError("this model's answers cannot be explained")

    monkeypatch.setattr(explained_errors, "explain_texts", fail)
    examples = Examples(pa.table({"row": range(120), "text": ["good"] * 120, "label": ["positive"] * 120}), "table")
    errors, progress = [ConfidentError(3, "good", "negative", "positive", 0.9)], StopAt()
    assert evaluate._explain(finished.load(device="cpu"), examples, errors, progress) == {}
    assert progress.said[-1] == "the report explains no errors: this model's answers cannot be explained"
    assert evaluate._explain(finished.load(device="cpu"), examples.take([0]), errors, progress) == {}


def test_explained_errors_are_marked_in_the_report_and_escaped() -> None:
    import dataclasses

    report = hostile_report()
    row = report.confident_errors[0].row
    words = (WordScore(0, 8, HOSTILE[:8], 1.0), WordScore(9, 20, HOSTILE[9:20], -0.5))
    found = Explanation(HOSTILE, HOSTILE, 0.9, words, 0.0, 1.0, 0.0, 16, notes=(HOSTILE,))
    before = render_report(report)
    html = render_report(dataclasses.replace(report, explanations={row: found}))
    assert "<mark" not in before and html.count("<mark class=") == 2
    assert '<mark class="for s3" data-signs="+++">&lt;script&gt;</mark>' in html
    assert html.count("<script") == 1 and "<img" not in html and "In the first 1 the words" in html
