"""Searches at their limits: rows that must stay apart, rungs that fall together, failures late, odd spaces."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import textune
from sweeps import GRID, by_rate, check, play, sweep_tiny
from textune.bundle import SWEEP
from textune.config import build_config
from textune.data import Examples, split_folds
from textune.errors import BundleError, ConfigError, DataError, TrainingError
from textune.process.interrupt import StopRequest
from textune.progress import Silent
from textune.report.search_charts import draw_coordinates, draw_scores_by_trial
from textune.run import resume
from textune.run.tables import prepare_data
from textune.search import trial as trials
from textune.search.journal import COMPLETE, FAIL, PRUNED
from textune.search.ledger import Ledger
from textune.search.settings import Halving, build_sweep, read_sweep, write_sweep
from textune.search.sweep import _explain_no_halving, resume_sweep
from textune.search.trial import FAILED, Bench, Job, Outcome, run_job
from tiny import call_textune, make_rows, settings_for

# --- rows


@pytest.mark.parametrize(
    "settings", [{"test_fraction": 0.2, "validation_fraction": 0.2}, {}, {"patience": 1}], ids=["set", "open", "held"]
)
@pytest.mark.parametrize("grouped", [False, True])
def test_folds_leave_the_very_test_rows_of_the_winner_alone(
    tmp_path: Path, grouped: bool, settings: dict[str, Any]
) -> None:
    rows = [(text, label, f"g{i // 2}" if i < 20 else f"h{i // 3}") for i, (text, label) in enumerate(make_rows(48))]
    pl.DataFrame(rows, schema=["text", "label", "who"], orient="row").write_csv(tmp_path / "rows.csv")
    settings = settings | {"data": str(tmp_path / "rows.csv"), "text": "text", "label": "label"}
    settings |= {"group": "who"} if grouped else {}
    for seed in range(8):
        settings |= {"seed": seed}
        whole = prepare_data(build_config(settings))
        pool = prepare_data(build_config(settings), hold_test=True, pool=True)
        assert whole.test is not None and pool.validation is None and pool.test is None
        assert not set(pool.train.rows()) & set(whole.test.rows())
        assert len(pool.train) + len(whole.test) == 48
        assert pool.validation_fraction == whole.validation_fraction


def test_each_group_may_be_a_fold(tmp_path: Path) -> None:
    import pyarrow as pa

    cells = {"row": list(range(10)), "text": [str(i) for i in range(10)], "label": list("aabbccddee"),
             "group": list("vvwwxxyyzz")}  # fmt: skip
    examples = Examples(pa.table(cells), "made")
    assert np.bincount(split_folds(examples, 5, seed=1, grouped=True)).tolist() == [2] * 5
    with pytest.raises(DataError, match="in whole groups are too few for 6 folds"):
        split_folds(examples, 6, seed=1, grouped=True)


def test_too_few_groups_are_told_before_anything_is_made(work: Path, backbone: Path) -> None:
    rows = [(text, label, f"g{i // 2 % 4}") for i, (text, label) in enumerate(make_rows(40))]
    table = work / "rows.csv"
    pl.DataFrame(rows, schema=["text", "label", "who"], orient="row").write_csv(table)
    with pytest.raises(DataError, match="are too few for 5 folds") as caught:
        sweep_tiny(table, backbone, work / "s", {"learning_rate": [1e-3]}, group="who", text="text", label="label",
                   validation_fraction=None, test_fraction=0.0)  # fmt: skip
    assert "fewer folds" in (caught.value.hint or "")
    assert not (work / "s").exists()


# --- rungs


@pytest.mark.parametrize(
    ("epochs", "min_epochs", "wanted"),
    [(9, 1, [1, 3, 9]), (5, 1, [1, 2, 5]), (3, 1, [1.5, 3]), (1, 1, [1]), (1, 0.25, [0.25, 0.5, 1]), (9, 2, [2, 3, 9])],
)
def test_rungs_are_where_trials_are_evaluated_and_none_is_cut_twice_by_one_figure(
    backbone: Path, tmp_path: Path, epochs: float, min_epochs: float, wanted: list[float]
) -> None:
    search = check(backbone, {"space": GRID, "halving": {"min_epochs": min_epochs}})
    (tmp_path / "s").mkdir()
    ledger = Ledger(tmp_path / "s", build_config({"data": "x.csv"}), search, epochs)
    assert [share * epochs for share in ledger.shares] == pytest.approx(wanted)


def test_halving_that_stops_nothing_says_so(work: Path, backbone: Path, reviews: Path) -> None:
    told: list[str] = []

    class Told(Silent):
        def warn(self, text: str) -> None:
            told.append(text)

    flat = settings_for(reviews, backbone, work / "s", epochs=1, validation_fraction=0.3)
    del flat["learning_rate"]
    own = {"space": {"learning_rate": [1e-3, 5e-3, 2e-2]}, "halving": True}
    done = textune.sweep(**flat, sweep=own, progress=Told())
    assert any("halving stops no trial" in line for line in told)
    assert [t["state"] for t in done.content["trials"]] == ["complete"] * 3
    assert "one in 3 goes on, and 2 are compared" in _explain_no_halving(Halving(3, 1.0), 4, 2)


@pytest.mark.parametrize("failing", [1, 2])
def test_where_those_that_went_on_fail_the_next_best_take_their_place(
    backbone: Path, tmp_path: Path, failing: int
) -> None:
    search = check(backbone, {"space": GRID, "halving": True})
    place = tmp_path / "s"
    place.mkdir()
    ledger = Ledger(place, build_config({"data": "x.csv"}), search)
    whole = play(tmp_path / "whole", search, by_rate)
    order = sorted(whole.trials, key=lambda t: (-t.rungs[0], t.number))
    broken = {t.number for t in order[:failing]}
    while (job := ledger.next_job()) is not None:
        point, steps = ledger.trials[job.number].point, round(90 * job.share)
        good = Outcome("done", score=by_rate(point, job.share), epochs=steps / 10, steps=steps, total_steps=90,
                       scores={"accuracy": 0.5, "loss": 1.0}, finished=job.share == 1)  # fmt: skip
        bad = job.number in broken and job.share == 1
        ledger.settle(job, Outcome(FAILED, "the loss became nan") if bad else good)
    states = [t.state for t in ledger.trials]
    assert states.count(COMPLETE) == 1 and set(states) == {COMPLETE, PRUNED, FAIL}
    assert ledger.best is not None and ledger.best.number not in broken
    assert all(t.is_over for t in ledger.trials)
    reopened = Ledger(place, build_config({"data": "x.csv"}), search)
    assert reopened.next_job() is None and reopened.best == ledger.best


def test_only_what_failed_is_called_failed(backbone: Path, tmp_path: Path) -> None:
    search = check(backbone, {"space": GRID, "halving": True})
    ledger = play(tmp_path / "s", search, by_rate)
    best = ledger.best
    assert best is not None
    ledger._trials[best.number] = type(best)(**(vars(best) | {"state": FAIL, "reason": "the loss became nan"}))
    with pytest.raises(TrainingError, match=r"^1 of 9 trials failed, and none was completed: the loss"):
        ledger.check_any()


# --- faults


def test_the_machines_fault_stops_the_search_and_names_it(
    work: Path, backbone: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("textune.training.trainer.Trainer.take_step", fail)
        with pytest.raises(BundleError, match="No space left") as caught:
            sweep_tiny(reviews, backbone, work / "s", {"learning_rate": [1e-3, 5e-3]}, epochs=1)
    assert f"textune resume {work / 's'}" in (caught.value.hint or "")
    with pytest.raises(BundleError, match="is a trial of a search") as refused:
        resume(work / "s" / "trials" / "0000", progress=Silent())
    assert f"textune resume {work / 's'}" in (refused.value.hint or "")
    done = resume_sweep(work / "s", progress=Silent())
    assert [t["state"] for t in done.content["trials"]] == ["complete"] * 2
    assert done.content["winner"]["test_reads"] == 1


def test_whatever_a_library_raises_is_the_trials_failure(
    tmp_path: Path, backbone: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("odd shapes")

    monkeypatch.setattr(trials, "_train_fold", fail)
    job = Job(0, {"data": str(reviews), "backbone": str(backbone)}, str(tmp_path))
    assert run_job(job, Bench(), lambda step, total: None).reason == "AssertionError: odd shapes"


def test_a_request_to_stop_holds_for_what_begins_after_it() -> None:
    with StopRequest() as outer:
        os.kill(os.getpid(), signal.SIGTERM)
        with StopRequest() as inner:
            assert inner.signal_number == outer.signal_number == signal.SIGTERM


# --- spaces


def test_a_range_from_zero_comes_back_from_its_file(backbone: Path, tmp_path: Path) -> None:
    space = {"dropout": {"low": 0, "high": 0.3}, "weight_decay": {"low": 0.0, "high": 0.1}}
    search = check(backbone, {"space": space, "trials": 3})
    flat = {"data": "x.csv", "backbone": str(backbone)}
    write_sweep(tmp_path, build_config(flat), search)
    assert read_sweep(tmp_path)[1].space == search.space


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"space": {1: [2]}}, "unknown setting '1'"),
        ({"space": {True: [2]}}, "unknown setting 'True'"),
        ({"space": {"text": [["title"], ["content"]]}}, "text cannot be searched"),
        ({"space": {"learning_rate": [i / 1e6 for i in range(1, 400)], "batch_size": list(range(1, 400))}},
         "the grid has 159,201 points"),
    ],
)  # fmt: skip
def test_odd_spaces_are_told(backbone: Path, own: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check(backbone, own)


def test_many_values_are_no_burden_where_a_sampler_draws(backbone: Path) -> None:
    space = {"learning_rate": [i / 1e6 for i in range(1, 400)], "batch_size": list(range(1, 400))}
    assert check(backbone, {"space": space, "sampler": "random", "trials": 5}).trials == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("joiner", ","), ("joiner", ", "), ("class_weights", "negative=1,positive=4"), ("class_weights", "1,4"),
     ("class_weights", [1, 4]), ("fixes", "a,b.csv"), ("threshold_label", "not good, not bad"),
     ("layer_rates", "lower=1e-5,upper=1e-4"), ("costs", "ham:spam=5,spam:ham=1"), ("targets", "query,key")],
)  # fmt: skip
def test_commas_within_one_value_make_no_several(backbone: Path, name: str, value: Any) -> None:
    name = "method.targets" if name == "targets" else name
    flat = {"data": "x.csv", "backbone": str(backbone), "learning_rate": "1e-3,5e-4", name: value}
    config, search = build_sweep(flat)
    assert [(d.name, d.values) for d in search.space.dimensions] == [("learning_rate", (1e-3, 5e-4))]
    alone = build_config({k: v for k, v in flat.items() if k != "learning_rate"} | {"method": "lora"})
    assert config.to_dict() | {"method": None} == alone.to_dict() | {"method": None}


@pytest.mark.parametrize(
    ("name", "values"),
    [("threshold", [0.3, 0.5]), ("threshold_for", ["f1", "recall:0.9"]), ("costs", ["a:b=5", "a:b=9"]),
     ("abstain_for", ["accuracy:0.9", "accuracy:0.95"]), ("set_coverage", [0.8, 0.9]), ("row_hashes", [True, False])],
)  # fmt: skip
def test_what_no_score_depends_on_is_not_searched(backbone: Path, name: str, values: list[Any]) -> None:
    """All trials would be equally good, and the first would be called the winner."""
    with pytest.raises(ConfigError, match=f"{name} cannot be searched: it (decides|changes)"):
        check(backbone, {"space": {name: values}})


def test_separators_may_be_searched_as_a_list(backbone: Path) -> None:
    _, search = build_sweep({"data": "x.csv", "backbone": str(backbone), "joiner": [" ", ","]})
    assert search.space.dimensions[0].values == (" ", ",")


def test_a_search_takes_no_init(backbone: Path) -> None:
    with pytest.raises(ConfigError, match="init=: a search starts from the pretrained model"):
        check(backbone, {"space": {"learning_rate": [1e-3]}}, init="runs/x")


@pytest.mark.parametrize("word", ["sweep.space={learning_rate: [1e-3", "sweep.trials=["])
def test_words_that_are_no_yaml_are_told(work: Path, backbone: Path, reviews: Path, word: str) -> None:
    told = call_textune("sweep", str(reviews), f"backbone={backbone}", word, cwd=work, code=2).stderr
    assert word in told and "is not valid YAML" in told and "Traceback" not in told


def test_the_sweeps_file_is_where_it_is_looked_for(work: Path, backbone: Path, reviews: Path) -> None:
    sweep_tiny(reviews, backbone, work / "s", {"learning_rate": [1e-3]}, epochs=1)
    assert (work / "s" / SWEEP).is_file()
    regret = json.loads((work / "s" / "sweep.json").read_text())["regret"]
    assert regret["metric"] == "accuracy" and regret["at_least"] == 0


# --- the picture


@pytest.mark.parametrize(("metric", "worst", "sign"), [("accuracy", 0.5, "≤87%"), ("loss", 2.0, "≥0.33")])
def test_one_trial_that_collapsed_does_not_press_the_others_together(metric: str, worst: float, sign: str) -> None:
    figures = [0.90, 0.905, 0.89, 0.87, 0.88] if metric == "accuracy" else [0.25, 0.27, 0.29, 0.31, 0.33]
    made = [{"number": n, "settings": {"learning_rate": 10.0**-n}, "scores": {metric: value}, "state": "complete"}
            for n, value in enumerate([*figures, worst], 1)]  # fmt: skip
    drawn = str(draw_coordinates(made, ["learning_rate"], metric, 2))
    assert f">{sign}<" in drawn
    heights = [float(line.split(",")[-1].split('"')[0]) for line in drawn.split("<polyline")[1:]]
    assert max(heights) - min(heights) > 200 and len(set(heights)) == 5, "the collapsed one stands with the next worst"
    assert "≤" not in str(draw_coordinates(made[:-1], ["learning_rate"], metric, 2))


@pytest.mark.parametrize(("metric", "usual", "worst", "named"), [
    ("accuracy", 1.0, 0.5, {"<100%", "100%"}), ("loss", 0.3, 2.0, {">0.3", "0.3"}),
])  # fmt: skip
def test_beside_one_that_collapsed_alike_trials_have_their_own_figure(
    metric: str, usual: float, worst: float, named: set[str]
) -> None:
    made = [{"number": n, "settings": {"learning_rate": 10.0**-n}, "scores": {metric: value}, "state": "complete"}
            for n, value in enumerate([*[usual] * 5, worst], 1)]  # fmt: skip
    drawn = html.unescape(str(draw_coordinates(made, ["learning_rate"], metric, 2)))
    assert all(f">{name}</text>" in drawn for name in named) and "101%" not in drawn and "99%" not in drawn


@pytest.mark.parametrize("figure", [0.0, 1.0])
def test_no_picture_names_a_figure_that_cannot_be(figure: float) -> None:
    made = [{"number": n, "settings": {"learning_rate": 10.0**-n}, "scores": {"accuracy": figure}, "state": "complete"}
            for n in (1, 2, 3)]  # fmt: skip
    drawn = str(draw_coordinates(made, ["learning_rate"], "accuracy", 2)) + str(draw_scores_by_trial(made, "accuracy"))
    named = {float(percent) for percent in re.findall(r">[≤≥]?(-?[\d.]+)%<", drawn)}
    assert 100 * figure in named and all(0 <= percent <= 100 for percent in named)


def test_a_base_model_that_moved_is_asked_for_where_a_search_is_resumed(
    work: Path, backbone: Path, reviews: Path
) -> None:
    model, moved = Path(shutil.copytree(backbone, work / "model")), work / "moved"
    flat = settings_for(reviews, model, work / "s", validation_fraction=0.3)
    del flat["learning_rate"]
    config, search = build_sweep(flat | {"sweep": {"space": {"learning_rate": [1e-3, 5e-3]}}})
    (work / "s").mkdir()
    write_sweep(work / "s", config, search)
    model.rename(moved)
    with pytest.raises(BundleError, match=r"backbone=.*model no longer exists") as caught:
        resume_sweep(work / "s", progress=Silent())
    assert "backbone=PATH" in str(caught.value.hint) and "nothing was trained" not in str(caught.value)
    done = resume_sweep(work / "s", progress=Silent(), backbone=str(moved))
    assert [t["state"] for t in done.content["trials"]] == ["complete"] * 2
