"""Exports replace only what textune exported, and publish only what a run is made of; no link is followed."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import textune
import tiny
from hubs import Hub
from textune.bundle import SETTINGS, read_manifest
from textune.config import build_config, load_settings, write_settings
from textune.errors import BundleError, ConfigError, ModelError
from textune.export.marker import MARKER, check_output, write_marker
from textune.export.merged import export_merged, push_folder
from textune.export.onnx import export_onnx
from textune.files import append_json_line, hash_file, write_text_atomically
from textune.report.card_forms import split_card
from textune.run import Run
from textune.run.save import update_manifest

Export = Callable[..., Any]


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


def test_an_export_that_was_used_is_replaced_unless_somebody_works_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "config.json").touch()
    write_marker(folder, "merged")
    for name in ("test_reads.jsonl", ".lock", ".DS_Store", "inner/.DS_Store"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    check_output(folder, overwrite=True)
    for place, named in (("out", "."), ("out/inner", "..")):
        monkeypatch.chdir(tmp_path / place)
        with pytest.raises(ConfigError, match="is the current folder or holds it"):
            check_output(Path(named), overwrite=True)


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


def test_what_cannot_be_published_creates_no_repository(finished: Run, tmp_path: Path) -> None:
    run, hub = Path(shutil.copytree(finished.folder, tmp_path / "run")), Hub()
    for name in ("demo", "/demo", "owner/"):
        with pytest.raises(ConfigError, match="names no owner"):
            push_folder(run, name, api=hub)
    card = run / "README.md"
    text = card.read_text("utf-8")
    card.write_bytes(text.encode() + "café".encode("cp1252"))
    with pytest.raises(BundleError, match="not UTF-8"):
        push_folder(run, "owner/name", api=hub)
    with pytest.raises(BundleError, match="not UTF-8"):
        textune.export(run, tmp_path / "merged")
    assert hub.private is None and not hub.files and not (tmp_path / "merged").exists()
    card.write_text("---\nlicense: mit\n---\n" + split_card(text)[1], "utf-8-sig")
    textune.export(run, tmp_path / "merged")
    assert split_card((tmp_path / "merged" / "README.md").read_text("utf-8"))[0]["license"] == "mit"


@pytest.mark.parametrize("exists_private", [True, False])
def test_a_repository_of_another_visibility_gets_nothing(exists_private: bool, finished: Run) -> None:
    hub = Hub(private=exists_private)
    state, hint = (
        ("private", "make it public on its page")
        if exists_private
        else ("public", "publish it as public, or choose another name")
    )
    with pytest.raises(ConfigError, match=rf"owner/name: exists and is {state}.*\n.*{hint}"):
        push_folder(finished.folder, "owner/name", private=not exists_private, api=hub)
    assert not hub.files and hub.private is exists_private
    push_folder(finished.folder, "owner/name", private=exists_private, api=hub)
    assert "textune.json" in hub.files and hub.private is exists_private


def test_the_new_model_replaces_the_old_one_and_no_file_of_a_person(finished: Run, tmp_path: Path) -> None:
    merged = export_merged(finished.folder, tmp_path / "merged")
    foreign = {"LICENSE": b"mine", "mine/model.safetensors": b"mine", "notes.txt": b"mine", "model-card.png": b"mine"}
    published = {}
    for folder in (finished.folder, merged):
        hub = Hub()
        push_folder(folder, "owner/name", api=hub)
        published[folder] = set(hub.files)
    assert "adapter_config.json" in published[finished.folder] - published[merged]
    assert "model.safetensors" in published[merged] - published[finished.folder]
    shard = {"model-00001-of-00002.safetensors": b"of a larger model pushed before"}
    hub = Hub()
    hub.files |= foreign | shard
    push_folder(finished.folder, "owner/name", api=hub)
    assert set(hub.files) == published[finished.folder] | foreign.keys() | shard.keys(), "it may be another's model"
    push_folder(merged, "owner/name", api=hub)
    assert set(hub.files) == published[merged] | foreign.keys()
    assert all(hub.files[name] == content for name, content in foreign.items())


@pytest.mark.parametrize("place", ["/clients/acme", "clients/acme", "./acme/clients", "../acme", "~/acme"])
def test_no_folder_of_this_machine_is_published(place: str, finished: Run, tmp_path: Path) -> None:
    names = ("data", "validation", "test", "fixes", "backbone", "init", "chat_template")
    run = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    settings = load_settings(run / SETTINGS) | {name: f"{place}/{name}.x" for name in names}
    write_settings(build_config(settings), run / SETTINGS)
    update_manifest(run, files=read_manifest(run, verify=False).files | {SETTINGS: hash_file(run / SETTINGS)})
    hub = Hub()
    push_folder(run, "owner/name", api=hub)
    published = yaml.safe_load(hub.files[SETTINGS])
    assert {name: published[name] for name in names} == {name: f"{name}.x" for name in names}
    assert not [name for name, content in hub.files.items() if b"acme" in content]


def test_names_that_are_no_paths_are_published_as_they_are(finished: Run, tmp_path: Path) -> None:
    kept = {"data": "hub:owner/reviews", "test": "embedded:reviews", "backbone": "owner/model",
            "chat_template": "{{ messages }} a/b"}  # fmt: skip
    run = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    write_settings(build_config(load_settings(run / SETTINGS) | kept), run / SETTINGS)
    manifest = read_manifest(run, verify=False)
    base = dataclasses.replace(manifest.base_model, local=False)
    update_manifest(run, base_model=base, files=manifest.files | {SETTINGS: hash_file(run / SETTINGS)})
    hub = Hub()
    push_folder(run, "owner/name", api=hub)
    published = yaml.safe_load(hub.files[SETTINGS])
    assert {name: published[name] for name in kept} == kept


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
