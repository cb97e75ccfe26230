"""Few rows leave none for validation: two more trainings on half of the rows each calibrate what is tuned."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from label_tables import as_list, write_table
from textune.bundle.contents import list_foreign
from textune.config import build_config
from textune.config.defaults import calibrates_out_of_fold
from textune.data import split_folds
from textune.engine import predict_logits
from textune.errors import ConfigError
from textune.evaluation.calibration import fit_temperature
from textune.files import read_json
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.run import out_of_fold, resume
from textune.run.fit import fit
from textune.run.out_of_fold import _PLACE, predict_out_of_fold
from textune.run.prepare import Prepared, prepare
from textune.training import contrast
from textune.training.contrast import measure_pairs
from tiny import StopAt, hash_weights, settings_for, train_tiny, write_reviews

FEW: dict[str, Any] = {"validation_fraction": 0, "epochs": 1}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("few") / "few.csv", rows=60)


def open_prepared(table: Path, backbone: Path, place: Path, **settings: Any) -> Prepared:
    return prepare(build_config(settings_for(table, backbone, place, **FEW | settings)), Silent())


@pytest.mark.parametrize(
    ("rows", "classes", "megabytes", "expected"),
    [
        (16, 2, 90, True), (15, 2, 90, False), (128, 2, 90, True), (129, 2, 90, False), (600, 20, 90, True),
        (600, 21, 90, False), (60, 2, 1_000, True), (60, 2, 1_001, False), (60, 1, 90, True), (0, 0, 0, False),
    ],
)  # fmt: skip
def test_the_rule(rows: int, classes: int, megabytes: float, expected: bool) -> None:
    assert calibrates_out_of_fold(rows, classes, megabytes) is expected


def test_thresholds_take_more_rows() -> None:
    assert [calibrates_out_of_fold(rows, 2, 90, sets=True) for rows in (39, 40)] == [False, True]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"method": "full"}, True),
        ({"validation_fraction": 0.2}, False),
        ({"method": "head", "epochs": 0}, False),
        ({"method": "head", "epochs": 1}, True),
        ({"method": "head", "head_init": "random"}, True),
    ],
)
def test_only_what_is_tuned_without_validation_rows(
    settings: dict[str, Any], expected: bool, table: Path, backbone: Path, tmp_path: Path
) -> None:
    assert open_prepared(table, backbone, tmp_path, **settings).calibrates_out_of_fold is expected


def test_each_row_is_answered_by_a_model_that_did_not_see_it(table: Path, backbone: Path, tmp_path: Path) -> None:
    prepared = open_prepared(table, backbone, tmp_path / "run")
    left = tmp_path / f"{_PLACE}left-by-a-kill"
    left.mkdir()
    assert list_foreign(tmp_path, ["run"]) == []
    found, rows = predict_out_of_fold(prepared, tmp_path, Silent())
    assert rows.tolist() == list(range(len(prepared.train))) and not left.exists()
    matching = set()
    for kept in (False, True):  # find the halves again by training on each of them
        fold_of = split_folds(prepared.data.train, 2, prepared.config.split_seed)
        inside, outside = rows[(fold_of == 0) == kept], rows[(fold_of == 0) != kept]
        half = replace(prepared, train=prepared.train.take(inside), validation=None)
        (tmp_path / str(kept)).mkdir()
        engine = fit(half, tmp_path / str(kept), Silent()).opened.engine
        expected = predict_logits(engine, prepared.train.take(outside), prepared.padding)
        np.testing.assert_allclose(found[outside], expected, rtol=1e-4, atol=1e-5)
        assert {len(inside), len(outside)} == {24} and set(prepared.train.targets[inside]) == {0, 1}
        matching |= set(outside.tolist())
    assert matching == set(rows.tolist())


def test_the_time_of_the_start_is_counted_where_training_is_resumed(
    table: Path, backbone: Path, tmp_path: Path
) -> None:
    prepared = open_prepared(table, backbone, tmp_path / "run")
    first = fit(prepared, tmp_path, Silent())
    again = fit(prepared, tmp_path, Silent(), read_json(tmp_path / "plan.json", "the plan"))
    assert first.head.seconds > 0 and not again.head.seconds
    assert again.seconds >= first.head.seconds


def test_the_temperature_is_that_of_rows_out_of_fold(table: Path, backbone: Path, tmp_path: Path) -> None:
    progress = StopAt()
    run = train_tiny(table, backbone, tmp_path / "run", progress, **FEW)
    prepared = open_prepared(table, backbone, tmp_path / "other")
    logits, _ = predict_out_of_fold(prepared, tmp_path, Silent())
    expected = fit_temperature(logits, prepared.train.targets)
    assert run.manifest.temperature == pytest.approx(expected, rel=1e-3) and expected != 1
    assert any(line.endswith("(fitted on 48 out-of-fold rows)") for line in progress.said)


def test_a_stop_between_the_halves_loses_nothing(
    table: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = train_tiny(table, backbone, tmp_path / "whole", **FEW), list[int]()

    def stop_at_second(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RunInterrupted("at step 1 of 3; checkpoint saved", signal.SIGTERM)
        return fit(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(out_of_fold, "fit", stop_at_second)
        with pytest.raises(RunInterrupted, match="while it was calibrated") as stopped:
            train_tiny(table, backbone, tmp_path / "run", **FEW)
    assert stopped.value.exit_code == 143 and f"textune resume {tmp_path / 'run'}" in str(stopped.value.hint)
    again = resume(tmp_path / "run", progress=Silent())
    assert hash_weights(again.folder) == hash_weights(whole.folder)
    assert again.manifest.temperature == whole.manifest.temperature


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("at", "where"), [(2, "during its contrastive steps"), (5, "while it was calibrated")])
def test_a_signal_without_training_steps_tells_how_to_go_on(
    at: int, where: str, number: int, table: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default of few rows: contrastive steps, then twice as many to calibrate, and no others."""
    settings = FEW | {"contrast_steps": 3, "epochs": None}
    whole, calls = train_tiny(table, backbone, tmp_path / "whole", **settings), list[int]()

    def stop_at(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            signal.raise_signal(number)
        return measure_pairs(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(contrast, "measure_pairs", stop_at)
        with pytest.raises(RunInterrupted, match=where) as stopped:
            train_tiny(table, backbone, tmp_path / "run", **settings)
    assert len(calls) == at and stopped.value.exit_code == 128 + number
    assert f"textune resume {tmp_path / 'run'}" in str(stopped.value.hint)
    again = resume(tmp_path / "run", progress=Silent())
    assert hash_weights(again.folder) == hash_weights(whole.folder)
    assert again.manifest.temperature == whole.manifest.temperature


@pytest.mark.parametrize(
    "asked", [{"threshold_for": "precision:0.6"}, {"abstain_for": "accuracy:0.6"}, {"set_coverage": 0.8}]
)
def test_decisions_can_be_tuned_on_few_rows(asked: dict[str, Any], table: Path, backbone: Path, tmp_path: Path) -> None:
    run = train_tiny(table, backbone, tmp_path / "run", **FEW, test_fraction=0.1, **asked)
    assert run.manifest.decisions
    with pytest.raises(ConfigError, match="needs at least"):
        train_tiny(table, backbone, tmp_path / "fewer", **FEW, sample=20, **asked)


@pytest.mark.parametrize(
    "kind",
    [
        "one row of a class",
        "one group",
        "a group per class",
        "three groups",
        "several labels",
        "copies in two groups",
        "copies",
    ],
)
def test_odd_rows(kind: str, backbone: Path, tmp_path: Path) -> None:
    lines = [f"text {i} is {'good' if i % 2 else 'bad'},{'a' if i % 2 else 'b'},{i % 3}" for i in range(90)]
    path, progress = tmp_path / "odd.csv", StopAt()
    settings: dict[str, Any] = {"contrast_steps": 2} | ({"group": "group"} if "group" in kind else {})
    if kind == "one row of a class":
        lines = [f"text {i} is good,{'a' if i else 'b'},1" for i in range(60)]
    elif kind == "one group":
        lines = [f"{line[:-1]}{int(i > 69)}" for i, line in enumerate(lines)]
    elif kind.startswith("copies"):
        lines = [f"{lines[i // 2][:-1]}{i % 2}" for i in range(90)]
    elif kind == "a group per class":
        lines = [f"{line[:-1]}{i % 2}" for i, line in enumerate(lines)]
    if kind in ("a group per class", "copies in two groups"):
        (tmp_path / "test.csv").write_text("text,label,group\ngood,a,3\nbad,b,4\n")
        settings |= {"test": str(tmp_path / "test.csv"), "test_fraction": None}
    path.write_text("\n".join(["text,label,group", *lines]))
    if kind == "several labels":
        path, settings = write_table(path, as_list, rows=70), {}
    run = train_tiny(path, backbone, tmp_path / "run", progress, **FEW | {"test_fraction": 0.2} | settings)
    said = any("are not calibrated" in line for line in progress.said)
    unjudged = kind in ("one row of a class", "one group", "a group per class", "copies in two groups")
    assert said == unjudged == (run.manifest.temperature == 1)


def test_training_takes_as_long_as_all_of_its_trainings(
    table: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: Any) -> Any:
        time.sleep(3.0)
        return predict_out_of_fold(*arguments)

    monkeypatch.setattr("textune.run.calibrate.predict_out_of_fold", slow)
    run = train_tiny(table, backbone, tmp_path / "run", **FEW)
    assert run.metrics["costs"]["training_seconds"] > 3


@pytest.mark.parametrize("groups", [1, 2, 9])
def test_a_head_is_calibrated_on_other_groups(groups: int, backbone: Path, tmp_path: Path) -> None:
    lines = [
        f"text {i} of {i % groups} is {'good' if i % 4 < 2 else 'bad'},{i % 4 < 2},{i % groups}" for i in range(80)
    ]
    path, progress = tmp_path / "groups.csv", StopAt()
    path.write_text("\n".join(["text,label,group", *lines]))
    test = tmp_path / "test.csv"
    test.write_text("\n".join(["text,label,group", *(f"{line}0" for line in lines)]))
    settings = {"method": "head", "epochs": None, "validation_fraction": 0, "group": "group", "test": str(test)}
    prepared = open_prepared(path, backbone, tmp_path / "prepared", **settings)
    fold_of = prepared.probe_loss.fold_of
    group = np.array([int(line.rpartition(",")[2]) for line in lines])
    if groups == 1:
        assert fold_of is None and prepared.is_one_group
    else:
        assert fold_of is not None and all(len(set(fold_of[group == g])) == 1 for g in range(groups))
        assert len(set(fold_of.tolist())) == min(groups, 3)
    run = train_tiny(path, backbone, tmp_path / "run", progress, **settings)
    said = any("are not calibrated: all rows are of one group" in line for line in progress.said)
    assert said == (groups == 1) == (run.manifest.temperature == 1)
