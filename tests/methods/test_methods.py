"""What the contract of all methods does not say: heads that start new, weights that do not fit, options, refusals."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cells import MEAN_CELLS, Case
from textune.backbones import load_classifier, resolve_backbone
from textune.backbones.families import families
from textune.config import build_config
from textune.errors import BundleError, ConfigError, MissingExtraError, ModelError
from textune.export.merged import export_merged
from textune.methods import check_family, count_parameters, methods, resolve
from textune.methods.support import UNPROVEN, build_matrix, build_writing_matrix, find_cell, read_record
from tiny import FAST, UNEQUAL, build_causal, hash_weights, train_tiny


@pytest.mark.parametrize("family", families.names())
@pytest.mark.parametrize("classes", [2, 4])
def test_plain_peft_loads_a_lora_bundle(
    family: str, classes: int, backbones: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft
    import transformers

    case = Case("lora", backbones[family], classes)
    for _ in range(3):
        case.step()
    run = case.save(tmp_path / "run")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(run))
    inputs = tokenizer(list(UNEQUAL), padding=True, truncation=True, return_tensors="pt")
    settings = {"num_labels": classes, "pad_token_id": case.backbone.pad_token_id}  # which decoders do not name
    base = transformers.AutoModelForSequenceClassification.from_pretrained(str(backbones[family]), **settings)
    monkeypatch.chdir(backbones[family].parent)  # the adapter names its base tiny-FAMILY, which is a folder here
    models = (
        peft.PeftModel.from_pretrained(base, str(run)),
        peft.AutoPeftModelForSequenceClassification.from_pretrained(str(run), **settings),
    )
    for model in models:
        with torch.inference_mode():
            logits = model.eval()(**inputs).logits.numpy()
        np.testing.assert_allclose(logits, case.logits(), atol=1e-5)


@pytest.mark.parametrize("method", methods.names())
def test_pooler_that_the_checkpoint_lacks_is_trained_and_saved(
    method: str, backbones: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "tiny-bert"
    shutil.copytree(backbones["bert"], folder)
    tensors = load_file(folder / "model.safetensors")
    kept = {name: t for name, t in tensors.items() if "pooler" not in name}
    assert len(kept) == len(tensors) - 2
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    case = Case(method, folder)
    assert any(name.endswith("pooler.dense") for name in case.new_modules)
    for _ in range(3):
        case.step()
    trained = [p for n, p in case.model.named_parameters() if "pooler.dense" in n and p.requires_grad]
    assert len(trained) == 2
    torch.manual_seed(12345)  # another random pooler than in training
    fresh = case.load(case.save(tmp_path / "run"), merge=False)
    np.testing.assert_allclose(fresh.predict_logits(UNEQUAL), case.logits(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", methods.names())
def test_weights_that_do_not_fit_are_refused(method: str, backbones: dict[str, Path], tmp_path: Path) -> None:
    case = Case(method, backbones["bert"])
    folder = case.save(tmp_path / "run")
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[-1])
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(BundleError, match="does not fit"):
        case.method.load_weights(Case(method, backbones["bert"]).model, folder)


def test_family_that_cannot_carry_a_method_is_refused_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods.get("bitfit"), "families_refused", {"bert": "it has no biases"})
    with pytest.raises(ModelError, match="bitfit does not support bert: it has no biases") as caught:
        check_family(resolve("bitfit", {}), families.get("bert"))
    assert "lora" in (caught.value.hint or "") and "bitfit" not in (caught.value.hint or "")
    check_family(resolve("bitfit", {}), families.get("roberta"))


def test_options_are_all_checked_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("lora", {"rr": 4, "r": 0, "alpha": "much", "dropout": 0.1})
    for part in ("did you mean 'r'", "method.r=0", "method.alpha='much'"):
        assert part in caught.value.message
    with pytest.raises(ConfigError, match="did you mean 'lora'"):
        resolve("lorra", {})


def test_lora_options_reach_peft(backbones: dict[str, Path], tmp_path: Path, reviews: Path) -> None:
    options = {"name": "lora", "r": 3, "alpha": 7, "dropout": 0.1, "targets": "q_lin"}
    run = train_tiny(reviews, backbones["distilbert"], tmp_path / "run", method=options)
    config = json.loads((run.folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (3, 7, 0.1)
    assert config["target_modules"] == ["q_lin"]
    assert config["base_model_name_or_path"] == "tiny-distilbert"
    assert dict(run.manifest.method_options) == {
        "r": 3, "alpha": 7.0, "dropout": 0.1, "targets": ["q_lin"], "top_layers": None, "dora": False,
        "rslora": False, "lora_plus": 1.0,
    }  # fmt: skip
    assert dataclasses.asdict(run.manifest)["base_model"]["local"] is True


def test_adapters_stand_where_their_papers_put_them(backbones: dict[str, Path]) -> None:
    houlsby = Case("adapter", backbones["bert"])
    assert {n for n, m in houlsby.model.named_modules() if type(m).__name__ == "Adapted"} == {
        f"bert.encoder.layer.{i}.{place}" for i in (0, 1) for place in ("attention.output.dense", "output.dense")
    }
    pfeiffer = Case("adapter+pfeiffer", backbones["gpt2"])
    assert {n for n, m in pfeiffer.model.named_modules() if type(m).__name__ == "Adapted"} == {
        f"transformer.h.{i}.mlp.c_proj" for i in (0, 1)
    }
    assert {type(m).__name__ for n, m in pfeiffer.model.named_modules() if n.endswith("activation")} == {"GELU"}
    trained = sum(p.numel() for n, p in houlsby.model.named_parameters() if "adapter_" in n)
    assert trained == 2 * 2 * (32 * 8 + 8 + 8 * 32 + 32), "4 adapters, 32 wide, bottleneck 32 / 4"


@pytest.mark.parametrize("family", ["distilbert", "albert", "modernbert"])
def test_prefix_in_the_attention_is_seen_as_far_as_its_keys_say(family: str, backbones: dict[str, Path]) -> None:
    plain, case = Case("head", backbones[family]), Case("prefix", backbones[family])
    case.model.load_state_dict(plain.model.state_dict(), strict=False)
    assert np.abs(case.logits() - plain.logits()).max() > 1e-4, "a new prefix is near nothing, but there"
    attended = [m for m in case.model.modules() if hasattr(m, "prefix_keys")]
    with torch.no_grad():
        for module in attended:
            module.prefix_values.zero_()  # what is attended to adds nothing, and takes its share of the attention
    muted = case.logits()
    assert np.abs(muted - plain.logits()).max() > 1e-4

    def ignore(module: Any, arguments: Any, options: Any) -> Any:
        mask = options.get("attention_mask", arguments[1] if len(arguments) > 1 else None)
        assert mask is None or mask.shape[-1] == mask.shape[-2], "the mask of the text alone"

    for module in attended:
        module.register_forward_pre_hook(ignore, with_kwargs=True)
    assert np.array_equal(case.logits(), muted)


def test_four_bits_spare_the_head_and_merge_by_dequantising(
    backbones: dict[str, Path], tmp_path: Path, reviews: Path
) -> None:
    run = train_tiny(reviews, backbones["bert"], tmp_path / "run", method="qlora", epochs=1)
    predictor = run.load(backbone=str(backbones["bert"]), precision="fp32")
    quantised = {n for n, m in predictor.model.named_modules() if type(m).__name__ == "Linear4bit"}
    assert len([n for n in quantised if n.endswith("base_layer")]) == 12  # query, key, value, dense x 3, in two layers
    assert not any("classifier" in name or "pooler" in name for name in quantised)
    whole = sum(p.numel() for p in Case("full", backbones["bert"]).model.parameters())
    added = sum(p.numel() for n, p in predictor.model.named_parameters() if "lora_" in n)
    assert run.manifest.total_parameters == whole + added
    export_merged(run.folder, tmp_path / "merged", backbone=str(backbones["bert"]))
    merged = transformers.AutoModelForSequenceClassification.from_pretrained(str(tmp_path / "merged")).eval()
    assert not any(type(m).__name__ == "Linear4bit" for m in merged.modules())
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "merged"))
    with torch.inference_mode():
        logits = merged(**tokenizer(list(UNEQUAL), padding=True, truncation=True, return_tensors="pt")).logits
    np.testing.assert_allclose(logits.numpy(), predictor.predict_logits(UNEQUAL), atol=1e-4)


def test_qlora_without_bitsandbytes_names_the_extra(
    backbones: dict[str, Path], tmp_path: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    with pytest.raises(MissingExtraError) as caught:
        train_tiny(reviews, backbones["bert"], tmp_path / "run", method="qlora")
    assert "textune[qlora]" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()


def test_virtual_tokens_take_room_from_the_text(backbones: dict[str, Path], tmp_path: Path, reviews: Path) -> None:
    settings = {"method": {"name": "prompt", "tokens": 20}, "epochs": 1}
    with pytest.raises(ConfigError, match="at most 44 tokens with prompt's 20 virtual tokens"):
        train_tiny(reviews, backbones["bert"], tmp_path / "long", max_length=45, **settings)
    run = train_tiny(reviews, backbones["bert"], tmp_path / "run", max_length=None, **settings)
    assert run.manifest.max_length == 44


@pytest.mark.parametrize("tokens", [61, 63, 64, 100, 512])
@pytest.mark.parametrize("method", ["prompt", "prefix"])
@pytest.mark.parametrize("max_length", [None, 4])
def test_virtual_tokens_that_leave_no_room_are_refused_with_their_most(
    method: str, tokens: int, max_length: int | None, backbones: dict[str, Path], tmp_path: Path, few_reviews: Path
) -> None:
    settings = {"method": {"name": method, "tokens": tokens}, "max_length": max_length}
    with pytest.raises(
        ConfigError, match=f"method.tokens={tokens}: leaves {max(64 - tokens, 0)} of the 64 positions"
    ) as refused:
        train_tiny(few_reviews, backbones["bert"], tmp_path / "run", **settings)
    assert refused.value.hint == "use at most 60"


@pytest.mark.parametrize("family", ["distilbert", "albert", "modernbert"])
def test_a_prefix_inside_the_attention_takes_no_position(
    family: str, backbones: dict[str, Path], tmp_path: Path, few_reviews: Path
) -> None:
    longest = resolve_backbone(str(backbones[family])).max_positions
    run = train_tiny(few_reviews, backbones[family], tmp_path / "run", method="prefix", max_length=None, epochs=1)
    assert run.manifest.max_length == min(longest, 512)
    run.predict(["the film was a story with its actors " * 200])


@pytest.mark.parametrize("family", ["bert", "llama", "gemma", "gpt2"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapters_on_word_embeddings_come_back(
    method: str, family: str, backbones: dict[str, Path], tmp_path: Path, few_reviews: Path
) -> None:
    words = {"bert": "word_embeddings", "gpt2": "wte"}.get(family, "embed_tokens")
    body = {"bert": "query", "gpt2": "c_attn"}.get(family, "q_proj")
    options = {"name": "lora", "targets": [body, words], "dora": method == "dora"}
    run = train_tiny(few_reviews, backbones[family], tmp_path / "run", method=options, epochs=1)
    assert any("lora_embedding_A" in name for name in load_file(run.folder / "adapter_model.safetensors"))
    run.predict(["a good film"])


@pytest.mark.parametrize("row", ["lora", "ln_tuning", "full", "head", "ia3"])
@pytest.mark.parametrize("family", ["roberta", "llama"])
def test_copies_that_peft_keeps_are_not_counted(row: str, family: str, backbones: dict[str, Path]) -> None:
    plain, _ = load_classifier(resolve_backbone(str(backbones[family])), ("a", "b"))
    size = sum(parameter.numel() for parameter in plain.parameters())
    case = Case(row, backbones[family])
    added = sum(p.numel() for n, p in case.model.named_parameters() if "lora_" in n or "ia3_" in n)
    trainable, total = count_parameters(case.model)
    assert total == size + added
    assert trainable == sum(p.numel() for p in case.model.parameters() if p.requires_grad)


@pytest.mark.parametrize("method", ["prefix", "adapter"])
def test_what_cannot_be_merged_is_told(method: str, backbones: dict[str, Path], tmp_path: Path, reviews: Path) -> None:
    run = train_tiny(reviews, backbones["distilbert"], tmp_path / "run", method=method, epochs=1)
    with pytest.raises(BundleError, match="cannot be merged") as caught:
        export_merged(run.folder, tmp_path / "merged", backbone=str(backbones["distilbert"]))
    assert "lora" in str(caught.value.hint)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("pairs", [False, True])
def test_decoder_without_a_pad_token_is_exported(
    pairs: bool, backbones: dict[str, Path], tmp_path: Path, reviews: Path
) -> None:
    backbone = tmp_path / "tiny-gpt2"
    shutil.copytree(backbones["gpt2"], backbone)
    settings = json.loads((backbone / "tokenizer_config.json").read_text())
    (backbone / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in settings.items() if "pad" not in k}))
    columns = {"text": "text", "text_pair": "number"} if pairs else {}
    run = train_tiny(reviews, backbone, tmp_path / "run", epochs=1, **columns)
    merged = export_merged(run.folder, tmp_path / "merged", backbone=str(backbone))
    classify = transformers.pipeline("text-classification", str(merged), truncation=True, device="cpu")
    assert len(classify(list(UNEQUAL), batch_size=3)) == 3


def test_rate_of_lora_plus_and_scale_of_rslora(backbones: dict[str, Path]) -> None:
    case = Case("lora+rslora", backbones["bert"])
    scales = {m.scaling["default"] for m in case.model.modules() if hasattr(m, "lora_A")}
    assert scales == {16 / 8**0.5}
    dora = Case("lora+dora", backbones["bert"])
    assert any("lora_magnitude_vector" in n and p.requires_grad for n, p in dora.model.named_parameters())


def test_target_that_is_not_there_is_an_error(backbones: dict[str, Path], tmp_path: Path, reviews: Path) -> None:
    with pytest.raises(ModelError, match="lora on bert"):
        train_tiny(reviews, backbones["bert"], tmp_path / "run", method={"name": "lora", "targets": "nowhere"})
    assert not (tmp_path / "run").exists()


def test_fast_settings_are_settings() -> None:
    build_config(FAST)


@pytest.mark.parametrize(("method", "family"), [("qlora", "bert"), ("lora", "llama"), ("vera", "gpt2")])
def test_the_cards_lines_load_the_run_without_textune(
    method: str, family: str, backbones: dict[str, Path], tmp_path: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_tiny(reviews, backbones[family], tmp_path / "run", method=method, epochs=1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / backbones[family].name).symlink_to(backbones[family])
    code = re.search(r"```python\n(.*?)```", (run.folder / "README.md").read_text(encoding="utf-8"), re.S)[1]
    names: dict[str, Any] = {}
    # bitsandbytes' kernel raises on layers as narrow as these
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    exec(compile(code, "card", "exec"), names)
    inputs = names["tokenizer"](list(UNEQUAL), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        logits = names["model"].eval()(**inputs).logits.numpy()
    ours = run.load(backbone=str(backbones[family]), precision="fp32", merge=False).predict_logits(UNEQUAL)
    np.testing.assert_allclose(logits, ours, atol=1e-5)


def test_card_of_what_only_textune_loads_says_so(backbones: dict[str, Path], tmp_path: Path, reviews: Path) -> None:
    run = train_tiny(reviews, backbones["distilbert"], tmp_path / "run", method="adapter", epochs=1)
    assert "textune.load" in (run.folder / "README.md").read_text(encoding="utf-8")


def test_record_of_proven_cells_is_of_this_contract() -> None:
    contract = Path(__file__).with_name("test_contract.py").read_text(encoding="utf-8")
    record, tests = read_record(), set(re.findall(r"^def (test_\w+)", contract, re.M))
    not_of_cells = {"test_every_family_has_a_tiny_model_and_every_method_an_expectation"}
    assert set(record["tests"]) == tests - not_of_cells, "the contract changed: run make matrix"
    writing = build_writing_matrix()
    assert writing, "run make matrix"
    unproven = [
        (row, name)
        for matrix in (build_matrix(), writing)
        for row, cells in matrix.items()
        for name, c in cells.items()
        if c.state == UNPROVEN
    ]
    assert not unproven, "run make matrix"
    mean = {(row, family) for row, proven in record["mean"].items() for family in proven}
    assert mean == {cell.values[:2] for cell in MEAN_CELLS}, "run make matrix"
    assert find_cell("lora", families.get("bert"), {"proven": {"lora": ["gpt2"]}}).state == UNPROVEN


@pytest.mark.parametrize("method", ["p_tuning", "qlora", "adapter"])
def test_finished_run_is_gone_on_from(method: str, backbones: dict[str, Path], tmp_path: Path, reviews: Path) -> None:
    first = train_tiny(reviews, backbones["bert"], tmp_path / "first", method=method, epochs=1)
    second = train_tiny(reviews, backbones["bert"], tmp_path / "second", init=str(first.folder), epochs=1)
    assert second.manifest.method == method
    assert hash_weights(first.folder) != hash_weights(second.folder), "its reload was proven as the first one's was"
    with pytest.raises(ConfigError, match=f"the method of its run, {method}"):
        train_tiny(reviews, backbones["bert"], tmp_path / "third", init=str(first.folder), method="full")


@pytest.mark.parametrize(
    ("row", "family", "words"),
    [("prefix", "mpnet", "accepts no external keys and values"), ("bitfit", "llama", "no bias vectors")],
)
def test_refusal_comes_before_the_weights_and_names_others(
    row: str, family: str, words: str, backbones: dict[str, Path], tmp_path: Path, reviews: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("textune.run.fit.load_classifier", None)
    with pytest.raises(ModelError, match=words) as caught:
        train_tiny(reviews, backbones[family], tmp_path / "run", method=row)
    assert "lora" in str(caught.value.hint)
    assert row not in str(caught.value.hint).split(", ")
    assert not (tmp_path / "run").exists()


def test_rank_is_no_share(backbones: dict[str, Path], tmp_path: Path, reviews: Path) -> None:
    with pytest.raises(ConfigError, match=r"method.r='0.2': must be a whole number"):
        train_tiny(reviews, backbones["bert"], tmp_path / "run", method={"name": "lora", "r": "0.2"})


def test_equal_weights_are_written_as_equal_bytes(tmp_path: Path) -> None:
    backbone = resolve_backbone(str(build_causal(tmp_path / "tied", "gpt2")))
    model = transformers.AutoModelForCausalLM.from_pretrained(str(backbone.folder))
    assert model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr(), "one weight under two names"
    written = set()
    for number in range(12):
        place = tmp_path / str(number)
        place.mkdir()
        resolve("full", {}).write_weights(model, place, backbone)
        written.add((place / "model.safetensors").read_bytes())
    assert len(written) == 1
    with torch.no_grad():
        model.lm_head.weight.zero_()
    resolve("full", {}).load_weights(model, place)
    assert model.lm_head.weight.any() and model.lm_head.weight is model.transformer.wte.weight
