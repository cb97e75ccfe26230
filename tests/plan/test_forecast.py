"""The forecast: its arithmetic, a rehearsal of the very run, and that nothing of it is left behind."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textune.config import build_config
from textune.errors import ConfigError, DataError, ModelError
from textune.plan import Forecast, list_plans, plan_runs
from textune.plan.api import REHEARSAL_SECONDS, _copy_cache
from textune.plan.forecast import (
    count_evaluations,
    extrapolate,
    extrapolate_growth,
    extrapolate_parts,
    fit_seconds,
    measure_sizes,
    spread,
    time_growing,
)
from textune.plan.rehearsal import _count_saves, rehearse
from textune.progress import Silent
from textune.run.save import weight_megabytes
from tiny import as_words, call_here, call_textune, settings_for, train_tiny, write_reviews

PARTS = ["start", "prepare", "load", "head", "frozen", "steps", "evaluations", "checkpoints", "save", "measure"]


def test_costs_of_steps_are_found_again() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(5, 200, 400)
    steps = np.array_split(np.sort(lengths).argsort(), 25)
    sizes = measure_sizes(lengths, lengths, steps)
    costs = np.array([0.02, 3e-5, 2e-8])
    noise = random.normal(1, 0.05, 9)
    found = fit_seconds(sizes[::3], sizes[::3] @ costs * noise)
    assert (found >= 0).all()
    assert (sizes @ found).sum() == pytest.approx((sizes @ costs).sum(), rel=0.05)
    assert fit_seconds(sizes[::3], sizes[::3] @ costs) == pytest.approx(costs, rel=1e-3)


def test_sizes_of_steps() -> None:
    sizes = measure_sizes(np.array([3, 8, 5]), np.array([3, 4, 5]), [np.array([0, 2]), np.array([1])])
    assert sizes.tolist() == [[1.0, 8.0, 34.0], [1.0, 8.0, 32.0]]


def test_memory_grows_with_the_logarithm_of_the_steps_and_ever_more_slowly() -> None:
    peaks = [1_000 + 200 * np.log2(n) for n in range(1, 9)]
    assert extrapolate_growth(peaks, 16) == pytest.approx(0.7 * 200)
    assert extrapolate_growth(peaks, 10**6) == pytest.approx(0.7 * 200 * 4)
    assert extrapolate_growth([900.0] * 8, 100) == 0
    assert extrapolate_growth(peaks, 8) == extrapolate_growth(peaks[:1], 8) == 0


def test_any_first_few_of_a_spread_lie_evenly() -> None:
    assert spread(0) == [] and spread(1) == [0] and spread(8)[:3] == [4, 2, 6]
    for count in (2, 7, 100):
        assert sorted(spread(count)) == list(range(count))


def test_a_whole_is_its_parts_extrapolated() -> None:
    def job(rows: float) -> float:
        return 1.5 + 0.01 * rows

    assert extrapolate(job(50) + 2, job(50), job(400), (50, 400, 3_000)) == pytest.approx(job(3_000) + 2)
    assert extrapolate(3.0, 2.0, 2.0, (50, 50, 50)) == 3.0
    assert extrapolate(3.0, 2.0, 1.9, (50, 400, 3_000)) == 3.0  # noise: a larger part cannot take less


def test_parts_grow_while_the_next_should_fit_and_tell_what_the_whole_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget counts all that a part does; what is extrapolated is what it says, apart from what does not grow."""
    clock = 0.0
    monkeypatch.setattr("textune.plan.forecast.time.perf_counter", lambda: clock)

    def run(rows: int) -> float:
        nonlocal clock
        clock += rows / 500
        return 0.2 + rows / 1_000

    parts = time_growing(run, 5_000, 1.0)
    assert [rows for rows, _ in parts] == [32, 64, 128, 256]
    assert time_growing(run, 100, 60)[-1] == (100, pytest.approx(0.3))
    assert extrapolate_parts(parts, 5_000) == pytest.approx(5.2)
    assert extrapolate_parts(parts, 256) == parts[-1][1]
    assert extrapolate_parts(parts[:1], 64) == pytest.approx(2 * parts[0][1])
    assert extrapolate_parts(parts, 1_000, lambda rows: min(rows, 500)) == pytest.approx(0.7)
    assert extrapolate_parts([(32, 2.0), (64, 1.0)], 1_000) == 1.0, "noise does not make a job shorter"


