"""What is loaded besides the weights: dropout by its setting alone, and no pooler that nothing reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from textune.backbones import load_classifier, resolve_backbone
from tiny import UNEQUAL, train_tiny

OWN_DROPOUTS = {
    "bert": ["classifier_dropout"], "roberta": ["classifier_dropout"], "xlm-roberta": ["classifier_dropout"],
    "electra": ["classifier_dropout"], "albert": ["classifier_dropout_prob"],
    "deberta-v2": ["cls_dropout", "pooler_dropout"], "distilbert": ["seq_classif_dropout"],
    "modernbert": ["classifier_dropout"], "mpnet": ["hidden_dropout_prob"],
}  # fmt: skip


@pytest.mark.parametrize("rate", [0.0, 0.2])
@pytest.mark.parametrize("family", OWN_DROPOUTS)
def test_no_dropout_of_the_checkpoint_stays_beside_the_setting(
    family: str, rate: float, backbones: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "backbone"
    shutil.copytree(backbones[family], folder)
    config = json.loads((folder / "config.json").read_text())
    config |= dict.fromkeys(OWN_DROPOUTS[family], 0.3)
    (folder / "config.json").write_text(json.dumps(config))
    model, _ = load_classifier(resolve_backbone(str(folder)), ("a", "b"), dropout=rate)
    found = {float(module.p) for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert found <= {0.0, rate}, "one of the checkpoint's own is left"


@pytest.fixture(scope="module")
def without_pooler(backbones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT whose checkpoint lacks the pooler, as those of sentence-transformers may."""
    folder = tmp_path_factory.mktemp("backbones") / "bert"
    shutil.copytree(backbones["bert"], folder)
    weights = {name: w for name, w in load_file(folder / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("method", ["head", "bitfit", "lora"])
def test_a_pooler_that_the_mean_bypasses_is_neither_trained_nor_saved(
    method: str, without_pooler: Path, reviews: Path, tmp_path: Path
) -> None:
    run = train_tiny(reviews, without_pooler, tmp_path / "run", method=method, pooling="mean", epochs=1)
    assert not any("pooler" in name for name in run.manifest.new_modules)
    first = train_tiny(reviews, without_pooler, tmp_path / "first", method=method, pooling="first", epochs=1)
    assert any("pooler" in name for name in first.manifest.new_modules)


def test_a_run_that_saved_such_a_pooler_is_still_read(
    without_pooler: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr("textune.backbones.loading.WITH_POOLER", ())
        run = train_tiny(reviews, without_pooler, tmp_path / "run", method="lora", pooling="mean", epochs=1)
        assert any("pooler" in name for name in run.manifest.new_modules)
        expected = run.load(precision="fp32").predict_logits(list(UNEQUAL))
    np.testing.assert_allclose(run.load(precision="fp32").predict_logits(list(UNEQUAL)), expected, atol=1e-5)
    again = train_tiny(reviews, without_pooler, tmp_path / "again", init=str(run.folder), method=None, epochs=1)
    assert again.folder.is_dir()
