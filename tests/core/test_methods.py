"""The contract of every method on every family, generated from the registries: a new one is tested by being there."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import FAMILIES, FAST, UNEQUAL, StopAt, hash_weights, make_rows, train_tiny, write_reviews

from textune import bundle
from textune.backbones import families, load_classifier, resolve_backbone
from textune.batching import EncodedSplit, collate
from textune.config import build_config, write_settings
from textune.engine import Precision, ReferenceEngine, predict_logits
from textune.errors import BundleError, ConfigError, ModelError
from textune.interrupt import RunInterrupted
from textune.methods import Rates, check_family, methods, resolve
from textune.predict import Predictor, padding_of
from textune.run import resume
from textune.saving import write_bundle
from textune.tokens import encode_texts, load_tokenizer

EXPECTED_TRAINABLE: dict[str, Callable[[str], bool]] = {
    "full": lambda name: True,
    "head": lambda name: "classifier" in name,
    "bitfit": lambda name: "classifier" in name or name.endswith(".bias"),
    "lora": lambda name: "lora_" in name or "modules_to_save" in name,
}
"""Written out here once more, so that a method that freezes too much or too little is found out."""

PAIRS = [
    pytest.param(method, family, id=f"{method}-{family}")
    for method, cls in methods
    for family in families.names()
    if family not in cls.families_refused
]


class Case:
    """One method on one family, trained for a few steps by hand."""

    def __init__(self, method: str, folder: Path, classes: int = 2, rate: float | None = None) -> None:
        self.backbone = resolve_backbone(str(folder))
        self.method = resolve(method, {})
        self.labels = tuple(f"c{i}" for i in range(classes))
        torch.manual_seed(1)
        module, self.new_modules = load_classifier(self.backbone, self.labels)
        self.loaded = {n: p.detach().clone() for n, p in module.named_parameters()}
        self.model = self.method.apply(module, self.backbone.family, self.new_modules).train()
        self.before = copy.deepcopy({n: p.detach().clone() for n, p in self.model.named_parameters()})
        self.engine = ReferenceEngine(self.model, Precision("fp32", "test"), self.backbone.family.head_modules)
        texts, values = zip(*make_rows(12, classes), strict=True)
        targets = np.unique(values, return_inverse=True)[1].astype(np.int64)
        tokens = encode_texts(load_tokenizer(folder), texts, None, 64)
        self.split = EncodedSplit(tokens, targets, np.arange(12))
        rates = Rates(rate or self.method.learning_rate, rate or self.method.learning_rate, 0.0)
        self.optimizer = torch.optim.AdamW(self.method.param_groups(self.model, self.backbone.family, rates))

    def loss(self) -> torch.Tensor:
        """The mean loss of the one batch that this case has."""
        batch = collate(self.split.tokens, range(12), padding_of(self.backbone), self.split.targets)
        return torch.nn.functional.cross_entropy(self.engine(batch), torch.from_numpy(batch.targets))

    def step(self) -> None:
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def logits(self) -> np.ndarray[Any, Any]:
        """The trained model's logits of UNEQUAL, as one padded batch."""
        tokens = encode_texts(load_tokenizer(self.backbone.folder), UNEQUAL, None, 64)
        return predict_logits(self.engine, EncodedSplit(tokens, np.zeros(3, int), np.zeros(3, int)),
                              padding_of(self.backbone))  # fmt: skip

    def save(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        write_settings(build_config({}), folder / "config.yaml")
        write_bundle(
            folder, self.model, self.method, self.backbone, self.new_modules, labels=self.labels,
            label_values=self.labels, columns=bundle.TextColumns(), max_length=64, seed=1, data_fingerprint="-",
            engine={"name": "reference"},
        )  # fmt: skip
        return folder

    def load(self, folder: Path, **options: Any) -> Predictor:
        return Predictor.load(folder, backbone=str(self.backbone.folder), precision="fp32", device="cpu", **options)


@pytest.fixture(scope="module")
def case_of(backbones: dict[str, Path]) -> Callable[[str, str], Case]:
    """Returns a case after four steps; each is made once and not trained on."""
    made: dict[tuple[str, str], Case] = {}

    def make(method: str, family: str) -> Case:
        if (method, family) not in made:
            case = Case(method, backbones[family])
            for _ in range(4):
                case.step()
            made[method, family] = case
        return made[method, family]

    return make


each = pytest.mark.parametrize(("method", "family"), PAIRS)


def test_every_family_has_a_tiny_model() -> None:
    assert set(families.names()) == set(FAMILIES), "give the new family a tiny configuration in tiny.py"


@each
def test_one_step_lowers_the_loss(method: str, family: str, backbones: dict[str, Path]) -> None:
    case = Case(method, backbones[family], rate=1e-4)
    before = float(case.loss().detach())
    case.step()
    assert float(case.loss().detach()) < before


@each
def test_trained_moves_and_frozen_does_not(method: str, family: str, case_of: Callable[[str, str], Case]) -> None:
    case = case_of(method, family)
    now = dict(case.model.named_parameters())
    trained = {name for name, parameter in now.items() if parameter.requires_grad}
    if method in EXPECTED_TRAINABLE:
        assert trained == {name for name in now if EXPECTED_TRAINABLE[method](name)}
    for name, parameter in now.items():
        moved = not torch.equal(parameter, case.before[name])
        # Softmax ignores what is added to every score alike: the bias of the keys has no gradient but rounding.
        if name in trained and not name.endswith(("key.bias", "k_lin.bias")):
            assert moved, f"{name} is trained and stays as it was"
        if name not in trained:
            assert not moved, f"{name} is frozen and moved"


@each
def test_head_has_a_group_of_its_own_and_biases_are_not_decayed(
    method: str, family: str, case_of: Callable[[str, str], Case]
) -> None:
    case = case_of(method, family)
    groups = case.method.param_groups(case.model, case.backbone.family, Rates(1e-3, 5e-3, 0.1))
    listed = [id(p) for g in groups for p in g["params"]]
    assert sorted(listed) == sorted(id(p) for p in case.model.parameters() if p.requires_grad)
    for group in groups:
        assert group["lr"] == (5e-3 if group["name"].startswith("head") else 1e-3)
        assert all((p.ndim >= 2) == (group["weight_decay"] > 0) for p in group["params"])


@each
def test_fresh_load_gives_the_same_logits(
    method: str, family: str, case_of: Callable[[str, str], Case], tmp_path: Path
) -> None:
    case = case_of(method, family)
    folder = case.save(tmp_path / "run")
    fresh = case.load(folder, merge=False).predict_logits(UNEQUAL)
    np.testing.assert_allclose(fresh, case.logits(), atol=1e-6)
    untrained = Case(method, case.backbone.folder).logits()
    assert np.abs(untrained - fresh).max() > 1e-3, "the comparison proves nothing: training changed no logits"


@each
def test_merged_and_single_equal_the_batch(
    method: str, family: str, case_of: Callable[[str, str], Case], tmp_path: Path
) -> None:
    case = case_of(method, family)
    folder = case.save(tmp_path / "run")
    together = case.load(folder, merge=False).predict_logits(UNEQUAL)
    merged = case.load(folder, merge=True)
    np.testing.assert_allclose(merged.predict_logits(UNEQUAL), together, atol=1e-5)
    single = np.concatenate([merged.predict_logits([text]) for text in UNEQUAL])
    np.testing.assert_allclose(single, together, atol=1e-5)
    if case.method.mergeable:
        assert not any("lora" in name or "modules_to_save" in name for name, _ in merged.model.named_modules())


@each
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    method: str, family: str, backbones: dict[str, Path], reviews: Path, tmp_path: Path
) -> None:
    settings = {"method": method, "dropout": 0.1, "epochs": 1.5, "validation_fraction": 0.0}
    whole = train_tiny(reviews, backbones[family], tmp_path / "whole", **settings)
    with pytest.raises(RunInterrupted):
        train_tiny(reviews, backbones[family], tmp_path / "parts", StopAt(3), **settings)
    assert not (tmp_path / "parts" / "textune.json").exists()
    resumed = resume(tmp_path / "parts", progress=(said := StopAt()))
    assert any("going on from step 3" in line for line in said.said)
    assert hash_weights(resumed.folder) == hash_weights(whole.folder) != {}
    first, second = ([{k: v for k, v in line.items() if k != "text"} for line in bundle.read_json_lines(p)]
                     for p in (tmp_path / "whole" / "metrics.jsonl", tmp_path / "parts" / "metrics.jsonl"))  # fmt: skip
    assert first == second


