"""Only what textune made is deleted, whole, by its name, and never through a link."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from textune.app import jobs
from textune.app.private import jobs_folder
from textune.app.removal import plan_removal, remove
from textune.bundle import lock_run
from textune.errors import BundleError
from textune.run import Run


@pytest.fixture
def run(finished: Run, work: Path) -> Path:
    folder = work / "runs" / "it"
    shutil.copytree(finished.folder, folder)
    return folder


def test_a_run_is_deleted_when_its_name_is_typed(run: Path) -> None:
    plan = plan_removal(run)
    files = [path for path in run.rglob("*") if path.is_file()]
    assert plan.files == len(files) and plan.size == sum(path.stat().st_size for path in files)
    for typed in ("", "It", "it ", "../it"):
        with pytest.raises(BundleError, match="type the name it"):
            remove(run, typed)
    assert len([path for path in run.rglob("*") if path.is_file()]) == len(files)
    remove(run, "it")
    assert not run.exists() and list(run.parent.iterdir()) == []


def test_links_are_not_followed(run: Path, work: Path) -> None:
    other = work / "other"
    other.mkdir()
    (other / "kept.txt").write_text("x")
    link = run.parent / "link"
    link.symlink_to(run, target_is_directory=True)
    with pytest.raises(BundleError, match="symbolic link"):
        remove(link, "link")
    (run / "data" / "inside").symlink_to(other, target_is_directory=True)
    (other / "it").mkdir()
    (other / "it" / "job.json").write_text('{"words": ["train"]}')
    jobs_folder(run.parent).symlink_to(other, target_is_directory=True)
    remove(run, "it")
    assert (other / "kept.txt").exists() and (other / "it" / "job.json").exists() and not run.exists()


@pytest.mark.parametrize("name", ["notes.txt", ".git", "src"])
def test_files_of_a_person_stay(name: str, run: Path) -> None:
    (run / name).write_text("x") if "." in name[1:] else (run / name).mkdir()
    with pytest.raises(BundleError, match=f"did not write: {name}"):
        remove(run, "it")
    assert (run / "textune.json").exists()


@pytest.mark.parametrize(
    "content",
    [{}, {"config.yaml": "a: 1"}, {"textune.json": "{}"}, {"plan.json": "{}"}, {"sweep.yaml": "a: 1"},
     {"compare.json": "{}"}, {"textune.json": "["}],
)  # fmt: skip
def test_a_folder_that_only_looks_like_a_run_stays(content: dict[str, str], work: Path) -> None:
    folder = work / "project"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    with pytest.raises(BundleError, match="is not a run"):
        remove(folder, "project")
    assert {path.name for path in folder.iterdir()} == content.keys()


def test_what_is_at_work_stays(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock_run(run), pytest.raises(BundleError, match="another process is working"):
        remove(run, "it")
    folder = jobs_folder(run.parent) / "it"
    folder.mkdir(parents=True)
    start = jobs.find_start(os.getpid())
    jobs._write(jobs.Job("it", str(run.parent), ("train",), os.getpid(), str(start)))
    with pytest.raises(BundleError, match="is being trained"):
        remove(run, "it")
    jobs._write(jobs.Job("it", str(run.parent), ("train",), os.getpid(), "another start"))
    remove(run, "it")
    assert not run.exists() and not folder.exists(), "the app's note of it goes, too"
