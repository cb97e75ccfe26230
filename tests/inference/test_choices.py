"""Thresholds, costs, abstaining and prediction sets: every door to a run gives the same answers."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from label_tables import as_list, write_table
from textune.bundle import read_manifest
from textune.errors import ConfigError
from textune.evaluation.decisions import Decisions
from textune.export.onnx import export_onnx
from textune.export.predict import Classifier
from textune.inference import Predictor
from textune.run import Run
from textune.run.save import update_manifest
from textune.sklearn import TextClassifier
from tiny import call_here, train_tiny

TEXTS = [
    "a good film",
    "the film was dull and slow",
    "lovely music",
    "awful actors",
    "the story",
    "a warm and funny scene",
    "good and bad",
    "the film",
]
COVERAGE = 0.9
NAMES = ("one plain", "one threshold", "one costs", "several plain")
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A run and its export with the same decisions. expected: one row per text, found by hand."""

    run: Path
    onnx: Path
    below: float
    expected: list[Row]
    one_label: bool


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, finished: Run, backbone: Path) -> dict[str, tuple[Path, Path]]:
    place = tmp_path_factory.mktemp("decisions")
    shutil.copytree(finished.folder, place / "one")
    train_tiny(write_table(place / "lists.csv", as_list), backbone, place / "several")
    made = {}
    for name in ("one", "several"):
        export_onnx(place / name, place / f"{name}-onnx", backbone=str(backbone))
        made[name] = (place / name, place / f"{name}-onnx")
    return made


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest, folders: dict[str, tuple[Path, Path]]) -> Case:
    kind, _, rule = request.param.partition(" ")
    run, onnx = folders[kind]
    probabilities = Predictor.load(run, precision="fp32").predict_proba(TEXTS)
    labels, several = read_manifest(run).labels, kind == "several"
    middle = np.sort(probabilities, axis=0)[3:5].mean(axis=0)  # between two texts, so that rounding decides nothing
    asked: dict[str, Decisions] = {
        "plain": Decisions(),
        "threshold": Decisions(rule="f1", label=0, cutoff=float(middle[0])),
        "costs": Decisions(rule="costs", costs=((0.0, 1.0), (float(middle[0] / middle[1]), 0.0))),
    }
    given = decide_by_hand(probabilities, asked[rule], middle if several else None)
    confidence = [min(p if g else 1 - p for p, g in zip(*row, strict=True)) if several else row[0][row[1]].min()
                  for row in zip(probabilities, given, strict=True)]  # fmt: skip
    below, quantile = float(np.sort(confidence)[2:4].mean()), float(1 - np.sort(probabilities.ravel())[6:8].mean())
    kept = Decisions(**(vars(asked[rule]) | {
        "abstain_rule": "accuracy>=0.9", "abstain_below": below, "quantiles": {"0.8": (0.0,), "0.9": (quantile,)},
        "set_rows": 100}))  # fmt: skip
    for folder in (run, onnx):
        cuts = tuple(middle.tolist()) if several else None
        update_manifest(folder, decisions=kept.to_dict(), thresholds=cuts)
    rows = []
    for scores, marks, sure in zip(probabilities, given, confidence, strict=True):
        inside = [i for i in np.argsort(-scores) if 1 - scores[i] <= quantile or (not several and i == scores.argmax())]
        rows.append({
            "labels": None if sure < below else [labels[i] for i in np.flatnonzero(marks)],
            "plain": [labels[i] for i in np.flatnonzero(marks)],
            "abstained": bool(sure < below),
            "set": [labels[i] for i in inside],
        })  # fmt: skip
    assert len({row["abstained"] for row in rows}) == 2 and len({len(row["set"]) for row in rows}) > 1
    return Case(run, onnx, below, rows, not several)


def decide_by_hand(scores: Any, decisions: Decisions, cuts: Any) -> Any:
    if cuts is not None:
        return scores >= cuts
    if decisions.cutoff is not None:
        return np.stack([scores[:, 0] >= decisions.cutoff, scores[:, 0] < decisions.cutoff], 1)
    if decisions.costs is not None:  # two labels: an error costs 1 on the first, and this on the second
        cost = decisions.costs[1][0]
        return np.stack([scores[:, 1] * cost < scores[:, 0], scores[:, 1] * cost >= scores[:, 0]], 1)
    return scores == scores.max(1, keepdims=True)


def from_answer(answer: Any) -> list[str] | None:
    return None if answer is None else [answer] if isinstance(answer, str) else list(answer)


def from_json(answer: Row) -> Row:
    listed = from_answer(answer["labels"] if "labels" in answer else answer["label"])
    return {"labels": listed, "abstained": answer["abstained"], "set": answer["set"]}


