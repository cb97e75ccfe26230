"""Config, tokenizer and weights of a backbone belong together: every family passes, each planted mismatch is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from textune.backbones import load_classifier, resolve_backbone
from textune.backbones.checks import check_random_weights, check_tokenizer, refuse_other_config
from textune.config import load_settings
from textune.errors import ModelError
from textune.inference import Predictor
from textune.tokens import VOCABULARY_FILES, encode_texts, load_tokenizer
from tiny import FAMILIES, build_backbone, train_tiny

LAYERS = {"distilbert": "n_layers", "gpt2": "n_layer"}
Change = Callable[[Path, dict[str, Any]], None]


def load(folder: Path) -> None:
    backbone = resolve_backbone(str(folder))
    check_tokenizer(backbone.id, backbone.family, backbone.config, load_tokenizer(folder))
    load_classifier(backbone, ("a", "b"))


def rename_weights(folder: Path, config: dict[str, Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({f"module.{k}": v for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def drop_a_weight(folder: Path, config: dict[str, Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    name = max(weights, key=lambda name: weights[name].numel())  # the word embeddings
    save_file({k: v for k, v in weights.items() if k != name}, folder / "model.safetensors", {"format": "pt"})


def ask_for_more_words(folder: Path, config: dict[str, Any]) -> None:
    config["vocab_size"] += 7


def ask_for_a_layer(folder: Path, config: dict[str, Any]) -> None:
    name = LAYERS.get(config["model_type"], "num_hidden_layers")
    config[name] += 1
    if "layer_types" in config:
        config["layer_types"] = [*config["layer_types"], config["layer_types"][-1]]


def ask_for_a_layer_less(folder: Path, config: dict[str, Any]) -> None:
    config[LAYERS.get(config["model_type"], "num_hidden_layers")] -= 1
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"][:-1]


def forget_the_tokenizer(folder: Path, config: dict[str, Any]) -> None:
    for name in ("tokenizer.json", *VOCABULARY_FILES):
        (folder / name).unlink(missing_ok=True)


def add_words_to_the_tokenizer(folder: Path, config: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens([f"word{i}" for i in range(300)])
    tokenizer.save(str(folder / "tokenizer.json"))


def pad_with_a_word(folder: Path, config: dict[str, Any]) -> None:
    config["pad_token_id"] = 30


PLANTED: dict[Change, str] = {
    rename_weights: "lack",
    drop_a_weight: "lack",
    ask_for_more_words: "shape",
    ask_for_a_layer: "lack",
    ask_for_a_layer_less: "its weights have a layer 1",
    forget_the_tokenizer: "no tokenizer",
    pad_with_a_word: "pad_token_id 30 is the ordinary token",
    add_words_to_the_tokenizer: "embeddings only ids below",
}
SHARED_LAYERS = {("albert", ask_for_a_layer), ("albert", ask_for_a_layer_less)}  # all layers have the same weights


def list_cells(plants: Iterable[Change]) -> list[Any]:
    """Return the families with each change, but none that its shared layers make impossible."""
    return [
        pytest.param(family, plant, id=f"{family}-{plant.__name__}")
        for family in FAMILIES
        for plant in plants
        if (family, plant) not in SHARED_LAYERS
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes(family: str, backbones: dict[str, Path]) -> None:
    load(backbones[family])


@pytest.mark.parametrize(("family", "plant"), list_cells(PLANTED))
def test_a_planted_mismatch_is_named(family: str, plant: Change, backbones: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "planted"
    shutil.copytree(backbones[family], folder)
    config = json.loads((folder / "config.json").read_text())
    plant(folder, config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=PLANTED[plant]):
        load(folder)


def test_a_checkpoint_may_lack_its_pooler_and_its_head(backbones: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(backbones["bert"], tmp_path / "bert")
    weights = load_file(tmp_path / "bert" / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "bert" / "model.safetensors", {"format": "pt"})
    load(tmp_path / "bert")


RANDOM = (drop_a_weight, ask_for_more_words, ask_for_a_layer)
METHODS = (
    "full",
    "head",
    "lora",
    "bitfit",
    "adapter",
    "ia3",
    "ln_tuning",
    "prefix",
    "prompt",
    "p_tuning",
    "vera",
    "qlora",
)

NOT_TRAINED = {
    ("qlora", "ask_for_a_layer"),
    *((method, plant) for method in ("prompt", "p_tuning") for plant in ("drop_a_weight", "ask_for_more_words")),
}
"""What a method cannot train is refused before the first step."""


def plant_lack(plant: Change, source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    plant(folder, config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def find_setting(error: ModelError) -> str:
    found = re.search(r"random_weights=(\S+)", error.hint or "")
    assert found is not None
    return found[1]


@pytest.mark.parametrize("plant", RANDOM, ids=lambda plant: plant.__name__)
@pytest.mark.parametrize("method", METHODS)
def test_named_modules_may_start_random(
    method: str, plant: Change, backbones: dict[str, Path], tmp_path: Path, few_reviews: Path
) -> None:
    """The setting that the refusal names is the one that is taken, and the run is saved, reloaded and told."""
    folder = plant_lack(plant, backbones["distilbert"], tmp_path / "lacking")
    settings = {"method": method, "epochs": 1, "threads": 1}
    with pytest.raises(ModelError) as refused:
        train_tiny(few_reviews, folder, tmp_path / "run", **settings)
    setting = find_setting(refused.value)
    if (method, plant.__name__) in NOT_TRAINED:
        with pytest.raises(ModelError, match=r"cannot train .* would start from random weights"):
            train_tiny(few_reviews, folder, tmp_path / "run", **settings, random_weights=setting)
        return
    run = train_tiny(few_reviews, folder, tmp_path / "run", **settings, random_weights=setting)
    assert run.manifest.random_weights == tuple(setting.split(","))
    assert load_settings(run.folder / "config.yaml")["random_weights"] == setting.split(",")
    assert "random_weights=" in "".join(run.metrics["warnings"])
    assert "from random weights" in (run.folder / "README.md").read_text()
    Predictor.load(run.folder, backbone=str(folder)).predict(["a good film"])
    settings = {name: value for name, value in settings.items() if name != "method"}
    after = train_tiny(few_reviews, folder, tmp_path / "after", **settings, init=str(run.folder))
    assert after.manifest.random_weights == run.manifest.random_weights
    assert "from random weights" not in "".join(after.metrics["warnings"]), "they are the earlier run's"


@pytest.mark.parametrize(
    ("family", "name", "shape", "reason"),
    [
        ("gpt2", "h.0.attn.masked_bias", (), None),
        ("gpt2", "h.1.attn.bias", (1, 1, 64, 64), None),
        ("gpt2", "h.7.attn.c_attn.weight", (32, 96), "a layer 7 that its config.json does not"),
        ("bert", "encoder.layer.0.attention.self.distance_embedding.weight", (127, 16), "weight, which bert does"),
        ("roberta", "encoder.layer.1.crossattention.self.query.weight", (32, 32), "query.weight, which roberta does"),
    ],
)  # fmt: skip
def test_a_weight_that_the_architecture_does_not_use_is_named(
    family: str, name: str, shape: tuple[int, ...], reason: str | None, backbones: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "more"
    shutil.copytree(backbones[family], folder)
    weights = load_file(folder / "model.safetensors")
    prefix = "" if any(key.startswith(name.split(".")[0] + ".") for key in weights) else f"{family}."
    save_file(weights | {prefix + name: torch.ones(shape)}, folder / "model.safetensors", metadata={"format": "pt"})
    backbone = resolve_backbone(str(folder))
    if reason is None:
        load_classifier(backbone, ("a", "b"))
        return
    with pytest.raises(ModelError, match=re.escape(reason)):
        load_classifier(backbone, ("a", "b"))


@pytest.mark.parametrize(("family", "plant"), list_cells(RANDOM))
def test_the_refusal_names_what_would_start_random(
    family: str, plant: Change, backbones: dict[str, Path], tmp_path: Path
) -> None:
    backbone = resolve_backbone(str(plant_lack(plant, backbones[family], tmp_path / "lacking")))
    with pytest.raises(ModelError) as refused:
        load_classifier(backbone, ("a", "b"))
    names = find_setting(refused.value).split(",")
    assert len(names) == 1
    _, new_modules = load_classifier(backbone, ("a", "b"), random_weights=names)
    check_random_weights(backbone.id, names, new_modules)
    with pytest.raises(ModelError, match=r"random_weights=elsewhere: the weights of lacking lack no such module"):
        check_random_weights(backbone.id, ["elsewhere"], new_modules)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_config_of_the_same_weights_is_refused(family: str, backbones: dict[str, Path]) -> None:
    config = json.loads((backbones[family] / "config.json").read_text())
    written = {"transformers_version": "1.0", "id2label": {"0": "x"}, "dtype": "float16", "use_cache": False}
    refuse_other_config("base", config, config | written)
    heads = {"distilbert": "n_heads", "gpt2": "n_head"}.get(family, "num_attention_heads")
    with pytest.raises(ModelError, match=rf"{heads} is {config[heads] * 2}, was {config[heads]}"):
        refuse_other_config("base", config, config | {heads: config[heads] * 2})


def test_positions_begin_after_the_padding_id(tmp_path: Path, reviews: Path) -> None:
    """As in rinna/japanese-roberta-base, whose padding id is 3."""
    folder = build_backbone("roberta", tmp_path / "roberta")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": 3}))
    backbone = resolve_backbone(str(folder))
    assert backbone.max_positions == config["max_position_embeddings"] - 4
    run = train_tiny(reviews, folder, tmp_path / "run", max_length=backbone.max_positions, epochs=1)
    texts = ["a good film with a nice story", "dull", "x" * 200]
    lean, plain = (
        Predictor.load(run.folder, backbone=str(folder), engine=engine, precision="fp32").predict_logits(texts)
        for engine in ("lean", "reference")
    )
    torch.testing.assert_close(torch.from_numpy(lean), torch.from_numpy(plain), atol=1e-4, rtol=1e-4)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(str(folder), num_labels=2)
    tokens = encode_texts(load_tokenizer(folder), texts[2:], None, backbone.max_positions)
    model(input_ids=torch.from_numpy(tokens.ids.astype("int64"))[None])  # one token more would be out of range
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.from_numpy(tokens.ids.astype("int64")).repeat(2)[None, : backbone.max_positions + 1])


def test_unknown_words_are_told_and_texts_of_them_refused(backbones: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    rows = [f"good film {'фильм ' * (i % 3)},yes\nbad film {'слово ' * (i % 3)},no\n" for i in range(30)]
    path.write_text("text,label\n" + "".join(rows))
    run = train_tiny(path, backbones["bert"], tmp_path / "some", epochs=1)
    assert any("unknown to the tokenizer" in warning for warning in run.metrics["warnings"])
    path.write_text(
        "text,label\n" + "".join(f"очень {i} хороший фильм,yes\nплохой {i} фильм и всё,no\n" for i in range(30))
    )
    with pytest.raises(ModelError, match="next to nothing to learn from"):
        train_tiny(path, backbones["bert"], tmp_path / "all", epochs=1)
