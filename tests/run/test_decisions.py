"""Decisions that a run finds on its validation rows: what is refused before training, stored, reported and repeated."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import textune
from label_tables import as_list, write_table
from textune.bundle import read_manifest
from textune.bundle.checks import list_wrong_fields
from textune.config import build_config
from textune.errors import ConfigError
from textune.evaluation import Evaluation, MultiLabelEvaluation, softmax
from textune.evaluation.decisions import Decisions, list_costs
from textune.export.merged import describe_losses
from textune.progress import Silent
from textune.run import Run
from textune.run.prepare import prepare
from textune.run.tables import prepare_data
from textune.tasks import build_task, find_decisions
from textune.tasks.decided import measure_decisions
from textune.tasks.multi_label import MultiLabel
from tiny import StopAt, call_here, settings_for, train_tiny, write_reviews

SINGLE = {"validation_fraction": 0.3}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("tables")
    return {
        "two": write_reviews(place / "two.csv", rows=360),
        "four": write_reviews(place / "four.csv", rows=120, classes=4),
        "few": write_reviews(place / "few.csv", rows=60),
        "sets": write_table(place / "sets.csv", as_list, rows=260),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, backbone: Path, tables: dict[str, Path]) -> Run:
    settings: dict[str, Any] = {
        "method": "head", "epochs": None, "threshold_for": "recall:0.9", "threshold_label": "negative",
        "abstain_for": "accuracy:0.6", "set_coverage": 0.85, "validation_fraction": 0.4,
    }  # fmt: skip
    return train_tiny(tables["two"], backbone, tmp_path_factory.mktemp("run") / "rule", **settings)


@pytest.mark.parametrize(
    ("table", "settings", "words"),
    [
        ("four", {"threshold_for": "f1"}, "with 4 labels, say which one.*\n.*threshold_label=class0"),
        ("four", {"threshold_for": "f1", "threshold_label": "clas1"}, "unknown label 'clas1'.*class1"),
        ("two", {"threshold_label": "positive"}, "only applies with threshold_for="),
        ("two", {"threshold_for": "f1", "costs": "positive:negative=2"}, "both decide"),
        ("sets", {"threshold": 0.3, "threshold_for": "f1"}, "both decide"),
        ("sets", {"threshold_for": "f1", "threshold_label": "praise"}, "every label has its threshold"),
        ("two", {"costs": "positive:good=2"}, "unknown label 'good'"),
        ("two", {"costs": "positive:positive=2"}, "the right answer 'positive' costs more"),
        ("sets", {"costs": "praise:blame=2"}, "missed or wrong.*\n.*praise:missed=5"),
        ("few", {"threshold_for": "f1"}, "needs at least 50; there are [0-9]+"),
        ("few", {"abstain_for": "accuracy:0.9", "validation_fraction": 0}, "needs at least 50; there are [1-9]"),
        ("two", {"set_coverage": 0.99}, "set_coverage=0.99: needs at least 1,000 held-out rows; there are [0-9]+"),
        ("two", {"set_coverage": 1.0}, "must be between 0.5 and 0.999"),
    ],
)
def test_what_cannot_be_decided_is_refused_before_training(
    table: str, settings: dict[str, Any], words: str, tables: dict[str, Path], backbone: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        flat = settings_for(tables[table], backbone, tmp_path / "run", **(SINGLE | settings))
        prepare(build_config(flat), Silent())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["head", "lora"])
@pytest.mark.parametrize("groups", ["one", "one for each label"])
@pytest.mark.parametrize("asked", [{"threshold_for": "f1", "threshold_label": "y"}, {"abstain_for": "accuracy:0.6"}])
def test_groups_that_leave_no_rows_are_told_before_training(
    asked: dict[str, Any], groups: str, method: str, backbone: Path, tmp_path: Path
) -> None:
    data, test = tmp_path / "data.csv", tmp_path / "test.csv"
    group = (lambda i: 0) if groups == "one" else (lambda i: i % 2)
    for path, first in ((data, 0), (test, 7)):
        lines = (f"text {i} is {'good' if i % 2 else 'bad'},{'yn'[i % 2]},{first + group(i)}" for i in range(120))
        path.write_text("\n".join(["text,label,group", *lines]))
    settings = {"method": method, "epochs": None, "validation_fraction": 0, "group": "group", "test": str(test)}
    flat = settings_for(data, backbone, tmp_path / "run", **settings, **asked)
    with pytest.raises(ConfigError, match="there are 0"):
        prepare(build_config(flat), Silent())


@pytest.mark.parametrize("settings", [{"head_init": "random"}, {"epochs": 2}, {}], ids=str)
def test_decisions_of_a_head_come_from_answers_of_that_head(
    settings: dict[str, Any], tables: dict[str, Path], backbone: Path, tmp_path: Path
) -> None:
    """Only a head that is solved and left so has the probe's answers out of fold; another is trained on halves."""
    flat = {"method": "head", "epochs": None, "validation_fraction": 0, "abstain_for": "accuracy:0.55"} | settings
    progress = StopAt()
    run = train_tiny(tables["two"], backbone, tmp_path / "run", progress, sample=120, **flat)
    assert run.manifest.decisions["abstain_rule"] and run.manifest.decisions["set_rows"] >= 90
    prepared = prepare(
        build_config(settings_for(tables["two"], backbone, tmp_path / "again", sample=120, **flat)), Silent()
    )
    assert prepared.is_probe == (settings == {}) != prepared.calibrates_out_of_fold