def by_predictor(folder: Path, case: Case, **asked: Any) -> list[Row]:
    predictor = Predictor.load(folder, precision="fp32")
    answers, sets = predictor.predict(TEXTS, abstain=asked["abstain"]), predictor.predict_sets(TEXTS)
    assert sets == predictor.predict(TEXTS, sets=asked["sets"]) == [predictor.predict_sets(text) for text in TEXTS]
    return [
        {"labels": from_answer(a), "abstained": a is None, "set": list(s)} for a, s in zip(answers, sets, strict=True)
    ]


def by_command(folder: Path, case: Case, capsys: Any, texts: list[str], **asked: Any) -> list[Row]:
    words = [f"--{name}" if value is True else f"--{name}={value}" for name, value in asked.items()]
    code, out, err = call_here(capsys, "predict", str(folder), *words, "--json", "precision=fp32", *texts)
    assert code == 0, err
    return [from_json(row) for row in json.loads(out)["predictions"]]


def by_script(case: Case, words: list[str]) -> list[Row]:
    done = subprocess.run(
        [sys.executable, case.onnx / "predict.py", *words, "--json"],
        input="\n".join(TEXTS), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [from_json(json.loads(line)) for line in done.stdout.splitlines()]


def by_file(folder: Path, case: Case, capsys: Any, place: Path, suffix: str) -> list[Row]:
    (place / "texts.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in [*TEXTS, ""]), "utf-8")
    output = place / f"out{suffix}"
    words = ("--abstain", "--sets", "--json", "precision=fp32", "--output", str(output))
    code, out, err = call_here(capsys, "predict", str(folder), str(place / "texts.jsonl"), *words)
    assert code == 0, err
    assert json.loads(out)["abstained"] == sum(row["abstained"] for row in case.expected)
    assert json.loads(out)["without_text"] == 1
    if suffix == ".csv":
        rows: list[Row] = list(csv.DictReader(output.open(encoding="utf-8")))
        for row in rows:
            row["label"] = None if row["abstained"] == "true" else row["label"]
            if row["label"] is not None and not case.one_label:
                row["label"] = [name for name in row["label"].split("|") if name]
            row |= {
                "set": json.loads(row["set"] or "null"),
                "abstained": {"true": True, "false": False, "": None}[row["abstained"]],
            }
    else:
        rows = pq.read_table(output).to_pylist() if suffix == ".parquet" else list(map(json.loads, output.open()))
    last = rows.pop()
    assert not last["label"] and last["abstained"] is None and last["set"] is None
    assert all(row["probability"] for row in rows if case.one_label)  # of abstained rows, too
    return [from_json(row) for row in rows]


def by_typing(folder: Path, case: Case, capsys: Any, patch: pytest.MonkeyPatch) -> list[Row]:
    lines = iter([*TEXTS, ""])
    patch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    patch.setattr("builtins.input", lambda: next(lines))
    code, out, err = call_here(capsys, "predict", str(folder), "--abstain", "--sets", "precision=fp32")
    assert code == 0, err
    rows = []
    for line in out.replace("> ", "").splitlines():
        before, _, inside = line.partition("{")
        words = [w for w in before.split() if "%" not in w and w not in ("(abstained)", "(no", "label)")]
        left_out = "(abstained)" in before
        rows.append({"labels": None if left_out else words, "abstained": left_out, "set": split(inside)})
    return rows


def split(cell: str) -> list[str]:
    return [name for name in cell.strip().strip("{}").split(", ") if name]


def by_estimator(case: Case) -> list[Row]:
    model = TextClassifier()
    model.run_folder_, model._predictor = case.run, Predictor.load(case.run, precision="fp32")
    model.classes_ = np.array(read_manifest(case.run).labels)
    rows = zip(model.predict(TEXTS, abstain=True), model.predict_sets(TEXTS), strict=True)
    assert model.predict(TEXTS).tolist() == [row["plain"][0] for row in case.expected]
    return [{"labels": from_answer(a), "abstained": a is None, "set": s.tolist()} for a, s in rows]


def by_classifier(case: Case, **asked: Any) -> list[Row]:
    model = Classifier(case.onnx)
    return [from_json(model.classify(text, **asked)) for text in TEXTS]


OWN = {"abstain": True, "sets": True}
DOORS: dict[str, Callable[..., list[Row]]] = {
    "python": lambda case, **_: by_predictor(case.run, case, **OWN),
    "python, numbers": lambda case, **_: by_predictor(case.run, case, abstain=case.below, sets=COVERAGE),
    "onnx": lambda case, **_: by_predictor(case.onnx, case, **OWN),
    "text": lambda case, capsys, **_: by_command(case.run, case, capsys, TEXTS, **OWN),
    "text, numbers": lambda case, capsys, **_: by_command(
        case.run, case, capsys, TEXTS, abstain=case.below, sets=COVERAGE
    ),
    "text, onnx": lambda case, capsys, **_: by_command(case.onnx, case, capsys, TEXTS, **OWN),
    "lines": lambda case, capsys, **_: by_command(case.run, case, capsys, ["-"], **OWN),
    "csv": lambda case, capsys, place, **_: by_file(case.run, case, capsys, place, ".csv"),
    "jsonl": lambda case, capsys, place, **_: by_file(case.run, case, capsys, place, ".jsonl"),
    "parquet": lambda case, capsys, place, **_: by_file(case.run, case, capsys, place, ".parquet"),
    "typed": lambda case, capsys, patch, **_: by_typing(case.run, case, capsys, patch),
    "estimator": lambda case, **_: by_estimator(case),
    "classifier": lambda case, **_: by_classifier(case, **OWN),
    "script": lambda case, **_: by_script(case, ["--abstain", "--sets", "0.9"]),
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_gives_the_same_answers(
    door: str, case: Case, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if door == "estimator" and not case.one_label:
        pytest.skip("the estimator takes one label per text")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXTS).encode())))
    rows = DOORS[door](case, capsys=capsys, place=tmp_path, patch=monkeypatch)
    for row, expected in zip(rows, case.expected, strict=True):
        assert row["abstained"] == expected["abstained"] and row["set"] == expected["set"]
        if not (case.one_label and row["abstained"]):
            assert row["labels"] == expected["labels"]


