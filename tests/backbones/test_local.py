"""Local backbones are found again by their weights, whatever became of one of their folders or of the cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from textune.backbones import recall_local, remember_local, resolve_backbone


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_deleted_copy_does_not_lose_the_first_folder(cache: Path, backbone: Path, tmp_path: Path) -> None:
    first, copy = (shutil.copytree(backbone, tmp_path / name) for name in ("first", "copy"))
    for folder in (first, copy):
        remember_local(resolve_backbone(str(folder)))
    sha256 = resolve_backbone(str(first)).sha256
    assert recall_local(sha256) == str(copy)
    shutil.rmtree(copy)
    assert recall_local(sha256) == str(first)
    shutil.rmtree(first)
    assert recall_local(sha256) is None


def test_many_copies_do_not_push_out_the_folder_that_fits(cache: Path, backbone: Path, tmp_path: Path) -> None:
    first = shutil.copytree(backbone, tmp_path / "first")
    remember_local(resolve_backbone(str(first)))
    for number in range(70):
        copy = shutil.copytree(backbone, tmp_path / f"copy{number}")
        remember_local(resolve_backbone(str(copy)))
        if number:
            shutil.rmtree(copy)
    sha256 = resolve_backbone(str(first)).sha256
    assert recall_local(sha256, lambda folder: folder == first) == str(first)
    assert recall_local(sha256) == str(tmp_path / "copy0")


def test_notes_of_earlier_versions_and_damaged_ones_are_read(cache: Path, backbone: Path) -> None:
    found = resolve_backbone(str(backbone))
    cache.mkdir()
    (cache / "backbones.json").write_text(json.dumps({found.sha256: str(backbone)}))
    assert recall_local(found.sha256) == str(backbone)
    for damage in ("", "[1]", '{"a": 3}', "\x00"):
        (cache / "backbones.json").write_text(damage)
        assert recall_local(found.sha256) is None
        remember_local(found)
        assert recall_local(found.sha256) == str(backbone.resolve())


def test_a_cache_that_cannot_be_written_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, backbone: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path / "file" / "cache"))
    remember_local(resolve_backbone(str(backbone)))
