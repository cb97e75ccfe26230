"""A run is resumed from any folder, and after it was moved with its data or without."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from textune.errors import BundleError, ConfigError
from textune.inference import Predictor
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.run import Run, resume
from textune.run.predicted_rows import read_own_settings
from textune.search.sweep import resume_sweep
from tiny import StopAt, call_textune, hash_weights, settings_for, train_tiny, write_reviews


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    """A project whose run was started with relative paths and interrupted."""
    project, before = tmp_path_factory.mktemp("once") / "project", Path.cwd()
    (project / "data").mkdir(parents=True)
    write_reviews(project / "data" / "reviews.csv")
    write_reviews(project / "data" / "test.csv", rows=30)
    shutil.copytree(backbone, project / "models" / "base")
    try:
        os.chdir(project)
        with pytest.raises(RunInterrupted):
            train_tiny(
                "data/reviews.csv", "models/base", Path("runs/run"), StopAt(3), test="data/test.csv",
                checkpoint_every_steps=1,
            )  # fmt: skip
    finally:
        os.chdir(before)
    return project


@pytest.fixture
def project(stopped_once: Path, tmp_path: Path) -> Path:
    """A copy of it; the original is out of reach."""
    copied = shutil.copytree(stopped_once, tmp_path / "project")
    plan = copied / "runs" / "run" / "plan.json"
    plan.write_text(plan.read_text().replace(str(stopped_once), str(copied)))
    return copied


def test_resumes_from_another_folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere" / "data").mkdir(parents=True)
    write_reviews(tmp_path / "elsewhere" / "data" / "reviews.csv", rows=50)  # another file of the same name
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = resume("../project/runs/run", progress=Silent())
    assert run.metrics["split"] == "test"


def test_resumes_after_the_whole_project_was_moved(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert resume("moved/runs/run", progress=Silent()).metrics["split"] == "test"


@pytest.mark.parametrize(
    ("name", "file"),
    [("data", "data/reviews.csv"), ("test", "data/test.csv"), ("backbone", "models/base")],
)
def test_a_file_that_moved_is_named_with_its_setting(
    name: str, file: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, textune_cache: Path
) -> None:
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path / "cache"))  # which knows no backbone
    monkeypatch.chdir(tmp_path)
    run = project / "runs" / "run"
    place = f"new place{Path(file).suffix}"
    (project / file).rename(tmp_path / place)
    refused = call_textune("resume", str(run), cwd=tmp_path, code=5).stderr
    assert f"{name}={project / file} no longer exists" in refused
    printed = re.search(r"textune (resume .*=)PATH", refused)
    assert printed is not None
    call_textune(*shlex.split(f"{printed[1]}'{place}'"), cwd=tmp_path)


def test_all_that_moved_is_named_at_once_and_what_is_given_stays(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, textune_cache: Path
) -> None:
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    run, moved = project / "runs" / "run", {}
    for name, file in {"data": "data/reviews.csv", "test": "data/test.csv", "backbone": "models/base"}.items():
        moved[name] = (project / file).rename(tmp_path / Path(file).name)
    with pytest.raises(BundleError, match=r"test=.* and backbone=.* no longer exist") as caught:
        resume(run, moved["data"], progress=Silent())
    printed = str(caught.value.hint)
    assert f"data={moved['data']}" in printed and "test=PATH" in printed and "backbone=PATH" in printed


@pytest.mark.parametrize("name", ["data", "init"])
def test_a_finished_run_is_not_offered_to_be_resumed(name: str, finished: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    plan = json.loads((folder / "plan.json").read_text())
    gone = str(tmp_path / "gone")
    plan["places"] = {name: gone}
    (folder / "plan.json").write_text(json.dumps(plan))
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | {name: gone}))
    with pytest.raises(BundleError, match=f"{name}={gone} no longer exists") as refused:
        read_own_settings(folder, unused=())
    assert "resume" not in str(refused.value) and "put it back there" in str(refused.value)


def test_the_content_counts_and_not_the_place(project: Path, tmp_path: Path) -> None:
    other = write_reviews(tmp_path / "other.csv", rows=44)
    with pytest.raises(BundleError, match="the data changed"):
        resume(project / "runs" / "run", other, progress=Silent())


@pytest.mark.parametrize("word", ["learning_rate=1", "progress=1", "run=x", "method.r=4", "bakbone=x"])
def test_other_settings_are_refused(word: str, project: Path, tmp_path: Path) -> None:
    refused = call_textune("resume", str(project / "runs" / "run"), word, cwd=tmp_path, code=2).stderr
    assert "data, validation, test, fixes, backbone, init, chat_template, trust" in refused
    with pytest.raises(ConfigError, match="resumed with its own settings"):
        resume(project / "runs" / "run", epochs=3)


def test_a_changed_tokenizer_or_config_is_noticed(project: Path, tmp_path: Path) -> None:
    path = project / "models" / "base" / "tokenizer_config.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(BundleError, match="backbone_files"):
        resume(project / "runs" / "run", progress=Silent())


def test_a_sweep_resumes_from_another_folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    flat = settings_for("data/reviews.csv", "models/base", Path("runs/sweep"), epochs=1)
    space = {"learning_rate": [1e-3, 2e-3], "backbone": ["models/base"]}
    (project / "sweep.yaml").write_text(yaml.safe_dump(flat | {"sweep": {"space": space, "folds": 0}}))
    death = ("textune.training.trainer:Trainer.take_step", 7)
    call_textune("sweep", "sweep.yaml", cwd=project, code=-signal.SIGKILL, die_in=death)
    monkeypatch.chdir(tmp_path)
    assert resume_sweep("project/runs/sweep", progress=Silent()).winner.metrics


def test_a_bundle_knows_its_backbone_from_another_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    run: Run = train_tiny("data/reviews.csv", "models/base", Path("runs/whole"), epochs=1)
    folder = run.folder.resolve()
    monkeypatch.chdir(tmp_path)
    assert Predictor.load(folder).predict(["a good film"])
    assert hash_weights(folder)