@pytest.mark.parametrize("asked", [{"set_coverage": 0.9}, {"abstain_for": "accuracy:0.9"}], ids=str)
def test_rows_are_held_out_for_decisions_that_many_classes_need_them_for(
    asked: dict[str, Any], backbone: Path, tmp_path: Path
) -> None:
    """With so many classes no run is trained twice more, to answer its training rows out of fold."""
    data, test = tmp_path / "many.csv", tmp_path / "test.csv"
    for path, rows in ((data, 1_000), (test, 50)):
        path.write_text("text,label\n" + "".join(f"{path.stem} {i} is good,c{i % 25}\n" for i in range(rows)))
    flat = settings_for(data, backbone, tmp_path / "run", test=str(test), validation_fraction=None)
    for settings, rows in (({}, None), (asked, 100), (asked | {"method": "head", "epochs": None}, None)):
        held = prepare(build_config(flat | settings), Silent()).data.validation
        assert (None if held is None else len(held)) == rows
    again = prepare_data(build_config(flat | asked))  # as who reads a run's rows again
    assert again.validation is not None and len(again.validation) == 100


def test_a_run_keeps_and_shows_what_it_found(run: Run, tables: dict[str, Path], capsys: Any) -> None:
    kept, figures = run.manifest.decisions, run.metrics["models"]["tuned"]["decision_figures"]
    assert kept["rule"] == "recall>=0.9" and kept["label"] == 0 and 0 <= kept["cutoff"] <= 1
    assert list(kept["quantiles"]) == ["0.8", "0.85", "0.9"] and kept["set_rows"] >= 100 and kept["coverage"] == 0.85
    assert figures["rule"]["label"] == "negative" and figures["rule"]["reached"]["interval"] is not None
    assert [each["stated"] for each in figures["sets"]] == [0.8, 0.85, 0.9]
    assert figures["risk_coverage"]["area"] >= 0 and figures["abstain"]["rule"] == "accuracy>=0.6"
    report = run.report.read_text(encoding="utf-8")
    assert "When to abstain" in report and "Risk-coverage curve" in report and "; floor 90.0%)" in report
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    assert "Sets of 85.0% coverage hold the true label in" in card and "Recall of 'negative'" in card
    settings = (run.folder / "config.yaml").read_text(encoding="utf-8")
    assert "threshold_for: recall>=0.9" in settings and "set_coverage: 0.85" in settings
    lost = describe_losses(run.manifest) or ""
    assert "recall>=0.9" in lost and ("abstains below" in lost) == (kept["abstain_below"] is not None)
    never = dataclasses.replace(run.manifest, decisions=kept | {"abstain_below": None})
    assert "abstains" not in (describe_losses(never) or "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows that training saw
        evaluation = run.evaluate(tables["two"])
    assert isinstance(evaluation, Evaluation) and evaluation.decision_figures is not None
    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))) == evaluation
    code, out, _ = call_here(capsys, "evaluate", str(run.folder), str(tables["two"]), "sample=100")
    assert code == 0 and "sets of 85.0% coverage hold the true label in" in out and "recall of 'negative'" in out
    code, out, _ = call_here(capsys, "evaluate", str(run.folder), str(tables["two"]), "sample=100", "--json")
    assert json.loads(out)["decision_figures"]["sets"]


