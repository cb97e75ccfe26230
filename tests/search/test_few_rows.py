"""Searches on few rows: what trials share, whose weights their figures are of, and the rules that decide for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import textune
from sweeps import sweep_tiny
from textune.bundle import SETTINGS
from textune.config import build_config, load_settings
from textune.errors import ConfigError, DataError
from textune.files import read_json_lines
from textune.progress import Silent
from textune.run.prepare import Sample, prepare
from textune.search.space import split_several
from textune.search.trial import Bench, Job, Outcome, run_job
from tiny import StopAt, settings_for, write_reviews


def try_out(folder: Path, bench: Bench, settings: dict[str, Any], **job: Any) -> Outcome:
    """Train one trial."""
    outcome = run_job(Job(0, settings, str(folder), **job), bench, lambda step, total: None)
    assert outcome.kind == "done", outcome.reason
    return outcome


# --- what trials share


@pytest.mark.parametrize(
    ("name", "values"),
    [("dropout", [0.0, 0.5]), ("weight_decay", [0.0, 9.0]), ("layer_decay", [1.0, 0.1]),
     ("layer_rates", ["lower=1e-2,upper=1e-2", "lower=1e-2,upper=1e-5"])],
)  # fmt: skip
def test_a_head_solved_after_other_contrastive_steps_is_not_used_again(
    work: Path, backbone: Path, name: str, values: list[Any]
) -> None:
    data = write_reviews(work / "few.csv", 40)
    method = {"name": "full"}  # weight decay moves what starts at zero by nothing
    flat = settings_for(data, backbone, work / "s", contrast_steps=8, epochs=0, validation_fraction=0.3, method=method)
    bench, losses = Bench(), []
    for i, value in enumerate(values):
        alone = try_out(work / f"alone-{i}", Bench(), flat | {name: value})
        losses.append(alone.scores["loss"])
        assert try_out(work / f"shared-{i}", bench, flat | {name: value}).scores == alone.scores
    assert losses[0] != losses[1]


# --- whose weights a fold's figures are of


@pytest.mark.parametrize("share", [None, 0.2])
def test_a_fold_is_scored_by_its_last_step_where_a_run_could_not_choose_another(
    work: Path, backbone: Path, share: float | None
) -> None:
    data = write_reviews(work / "few.csv", 40)
    flat = settings_for(data, backbone, work / "s", contrast_steps=0, validation_fraction=share, metric="loss")
    outcome = try_out(work, Bench(), flat | {"learning_rate": 0.5}, folds=2)  # tuning makes the solved head worse
    folds = [read_json_lines(work / "trials" / "0000" / f"fold-{i}" / "metrics.jsonl") for i in (0, 1)]
    scores = [[line["loss"] for line in fold if line["kind"] == "evaluation"] for fold in folds]
    last, best = np.mean([s[-1] for s in scores]), np.mean([min(s) for s in scores])
    assert last > best
    assert outcome.scores["loss"] == pytest.approx(best if share else last)


# --- the rules that decide for a fold


@pytest.mark.parametrize("rows", [127, 128, 140, 159, 161])
def test_a_fold_trains_as_the_winner_will(work: Path, backbone: Path, rows: int) -> None:
    settings = {"data": str(write_reviews(work / "rows.csv", rows)), "test": str(write_reviews(work / "test.csv", 20)),
                "backbone": str(backbone), "max_length": 32, "device": "cpu"}  # fmt: skip
    for also in ({}, {"method": "head"}, {"patience": 1}):
        config = build_config(settings | also)
        winner = prepare(config, Silent()).config.training
        assert prepare(config, Silent(), None, Sample((0, 5), hold_test=True)).config.training == winner


@pytest.mark.parametrize("weights", ["balanced", {"negative": 1, "positive": 3, "rare": 9}], ids=str)
def test_a_fold_may_lack_a_rare_class(work: Path, backbone: Path, weights: Any) -> None:
    data = write_reviews(work / "rare.csv", 120)
    data.write_text(data.read_text().rstrip("\n") + "\nan odd one,rare,0\n")
    settings = {"data": str(data), "test": str(write_reviews(work / "test.csv", 20)), "backbone": str(backbone),
                "max_length": 32, "device": "cpu", "class_weights": weights}  # fmt: skip
    rare = [prepare(build_config(settings), Silent(), None, Sample((i, 5), hold_test=True)) for i in range(5)]
    whole = prepare(build_config(settings), Silent()).class_weights
    assert whole is not None and all(np.array_equal(whole, each.class_weights) for each in rare)


def test_rules_decide_for_each_method_of_a_search(work: Path, backbone: Path) -> None:
    data, test = write_reviews(work / "few.csv", 40), write_reviews(work / "test.csv", 20)
    open_settings = dict.fromkeys(("epochs", "validation_fraction", "batch_size"))
    shares: list[Any] = []
    for order in (["head", "lora"], ["lora", "head"]):
        done = sweep_tiny(data, backbone, work / order[0], {"method": order}, **open_settings, test=test,
                          sweep_folds=2, sweep_halving={"reduction": 2})  # fmt: skip
        steps = {t["settings"]["method"]: t["total_steps"] for t in done.content["trials"]}
        assert steps == {"head": 0, "lora": 2 * 20}  # ten epochs
        shares.append(sorted(t["steps"] for t in done.content["trials"]))
        settings = load_settings(done.winner.folder / SETTINGS)
        assert settings["epochs"] == (10 if settings["method"]["name"] == "lora" else 0)
    assert shares[0] == shares[1]


# --- settings that no step uses


@pytest.mark.parametrize(
    ("space", "unused", "used"),
    [
        ({"batch_size": [4, 8], "patience": [1, 2]}, "batch_size, patience", False),
        ({"warmup_fraction": [0.0, 0.5], "learning_rate": [1e-3, 5e-3]}, "warmup_fraction", True),
        ({"learning_rate": [1e-3, 5e-3], "method": ["head"], "label_smoothing": [0.0, 0.1]}, "learning_rate", True),
        ({"learning_rate": [1e-3, 5e-3], "method": ["head", "lora"]}, "", True),
        ({"schedule": ["linear", "cosine"], "contrast_steps": [8, 0]}, "", True),
    ],
)
def test_what_no_step_uses_is_not_searched_in_vain(
    work: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch, space: dict[str, Any], unused: str, used: bool
) -> None:
    monkeypatch.setattr("textune.search.sweep._run_search", lambda *_: "searched")
    flat = settings_for(write_reviews(work / "few.csv", 40), backbone, work / "s")
    flat = {k: v for k, v in flat.items() if k in ("data", "backbone", "name", "runs_dir", "max_length", "device")}
    progress = StopAt()
    if used:
        assert textune.sweep(**flat, sweep={"space": space}, progress=progress) == "searched"
        told = [warning for warning in progress.warnings if "no training step uses" in warning]
        assert len(told) == bool(unused) and all(f"uses {unused}: by rule epochs is 0" in line for line in told)
        return
    with pytest.raises(ConfigError, match=f"nothing to try: no training step uses {unused}: ") as caught:
        textune.sweep(**flat, sweep={"space": space}, progress=progress)
    assert "epochs=" in (caught.value.hint or "") and not (work / "s").exists()


# --- what the winner needs


STEPS = {"contrast_steps": [1, 2]}


@pytest.mark.parametrize("folds", [None, 3])
def test_decisions_are_tuned_on_the_winners_rows_not_on_a_folds(work: Path, backbone: Path, folds: int | None) -> None:
    data = write_reviews(work / "few.csv", 90)
    decided = {"threshold_for": "recall:0.9", "threshold_label": "positive", "test_fraction": 0.2}
    decided |= {"validation_fraction": None, "sweep_folds": folds}
    found = sweep_tiny(data, backbone, work / "s", STEPS, **decided)
    assert "threshold_for" in (found.winner.folder / SETTINGS).read_text()
    with pytest.raises(ConfigError, match="needs at least 50; there are 24"):
        sweep_tiny(write_reviews(work / "fewer.csv", 30), backbone, work / "t", STEPS, **decided)
    assert not (work / "t" / "trials").exists()


def test_a_winner_without_rows_to_measure_on_is_refused_before_the_search(work: Path, backbone: Path) -> None:
    data = write_reviews(work / "few.csv", 40)
    none = {"sweep_folds": 2, "test_fraction": 0, "validation_fraction": 0}
    with pytest.raises(DataError, match="would be measured on"):
        sweep_tiny(data, backbone, work / "s", STEPS, **none)
    assert not (work / "s" / "trials").exists()
    assert sweep_tiny(data, backbone, work / "t", STEPS, **none, test=str(data)).winner.metrics["models"]


def test_the_method_keeps_its_own_option_of_a_searched_name() -> None:
    base, several = split_several({"dropout": "0,0.1", "method": {"name": "lora", "dropout": "0.2", "r": "4,8"}})
    assert several == {"dropout": ["0", "0.1"], "method.r": ["4", "8"]}
    assert base["method"] == {"name": "lora", "dropout": "0.2"}
