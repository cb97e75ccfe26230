"""Simpler classifiers are tuned on the kind of rows that the run is tuned on: nobody wins by thresholds alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from label_tables import as_list, write_table
from textune.config import build_config
from textune.data import split_folds
from textune.evaluation.baselines import predict_tfidf, predict_tfidf_sets
from textune.evaluation.calibration import fit_temperature
from textune.progress import Silent
from textune.run.fit import SolvedHead
from textune.run.predictions import joined_texts
from textune.run.prepare import Prepared, prepare
from textune.run.rivals import Rival, list_rivals
from textune.run.untuned import open_untuned
from tiny import settings_for, train_tiny, write_reviews

SETTINGS: dict[str, dict[str, Any]] = {
    "sets": {},
    "sets, head": {"method": "head", "epochs": None},
    "floor": {"threshold_for": "precision:0.6", "threshold_label": "negative"},
}
ROWS = 90


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("tables")
    sets = write_table(place / "sets.csv", as_list, rows=ROWS)
    return {"sets": sets, "sets, head": sets, "floor": write_reviews(place / "two.csv", rows=ROWS)}


def open_case(table: Path, backbone: Path, place: Path, **settings: Any) -> tuple[Prepared, dict[str, Rival]]:
    flat = settings_for(table, backbone, place / "run", **{"epochs": 1, "validation_fraction": 0, **settings})
    prepared = prepare(build_config(flat), Silent())
    rivals = list_rivals(prepared, open_untuned(prepared, SolvedHead()))
    return prepared, {rival.key: rival for rival in rivals}


def read_cuts(rival: Rival) -> list[float]:
    task = rival.predict()[0]
    return [task.decisions.cutoff] if task.thresholds is None else list(task.thresholds)  # type: ignore[list-item]


@pytest.mark.parametrize("case", SETTINGS)
def test_without_validation_rows_they_are_tuned_out_of_fold(
    case: str, tables: dict[str, Path], backbone: Path, tmp_path: Path
) -> None:
    prepared, rivals = open_case(tables[case], backbone, tmp_path, **SETTINGS[case])
    assert prepared.tunes_out_of_fold and prepared.validation is None
    for key in ("tfidf", "probe", "base"):
        assert all(cut is not None and cut != 0.5 for cut in read_cuts(rivals[key])), key

    train, seed = prepared.data.train, prepared.config.training.seed
    targets = prepared.task.encode_targets(prepared.data.labels, train)
    fold_of = split_folds(train, 2, prepared.config.split_seed)
    unseen = np.zeros((len(train), prepared.classes))
    for fold in (0, 1):
        inside, outside = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        texts, others = joined_texts(train.take(inside)), joined_texts(train.take(outside))
        if prepared.task.reads_sets:
            unseen[outside] = predict_tfidf_sets(texts, targets[inside], others, seed)
        else:
            unseen[outside] = predict_tfidf(texts, targets[inside], others, prepared.classes, seed)
    expected = prepared.task.as_rival().tune(lambda: unseen, targets)
    task, answers = rivals["tfidf"].predict()
    assert task == expected
    whole = prepared.task.predict_tfidf(
        joined_texts(train), targets, joined_texts(prepared.data.evaluation[1]), prepared.classes, seed
    )
    np.testing.assert_array_equal(answers, whole)  # all rows are learned from, as ever


@pytest.mark.parametrize("case", SETTINGS)
def test_validation_rows_tune_them_where_they_tune_the_run(
    case: str, tables: dict[str, Path], backbone: Path, tmp_path: Path
) -> None:
    whole = {"validation": str(tables[case])}
    prepared, rivals = open_case(tables[case], backbone, tmp_path, **SETTINGS[case] | whole)
    assert prepared.data.validation is not None and not prepared.tunes_out_of_fold
    data, untuned = prepared.data, open_untuned(prepared, SolvedHead())
    targets = prepared.task.encode_targets(data.labels, data.validation)
    for key, logits in (("probe", untuned.probe_logits), ("base", untuned.base_logits)):
        probabilities = prepared.task.probabilities(logits(data.validation))
        assert rivals[key].predict()[0] == prepared.task.as_rival().tune(lambda p=probabilities: p, targets), key


def test_where_the_run_is_not_tuned_they_are_not(tables: dict[str, Path], backbone: Path, tmp_path: Path) -> None:
    prepared, rivals = open_case(tables["sets"], backbone, tmp_path, sample=30)
    assert not prepared.tunes_out_of_fold
    assert {cut for key in ("tfidf", "probe", "base") for cut in read_cuts(rivals[key])} == {0.5}


def test_rows_of_one_group_tune_nothing(backbone: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "sets.csv", lambda labels: as_list(labels) | {"group": "a"}, rows=ROWS)
    test = write_table(tmp_path / "test.csv", lambda labels: as_list(labels) | {"group": "b"}, rows=ROWS)
    _, rivals = open_case(table, backbone, tmp_path, group="group", test=str(test))
    assert set(read_cuts(rivals["tfidf"])) == {0.5}


def test_a_threshold_that_is_set_holds_for_all(tables: dict[str, Path], backbone: Path, tmp_path: Path) -> None:
    _, rivals = open_case(tables["sets"], backbone, tmp_path, threshold=0.7)
    assert {cut for key in ("tfidf", "probe", "base") for cut in read_cuts(rivals[key])} == {0.7}


def test_expected_costs_are_of_calibrated_probabilities(
    tables: dict[str, Path], backbone: Path, tmp_path: Path
) -> None:
    costs = {"costs": "negative:positive=5"}
    prepared, rivals = open_case(tables["floor"], backbone, tmp_path, **costs)
    assert prepared.tunes_out_of_fold
    data, seed = prepared.data, prepared.config.training.seed
    targets = prepared.task.encode_targets(data.labels, data.train)
    fold_of = split_folds(data.train, 2, prepared.config.split_seed)
    unseen = np.zeros((len(data.train), 2))
    for fold in (0, 1):
        inside, outside = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        texts, others = joined_texts(data.train.take(inside)), joined_texts(data.train.take(outside))
        unseen[outside] = predict_tfidf(texts, targets[inside], others, 2, seed)
    rows = data.evaluation[1]
    plain = predict_tfidf(joined_texts(data.train), targets, joined_texts(rows), 2, seed)
    temperature = fit_temperature(np.log(unseen).astype(np.float32), targets)
    softened = plain ** (1 / temperature)
    _, answers = rivals["tfidf"].predict()
    np.testing.assert_allclose(answers, softened / softened.sum(1, keepdims=True), rtol=1e-3)
    assert temperature != 1 and not np.allclose(answers, plain)


@pytest.mark.parametrize("method", ["lora", "full", "prompt"])
def test_a_run_built_on_another_has_the_rivals_of_the_plain_backbone(
    method: str, tables: dict[str, Path], backbone: Path, tmp_path: Path
) -> None:
    first = train_tiny(tables["floor"], backbone, tmp_path / "first", method=method, epochs=3, learning_rate=5e-2)
    settings = {"method": method, "epochs": 1, "head_init": "random", "validation_fraction": 0.2}
    found = []
    for init in ({}, {"init": str(first.folder)}):
        flat = settings_for(tables["floor"], backbone, tmp_path / "run", **settings, **init)
        prepared = prepare(build_config(flat), Silent())
        untuned = open_untuned(prepared, SolvedHead())
        rows = prepared.data.train
        found.append((untuned.base_logits(rows), untuned.probe_logits(rows)))
    for plain, built in zip(*found, strict=True):
        np.testing.assert_allclose(built, plain, rtol=1e-4, atol=1e-5)
