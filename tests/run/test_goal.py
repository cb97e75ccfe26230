"""Runs that were tuned for costs, a floor or another metric answer in these terms: page, card, terminal and compare."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from label_tables import as_list, write_table
from textune.compare import compare_runs
from textune.evaluation import Evaluation
from textune.evaluation.goal import read_goal
from textune.report import render_report
from textune.report.markdown import escape_markdown
from textune.run import Run
from textune.run.stored_report import read_report
from tiny import call_here, train_tiny, write_reviews

COMMON: dict[str, Any] = {"method": "head", "epochs": None, "validation_fraction": 0.4}
CASES: dict[str, dict[str, Any]] = {
    "costs": {"costs": "positive:negative=5,negative:positive=1"},
    "floor": {"threshold_for": "precision:0.7", "threshold_label": "negative"},
    "f1": {"threshold_for": "f1", "threshold_label": "negative"},
    "macro_f1": {"metric": "macro_f1"},
    "sets": {"costs": "praise:missed=20,praise:wrong=1"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> dict[str, Run]:
    place = tmp_path_factory.mktemp("goals")
    two = write_reviews(place / "two.csv", rows=260)
    sets = write_table(place / "sets.csv", as_list, rows=200)
    tables = {name: sets if name == "sets" else two for name in CASES}
    return {name: train_tiny(tables[name], backbone, place / name, **COMMON, **CASES[name]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_first_sentences_are_the_same_everywhere(name: str, runs: dict[str, Run], capsys: Any) -> None:
    run = runs[name]
    answer = run.metrics["verdict"]
    begins = {"costs": "An answer costs", "floor": "Recall of 'negative' is", "f1": "F1 of 'negative' is"}
    assert answer[0].startswith(begins.get(name, "An answer costs" if name == "sets" else "Macro F1 is"))
    page = html.unescape(run.report.read_text(encoding="utf-8"))
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    assert all(sentence in page and escape_markdown(sentence) in card for sentence in answer)
    again = html.unescape(render_report(read_report(run)))
    assert all(sentence in again for sentence in answer) and "What it was tuned for" in again
    code, twin, _ = call_here(capsys, "report", str(run.folder), "--format", "markdown")
    assert code == 0 and all(escape_markdown(sentence) in twin for sentence in answer)
    goal = read_goal(run.metrics["goal"])
    assert goal is not None and goal.model.name == "tuned model" and len(goal.others) >= 3


def test_costs_are_those_of_the_predictions(runs: dict[str, Run]) -> None:
    run = runs["costs"]
    rows = pq.read_table(run.folder / "evaluation" / "predictions.parquet").to_pydict()
    price = {("positive", "negative"): 5.0, ("negative", "positive"): 1.0}
    each = [price.get(pair, 0.0) for pair in zip(rows["label"], rows["predicted_label"], strict=True)]
    goal = read_goal(run.metrics["goal"])
    assert goal is not None and goal.model.value == pytest.approx(np.mean(each))
    figures = Evaluation.from_dict({k: v for k, v in run.metrics["models"]["tuned"].items() if k != "seconds"})
    cost = None if figures.decision_figures is None else figures.decision_figures.cost
    assert cost is not None
    assert (goal.model.value, goal.model.interval) == (cost.mean, cost.interval)
    constant = goal.others[0]
    shares = [rows["label"].count(label) / len(each) for label in ("negative", "positive")]
    assert constant.value == pytest.approx(min(5 * shares[1], shares[0])) and constant.name == "always 'positive'"
    for other in goal.others:
        assert other.lead is not None and other.value is not None
        assert other.lead.mean == pytest.approx(goal.model.value - other.value)
    assert [other.name for other in goal.others][1:] == [
        "TF-IDF + logistic regression", "frozen embeddings + logistic regression", "base model before tuning",
    ]  # fmt: skip


def test_a_floor_shows_what_it_left(runs: dict[str, Run]) -> None:
    goal = read_goal(runs["floor"].metrics["goal"])
    figures = runs["floor"].metrics["models"]["tuned"]["decision_figures"]["rule"]
    assert goal is not None and goal.rule == "precision>=0.7" and goal.label == "negative"
    assert goal.model.value == figures["other"]["value"] and goal.model.floored is not None
    assert goal.model.floored.value == figures["reached"]["value"]


def test_runs_tuned_for_the_same_are_compared_in_its_terms(
    runs: dict[str, Run], backbone: Path, tmp_path: Path, capsys: Any
) -> None:
    table = runs["costs"].folder.parent / "two.csv"
    other = train_tiny(table, backbone, tmp_path / "other", **COMMON, **CASES["costs"], label_smoothing=0.2)
    code, out, _ = call_here(capsys, "compare", str(runs["costs"].folder), str(other.folder), "--json")
    found = json.loads(out)
    assert code == 0 and found["conclusions"][0].startswith("By the costs that all were tuned for, ")
    assert found["goal"]["model"]["value"] <= found["goal"]["others"][0]["value"]
    mixed = compare_runs([runs["costs"].folder, runs["macro_f1"].folder])
    assert (
        mixed.goal is None
        and not mixed.one_goal
        and "tuned for different things" in json.dumps(mixed.to_dict()["notes"])
    )