@pytest.mark.parametrize("door", ["python", "text", "classifier"])
def test_what_the_run_does_not_have_is_refused(door: str, folders: dict[str, tuple[Path, Path]], capsys: Any) -> None:
    run, onnx = folders["one"]
    none = Decisions(abstain_rule="accuracy>=0.99", set_rows=40).to_dict()
    some = Decisions(quantiles={"0.8": (0.5,)}, set_rows=60).to_dict()
    for decisions, asked, words in (
        (none, {"abstain": True}, "no confidence"),
        (none, {"sets": True}, "100 labelled rows .* it had 40|no sets of coverage 0.9"),
        (some, {"sets": 0.9}, "it has 0.8"),
        (some, {"sets": "2"}, "between 0 and 1|coverage 2"),
        ({}, {"abstain": True}, "no confidence"),
        ({}, {"sets": True}, "quantiles|it has none"),
    ):
        for folder in (run, onnx):
            update_manifest(folder, decisions=decisions, thresholds=None)
        if door == "python":
            with pytest.raises(ConfigError, match=words):
                Predictor.load(run, precision="fp32").predict("a", **asked)  # type: ignore[arg-type]
        elif door == "classifier":
            with pytest.raises(ValueError, match=words):
                Classifier(onnx).classify("a", **asked)  # type: ignore[arg-type]
        else:
            line = [f"--{name}" if value is True else f"--{name}={value}" for name, value in asked.items()]
            code, out, err = call_here(capsys, "predict", str(run), *line, "a text")
            assert code == 2 and not out and "Traceback" not in err


def test_a_text_after_the_flag_is_a_text_and_a_share_its_value(
    folders: dict[str, tuple[Path, Path]], capsys: Any
) -> None:
    run = str(folders["one"][0])
    update_manifest(folders["one"][0], decisions=Decisions(abstain_below=0.99).to_dict(), thresholds=None)
    for words, texts in (
        (["--abstain", "a good film"], ["a good film"]),
        (["--abstain", "0.99", "a good film"], ["a good film"]),
        (["--abstain", "7 films"], ["7 films"]),
        (["--abstain", "--", "0.5"], ["0.5"]),
        (["a good film", "--abstain"], ["a good film"]),
    ):
        code, out, err = call_here(capsys, "predict", run, "--json", *words)
        assert code == 0, err
        rows = json.loads(out)["predictions"]
        assert [row["text"] for row in rows] == texts and all(row["abstained"] for row in rows)


def test_bools_of_numpy_are_bools_and_no_shares(folders: dict[str, tuple[Path, Path]]) -> None:
    kept = Decisions(abstain_rule="accuracy>=0.9", abstain_below=0.6)
    update_manifest(folders["one"][0], decisions=kept.to_dict())
    model = Predictor.load(folders["one"][0], precision="fp32")
    assert model.predict(TEXTS, abstain=np.False_) == model.predict(TEXTS)
    assert model.predict(TEXTS, abstain=np.True_) == model.predict(TEXTS, abstain=True)
    for wrong in (False, True):
        with pytest.raises(ConfigError, match="must be a number between 0 and 1"):
            model.predict_sets(TEXTS, coverage=wrong)