def test_the_figures_are_those_of_the_answers(run: Run) -> None:
    """Everything in metrics.json follows from the predictions beside it."""
    import pyarrow.parquet as pq

    rows = pq.read_table(run.folder / "evaluation" / "predictions.parquet").to_pydict()
    labels, kept = run.manifest.labels, run.manifest.decisions
    scores = np.stack([rows[f"probability_{label}"] for label in labels], axis=1)
    true = np.array([labels.index(label) for label in rows["label"]])
    given = np.where(scores[:, 0] >= kept["cutoff"], 0, 1)
    assert rows["predicted_label"] == [labels[i] for i in given]
    confidence = scores[np.arange(len(given)), given]
    assert rows["probability"] == confidence.tolist()
    figures, tuned = run.metrics["models"]["tuned"]["decision_figures"], run.metrics["models"]["tuned"]
    assert tuned["accuracy"] == pytest.approx((given == true).mean())
    assert figures["rule"]["reached"]["value"] == pytest.approx((given[true == 0] == 0).mean())
    answered = confidence >= kept["abstain_below"]
    assert figures["abstain"]["kept"]["value"] == pytest.approx(answered.mean())
    assert figures["abstain"]["accuracy"]["value"] == pytest.approx((given == true)[answered].mean())
    for each in figures["sets"]:
        inside = 1 - scores <= kept["quantiles"][f"{each['stated']:g}"][0]
        inside[np.arange(len(true)), scores.argmax(1)] = True
        assert each["covered"]["value"] == pytest.approx(inside[np.arange(len(true)), true].mean())
        assert each["size"] == pytest.approx(inside.sum(1).mean())


@pytest.mark.parametrize(
    ("settings", "check"),
    [
        ({"threshold_for": "recall:0.95"}, lambda m: m.decisions["rule"] == "recall>=0.95"),
        ({"costs": "praise:missed=20,praise:wrong=1"}, lambda m: m.decisions["costs"][2] == [20.0, 1.0]),
    ],
)
def test_several_labels_have_thresholds_for_the_rule(
    settings: dict[str, Any], check: Callable[[Any], bool], tables: dict[str, Path], backbone: Path, tmp_path: Path
) -> None:
    more = settings | {"validation_fraction": 0.4, "method": "head", "epochs": None}
    run = train_tiny(tables["sets"], backbone, tmp_path / "run", **more)
    manifest, tuned = read_manifest(run.folder), run.metrics["models"]["tuned"]
    assert check(manifest) and len(manifest.thresholds or ()) == 3 and max(manifest.thresholds or ()) < 0.6
    assert manifest.decisions["quantiles"] and all(len(q) == 3 for q in manifest.decisions["quantiles"].values())
    evaluation = MultiLabelEvaluation.from_dict(tuned)
    figures = evaluation.decision_figures
    assert figures is not None and (figures.rule is None) == ("costs" in settings)
    if figures.cost is not None:
        assert figures.cost.mean <= figures.cost.without
    again = json.loads(json.dumps(evaluation.to_dict()))
    assert again == {k: v for k, v in tuned.items() if k != "seconds"}


def test_costs_decide_by_the_lowest_expectation() -> None:
    random = np.random.default_rng(0)
    probabilities, costs = softmax(random.normal(size=(200, 4))), random.random((4, 4)) * (1 - np.eye(4))
    task = build_task("single_label").with_decisions(Decisions(rule="costs", costs=tuple(map(tuple, costs.tolist()))))
    for row, given in zip(probabilities, task.decide(probabilities).argmax(1), strict=True):
        expected = [sum(row[true] * costs[true][label] for true in range(4)) for label in range(4)]
        assert expected[given] == pytest.approx(min(expected))
    true = np.array([0, 1, -1])
    assert list_costs(costs, true, np.array([0, 3, 2])).tolist() == [0.0, costs[1][3], costs.max()]


