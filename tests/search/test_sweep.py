"""A search: what it tries, how it chooses, that its test set stays shut, and that its winner is an ordinary run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from markupsafe import escape

import textune
from reports import take_script_away
from sweeps import GRID, RATES, by_rate, check, play, sweep_tiny
from textune.config import build_config
from textune.data import split_folds
from textune.errors import BundleError, ConfigError, DataError, MissingExtraError, TrainingError
from textune.files import read_json_lines
from textune.progress import Silent
from textune.search.journal import COMPLETE, FAIL, PRUNED, RUNNING
from textune.search.ledger import Ledger
from textune.search.settings import build_sweep, read_sweep, write_sweep
from textune.search.space import settings_at
from textune.search.sweep import Sweep, resume_sweep
from textune.search.trial import DIED, FAILED, Outcome, score_of
from tiny import call_textune, hash_weights, settings_for, train_tiny, write_reviews


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, backbone: Path, reviews: Path) -> Sweep:
    """Nine trials in full."""
    place = tmp_path_factory.mktemp("grid")
    return sweep_tiny(reviews, backbone, place / "grid", GRID, epochs=3, test=write_reviews(place / "test.csv", 20))


# --- what is tried


def test_every_problem_is_told_at_once_and_nothing_is_made(work: Path, backbone: Path, reviews: Path) -> None:
    space = {"learning_rte": [1e-3], "batch_size": {"low": 8, "hihg": 16}, "epochs": ["many"], "seed": [1, 2],
             "method.rank": [4], "dropout": {"low": 0.2, "high": 0.1}}  # fmt: skip
    with pytest.raises(ConfigError) as error:
        textune.sweep(reviews, backbone=str(backbone), name="s", colour="red",
                      sweep={"space": space, "smpler": "grid", "workers": 0})  # fmt: skip
    told = str(error.value)
    for part in (
        "unknown setting 'colour'", "'learning_rte'; did you mean 'learning_rate'?",
        "unknown key 'hihg'; did you mean 'high'?", "epochs='many': must be a number", "seed cannot be searched",
        "'method.rank'", "low 0.2 must be less than high 0.1", "'smpler'; did you mean 'sampler'?", "workers=0",
    ):  # fmt: skip
        assert part in told, part
    assert not (work / "runs").exists()


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"space": {"method": ["bitfit", "lora"], "method.bias": [1]}}, "unknown setting 'method.bias'"),
        ({"space": {"max_length": [32, 4000]}}, "max_length=4000"),
        ({"space": {"method": ["lora", "prefx"]}}, "did you mean 'prefix'"),
        ({"space": {"method.r": [8]}, "halving": {"reduktion": 3}}, "did you mean 'reduction'"),
        ({"space": {"learning_rate": {"low": 1e-4, "high": 1e-2}}, "sampler": "grid"}, "list the values of"),
        ({"space": {"learning_rate": {"low": 0, "high": 1e-2, "log": True}}}, "low must be more than 0"),
        ({"space": {"schedule": {"low": "linear", "high": "cosine"}}}, "a range is for numbers"),
        ({"space": {"metric": ["loss"]}}, "metric cannot be searched"),
        ({"space": {"method.r": [8]}, "folds": 1}, "folds=1"),
        ({"space": {}}, "must name settings"),
    ],
)
def test_what_is_wrong_is_told_before_training(backbone: Path, own: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("(", r"\(")):
        check(backbone, own)


def test_a_method_that_the_backbone_refuses_is_told_beforehand(backbones: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="bitfit does not support llama"):
        check(backbones["llama"], {"space": {"method": ["lora", "bitfit"]}})


def test_a_grid_has_every_combination_once_and_options_only_where_the_method_has_them(backbone: Path) -> None:
    search = check(backbone, {"space": {"method.r": ["4", 8, 8.0], "method": ["lora", "bitfit"], "epochs": [1, 2]}})
    points = search.space.list_points()
    assert points == [
        {"method": "lora", "method.r": 4, "epochs": 1.0}, {"method": "lora", "method.r": 4, "epochs": 2.0},
        {"method": "lora", "method.r": 8, "epochs": 1.0}, {"method": "lora", "method.r": 8, "epochs": 2.0},
        {"method": "bitfit", "epochs": 1.0}, {"method": "bitfit", "epochs": 2.0},
    ]  # fmt: skip
    base = build_config({"data": "x", "method": {"name": "lora", "alpha": 32}}).to_dict()
    assert settings_at(base, points[0])["method"] == {"name": "lora", "alpha": 32, "r": 4}
    assert settings_at(base, points[4])["method"] == {"name": "bitfit"}
    assert (search.sampler, search.trials, search.bracket) == ("grid", 6, 6)


def test_a_range_is_drawn_by_tpe_and_settings_come_back_from_the_file(backbone: Path, tmp_path: Path) -> None:
    space = {"learning_rate": {"low": "1e-4", "high": 1e-2, "log": True}, "method.r": {"low": 4, "high": 16, "step": 4}}
    flat = {"data": "x.csv", "backbone": str(backbone), "sweep": {"space": space, "halving": True}, "sweep.trials": "5"}
    config, search = build_sweep(flat)
    assert (search.sampler, search.trials, search.bracket) == ("tpe", 5, 9)
    write_sweep(tmp_path, config, search)
    assert read_sweep(tmp_path) == (config, search)


# --- the ledger, with made-up outcomes


def facts(ledger: Ledger) -> list[Any]:
    return [(t.number, t.state, t.point, t.rungs, t.outcome) for t in ledger.trials]


RANGE = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "method.r": {"low": 4, "high": 16, "step": 4}}


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("halving", [False, True])
def test_the_same_seed_gives_the_same_trials_also_when_killed_twice(
    backbone: Path, tmp_path: Path, sampler: str, halving: bool
) -> None:
    search = check(backbone, {"space": RANGE, "sampler": sampler, "trials": 20, "halving": halving})
    whole = play(tmp_path / "whole", search, by_rate)
    assert len({t.point["learning_rate"] for t in whole.trials}) == 20
    place = tmp_path / "killed"
    for stop_after in (7, 9):
        play(place, search, by_rate, stop_after)
        with (place / "journal.log").open("ab") as journal:
            journal.write(b'{"op_code": 4, "half a li')
        (place / "journal.log.lock").symlink_to("journal.log")
    assert facts(play(place, search, by_rate)) == facts(whole)
    other = check(backbone, {"space": RANGE, "sampler": sampler, "trials": 20, "seed": 1})
    assert {t.point["learning_rate"] for t in play(tmp_path / "other", other, by_rate).trials}.isdisjoint(
        {t.point["learning_rate"] for t in whole.trials}
    )


def test_a_trial_killed_while_it_was_drawn_is_drawn_to_the_end(backbone: Path, tmp_path: Path) -> None:
    search = check(backbone, {"space": RANGE, "sampler": "random", "trials": 4})
    whole = play(tmp_path / "whole", search, by_rate)
    place = tmp_path / "killed"
    play(place, search, by_rate, stop_after=3)  # the third is drawn then
    lines = (place / "journal.log").read_bytes().splitlines(keepends=True)
    drawn = [i for i, line in enumerate(lines) if b'"param_name":"learning_rate"' in line][2]
    (place / "journal.log").write_bytes(b"".join(lines[: drawn + 1]))  # its second setting is not written any more
    assert facts(play(place, search, by_rate)) == facts(whole)


def test_halving_lets_a_third_go_on_at_each_rung(backbone: Path, tmp_path: Path) -> None:
    search = check(backbone, {"space": GRID, "halving": True})
    ledger = play(tmp_path / "s", search, by_rate)
    assert [round(s, 3) for s in ledger.shares] == [0.111, 0.333, 1.0]
    assert sorted(len(t.rungs) for t in ledger.trials) == [1] * 6 + [2] * 2 + [3]
    assert [t.state for t in ledger.trials].count(PRUNED) == 8
    best = ledger.best
    assert best is not None
    assert best.point["learning_rate"] == 5e-3
    done, planned = ledger.forecast()
    assert done == planned == pytest.approx(9 / 9 + 3 * 2 / 9 + 6 / 9)


def test_a_trial_whose_worker_died_is_tried_once_more(backbone: Path, tmp_path: Path) -> None:
    search = check(backbone, {"space": GRID})
    ledger = play(tmp_path / "s", search, by_rate, become=lambda number: Outcome(DIED, "exit code -9"))
    failed = ledger.trials[4]
    assert (failed.state, failed.attempts) == (FAIL, 2)
    assert "died 2 times" in failed.reason
    assert [t.state for t in ledger.trials].count(COMPLETE) == 8
    reopened = Ledger(tmp_path / "s", build_config({"data": "x.csv"}), search)
    assert facts(reopened) == facts(ledger)
    assert reopened.next_job() is None


def test_a_failed_trial_takes_no_place_at_a_rung(backbone: Path, tmp_path: Path) -> None:
    search = check(backbone, {"space": GRID, "halving": True})
    ledger = play(tmp_path / "s", search, by_rate, become=lambda number: Outcome(FAILED, "the loss became nan"))
    assert (ledger.trials[4].state, ledger.trials[4].reason) == (FAIL, "the loss became nan")
    assert sorted(len(t.rungs) for t in ledger.trials) == [0] + [1] * 5 + [2] * 2 + [3]


def test_scores_are_larger_where_better_and_ties_go_to_the_lower_loss() -> None:
    scores = {"accuracy": 0.9, "macro_f1": 0.8, "micro_f1": 0.9, "loss": 0.3}
    assert score_of(scores, "loss") == -0.3
    assert score_of(scores, "accuracy") > score_of(scores | {"loss": 0.4}, "accuracy")
    assert score_of(scores | {"accuracy": 0.901, "loss": 9.0}, "accuracy") > score_of(scores, "accuracy")


# --- whole searches


def test_a_grid_is_complete_and_its_winner_is_the_run_that_train_makes(
    grid: Sweep, tmp_path: Path, backbone: Path, reviews: Path
) -> None:
    trials = grid.content["trials"]
    assert [t["settings"] for t in trials] == [{"learning_rate": r, "batch_size": b} for r in RATES
                                               for b in GRID["batch_size"]]  # fmt: skip
    assert all(t["state"] == "complete" and t["epochs"] == 3 and t["attempts"] == 1 for t in trials)
    best = max(t["scores"]["accuracy"] for t in trials)
    winner = grid.content["winner"]
    assert winner["scores"]["accuracy"] == best == trials[winner["number"]]["scores"]["accuracy"]
    place = tmp_path / "alone"
    test = grid.folder.parent / "test.csv"
    alone = train_tiny(reviews, backbone, place, epochs=3, validation_fraction=0.3, test=test, **winner["settings"])
    assert hash_weights(alone.folder) == hash_weights(grid.winner.folder)
    assert alone.metrics["models"]["tuned"]["accuracy"] == winner["accuracy"]
    assert textune.load(grid.winner.folder).predict(["a lovely film"])
    assert not list(grid.folder.rglob("checkpoints"))
    assert not list(grid.folder.rglob("*.pkl"))


def test_only_the_winner_reads_the_test_set_and_once(grid: Sweep) -> None:
    assert [p.parent.name for p in grid.folder.rglob("test_reads.jsonl")] == ["winner"]
    assert len(read_json_lines(grid.winner.folder / "test_reads.jsonl")) == 1
    assert grid.content["winner"]["test_reads"] == 1
    for plan in (grid.folder / "trials").rglob("plan.json"):
        assert set(json.loads(plan.read_text())["data"]) == {"training", "validation"}


def test_the_test_table_is_not_opened_before_a_trial_has_won(work: Path, backbone: Path, reviews: Path) -> None:
    test = work / "test.csv"
    test.write_text("no,labels,here\n")  # whoever opens it fails
    with pytest.raises(DataError, match=r"test\.csv"):
        sweep_tiny(reviews, backbone, work / "s", {"learning_rate": [1e-3, 5e-3]}, epochs=1, test=test)
    assert all((work / "s" / "trials" / f"{n:04d}" / "metrics.jsonl").is_file() for n in (0, 1))
    write_reviews(test, 20)
    done = resume_sweep(work / "s", progress=Silent())
    assert [t["attempts"] for t in done.content["trials"]] == [1, 1]
    assert done.content["winner"]["test_reads"] == 1
    with pytest.raises(DataError, match="no such"):
        sweep_tiny(reviews, backbone, work / "t", {"learning_rate": [1e-3]}, epochs=1, test=work / "tset.csv")


def test_held_out_rows_are_kept_from_trials_too(work: Path, backbone: Path, reviews: Path) -> None:
    done = sweep_tiny(reviews, backbone, work / "s", {"learning_rate": [1e-3, 5e-3]}, epochs=1, test_fraction=0.2)
    rows = json.loads((work / "s" / "trials" / "0000" / "plan.json").read_text())["data"]
    assert {name: split["rows"] for name, split in rows.items()} == {"training": 30, "validation": 18}
    assert done.winner.metrics["models"]["tuned"]["rows"] == 12


def test_halving_survivors_equal_trials_that_nothing_stopped(
    grid: Sweep, work: Path, backbone: Path, reviews: Path
) -> None:
    done = sweep_tiny(reviews, backbone, work / "s", GRID, epochs=3, test=grid.folder.parent / "test.csv",
                      sweep_halving={"reduction": 2})  # fmt: skip
    trials = done.content["trials"]
    whole = [t for t in trials if t["state"] == "complete"]
    stopped = [t for t in trials if t["state"] == "pruned"]
    assert len(whole) + len(stopped) == 9
    assert whole
    assert all(t["epochs"] < 3 for t in stopped)
    for trial in whole:
        in_full = grid.content["trials"][trial["number"]]
        assert (trial["scores"], trial["best_step"]) == (in_full["scores"], in_full["best_step"])
    alone = train_tiny(reviews, backbone, work / "alone", epochs=3, validation_fraction=0.3,
                       test=grid.folder.parent / "test.csv", **done.content["winner"]["settings"])  # fmt: skip
    assert hash_weights(alone.folder) == hash_weights(done.winner.folder)
    saving = done.content["saving"]
    assert saving["epochs_trained"] == pytest.approx(sum(t["epochs"] for t in trials))
    assert saving["epochs_in_full"] == pytest.approx(27)
    assert saving["seconds_saved"] > 0
    assert done.content["regret"]["stopped_early"] == len(stopped)


def test_small_data_are_cross_validated_and_the_winner_is_trained_on_all_rows(
    work: Path, backbone: Path, reviews: Path
) -> None:
    done = sweep_tiny(
        reviews, backbone, work / "s", {"learning_rate": [1e-3, 5e-3]}, epochs=2, validation_fraction=None
    )
    assert done.content["selection"]["folds"] == 5
    assert done.content["selection"]["rows"] == 48
    assert done.content["winner"]["trained_again"]
    assert done.content["winner"]["test_reads"] == 1
    validated = []
    for i in range(5):
        place = work / "s" / "trials" / "0000" / f"fold-{i}"
        validated.append(json.loads((place / "plan.json").read_text())["data"]["validation"]["sha256"])
    assert len(set(validated)) == 5


def test_folds_part_the_rows_by_label_in_proportion() -> None:
    import pyarrow as pa

    from textune.data import Examples

    labels = ["a"] * 20 + ["b"] * 10
    cells = {"row": list(range(30)), "text": [str(i) for i in range(30)], "label": labels, "group": list("xyzuv") * 6}
    examples = Examples(pa.table(cells), "made")
    fold = split_folds(examples, 5, seed=1)
    assert np.bincount(fold).tolist() == [6] * 5
    assert np.bincount(fold[:20]).tolist() == [4] * 5
    grouped = split_folds(examples, 5, seed=1, grouped=True)
    assert all(len(set(grouped[i::5])) == 1 for i in range(5))
    with pytest.raises(DataError, match="are too few"):
        split_folds(examples.take([0, 1, 20]), 5, seed=1)
    copied = examples.take(np.repeat(np.arange(len(examples)), 3))
    fold = split_folds(copied, 5, seed=1)
    assert all(len(set(fold[i : i + 3])) == 1 for i in range(0, len(copied), 3)) and len(set(fold.tolist())) == 5
    with pytest.raises(DataError, match="9 rows with 3 different texts are too few for 5 folds"):
        split_folds(copied.take(np.arange(9)), 5, seed=1)


def test_a_trial_that_fails_is_told_and_the_search_goes_on(work: Path, backbone: Path, reviews: Path) -> None:
    space = {"layer_rates": ["lower=1e-3", "17=1e-3"], "learning_rate": [1e-3]}
    done = sweep_tiny(reviews, backbone, work / "s", space, epochs=1)
    good, bad = done.content["trials"]
    assert (good["state"], bad["state"]) == ("complete", "failed")
    assert "17" in bad["reason"]
    assert escape(bad["reason"]) in done.report.read_text(encoding="utf-8")
    with pytest.raises(TrainingError, match=r"all 1 trials failed: .*17"):
        sweep_tiny(reviews, backbone, work / "t", {"layer_rates": ["17=1e-3"]}, epochs=1)


def test_the_report_stands_alone_and_escapes(grid: Sweep) -> None:
    page = grid.report.read_text(encoding="utf-8")
    assert "<script" not in take_script_away(page)
    assert "http" not in page.replace("http-equiv", "")
    for told in ("It was read once", "18 validation rows", "learning_rate", "Importance of each setting", "Trial"):
        assert told in page, told
    assert page.count("<polyline") >= 9


def test_a_finished_or_foreign_folder_is_told(grid: Sweep, work: Path, backbone: Path, reviews: Path) -> None:
    copy = shutil.copytree(grid.folder, work / "copy")
    again = resume_sweep(copy, progress=Silent())
    assert again.content == grid.content
    with pytest.raises(BundleError, match="already exists"):
        sweep_tiny(reviews, backbone, copy, {"learning_rate": [1e-3]})
    with pytest.raises(BundleError, match="is not a search"):
        resume_sweep(work, progress=Silent())


def test_frames_are_swept_here_and_refused_for_workers(work: Path, backbone: Path, reviews: Path) -> None:
    import pandas as pd

    frame = pd.read_csv(reviews, dtype=str)
    flat = settings_for("x", backbone, work / "s", epochs=1, validation_fraction=0.3)
    del flat["data"]
    own: dict[str, Any] = {"space": {"learning_rate": [1e-3, 5e-3]}}
    with pytest.raises(ConfigError, match="workers cannot read a data frame"):
        textune.sweep(frame, **flat, sweep=own | {"workers": 2}, progress=Silent())
    done = textune.sweep(frame, **flat, sweep=own, progress=Silent())
    assert len(done.content["trials"]) == 2


def test_ray_that_is_missing_names_the_extra(
    work: Path, backbone: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(MissingExtraError, match=r"textune\[ray\]"):
        sweep_tiny(reviews, backbone, work / "s", {"learning_rate": [1e-3]}, sweep_executor="ray")


def test_the_command_prints_one_object(work: Path, backbone: Path, reviews: Path) -> None:
    flat = settings_for(reviews, backbone, work / "runs" / "s", epochs=1, validation_fraction=0.3)
    (work / "s.yaml").write_text(yaml.safe_dump(flat | {"sweep": {"space": {"learning_rate": [1e-3, 5e-3, 1e-2]}}}))
    done = call_textune("sweep", "s.yaml", "sweep.trials=2", "batch_size=16", "--json", cwd=work)
    told = json.loads(done.stdout)
    assert [t["state"] for t in told["trials"]] == ["complete"] * 2
    assert told["winner"]["number"] in (0, 1)
    assert "trial 1 (learning_rate" in done.stderr
    wrong = call_textune("sweep", "s.yaml", "sweep.trials=99", cwd=work, code=2)
    assert "the grid has 3 points" in wrong.stderr
    assert RUNNING not in {t["state"] for t in told["trials"]}
