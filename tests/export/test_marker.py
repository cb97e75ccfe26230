"""Exports replace only what textune exported, and publish only what a run is made of; no link is followed."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from textune.errors import BundleError, ModelError
from textune.export.marker import MARKER, check_output
from textune.export.merged import export_merged, push_folder
from textune.export.onnx import export_onnx
from textune.files import append_json_line, write_text_atomically
from textune.run import Run

Export = Callable[..., Any]


class Hub:
    """Writes down what it is sent."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def create_repo(self, *_: Any, **__: Any) -> str:
        return "address"

    def upload_folder(self, folder_path: str, **_: Any) -> None:
        top = Path(folder_path)
        self.files = {p.relative_to(top).as_posix(): p.read_bytes() for p in top.rglob("*") if p.is_file()}


@pytest.mark.parametrize("export", [export_merged, export_onnx])
def test_only_an_export_is_replaced(export: Export, finished: Run, tmp_path: Path) -> None:
    export(finished.folder, tmp_path / "out")
    with pytest.raises(BundleError, match="already exists"):
        export(finished.folder, tmp_path / "out")
    export(finished.folder, tmp_path / "out", overwrite=True)
    (tmp_path / "out" / "thesis").mkdir()
    (tmp_path / "out" / "thesis" / "chapter.txt").write_text("precious")
    with pytest.raises(BundleError, match=r"also holds thesis/chapter\.txt"):
        export(finished.folder, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis" / "chapter.txt").read_text() == "precious"


@pytest.mark.parametrize("place", ["textune.export.merged:write_marker", "textune.files:_place_folder"])
def test_an_export_that_is_killed_leaves_the_old_one_whole(place: str, finished: Run, tmp_path: Path) -> None:
    out = tmp_path / "place" / "out"
    export_merged(finished.folder, out)
    (out / "README.md").write_text("of the old export")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    words = ("export", str(finished.folder), "--output", str(out), "--overwrite")
    tiny.call_textune(*words, cwd=tmp_path, code=-signal.SIGKILL, die_in=(place, 1))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    check_output(out, overwrite=True)
    export_merged(finished.folder, out, overwrite=True)
    assert "How to load" in (out / "README.md").read_text()
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("names", [["config.json"], ["config.json", "model.onnx"], ["textune.json"], [], ["a/b/c"]])
def test_a_folder_of_other_files_is_kept(names: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    with pytest.raises(BundleError, match="was not exported by textune"):
        check_output(folder, overwrite=True)
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "file").write_text("")
    for other in ("link", "file"):
        with pytest.raises(BundleError, match="is a link or a file"):
            check_output(tmp_path / other, overwrite=True)
    (folder / MARKER).write_text('{"files": 3}')
    with pytest.raises(BundleError, match="damaged"):
        check_output(folder, overwrite=True)
    check_output(tmp_path / "new", overwrite=False)


def test_only_the_files_of_the_run_are_published(finished: Run, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    export_merged(finished.folder, tmp_path / "merged")
    for folder in (run, tmp_path / "merged"):
        hub = Hub()
        push_folder(folder, "owner/name", api=hub)
        expected = set(hub.files)
        for name in ("notes.txt", "keys.json", "sub/more.safetensors", "evaluation/texts.txt", "sub/README.md"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("secret")
        (folder / "link.txt").symlink_to(tmp_path)
        push_folder(folder, "owner/name", api=hub)
        assert set(hub.files) == expected and b"secret" not in hub.files.values()
        assert any(name.endswith(".safetensors") for name in expected) and "README.md" in expected
    card = run / "README.md"
    card.rename(tmp_path / "outside.md")
    card.symlink_to(tmp_path / "outside.md")
    with pytest.raises((BundleError, ModelError), match="symbolic link"):
        push_folder(run, "owner/name", api=Hub())


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (tmp_path / "log.jsonl").symlink_to(outside)
    with pytest.raises(BundleError, match="writes through none"):
        append_json_line(tmp_path / "log.jsonl", {})
    for name in ("file.json", ".partial-file.json"):
        (tmp_path / name).symlink_to(outside)
    write_text_atomically(tmp_path / "file.json", "new")
    assert outside.read_text() == "precious" and (tmp_path / "file.json").read_text() == "new"
    assert not (tmp_path / "file.json").is_symlink()