def test_what_costs_save_is_told_beside_the_most_probable_answer() -> None:
    probabilities, targets = np.array([[0.6, 0.4], [0.6, 0.4], [0.95, 0.05]]), np.array([1, 0, 0])
    costs = Decisions(rule="costs", costs=((0.0, 1.0), (9.0, 0.0)))
    task = build_task("single_label").with_temperature(1.0).with_decisions(costs)
    found = measure_decisions(task, probabilities, targets, ["a", "b"], np.zeros(3, bool), 0)
    assert found is not None and found.cost is not None
    assert (found.cost.mean, found.cost.without) == pytest.approx((1 / 3, 9 / 3))


def test_the_floor_is_kept_on_the_rows_it_was_tuned_on() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(400, 3))
    targets = (logits + random.gumbel(size=logits.shape)).argmax(1)
    probabilities = softmax(logits)
    for rule, figure in (("precision>=0.6", "precision"), ("recall>=0.9", "recall")):
        task = build_task("single_label").with_decisions(Decisions(rule=rule, label=1))
        tuned = task.tune(lambda: probabilities, targets)
        given = tuned.decide(probabilities)[:, 1]
        hits = (given & (targets == 1)).sum()
        reached = hits / given.sum() if figure == "precision" else hits / (targets == 1).sum()
        assert reached >= float(rule[-3:]) and tuned.describe_tuning(probabilities, targets, "abc") == []
        found = find_decisions(tuned, probabilities, targets).decisions
        assert Decisions.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    lost = build_task("single_label").with_decisions(Decisions(rule="precision>=0.99", label=1))
    wrong = 1 - probabilities  # the higher, the less true
    tuned = lost.tune(lambda: wrong, targets)
    assert "no threshold reaches it" in tuned.describe_tuning(wrong, targets, "abc")[0]


def test_rows_at_the_confidence_are_answered_and_unknown_labels_are_wrong() -> None:
    kept = Decisions(abstain_rule="accuracy>=0.5", abstain_below=0.75)
    single = build_task("single_label").with_temperature(1.0).with_decisions(kept)
    probabilities = np.array([[0.75, 0.25], [0.875, 0.125], [0.375, 0.625], [0.25, 0.75]])
    found = measure_decisions(single, probabilities, np.array([0, 1, 1, -1]), ["a", "b"], np.zeros(4, bool), 0)
    assert found is not None and found.abstain is not None
    assert (found.abstain.kept.value, found.abstain.accuracy.value) == (0.75, pytest.approx(1 / 3))
    several = build_task("multi_label", (0.5, 0.5)).with_temperature(1.0).with_decisions(kept)
    true = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
    for unknown, error in ((np.zeros(4, bool), 0.0), (np.array([True, False, False, False]), 0.25)):
        found = measure_decisions(several, probabilities, true, ["a", "b"], unknown, 0)
        assert found is not None and found.risk_coverage.error == error


@pytest.mark.parametrize(
    "damage",
    [
        {"label": 2},
        {"label": -1},
        {"cutoff": 1.5},
        {"costs": [[0.0, 1.0]]},
        {"costs": [[0.0, 1.0], [0.0, -1.0]]},
        {"abstain_below": float("nan")},
        {"quantiles": {"0.9": [0.1, 0.2, 0.3]}},
        {"quantiles": {"much": [0.1]}},
        {"quantiles": {"0.9": [None]}},
        {"set_rows": 1.5},
        {"rule": 3},
    ],
)
def test_a_damaged_decision_is_named(damage: dict[str, Any], run: Run) -> None:
    content = json.loads((run.folder / "textune.json").read_text(encoding="utf-8"))
    assert list_wrong_fields(content) == []
    assert list_wrong_fields(content | {"decisions": content["decisions"] | damage})


def test_settings_and_answers_are_there_from_python(run: Run) -> None:
    model = textune.load(run.folder, precision="fp32")
    texts = ["a good film", "a dull story"]
    assert run.predict(texts, abstain=1.0) == [None, None] == model.predict(texts, abstain=1.0)
    assert run.predict(texts, sets=True) == model.predict_sets(texts)


def test_the_explained_label_is_one_of_those_given() -> None:
    """Of several labels the most probable given one; where thresholds differ, it need not be the most probable."""
    task = MultiLabel((0.9, 0.3, 0.2))
    shares = np.array([[0.8, 0.5, 0.4], [0.95, 0.5, 0.4], [0.2, 0.1, 0.15]])
    assert task.decide(shares)[0].tolist() == [False, True, True]
    assert task.find_shown(shares).tolist() == [1, 0, 0]
