"""Models of the hub: what pooling, chat template and stop tokens depend on is fetched as well, where it can be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from textune.backbones import resolve_backbone
from textune.backbones.hub import _choose_files, _fetch_aside
from textune.backbones.pooling import choose_pooling
from textune.bundle import BaseModel
from textune.errors import ModelError
from textune.inference.loading import find_backbone
from tiny import build_backbone

COMMIT = "a" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model in the cache as another library leaves it, and the hub's other files of it; it notes what it is asked."""

    class Hub:
        def __init__(self) -> None:
            self.cached = tmp_path / "hub" / "models--me--base" / "snapshots" / COMMIT
            self.files = {"1_Pooling/config.json": json.dumps({"pooling_mode_mean_tokens": True})}
            self.asked: list[str] = []
            self.is_reachable = True

        def model_info(self, name: str, timeout: float) -> None:
            self.asked.append(name)
            if not self.is_reachable:
                raise ConnectionError(name)

        def hf_hub_download(self, name: str, file: str, revision: str, etag_timeout: float) -> None:
            self.asked.append(file)
            if file not in self.files:
                unknown = self.cached.parents[1] / ".no_exist" / revision / file
                unknown.parent.mkdir(parents=True, exist_ok=True)
                unknown.touch()
                response: Any = type("Response", (), {"headers": {}, "request": None})()
                raise huggingface_hub.errors.RemoteEntryNotFoundError(file, response=response)
            (self.cached / file).parent.mkdir(exist_ok=True)
            (self.cached / file).write_text(self.files[file])

    found = Hub()
    build_backbone("bert", tmp_path / "bert")
    shutil.copytree(tmp_path / "bert", found.cached)
    (found.cached.parents[1] / "refs").mkdir()
    (found.cached.parents[1] / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("model_info", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(found, name))
    _fetch_aside.cache_clear()
    yield found
    _fetch_aside.cache_clear()


def pooling_of_hub_model() -> str:
    backbone = resolve_backbone("me/base")
    return choose_pooling(None, backbone.family, backbone.config, backbone.folder)[0]


def test_pooling_follows_the_checkpoint_even_if_another_library_cached_it(hub: Any) -> None:
    assert pooling_of_hub_model() == "mean"
    assert hub.asked == ["me/base", "1_Pooling/config.json", "chat_template.jinja", "generation_config.json"]
    _fetch_aside.cache_clear()  # as another process
    assert pooling_of_hub_model() == "mean"
    assert len(hub.asked) == 4, "what the hub has not is remembered"


def test_without_the_hub_a_cached_model_is_loaded_as_it_is(hub: Any) -> None:
    hub.is_reachable = False
    assert pooling_of_hub_model() == pooling_of_hub_model() == "first"
    assert hub.asked == ["me/base"], "one process asks once"
    hub.is_reachable = True
    _fetch_aside.cache_clear()
    assert pooling_of_hub_model() == "mean", "and the next one asks again"


def test_weights_in_folders_are_not_fetched() -> None:
    names = ["model.safetensors", "onnx/model.safetensors", "2_Dense/model.safetensors", "config.json", "onnx/a.onnx"]
    kept = huggingface_hub.utils.filter_repo_objects(names, **_choose_files(trusted=False))
    assert list(kept) == ["model.safetensors", "config.json"]


def test_a_run_is_opened_with_the_revision_that_it_was_trained_on(hub: Any) -> None:
    """The owner of a model may change it: what was trained on the former weights still finds them."""
    before = resolve_backbone("me/base")
    other = hub.cached.with_name("b" * 40)
    shutil.copytree(hub.cached, other)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    (hub.cached.parents[1] / "refs" / "main").write_text(other.name)
    with pytest.raises(ModelError, match="its weights differ from the run's"):
        resolve_backbone("me/base", sha256=before.sha256)
    base = BaseModel(before.id, before.family.name, before.sha256, before.revision)
    assert find_backbone(hub.cached, base, None, None).revision == before.revision
    assert resolve_backbone("me/base").revision == "b" * 40


def test_a_folder_of_the_same_name_does_not_stand_for_a_runs_hub_model(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = resolve_backbone("me/base")
    (tmp_path / "me" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    base = BaseModel(before.id, before.family.name, before.sha256, before.revision)
    assert find_backbone(hub.cached, base, None, None).folder == before.folder
    with pytest.raises(ModelError, match="not a model"):
        resolve_backbone("me/base")


def test_where_a_revision_is_gone_the_same_weights_will_do(hub: Any) -> None:
    hub.is_reachable = False
    before = resolve_backbone("me/base")
    assert resolve_backbone("me/base", sha256=before.sha256, revision="c" * 40).revision == before.revision
