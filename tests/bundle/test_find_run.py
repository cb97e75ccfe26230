"""A run is found by its name alone, and it is said; a path that exists is never looked up elsewhere."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import textune
from textune.bundle import PlaceNote, check_writable, find_run, run_path
from textune.errors import ConfigError, TextuneError
from textune.run import Run, load_run
from textune.run.start import adopt_init
from textune.search.sweep import load_sweep
from tiny import call_here, settings_for, train_tiny


@pytest.fixture(autouse=True)
def _warnings_as_before() -> Iterator[None]:
    with warnings.catch_warnings():
        yield


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, reviews: Path, backbone: Path) -> Path:
    folder = tmp_path_factory.mktemp("other") / "demo"
    return train_tiny(reviews, backbone, folder, method="head", epochs=1).folder


@pytest.fixture
def place(work: Path, finished: Run, other: Path, reviews: Path) -> Path:
    """A folder with d.csv and the finished runs `runs/demo` and `other/demo`."""
    shutil.copytree(finished.folder, work / "runs" / "demo")
    shutil.copytree(other, work / "other" / "demo")
    shutil.copy(reviews, work / "d.csv")
    return work


DOORS: dict[str, Callable[[], Any]] = {
    "load": lambda: textune.load("demo"),
    "Predictor.load": lambda: textune.Predictor.load("demo"),
    "evaluate": lambda: textune.evaluate("demo", "d.csv"),
    "export": lambda: textune.export("demo"),
    "resume": lambda: textune.resume("demo"),
    "load_run": lambda: load_run("demo"),
    "compare": lambda: textune.compare("demo", load_run("other/demo")),
    "a path": lambda: load_run(Path("demo")),
}


@pytest.mark.filterwarnings("ignore::textune.run.seen_rows.SeenRowsWarning")
@pytest.mark.parametrize("door", DOORS)
def test_every_door_of_python_finds_it_and_says_so(door: str, place: Path) -> None:
    with pytest.warns(PlaceNote, match="^demo: read as runs/demo$") as told:
        DOORS[door]()
    notes = [w for w in told if issubclass(w.category, PlaceNote)]
    assert len(notes) == 1 and notes[0].filename == __file__, "said once, with the caller's line"
    assert (place / "runs" / "demo-merged").is_dir() == (door == "export")


@pytest.mark.parametrize("door", ["sweep", "resume_sweep", "init"])
def test_unfinished_and_other_runs_are_found_too(door: str, place: Path, backbone: Path) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "sweep": lambda: load_sweep("demo"),
        "resume_sweep": lambda: textune.resume_sweep("demo"),
        "init": lambda: adopt_init(
            textune.run.api.build_config(settings_for("d.csv", backbone, Path("runs/it"), init="demo"))
        ),
    }
    with pytest.warns(PlaceNote, match="^demo: read as runs/demo$"):
        if door == "init":
            assert calls[door]().model.init == "runs/demo"
        else:
            with pytest.raises(TextuneError, match="runs/demo"):
                calls[door]()


COMMANDS = {
    "predict demo fine": 0,
    "predict --model demo --text fine": 0,
    "evaluate demo d.csv": 0,
    "report demo": 0,
    "inspect demo": 0,
    "export demo": 0,
    "resume demo": 0,
    "compare demo other/demo": 0,
    "push demo owner/name": 4,
}


@pytest.mark.parametrize("typed", COMMANDS)
def test_every_command_finds_it_and_says_so(typed: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output, errors = call_here(capsys, *typed.split())
    assert code == COMMANDS[typed] and errors.splitlines().count("note: demo: read as runs/demo") == 1, errors
    assert "PlaceNote" not in errors + output


def test_json_stays_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output, errors = call_here(capsys, "predict", "demo", "fine", "--json")
    assert code == 0 and json.loads(output)["predictions"] and "note: demo" in errors


def test_a_path_that_exists_wins(place: Path, finished: Run) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("./demo", "runs/demo", "demo/", "../demo", "", ".", "..", "others", "x" * 5000, "a\0b"):
            assert find_run(name) == Path(name), "neither here nor looked up"
        assert find_run(finished) == finished.folder
        shutil.copytree(finished.folder, place / "demo")
        assert find_run("demo") == Path("demo"), "a run here"


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_it_is_said_which_of_two_is_taken(kind: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if kind == "folder":
        (place / "demo").mkdir()
    elif kind == "file":
        (place / "demo").write_text("")
    else:
        (place / "demo").symlink_to("nowhere")
    with pytest.warns(PlaceNote, match="^demo: used instead of runs/demo$"):
        assert find_run("demo") == Path("demo")
    code, _, errors = call_here(capsys, "predict", "demo", "fine")
    assert code == 5 and errors.splitlines()[0] == "note: demo: used instead of runs/demo", errors


def test_a_tilde_is_the_home_folder(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = work / "home"
    (home / "runs").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert find_run("~/runs/demo") == find_run(Path("~/runs/demo")) == home / "runs" / "demo"
    assert run_path("~/runs", "demo") == home / "runs" / "demo"
    assert find_run("~nobody-of-this-name/demo") == Path("~nobody-of-this-name/demo")
    (home / "file").write_text("")
    with pytest.raises(ConfigError, match=f"{home}/file: is a file"):
        check_writable(Path("~/file/runs"), "runs_dir=")


def test_outputs_go_to_the_home_folder_and_not_to_one_named_tilde(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = place / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    shutil.copytree(place / "runs" / "demo", home / "demo")
    assert textune.export("~/demo", "~/merged") == home / "merged"
    code, _, _ = call_here(capsys, "predict", "~/demo", "d.csv", "--output", "~/answers.csv")
    assert code == 0
    code, _, errors = call_here(capsys, "predict", "~/demo", "d.csv", "--output", "~/answers.csv")
    assert code == 2 and f"{home / 'answers.csv'}: already exists" in errors
    assert call_here(capsys, "evaluate", "~/demo", "d.csv", "--output", "~/results")[0] == 0
    code, _, errors = call_here(capsys, "compare", "~/demo", "~/demo", "--output", "~/demo")
    assert code == 2 and f"{home / 'demo'}: contains other files" in errors
    assert "demo" in call_here(capsys, "runs", "~")[1]
    made = {"merged", "answers.csv", "results"}
    assert {path.name for path in home.iterdir()} >= made and not (place / "~").exists()
