"""Only what textune wrote is overwritten: names that other programs use, too, prove nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from textune.bundle import check_overwritable, prepare_run_folder
from textune.errors import BundleError
from textune.files import PARTIAL
from textune.run import Run, train
from textune.search.settings import build_sweep, write_sweep
from tiny import call_here

PLAN = json.dumps({"settings": {}, "precision": "fp32", "engine": "lean"})
SEARCH = yaml.safe_dump({"sweep": {"space": {}}})
PROJECTS: dict[str, dict[str, str]] = {
    "a sweep of another program": {"sweep.yaml": "program: train.py\nmethod: grid\n"},
    "a sweep of another program with a search": {"sweep.yaml": "sweep: grid\ndata: x.csv\n"},
    "a damaged sweep": {"sweep.yaml": "a: [1\n"},
    "an empty sweep": {"sweep.yaml": ""},
    "a person's plan": {"plan.json": '{"monday": "write"}'},
    "a list of plans": {"plan.json": "[]"},
    "a plan in words": {"plan.json": "years of work"},
    "a person's textune.json": {"textune.json": "{}"},
    "a damaged textune.json": {"textune.json": "{"},
    "a run, and a thesis": {"plan.json": PLAN, "config.yaml": "", "thesis.txt": "years of work"},
    "a run, and code": {"plan.json": PLAN, "config.yaml": "", "src/main.py": "pass"},
    "a run, and tables": {"plan.json": PLAN, "config.yaml": "", "data/raw.csv": "text,label"},
    "a run, and figures": {"plan.json": PLAN, "config.yaml": "", "evaluation/mine.png": "x"},
    "a run, and a note beside its model": {"plan.json": PLAN, "config.yaml": "", "backbone/model.safetensors": "x"},
    "a run, and a note in a checkpoint": {"plan.json": PLAN, "checkpoints/step-00000001/why.txt": "x"},
    "a run, and another board": {"plan.json": PLAN, "config.yaml": "", "tensorboard/mine/notes.txt": "x"},
    "a search, and notes on its winner": {"sweep.yaml": SEARCH, "winner/plan.json": PLAN, "winner/notes.txt": "x"},
    "a search, and figures of its winner": {"sweep.yaml": SEARCH, "winner/evaluation/figures.csv": "x"},
    "a search, and notes on a trial": {"sweep.yaml": SEARCH, "trials/0001/plan.json": PLAN, "trials/0001/why.txt": "x"},
    "a search, and notes on a fold": {"sweep.yaml": SEARCH, "trials/0001/fold-1/why.txt": "x"},
    "a search, and trials of another": {"sweep.yaml": SEARCH, "trials/mine.csv": "x"},
    "a run, and a repository": {"plan.json": PLAN, "config.yaml": "", ".git/config": "x"},
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def read(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


@pytest.mark.parametrize("files", PROJECTS.values(), ids=PROJECTS)
def test_a_persons_files_are_not_overwritten(files: dict[str, str], tmp_path: Path) -> None:
    folder = write(tmp_path / "it", files)
    for check in (check_overwritable, lambda place: prepare_run_folder(place, overwrite=True)):
        with pytest.raises(BundleError, match="not overwritten") as caught:
            check(folder)
        assert "another name=" in (caught.value.hint or "")
    assert read(folder) == files


@pytest.mark.parametrize("name", ["sweep.yaml", "plan.json"])
def test_training_keeps_a_project_before_it_reads_anything(name: str, tmp_path: Path) -> None:
    files = {"src/thesis.txt": "years of work", name: "program: train.py"}
    folder = write(tmp_path / "proj", files)
    with pytest.raises(BundleError, match="not overwritten"):
        train(str(tmp_path / "no.csv"), name="proj", runs_dir=str(tmp_path), overwrite=True)
    assert read(folder) == files


def test_what_textune_wrote_is_overwritten(finished: Run, tmp_path: Path) -> None:
    runs: dict[str, Any] = {
        "finished": lambda place: shutil.copytree(finished.folder, place, dirs_exist_ok=True),
        "begun": lambda place: write(place, {"plan.json": PLAN, "checkpoints/step-00000001/state.json": "{}"}),
        "never begun": lambda place: write(place, {"plan.json": PLAN, f"{PARTIAL}config.yaml": ""}),
        "damaged": lambda place: write(place, {"plan.json": PLAN, "textune.json": "{", "adapter_config.json": ""}),
        "a search": lambda place: write_sweep(place, *_build_sweep()),
        "an old search": lambda place: write(
            place, {"sweep.yaml": SEARCH, "journal.log": "", "trials/0001/metrics.jsonl": ""}
        ),
        "seen by a file manager": lambda place: write(
            place, {"plan.json": PLAN, ".DS_Store": "", "data/.DS_Store": "", "evaluation/Thumbs.db": ""}
        ),
    }
    for kind, fill in runs.items():
        folder = tmp_path / kind
        folder.mkdir()
        fill(folder)
        prepare_run_folder(folder, overwrite=True)
        assert [path.name for path in folder.iterdir() if path.name != ".lock"] == [], kind


def _build_sweep() -> Any:
    return build_sweep({"data": "x.csv", "sweep": {"space": {"learning_rate": [1e-3, 5e-4]}}})


def test_the_demo_overwrites_itself_alone(
    finished: Run, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[Path] = []

    def stop(config: Any, **settings: Any) -> None:
        trained.append(Path(config.runs_dir) / config.name)
        raise BundleError("trained")

    monkeypatch.setattr("textune.run.train_config", stop)
    folder = work / "runs" / "demo"
    shutil.copytree(finished.folder, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, _, errors = call_here(capsys, "demo")
    assert code == 5 and "holds a run on other data" in errors and "--runs-dir" in errors
    assert not trained and {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    call_here(capsys, "demo", "--runs-dir", str(work / "elsewhere"))
    (folder / "config.yaml").write_text("data: embedded:rotten_tomatoes\n")
    call_here(capsys, "demo")
    assert trained == [work / "elsewhere" / "demo", Path("runs/demo")]
    for name in ("textune.json", "sweep.yaml"):  # an imported run and a search have no settings of a run
        shutil.rmtree(folder)
        write(folder, {name: "{}"})
        assert "another run" in call_here(capsys, "demo")[2]
    assert len(trained) == 2
