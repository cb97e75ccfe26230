"""Families outside the table are guessed at or refused; pad tokens and positions are right for those inside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from textune.backbones import resolve_backbone
from textune.backbones.families import families, guess_family
from textune.errors import ModelError
from textune.methods import methods
from tiny import UNEQUAL, StopAt, train_tiny

_SMALL = {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
          "intermediate_size": 64, "initializer_range": 0.2, "max_position_embeddings": 64}  # fmt: skip
STRANGERS: dict[str, dict[str, Any]] = {
    "megatron-bert": _SMALL | {"pad_token_id": 0, "type_vocab_size": 2},
    "roformer": _SMALL | {"pad_token_id": 0, "embedding_size": 32},
    "xlnet": {"vocab_size": 200, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, "initializer_range": 0.2,
              "pad_token_id": 0},
    "mistral": _SMALL | {"num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 1, "bos_token_id": 0,
                         "eos_token_id": 2},
    "roberta-prelayernorm": tiny.FAMILIES["roberta"],
    "bart": {"vocab_size": 200, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "pad_token_id": 1,
             "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2},
}  # fmt: skip


def build_stranger(family: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(tiny.FAMILIES, family, STRANGERS[family])
    return tiny.build_backbone(family, folder)


@pytest.mark.parametrize("family", ["megatron-bert", "roformer", "mistral", "roberta-prelayernorm"])
@pytest.mark.parametrize("method", ["lora", "full", "ln_tuning"])
def test_unknown_family_is_guessed_announced_and_proven_by_its_reload(
    method: str, family: str, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = build_stranger(family, tmp_path / family, monkeypatch)
    said = StopAt()
    said.warn = said.said.append  # type: ignore[method-assign]
    run = train_tiny(reviews, backbone, tmp_path / "run", said, method=method, epochs=1, dropout=0.1)
    assert any(f"'{family}' is not tested" in line for line in said.said)
    assert run.manifest.base_model.family == family
    if method == "lora":
        config = json.loads((run.folder / "adapter_config.json").read_text())
        assert set(config["modules_to_save"]) >= set(resolve_backbone(str(backbone)).family.head_modules)


@pytest.mark.parametrize("method", ["lora", "p_tuning"])
@pytest.mark.parametrize("family", ["mistral", "xlnet"])
def test_batch_equals_single_where_the_family_is_guessed(
    method: str, family: str, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_tiny(reviews, build_stranger(family, tmp_path / family, monkeypatch), tmp_path / "run", method=method)
    predictor = run.load(precision="fp32")
    together = predictor.predict_logits(UNEQUAL)
    alone = np.concatenate([predictor.predict_logits([text]) for text in UNEQUAL])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "family"), [("prompt", "camembert"), ("p_tuning", "camembert"), ("prompt", "megatron-bert")]
)
def test_no_virtual_tokens_where_the_head_would_read_one(
    method: str, family: str, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STRANGERS, "camembert", tiny.FAMILIES["roberta"])
    backbone = build_stranger(family, tmp_path / "c", monkeypatch)
    with pytest.raises(ModelError, match=f"method {method} does not support {family}: its head would read a virtual"):
        train_tiny(reviews, backbone, tmp_path / "run", method=method)


def test_a_head_that_looks_for_the_end_of_the_text_is_no_fault_of_the_run(
    reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = build_stranger("bart", tmp_path / "bart", monkeypatch)
    with pytest.raises(ModelError, match=r"method prompt does not support bart: .*<eos>"):
        train_tiny(reviews, backbone, tmp_path / "run", method="prompt")


def test_guess_finds_embeddings_first_position_and_token_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRANGERS, "camembert", tiny.FAMILIES["roberta"])
    camembert = resolve_backbone(str(build_stranger("camembert", tmp_path / "c", monkeypatch)))
    assert camembert.max_positions == 64
    assert not camembert.family.takes_token_types
    megatron = resolve_backbone(str(build_stranger("megatron-bert", tmp_path / "m", monkeypatch))).family
    assert megatron.takes_token_types
    assert any("word_embeddings" in name for name in megatron.embeddings)


def test_what_a_guess_cannot_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = resolve_backbone(str(build_stranger("roformer", tmp_path / "r", monkeypatch))).family
    refused = {name for name, cls in methods if cls.refusal(family)}
    assert refused == {"adapter", "ia3", "prefix"}
    assert family.guessed and family.layers.endswith("encoder.layer")


def test_model_that_is_no_text_classifier_is_refused(tmp_path: Path, backbones: dict[str, Path]) -> None:
    folder = tmp_path / "vit"
    shutil.copytree(backbones["bert"], folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ModelError, match=r"unknown family 'vit'.*cannot be guessed"):
        resolve_backbone(str(folder))
    assert "transformers" in str(guess_family("no-such-model", {}))


def write_config(folder: Path, backbone: Path, **changes: Any) -> Path:
    shutil.copytree(backbone, folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_pad_token_is_the_configs_then_the_tokenizers_then_the_end(backbones: dict[str, Path], tmp_path: Path) -> None:
    assert resolve_backbone(str(write_config(tmp_path / "a", backbones["llama"], pad_token_id=7))).pad_token_id == 7
    assert resolve_backbone(str(write_config(tmp_path / "b", backbones["llama"], pad_token_id=None))).pad_token_id == 1
    assert resolve_backbone(str(write_config(tmp_path / "e", backbones["llama"], pad_token_id=-1))).pad_token_id == 1
    bare = write_config(tmp_path / "c", backbones["gpt2"], pad_token_id=None, eos_token_id=[2, 5])
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    (bare / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in settings.items() if "pad" not in k}))
    assert resolve_backbone(str(bare)).pad_token_id == 2
    nothing = write_config(tmp_path / "d", bare, eos_token_id=None)
    (nothing / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match="defines a padding token"):
        _ = resolve_backbone(str(nothing)).pad_token_id


def test_longest_text_leaves_room_for_first_positions(backbones: dict[str, Path]) -> None:
    longest = {name: resolve_backbone(str(backbones[name])).max_positions for name in families.names()}
    assert set(longest.values()) == {64}
