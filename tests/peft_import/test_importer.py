"""Adapters of plain peft become runs that give peft's logits; what is not whole or not safe is refused."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file

import textune
from hubs import Hub
from textune.bundle import read_manifest
from textune.cli import main
from textune.errors import BundleError, ConfigError, DataError, ModelError, TextuneError
from textune.export.merged import export_merged, push_folder
from textune.inference import Predictor
from textune.methods import methods, resolve
from textune.methods.adopted import list_exact, list_peft_types
from textune.methods.support import list_rows
from textune.peft_import.importer import import_adapter
from textune.peft_import.reader import read_adapter
from tiny import UNEQUAL, StopAt, train_tiny, write_reviews

Make = Callable[..., Path]
pytestmark = pytest.mark.filterwarnings("ignore")  # peft's, of its own making


@pytest.fixture
def make(backbones: dict[str, Path], tmp_path: Path) -> Make:
    """Save an adapter as plain peft does, with every trained number moved away from where it started."""

    def make_adapter(family: str, config: peft.PeftConfig, classes: int = 2, name: str = "adapter") -> Path:
        torch.manual_seed(3)
        base = load_plain(backbones[family], classes)
        model = peft.get_peft_model(base, copy.deepcopy(config))  # peft changes it
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.add_(torch.randn_like(parameter) * 0.2)
        model.save_pretrained(str(tmp_path / name))
        return tmp_path / name

    return make_adapter


def load_plain(backbone: Path, classes: int) -> Any:
    return copy.deepcopy(_load_once(backbone, classes))


@functools.cache
def _load_once(backbone: Path, classes: int) -> Any:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(str(backbone), num_labels=classes)
    if model.config.pad_token_id is None:  # which decoders do not name
        model.config.pad_token_id = transformers.AutoTokenizer.from_pretrained(str(backbone)).pad_token_id
    return model


def lora(**settings: Any) -> peft.LoraConfig:
    return peft.LoraConfig(task_type="SEQ_CLS", **settings)


def names(classes: int) -> list[str]:
    return [f"class{i}" for i in range(classes)]


def peft_logits(adapter: Path, backbone: Path, classes: int) -> np.ndarray[Any, Any]:
    """Logit of UNEQUAL as one padded batch, by peft and transformers alone."""
    model = peft.PeftModel.from_pretrained(load_plain(backbone, classes), str(adapter)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(backbone))
    inputs = tokenizer(list(UNEQUAL), padding=True, truncation=True, max_length=56, return_tensors="pt")
    with torch.inference_mode():
        return np.asarray(model(**inputs).logits.numpy())


def change_config(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def vera_by_seed() -> peft.VeraConfig:
    config = peft.VeraConfig(task_type="SEQ_CLS", r=8)
    config.save_projection = False
    return config


TARGETS = ["query", "value"]
CLS: dict[str, Any] = {"task_type": "SEQ_CLS"}
EXACT: dict[str, tuple[str, Any, int, str]] = {
    "lora-bert": ("bert", lora(target_modules=TARGETS, r=4, lora_alpha=12), 2, "lora"),
    "lora-distilbert": ("distilbert", lora(target_modules=["q_lin"]), 4, "lora"),
    "lora-roberta": ("roberta", lora(), 4, "lora"),
    "lora-llama": ("llama", lora(), 2, "lora"),
    "lora-all-linear": ("bert", lora(target_modules="all-linear"), 2, "lora"),
    "lora-gaussian": ("bert", lora(init_lora_weights="gaussian"), 2, "lora"),
    "dora": ("bert", lora(target_modules=TARGETS, use_dora=True), 2, "lora"),
    "rslora": ("roberta", lora(use_rslora=True), 2, "lora"),
    "vera": ("bert", peft.VeraConfig(**CLS, r=8), 2, "vera"),
    "ln_tuning": ("bert", peft.LNTuningConfig(**CLS, target_modules=["LayerNorm"]), 2, "ln_tuning"),
    "prompt": ("bert", peft.PromptTuningConfig(**CLS, num_virtual_tokens=4), 2, "prompt"),
    "p_tuning": ("bert", peft.PromptEncoderConfig(**CLS, num_virtual_tokens=4, encoder_hidden_size=16), 2, "p_tuning"),
    "prefix": ("bert", peft.PrefixTuningConfig(**CLS, num_virtual_tokens=4), 2, "prefix"),
}  # fmt: skip
KEPT: dict[str, tuple[str, Any, int, str]] = {
    "alpha_pattern": ("bert", lora(target_modules=TARGETS, alpha_pattern={"query": 3}), 2, "peft"),
    "rank_pattern": ("roberta", lora(target_modules=TARGETS, rank_pattern={"query": 3}), 4, "peft"),
    "layers_to_transform": ("bert", lora(target_modules=TARGETS, layers_to_transform=[1]), 2, "peft"),
    "bias": ("bert", lora(target_modules=TARGETS, bias="all"), 2, "peft"),
    "pattern": ("bert", lora(target_modules=r".*\.1\.attention\.self\.(query|value)"), 2, "peft"),
    "saved-pooler": ("bert", lora(target_modules=TARGETS, modules_to_save=["pooler"]), 2, "peft"),
    "ia3": ("bert", peft.IA3Config(**CLS), 2, "peft"),  # it scales the attention's output, too
    "vera-by-seed": ("bert", vera_by_seed(), 2, "peft"),
    "projected-prefix": ("bert", peft.PrefixTuningConfig(**CLS, num_virtual_tokens=4, prefix_projection=True,
                                                         encoder_hidden_size=16), 2, "peft_prompt"),
    "adalora": ("bert", peft.AdaLoraConfig(**CLS, target_modules=TARGETS, total_step=9), 2, "peft"),
    "c3a": ("bert", peft.C3AConfig(**CLS, target_modules=TARGETS, block_size=8), 2, "peft"),
    "delora": ("bert", peft.DeloraConfig(**CLS, target_modules=TARGETS), 2, "peft"),
    "fourierft": ("bert", peft.FourierFTConfig(**CLS, target_modules=TARGETS, n_frequency=20), 2, "peft"),
    "hra": ("bert", peft.HRAConfig(**CLS, target_modules=TARGETS), 2, "peft"),
    "loha": ("bert", peft.LoHaConfig(**CLS, target_modules=TARGETS), 2, "peft"),
    "lokr": ("bert", peft.LoKrConfig(**CLS, target_modules=TARGETS), 2, "peft"),
    "miss": ("bert", peft.MissConfig(**CLS, target_modules=TARGETS, r=4), 2, "peft"),
    "oft": ("bert", peft.OFTConfig(**CLS, target_modules=TARGETS, oft_block_size=8), 2, "peft"),
    "randlora": ("bert", peft.RandLoraConfig(**CLS, target_modules=TARGETS), 2, "peft"),
    "road": ("bert", peft.RoadConfig(**CLS, target_modules=TARGETS, group_size=8), 2, "peft"),
    "shira": ("bert", peft.ShiraConfig(**CLS, target_modules=TARGETS, r=4), 2, "peft"),
    "vblora": ("bert", peft.VBLoRAConfig(**CLS, target_modules=TARGETS, vector_length=8), 2, "peft"),
    "waveft": ("bert", peft.WaveFTConfig(**CLS, target_modules=TARGETS, n_frequency=20), 2, "peft"),
}  # fmt: skip
CASES = EXACT | KEPT


@pytest.mark.parametrize("case", CASES)
def test_run_gives_the_logits_of_plain_peft(
    case: str, make: Make, backbones: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, config, classes, method = CASES[case]
    adapter = make(family, config, classes)
    expected = peft_logits(adapter, backbones[family], classes)
    run = import_adapter(adapter, str(backbones[family]), names(classes), output=tmp_path / "run", max_length=56)
    manifest = read_manifest(run)
    assert manifest.method == method
    assert manifest.labels == tuple(names(classes))
    assert manifest.imported == {"peft_type": config.peft_type, "peft_version": peft.__version__}
    predictor = Predictor.load(run, device="cpu", precision="fp32")  # the import itself compares it unmerged, too
    np.testing.assert_allclose(predictor.predict_logits(UNEQUAL), expected, rtol=1e-3, atol=1e-4)
    monkeypatch.chdir(backbones[family].parent)  # the run names its base tiny-FAMILY, which is a folder here
    np.testing.assert_allclose(peft_logits(run, backbones[family], classes), expected, atol=1e-5)


def test_every_type_that_is_let_in_is_tested() -> None:
    assert {config.peft_type.value for _, config, _, _ in CASES.values()} == set(list_peft_types())
    methods_of_ours = {kind: cls.key for kind, cls in list_exact().items()}
    assert methods_of_ours["LORA"] == "lora" and "qlora" not in methods_of_ours.values()
    for cls in list_exact().values():
        options = {f.name for f in dataclasses.fields(cls.options_type)}
        fields = {f.name for f in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(cls.peft_type)])}
        assert cls.peft_fields.keys() <= options and {*cls.peft_fields.values()} <= fields, cls.key


def test_run_holds_no_path_and_no_text_of_where_it_was_made(
    make: Make, backbones: dict[str, Path], tmp_path: Path
) -> None:
    adapter = make("bert", lora(target_modules=TARGETS, layers_to_transform=[0]))
    transformers.AutoTokenizer.from_pretrained(str(backbones["bert"])).save_pretrained(str(adapter))
    path = adapter / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_file": str(adapter / "tokenizer.json")}))
    run = import_adapter(adapter, None, "0=bad,1=good", runs_dir=str(tmp_path / "runs"))
    assert run == tmp_path / "runs" / "adapter"
    for file in (p for p in run.rglob("*") if p.is_file()):
        assert str(tmp_path.parent).encode() not in file.read_bytes(), file
    assert "mported from an adapter" in (run / "README.md").read_text()
    assert read_manifest(run).label_values == ("0", "1")
    assert textune.load(run).predict(["good"])[0] in ("bad", "good")


def test_text_that_a_prompt_started_from_is_not_kept(make: Make, backbones: dict[str, Path], tmp_path: Path) -> None:
    config = peft.PromptTuningConfig(
        **CLS, num_virtual_tokens=4, prompt_tuning_init="TEXT", prompt_tuning_init_text="secret words",
        tokenizer_name_or_path=str(backbones["bert"]),
    )  # fmt: skip
    adapter = make("bert", config)
    change_config(adapter, tokenizer_name_or_path="/nowhere/to-be-found")
    run = import_adapter(adapter, str(backbones["bert"]), names(2), output=tmp_path / "run")
    assert not [p for p in run.rglob("*.json") if re.search("secret|nowhere", p.read_text())]


def test_tokenizer_is_the_adapters_only_where_the_vocabulary_is_the_same(
    make: Make, backbones: dict[str, Path], tmp_path: Path
) -> None:
    adapter = make("bert", lora(target_modules=TARGETS))
    for tokens_of, taken in (("bert", True), ("roberta", False)):
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(backbones[tokens_of]))
        tokenizer.save_pretrained(str(adapter))
        settings = json.loads((adapter / "tokenizer_config.json").read_text())
        (adapter / "tokenizer_config.json").write_text(json.dumps(settings | {"mark": "the adapter's"}))
        run = import_adapter(adapter, str(backbones["bert"]), names(2), output=tmp_path / tokens_of)
        assert ("mark" in json.loads((run / "tokenizer_config.json").read_text())) is taken


def test_head_of_the_backbone_serves_an_adapter_without_one(
    make: Make, backbones: dict[str, Path], tmp_path: Path
) -> None:
    whole = tmp_path / "tiny-whole"
    torch.manual_seed(5)
    model = load_plain(backbones["bert"], 3)
    model.config.id2label = {0: "low", 1: "middle", 2: "high"}
    model.save_pretrained(str(whole))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(backbones["bert"] / name, whole)
    adapter = make("bert", lora(target_modules=TARGETS), 3)
    tensors = load_file(adapter / "adapter_model.safetensors")
    head = {f"base_model.model.{n}": p.detach() for n, p in model.named_parameters() if n.startswith("classifier")}
    save_file(tensors | head, adapter / "adapter_model.safetensors")
    expected = peft_logits(adapter, whole, 3)
    drop_tensors(adapter, "classifier")
    run = import_adapter(adapter, str(whole), output=tmp_path / "run")
    assert read_manifest(run).labels == ("low", "middle", "high")
    found = Predictor.load(run, device="cpu", precision="fp32").predict_logits(UNEQUAL)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def drop_tensors(adapter: Path, part: str) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if part not in name}
    assert len(kept) < len(tensors)
    save_file(kept, adapter / "adapter_model.safetensors")


def pickle_weights(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")


def spoil_weights(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({n: t * float("nan") for n, t in tensors.items()}, adapter / "adapter_model.safetensors")


FAULTS: dict[str, tuple[Callable[[Path], object], type[TextuneError], str]] = {
    "head": (lambda a: drop_tensors(a, "classifier"), BundleError, "head is missing: .* no classifier.weight .and 1"),
    "half a head": (lambda a: drop_tensors(a, "classifier.bias"), BundleError, "head is missing: .*classifier.bias"),
    "tensor": (lambda a: drop_tensors(a, "0.attention.self.query.lora_A"), BundleError, r"query.lora_A.* is missing"),
    "pickle": (pickle_weights, BundleError, "adapter_model.bin: the weights are a pickle"),
    "damaged": (lambda a: (a / "adapter_model.safetensors").write_bytes(b"x" * 99), BundleError, "weights are damaged"),
    "not finite": (spoil_weights, BundleError, "logits are not finite"),
    "no weights": (lambda a: (a / "adapter_model.safetensors").unlink(), BundleError, "no weights"),
    "no config": (lambda a: (a / "adapter_config.json").unlink(), BundleError, "adapter_config.json is missing"),
    "broken config": (lambda a: (a / "adapter_config.json").write_text("["), BundleError, "damaged"),
    "task": (lambda a: change_config(a, task_type="CAUSAL_LM"), BundleError, "task_type='CAUSAL_LM'"),
    "type": (lambda a: change_config(a, peft_type="XLORA"), BundleError, "peft_type='XLORA' cannot be imported"),
    "odd type": (lambda a: change_config(a, peft_type=["LORA"]), BundleError, "cannot be imported"),
    "own code": (lambda a: change_config(a, auto_map={"AutoModel": "x.Y"}), BundleError, "auto_map"),
    "newer peft": (lambda a: change_config(a, fancy=3), BundleError, "installed peft does not know fancy=3"),
    "pissa": (lambda a: change_config(a, init_lora_weights="pissa"), BundleError, "init_lora_weights='pissa'"),
    "path": (lambda a: change_config(a, target_modules=["/etc/x"]), BundleError, "is a path"),
    "wrong kind": (lambda a: change_config(a, r="many"), BundleError, "r='many': peft declares this field as int"),
    "no targets": (lambda a: change_config(a, target_modules=["nowhere"]), ModelError, "does not fit tiny-bert: No"),
    "fewer targets": (lambda a: change_config(a, target_modules=["query"]), ModelError, "does not exist in tiny"),
    "rank": (lambda a: change_config(a, r=5), ModelError, r"lora_A.* has the shape \[8, 32\], .* \[5, 32\]"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_whole_or_not_safe_is_refused(
    fault: str, make: Make, backbones: dict[str, Path], tmp_path: Path
) -> None:
    adapter = make("bert", lora(target_modules=TARGETS))
    spoil, kind, told = FAULTS[fault]
    spoil(adapter)
    with pytest.raises(kind, match=told):
        import_adapter(adapter, str(backbones["bert"]), names(2), output=tmp_path / "runs" / "run")
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


ODD = (["SEQ_CLS"], [{"a": 1}, 3], {"a": {"b": [1]}}, [["a"]], [None], -1, True, float("nan"), 10**400, "text", None)
IGNORED = {"auto_mapping", "inference_mode", "loftq_config", "eva_config", "corda_config", "lora_ga_config"}


@pytest.mark.parametrize(
    "field", [f.name for f in dataclasses.fields(peft.LoraConfig) if f.name != "runtime_config"] + ["auto_map", "more"]
)
def test_odd_values_in_any_field_are_refused_by_its_name_or_accepted(field: str, tmp_path: Path) -> None:
    """The file is read whole; what only peft can judge is left to it."""
    lora(target_modules=TARGETS).save_pretrained(str(tmp_path))
    save_file({"base_model.model.classifier.weight": torch.zeros(2, 4)}, tmp_path / "adapter_model.safetensors")
    original = (tmp_path / "adapter_config.json").read_text()
    refused = 0
    for odd in ODD:
        (tmp_path / "adapter_config.json").write_text(original)
        change_config(tmp_path, **{field: odd})
        try:
            read_adapter(tmp_path)
        except BundleError as error:
            refused += 1
            assert f"{tmp_path / 'adapter_config.json'}: " in str(error) and field in str(error)
    assert refused >= 5 or field in IGNORED


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task_type", ["SEQ_CLS"]),
        ("modules_to_save", [{"a": 1}, 3]),
        ("revision", 3),
        ("base_model_name_or_path", {"a": 1}),
        ("lora_alpha", float("nan")),
        ("lora_alpha", 10**400),
        ("layers_to_transform", ["a", 1]),
        ("target_modules", [1, "query"]),
        ("use_dora", "yes"),
        ("rank_pattern", ["query"]),
    ],
)
def test_a_field_of_another_kind_is_refused_by_its_name(field: str, value: Any, make: Make) -> None:
    adapter = make("bert", lora(target_modules=TARGETS))
    change_config(adapter, **{field: value})
    with pytest.raises(BundleError, match=rf"adapter_config\.json: {field}="):
        read_adapter(adapter)


def test_a_damaged_rank_pattern_of_adalora_is_refused(make: Make) -> None:
    adapter = make("bert", CASES["adalora"][1])
    change_config(adapter, rank_pattern={"a": 1})
    with pytest.raises(BundleError, match=r"adapter_config\.json: rank_pattern="):
        read_adapter(adapter)


def test_ranks_of_layers_that_do_not_exist_are_told(make: Make, backbones: dict[str, Path], tmp_path: Path) -> None:
    adapter = make("bert", CASES["adalora"][1])
    change_config(adapter, rank_pattern={"bert.encoder.layer.77.attention.self.query.lora_E": [True]})
    with pytest.raises((BundleError, ModelError), match=r"adapter"):
        import_adapter(adapter, str(backbones["bert"]), names(2), output=tmp_path / "run")


@pytest.mark.parametrize("config", [{"problem_type": ["x"]}, {"problem_type": {"a": 1}}])
def test_an_odd_problem_type_is_refused(
    config: dict[str, Any], make: Make, backbones: dict[str, Path], tmp_path: Path
) -> None:
    adapter = make("bert", lora(target_modules=TARGETS))
    (adapter / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="problem_type="):
        import_adapter(adapter, str(backbones["bert"]), names(2), output=tmp_path / "run")


def test_wrong_backbones_are_refused(make: Make, backbones: dict[str, Path], tmp_path: Path) -> None:
    adapter = make("bert", lora(target_modules=TARGETS))
    with pytest.raises(ModelError, match=r"bert.encoder.layer.0.*does not exist in tiny-roberta"):
        import_adapter(adapter, str(backbones["roberta"]), names(2), output=tmp_path / "run")
    with pytest.raises(ModelError, match="does not fit tiny-distilbert"):
        import_adapter(adapter, str(backbones["distilbert"]), names(2), output=tmp_path / "run")
    change_config(adapter, base_model_name_or_path="/somewhere/else")
    with pytest.raises(ModelError, match="'/somewhere/else' is not on this machine") as caught:
        import_adapter(adapter, None, names(2), output=tmp_path / "run")
    assert "with backbone=:" in (caught.value.hint or "")
    change_config(adapter, base_model_name_or_path=None)
    with pytest.raises(ModelError, match="does not say what its base model is"):
        import_adapter(adapter, None, names(2), output=tmp_path / "run")


def test_pooler_that_neither_side_has_is_a_missing_head(make: Make, backbones: dict[str, Path], tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(backbones["bert"], bare)
    tensors = load_file(bare / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if "pooler" not in n}, bare / "model.safetensors", {"format": "pt"})
    adapter = make("bert", lora(target_modules=TARGETS))
    with pytest.raises(BundleError, match=r"head is missing: .*pooler.dense") as caught:
        import_adapter(adapter, str(bare), names(2), output=tmp_path / "run")
    assert "modules_to_save=['classifier', 'bert.pooler.dense']" in (caught.value.hint or "")


def test_pairs_of_texts_are_classified(make: Make, backbones: dict[str, Path], tmp_path: Path) -> None:
    adapter = make("bert", lora(target_modules=TARGETS))
    columns = {"text": "question", "text_pair": "answer"}
    run = import_adapter(adapter, str(backbones["bert"]), names(2), output=tmp_path / "run", **columns)
    manifest = read_manifest(run)
    assert (manifest.columns.text, manifest.columns.text_pair) == (("question",), "answer")
    predictor = Predictor.load(run)
    assert len(predictor.predict(["how was it"], ["a dull story"])) == 1
    with pytest.raises(DataError, match="pairs"):
        predictor.predict(["how was it"])


def test_adapter_of_a_hub_model_that_is_cached_needs_no_backbone(
    make: Make, backbones: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make("bert", lora(target_modules=TARGETS))
    commit = "c" * 40
    place = tmp_path / "hub" / "models--me--base"
    shutil.copytree(backbones["bert"], place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, told in (
        ("me/base", None),
        ("me/other", "'me/other' is not on this machine"),
        ("x" * 5000, "not on this"),
    ):
        change_config(adapter, base_model_name_or_path=name)
        if told is None:
            base = read_manifest(import_adapter(adapter, None, names(2), output=tmp_path / "run")).base_model
            assert (base.id, base.revision, base.local) == ("me/base", commit, False)
            continue
        with pytest.raises(ModelError, match=told):
            import_adapter(adapter, None, names(2), output=tmp_path / "no")


def test_a_tilde_is_the_home_folder(
    make: Make, backbones: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("bert", lora(target_modules=TARGETS))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = import_adapter("~/adapter", str(backbones["bert"]), names(2), output="~/adopted")
    assert run == tmp_path / "adopted" and run.is_dir() and not Path("~").is_dir()


def test_imported_run_is_published_like_any_other(make: Make, backbones: dict[str, Path], tmp_path: Path) -> None:
    hub = Hub()
    adapter = make("bert", lora(target_modules=TARGETS, bias="all"))
    run = import_adapter(adapter, str(backbones["bert"]), names(2), output=tmp_path / "run")
    assert push_folder(run, "me/adopted", api=hub) == "https://hub/me/adopted"
    assert {"README.md", "textune.json", "adapter_model.safetensors", "tokenizer.json"} <= hub.files.keys()
    assert not [name for name, content in hub.files.items() if str(tmp_path).encode() in content]


def test_labels_must_be_as_many_as_the_rows_of_the_head(make: Make, backbones: dict[str, Path], tmp_path: Path) -> None:
    adapter = make("roberta", lora(), 4)
    place, base = tmp_path / "run", str(backbones["roberta"])
    with pytest.raises(ConfigError, match="3 are given, but the adapter's head has 4 classes"):
        import_adapter(adapter, base, names(3), output=place)
    with pytest.raises(ConfigError, match="nothing names the 4 classes") as caught:
        import_adapter(adapter, base, output=place)
    assert "labels='0=NAME,1=NAME,2=NAME,...'" in (caught.value.hint or "")
    config = {"id2label": {str(i): f"LABEL_{i}" for i in range(4)}}
    (adapter / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="nothing names"):
        import_adapter(adapter, base, output=place)
    (adapter / "config.json").write_text(json.dumps({"id2label": {"1": "b", "0": "a", "3": "d", "2": "c"}}))
    assert read_manifest(import_adapter(adapter, base, output=place)).labels == ("a", "b", "c", "d")
    with pytest.raises(BundleError, match="already exists"):
        import_adapter(adapter, base, output=place)
    for wrong in ({"name": "../away"}, {"epochs": 3}, {"max_length": 65}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            import_adapter(adapter, base, **wrong)


@pytest.mark.parametrize("labels", [{1: "good", 0: "bad"}, "1=good,0=bad", [["1", "good"], ["0", "bad"]]])
def test_names_of_the_rows_numbers_may_come_in_any_order(
    labels: Any, make: Make, backbones: dict[str, Path], tmp_path: Path
) -> None:
    adapter, base = make("bert", lora(target_modules=TARGETS)), str(backbones["bert"])
    texts = list(UNEQUAL)
    ordered = Predictor.load(import_adapter(adapter, base, "0=bad,1=good", output=tmp_path / "ordered"))
    run = import_adapter(adapter, base, labels, output=tmp_path / "run")
    assert (read_manifest(run).labels, read_manifest(run).label_values) == (("bad", "good"), ("0", "1"))
    assert Predictor.load(run).predict(texts) == ordered.predict(texts)


@pytest.mark.parametrize("labels", ["2=good,1=bad", "1,0", "good,bad"])
def test_other_labels_are_the_heads_rows_as_given(
    labels: str, make: Make, backbones: dict[str, Path], tmp_path: Path
) -> None:
    adapter, base = make("bert", lora(target_modules=TARGETS)), str(backbones["bert"])
    run = import_adapter(adapter, base, labels, output=tmp_path / "run")
    assert read_manifest(run).label_values == tuple(word.partition("=")[0] for word in labels.split(","))


def test_a_config_that_cannot_be_a_classifiers_is_not_believed(
    make: Make, backbones: dict[str, Path], tmp_path: Path
) -> None:
    adapter, base = make("bert", lora(target_modules=TARGETS)), str(backbones["bert"])
    refused: dict[str, tuple[dict[str, Any], type[TextuneError]]] = {
        "nothing names the 2 classes": ({"id2label": {"0": None, "1": "b"}}, ConfigError),
        r"has the labels 'a' and 'a\\u200b', which differ only": (
            {"id2label": {"0": "a", "1": "a\u200b"}},
            ConfigError,
        ),
        "problem_type='regression', which is no classification": (
            {"id2label": {"0": "a", "1": "b"}, "problem_type": "regression"},
            BundleError,
        ),
    }
    for message, (config, kind) in refused.items():
        (adapter / "config.json").write_text(json.dumps(config))
        with pytest.raises(kind, match=message):
            import_adapter(adapter, base, output=tmp_path / "run")
    run = import_adapter(adapter, base, output=tmp_path / "run", task="single_label")
    assert read_manifest(run).labels == ("a", "b")


def test_the_current_folder_is_not_replaced(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make("bert", lora(target_modules=TARGETS))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ConfigError, match="is the current folder"):
        import_adapter(adapter, output=".")


@pytest.mark.parametrize("place", ["adapter", "backbone", "setting"])
def test_adapter_for_several_labels_answers_with_several(
    place: str, make: Make, backbones: dict[str, Path], tmp_path: Path
) -> None:
    adapter, base = make("bert", lora(target_modules=TARGETS), 3), tmp_path / "tiny-base"
    shutil.copytree(backbones["bert"], base)
    settings: dict[str, Any] = {"task": "multi_label"} if place == "setting" else {}
    if place == "adapter":
        (adapter / "config.json").write_text(json.dumps({"problem_type": "multi_label_classification"}))
    other = "multi" if place == "backbone" else "single"  # what lies nearer to the adapter counts more
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"problem_type": f"{other}_label_classification"}))
    progress = StopAt()
    run = import_adapter(adapter, str(base), names(3), output=tmp_path / "run", progress=progress, **settings)
    manifest = read_manifest(run)
    assert (manifest.task, manifest.thresholds) == ("multi_label", (0.5,) * 3)
    told = [line for line in progress.said if line.startswith("task: ")]
    assert told == (
        [] if settings else [f"task: multi_label (by the config.json of the {place}), with thresholds of 0.5"]
    )
    predictor = Predictor.load(run, device="cpu", precision="fp32")
    expected = 1 / (1 + np.exp(-peft_logits(adapter, base, 3)))
    np.testing.assert_allclose(predictor.predict_proba(UNEQUAL), expected, atol=1e-4)
    assert predictor.predict(UNEQUAL) == [
        tuple(name for name, p in zip(names(3), row, strict=True) if p >= 0.5) for row in expected
    ]
    assert "task: multi_label" in (run / "config.yaml").read_text()
    assert "sigmoid" in (run / "README.md").read_text()


def test_adapter_for_several_labels_is_measured_on_a_column_for_each(
    make: Make, backbones: dict[str, Path], tmp_path: Path
) -> None:
    adapter, base = make("bert", lora(target_modules=TARGETS), 3), str(backbones["bert"])
    settings = {"label": ",".join(names(3))}
    with pytest.raises(ConfigError, match="label= names 3 columns"):
        import_adapter(adapter, base, names(3), output=tmp_path / "run", task="single_label", **settings)
    run = import_adapter(adapter, base, names(3), output=tmp_path / "run", **settings)
    rows = [{"text": text, "class0": i % 2, "class1": 0, "class2": 1} for i, text in enumerate(UNEQUAL)]
    evaluation = textune.evaluate(run, rows)
    assert evaluation.rows == 3 and not evaluation.unknown_labels


def call_here(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(words)
    told = capsys.readouterr()
    return int(caught.value.code or 0), told.out + (told.err if caught.value.code else "")


@pytest.mark.parametrize("case", ["lora-bert", "alpha_pattern"])
def test_commands_work_on_an_imported_run(
    case: str, make: Make, backbones: dict[str, Path], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = make("bert", CASES[case][1])
    words = ("import", str(adapter), "--backbone", str(backbones["bert"]), "--labels", "0=negative,1=positive")
    code, told = call_here(capsys, *words, "name=adopted", "--json")
    assert code == 0, told
    assert json.loads(told)["run"] == "runs/adopted"
    reviews = write_reviews(work / "reviews.csv", rows=20)
    for command, expected in (
        (("inspect", "runs/adopted"), "not evaluated"),
        (("predict", "runs/adopted", "good film"), "probability"),
        (("predict", "runs/adopted", str(reviews)), "20 rows"),
        (("evaluate", "runs/adopted", str(reviews)), "accuracy"),
        (("export", "runs/adopted", "--output", "merged"), "verified by loading it again"),
    ):
        code, told = call_here(capsys, *command)
        assert code == 0, told
        assert expected in told, command
    code, told = call_here(capsys, "report", "runs/adopted")
    assert code == 5 and "evaluate it on a labelled table" in told
    code, told = call_here(capsys, *words, "name=adopted")
    assert code == 5 and "already exists" in told


def test_imported_lora_is_trained_further_and_an_odd_one_is_not(
    make: Make, backbones: dict[str, Path], reviews: Path, tmp_path: Path
) -> None:
    base = str(backbones["bert"])
    plain = make("bert", lora(target_modules=TARGETS), name="plain")
    labels = ["negative", "positive"]
    first = import_adapter(plain, base, labels, output=tmp_path / "first")
    further = train_tiny(reviews, base, tmp_path / "further", init=str(first))
    assert further.manifest.method == "lora"
    odd = import_adapter(
        make("bert", lora(target_modules=TARGETS, bias="all"), name="odd"), base, labels, output=tmp_path / "second"
    )
    with pytest.raises(ConfigError, match="imported adapter"):
        train_tiny(reviews, base, tmp_path / "no", init=str(odd))
    merged = load_plain(export_merged(odd, tmp_path / "merged"), 2)
    assert merged.config.id2label == {0: "negative", 1: "positive"}


def test_methods_of_imported_runs_are_offered_nowhere() -> None:
    assert not {"peft", "peft_prompt"} & (set(methods.names()) | set(list_rows()))
    with pytest.raises(ConfigError, match="cannot be trained further"):
        resolve("peft", {})