@each
def test_bundle_holds_no_path(method: str, family: str, backbones: dict[str, Path], work: Path) -> None:
    shutil.copytree(backbones[family], work / "model")
    write_reviews(work / "reviews.csv")
    run = train_tiny("reviews.csv", "model", Path("runs/it"), method=method)
    for path in run.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(work).encode() not in content, f"{path} names the folder it was made in"
            assert b"/tmp/" not in content, f"{path} holds an absolute path"
            assert path.suffix not in (".bin", ".pt", ".pkl", ".pickle"), f"{path} is a pickle"


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
    base = transformers.AutoModelForSequenceClassification.from_pretrained(str(backbones[family]), num_labels=classes)
    monkeypatch.chdir(backbones[family].parent)  # the adapter names its base tiny-FAMILY, which is a folder here
    models = (
        peft.PeftModel.from_pretrained(base, str(run)),
        peft.AutoPeftModelForSequenceClassification.from_pretrained(str(run), num_labels=classes),
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
    np.testing.assert_allclose(fresh.predict_logits(UNEQUAL), case.logits(), atol=1e-6)


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
    with pytest.raises(ModelError, match="bitfit cannot be had on bert: it has no biases") as caught:
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
    assert dict(run.manifest.method_options) == {"r": 3, "alpha": 7.0, "dropout": 0.1, "targets": ["q_lin"]}
    assert dataclasses.asdict(run.manifest)["base_model"]["local"] is True


def test_target_that_is_not_there_is_an_error(backbones: dict[str, Path], tmp_path: Path, reviews: Path) -> None:
    with pytest.raises(ModelError, match="lora on bert"):
        train_tiny(reviews, backbones["bert"], tmp_path / "run", method={"name": "lora", "targets": "nowhere"})
    assert not (tmp_path / "run").exists()


def test_fast_settings_are_settings() -> None:
    build_config(FAST)