def test_evaluations_are_counted_as_training_makes_them() -> None:
    assert [count_evaluations(total, 5) for total in (4, 5, 11)] == [1, 1, 3]


def test_a_forecast_survives_json() -> None:
    seconds = {part: float(i) for i, part in enumerate(PARTS)}
    made = Forecast("lora", "b", seconds, 900.0, 3.0, 9.0, 10, 100, {"steps": 4}, ("a note",))
    assert made.run_seconds == sum(range(10))
    assert made.training_seconds == 3 + 4 + 5 + 6 + 7
    assert Forecast.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_frozen_layers_are_rehearsed_on_a_part_and_not_kept(
    reviews: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "rehearsal"
    place.mkdir()
    settings = settings_for(reviews, backbone, tmp_path / "real", method="head", epochs=3)
    forecast = rehearse(build_config(settings), place, 1.0, time.time(), Silent())
    assert forecast.seconds["frozen"] > 0
    assert not (tmp_path / "cache" / "prefixes").exists()
    train_tiny(reviews, backbone, tmp_path / "real", method="head", epochs=3)
    kept = rehearse(build_config(settings | {"learning_rate": 1e-3}), place, 1.0, time.time(), Silent())
    assert kept.seconds["frozen"] == 0, "what the cache holds is not computed again"
    linked = _copy_cache(tmp_path)
    kept_ones = sorted(path.name for path in (tmp_path / "cache" / "prefixes").iterdir())
    assert kept_ones and sorted(path.name for path in (linked / "prefixes").iterdir()) == kept_ones
    lora = rehearse(build_config(settings | {"method": "lora"}), place, 1.0, time.time(), Silent())
    assert lora.seconds["frozen"] == 0


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_rehearsal_is_of_the_very_run(method: str, reviews: Path, backbone: Path, tmp_path: Path) -> None:
    settings = settings_for(reviews, backbone, tmp_path / "real", method=method, epochs=6)
    place = tmp_path / "rehearsal"
    place.mkdir()
    forecast = rehearse(build_config(settings), place, 1.0, time.time(), Silent())
    real = train_tiny(reviews, backbone, tmp_path / "real", method=method, epochs=6)
    steps = [json.loads(line) for line in (real.folder / "metrics.jsonl").read_text().splitlines()]
    assert forecast.settings["steps"] == max(line["step"] for line in steps)
    assert forecast.settings["rows"]["test"] == real.metrics["models"]["tuned"]["rows"]
    assert forecast.trainable_parameters == real.manifest.trainable_parameters
    assert list(forecast.seconds) == PARTS
    assert all(value > 0 for part, value in forecast.seconds.items() if part not in ("start", "frozen"))
    assert forecast.disk_mb == pytest.approx(sum(p.stat().st_size for p in real.folder.rglob("*")) / 1e6, rel=0.25)
    assert forecast.disk_while_training_mb > 2 * weight_megabytes(real.folder)
    assert forecast.training_seconds < 30 * max(real.metrics["costs"]["training_seconds"], 0.1)


@pytest.mark.parametrize(("method", "epochs", "expected"), [("lora", 2, True), ("head", 2, True), ("head", 0, False)])
def test_the_trainings_that_calibrate_few_rows_are_forecast(
    method: str, epochs: int, expected: bool, backbone: Path, tmp_path: Path
) -> None:
    few = write_reviews(tmp_path / "few.csv", rows=80)
    settings = settings_for(few, backbone, tmp_path / "real", method=method, epochs=epochs, validation_fraction=None)
    (tmp_path / "rehearsal").mkdir()
    forecast = rehearse(build_config(settings), tmp_path / "rehearsal", 0.5, time.time(), Silent())
    assert ("calibration" in forecast.seconds) == expected
    again = sum(forecast.seconds[part] for part in ("head", "frozen", "steps"))
    assert forecast.seconds.get("calibration", again) >= again


def test_several_labels_can_be_rehearsed(backbone: Path, tmp_path: Path) -> None:
    from label_tables import as_list, write_table

    table = write_table(tmp_path / "moods.csv", as_list)
    (tmp_path / "rehearsal").mkdir()
    config = build_config(settings_for(table, backbone, tmp_path / "real"))
    forecast = rehearse(config, tmp_path / "rehearsal", 0.5, time.time(), Silent())
    assert forecast.run_seconds > 0


def test_a_solved_head_with_decisions_can_be_rehearsed(backbone: Path, tmp_path: Path) -> None:
    """Its answers out of fold are of all training rows, and a rehearsal evaluates a part of them."""
    data, test = write_reviews(tmp_path / "few.csv", rows=120), write_reviews(tmp_path / "test.csv", rows=2_000)
    settings = settings_for(data, backbone, tmp_path / "run", test=str(test), method="head", threshold_for="f1")
    settings |= {"epochs": None, "validation_fraction": None, "threshold_label": "positive"}
    forecast = rehearse(build_config(settings), tmp_path / "rehearsal", 0.5, time.time(), Silent())
    assert forecast.run_seconds > 0


def test_which_runs_are_planned(reviews: Path, backbone: Path, backbones: dict[str, Path]) -> None:
    settings = {"data": str(reviews)}
    silent = Silent()
    every = list_plans(settings, [], [str(backbone)], silent)
    assert {"lora", "head", "full", "bitfit", "adapter"} <= {config.method.name for config in every}
    two = list_plans(settings, ["lora", "head"], [str(backbone), str(backbones["bert"])], silent)
    assert [(c.method.name, Path(c.model.backbone).name) for c in two] == [
        ("lora", "tiny-distilbert"), ("head", "tiny-distilbert"), ("lora", "tiny-bert"), ("head", "tiny-bert")
    ]  # fmt: skip
    llama = {c.method.name for c in list_plans(settings, [], [str(backbones["llama"])], silent)}
    assert "lora" in llama and "bitfit" not in llama  # it has no bias
    with pytest.raises(ModelError, match="bitfit does not support llama"):
        list_plans(settings, ["bitfit"], [str(backbones["llama"])], silent)
    with pytest.raises(ConfigError, match="only applies to one method"):
        list_plans(settings | {"method": {"r": "4"}}, [], [str(backbone)], silent)


class Told(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_run_that_builds_on_another_is_checked_as_it_will_be(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    base = train_tiny(reviews, backbone, tmp_path / "base", epochs=1, method="bitfit").folder
    given = {"data": str(reviews), "init": str(base)}
    (config,) = list_plans(given, [], [None], Silent())
    assert config.method.name == "bitfit"
    with pytest.raises(ConfigError, match="goes on with the method of its run, bitfit"):
        list_plans(given, ["head"], [None], Silent())


def test_a_place_for_runs_that_cannot_be_is_told_before_anything_is_rehearsed(
    reviews: Path, backbone: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    settings = settings_for(reviews, backbone, tmp_path / "x") | {"runs_dir": str(tmp_path / "notes.txt" / "runs")}
    with pytest.raises(ConfigError, match=r"notes\.txt: is a file, not a folder") as caught:
        plan_runs([build_config(settings)], 1.0, Silent())
    assert "runs_dir=" in (caught.value.hint or "")
    for command in ("train", "plan", "sweep"):
        more = ["sweep.space={learning_rate: [1e-3]}"] if command == "sweep" else []
        own = {k: v for k, v in settings.items() if command != "sweep" or k != "learning_rate"}
        done = call_textune(command, *as_words(own), *more, cwd=tmp_path, code=2)
        assert "is a file, not a folder" in done.stderr
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_method_that_cannot_do_with_the_settings_is_left_out_unless_it_is_named(
    reviews: Path, backbone: Path
) -> None:
    settings, told = {"data": str(reviews), "max_length": "64"}, Told()
    names = {config.method.name for config in list_plans(settings, [], [str(backbone)], told)}
    assert {"lora", "prefix"} <= names and not names & {"prompt", "p_tuning"}  # this prefix takes no positions
    assert any(line.startswith("prompt: max_length=64:") and "56 tokens" in line for line in told.lines)
    with pytest.raises(ConfigError, match="max_length=64"):
        list_plans(settings, ["prompt"], [str(backbone)], told)
    with pytest.raises(ConfigError, match="max_length=65"):
        list_plans(settings | {"max_length": "65"}, [], [str(backbone)], told)


def test_what_fails_in_its_rehearsal_is_left_out_unless_nothing_is_left(
    reviews: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = list_plans(settings_for(reviews, backbone, tmp_path / "run"), [], [str(backbone)], Silent())[:3]
    forecast = Forecast("lora", "tiny", {"prepare": 1.0}, 1.0, 1.0, 1.0, 1, 2, {})

    def rehearse_one(config: Any, *_: Any) -> Forecast | ConfigError:
        if config is not configs[-1]:
            return ConfigError(f"layer_decay=0.9: not with {config.method.name}")
        return forecast

    monkeypatch.setattr("textune.plan.api._rehearse_in_child", rehearse_one)
    assert plan_runs(configs, 1.0, Silent(), skip_failing=True) == [forecast]
    with pytest.raises(ConfigError, match="layer_decay"):
        plan_runs(configs, 1.0, Silent())
    with pytest.raises(ConfigError, match=f"not with {configs[0].method.name}"):
        plan_runs(configs[:2], 1.0, Silent(), skip_failing=True)


def test_checkpoints_are_counted_as_training_writes_them() -> None:
    assert _count_saves(100, 25, None, 4, 10.0) == 4
    assert _count_saves(100, 25, None, 4, 250.0) == 12
    assert _count_saves(100, 25, 10, 4, 250.0) == len({10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 100})
    assert _count_saves(10, 25, 3, 1, 1.0) == 4


def test_bad_data_is_told_as_training_would(backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "rehearsal").mkdir()
    config = build_config(settings_for(tmp_path / "nowhere.csv", backbone, tmp_path / "run"))
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        rehearse(config, tmp_path / "rehearsal", 0.5, time.time(), Silent())


def list_files(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*")}


@pytest.mark.slow
def test_the_command_leaves_nothing_behind(
    reviews: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, cached = tmp_path / "work", tmp_path / "cache"
    work.mkdir()
    cached.mkdir()
    monkeypatch.setenv("TEXTUNE_CACHE", str(cached))
    settings = settings_for(reviews, backbone, work / "runs" / "x")
    del settings["name"]
    settings["runs_dir"] = "runs"
    words = [str(reviews), *as_words({k: v for k, v in settings.items() if k != "data"}), "--seconds", "0.5"]
    before = list_files(work, cached)
    done = call_textune("plan", *words, "method=head", "--json", cwd=work)
    (forecast,) = json.loads(done.stdout)["forecasts"]
    assert forecast["method"] == "head"
    assert 0 < forecast["training_seconds"] < forecast["run_seconds"]
    assert forecast["peak_memory_mb"] > 100
    failed = call_textune("plan", *words, "methods=head", "label=nothing", cwd=work, code=3)
    assert failed.stderr.startswith("error: ") and "no column 'nothing'" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert list_files(work, cached) == before


def test_help_names_the_budget_that_a_rehearsal_has(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call_here(capsys, "plan", "--help")
    assert code == 0 and f"loading and saving; default: {REHEARSAL_SECONDS:g}." in " ".join(out.split())
