"""The contract of every method on every family: a new one is tested by being there.

`make matrix` runs this file and records which cells passed all of it; the docs' matrix is made from that record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cells import CELLS, POOLED_CELLS, ROWS, Case, Logits, has_no_gradient, open_fresh_process, train_cell
from textune import bundle
from textune.backbones.families import families
from textune.backbones.pooling import MEAN
from textune.methods import Rates, methods
from textune.process.interrupt import RunInterrupted
from textune.report.snippets import reload_without_textune
from textune.training.log import find_logged_rate
from tiny import FAMILIES, UNEQUAL, StopAt, hash_weights

EXPECTED_TRAINABLE: dict[str, Callable[[str], bool]] = {
    "full": lambda name: True,
    "head": lambda name: False,
    "bitfit": lambda name: name.endswith(".bias"),
    "lora": lambda name: "lora_" in name,
    "qlora": lambda name: "lora_" in name,
    "ia3": lambda name: "ia3_l" in name,
    "vera": lambda name: "vera_lambda" in name,
    "ln_tuning": lambda name: "ln_tuning_layers" in name,
    "prompt": lambda name: name == "prompt_encoder.default.embedding.weight",
    "p_tuning": lambda name: name.startswith("prompt_encoder.default."),
    "prefix": lambda name: "prompt_encoder" in name or name.endswith((".prefix_keys", ".prefix_values")),
    "adapter": lambda name: "adapter_" in name,
}
"""What each method trains besides the head, written out here once more: a wrong freeze is found out."""

each = pytest.mark.parametrize(("row", "family"), CELLS)
each_pooled = pytest.mark.parametrize(("row", "family", "pooling"), POOLED_CELLS)


@pytest.fixture(scope="module")
def untrained() -> dict[tuple[str | None, ...], Case]:
    """The cases that are built and not yet in `case_of`."""
    return {}


@pytest.fixture(scope="module")
def new_case(backbones: dict[str, Path], untrained: dict[tuple[str | None, ...], Case]) -> Callable[..., Case]:
    """Return a case before its first step. It may be trained until the next test asks for it."""

    def make(row: str, family: str, pooling: str | None = None, rate: float | None = None) -> Case:
        cell = row, family, pooling
        if cell not in untrained:
            untrained[cell] = Case(row, backbones[family], pooling=pooling)
        return untrained[cell].restart(rate)

    return make


@pytest.fixture(scope="module")
def case_of(new_case: Callable[..., Case], untrained: dict[tuple[str | None, ...], Case]) -> Callable[..., Case]:
    """Return a case after four steps; each is made once and not trained on."""
    made: dict[tuple[str | None, ...], Case] = {}

    def make(row: str, family: str, pooling: str | None = None) -> Case:
        cell = row, family, pooling
        if cell not in made:
            case = new_case(*cell)
            del untrained[cell]  # nobody else trains it
            case.untrained = case.logits()
            for _ in range(4):
                case.step()
            made[cell] = case
        return made[cell]

    return make


@pytest.fixture(scope="module")
def saved_of(case_of: Callable[..., Case], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the folder of a case, saved once: whoever reads it leaves it as it is."""
    place = tmp_path_factory.mktemp("saved")

    def save(row: str, family: str, pooling: str | None = None) -> Path:
        folder = place / f"{row}-{family}-{pooling}"
        return folder if folder.is_dir() else case_of(row, family, pooling).save(folder)

    return save


@pytest.fixture(scope="session")
def ask_fresh_process() -> Iterator[Callable[[Path, Path], Logits]]:
    with open_fresh_process() as ask:
        yield ask


def test_every_family_has_a_tiny_model_and_every_method_an_expectation() -> None:
    assert set(families.names()) == set(FAMILIES), "give the new family a tiny configuration in tiny.py"
    assert set(methods.names()) == set(EXPECTED_TRAINABLE), "say here what the new method trains"


@each
def test_one_step_lowers_the_loss(row: str, family: str, new_case: Callable[..., Case]) -> None:
    case = new_case(row, family, rate=1e-4)
    case.model.eval()
    before = float(case.loss().detach())
    case.step()
    assert float(case.loss().detach()) < before


@each
def test_bf16_computes_nearly_the_same(row: str, family: str, new_case: Callable[..., Case]) -> None:
    case = new_case(row, family)
    exact = case.logits()
    case.engine = case.open_engine(case.model, "bf16")
    np.testing.assert_allclose(case.logits(), exact, atol=0.04 * np.abs(exact).max() + 0.02)
    case.step()
    assert np.isfinite(case.logits()).all()


@each
def test_trained_moves_and_frozen_does_not(row: str, family: str, case_of: Callable[[str, str], Case]) -> None:
    case = case_of(row, family)
    now = dict(case.model.named_parameters())
    trained = {name for name, parameter in now.items() if parameter.requires_grad}
    heads = families.get(family).head_modules

    wrapped = any("modules_to_save" in name for name in now)  # by peft, which trains a copy of the head

    def is_head(name: str) -> bool:
        return ("modules_to_save" in name or not wrapped) and any(f".{head}." in f".{name}" for head in heads)

    expected = EXPECTED_TRAINABLE[ROWS[row][0]]
    assert trained == {n for n in now if (expected(n) and "original_module" not in n) or is_head(n)}
    assert any(is_head(name) for name in trained)
    for name, parameter in now.items():
        moved = not torch.equal(parameter, case.before[name])
        if name in trained and not has_no_gradient(name):
            assert moved, f"{name} is trained and stays as it was"
        if name not in trained:
            assert not moved, f"{name} is frozen and moved"


@each
def test_every_trained_parameter_has_one_rate(row: str, family: str, case_of: Callable[[str, str], Case]) -> None:
    case = case_of(row, family)
    known = families.get(family)
    layered = any(re.search(rf"{re.escape(known.layers)}\.\d", n) for n, p in case.model.named_parameters()
                  if p.requires_grad) and not known.shared_layers  # fmt: skip
    rates = Rates(1e-3, 5e-3, 0.1, layer_decay=0.5 if layered else None)
    groups = case.method.param_groups(case.model, known, rates)
    listed = [id(p) for g in groups for p in g["params"]]
    assert sorted(listed) == sorted(id(p) for p in case.model.parameters() if p.requires_grad)
    names = {id(p): n for n, p in case.model.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            factor = case.method.rate_factor(name)
            layer = re.search(rf"{re.escape(known.layers)}\.(\d)", name)
            if any(f".{head}." in f".{name}" for head in known.head_modules):
                assert group["lr"] == 5e-3 * factor
            elif layered and layer:
                assert group["lr"] == 1e-3 * (0.5 if layer[1] == "0" else 1.0) * factor
            decayed = parameter.ndim >= 2 and "ia3_l" not in name  # its vectors are matrices of one row or column
            assert decayed == (group["weight_decay"] > 0), name
    logged = find_logged_rate(case.method.param_groups(case.model, known, replace(rates, layer_decay=None)))
    assert logged == (5e-3 if ROWS[row][0] == "head" else 1e-3), "the log tells the rate of what is below the head"


@each_pooled
def test_fresh_process_gives_the_same_logits(
    row: str, family: str, pooling: str | None, case_of: Callable[..., Case], saved_of: Callable[..., Path],
    ask_fresh_process: Callable[[Path, Path], Logits],
) -> None:  # fmt: skip
    case = case_of(row, family, pooling)
    fresh = ask_fresh_process(saved_of(row, family, pooling), case.backbone.folder)
    # the fresh process runs it by the lean engine where it can, the case by the reference
    np.testing.assert_allclose(fresh, case.logits(), rtol=1e-5, atol=1e-5)
    assert np.abs(case.untrained - fresh).max() > 1e-3, "the comparison proves nothing: training changed no logits"


@each_pooled
def test_merged_and_single_equal_the_batch(
    row: str, family: str, pooling: str | None, case_of: Callable[..., Case], saved_of: Callable[..., Path]
) -> None:
    case = case_of(row, family, pooling)
    predictor = case.load(saved_of(row, family, pooling), merge=False)
    together = predictor.predict_logits(UNEQUAL)
    single = np.concatenate([predictor.predict_logits([text]) for text in UNEQUAL])
    np.testing.assert_allclose(single, together, atol=1e-5)
    if case.method.mergeable:
        merged = case.method.merge(predictor.model)
        np.testing.assert_allclose(case.logits(merged.eval()), together, atol=1e-5)
        left = [n for n, m in merged.named_modules() if "modules_to_save" in n or type(m).__module__.startswith("peft")]
        assert not left, "a merged model is a plain one"
        assert type(merged).__name__.endswith("ForSequenceClassification")


@each_pooled
def test_resumed_run_equals_the_uninterrupted_one_and_holds_no_path(
    row: str, family: str, pooling: str | None, backbones: dict[str, Path], fewest_reviews: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "dropout": 0.1, "epochs": 1, "batch_size": 4, "validation_fraction": 0.0, "max_length": 16, "pooling": pooling,
        "head_init": "probe",
    }  # fmt: skip
    settings["contrast_steps"] = 2 if methods.get(ROWS[row][0]).trains_body else 0
    whole = train_cell(
        row, fewest_reviews, backbones[family], tmp_path / "whole", (told := StopAt()), proven=False, **settings
    )
    assert any(line.startswith("head: solved on the features") for line in told.said)
    assert pooling in (None, bundle.read_manifest(whole).pooling)
    with pytest.raises(RunInterrupted):
        train_cell(row, fewest_reviews, backbones[family], tmp_path / "parts", StopAt(2), **settings)
    assert not (tmp_path / "parts" / "textune.json").exists()
    resumed = train_cell(row, fewest_reviews, backbones[family], tmp_path / "parts", (said := StopAt()), **settings)
    assert any("resuming at step 2" in line for line in said.said)
    assert hash_weights(resumed) == hash_weights(whole) != {}
    for name in bundle.read_manifest(whole).files.keys() - {"config.yaml"}:  # which keeps paths as they were typed
        content = (whole / name).read_bytes()
        assert str(tmp_path.parent.parent).encode() not in content, f"{name} names the folder it was made in"
        assert Path(name).suffix not in (".bin", ".pt", ".pkl", ".pickle"), f"{name} is a pickle"


@each_pooled
def test_plain_peft_loads_the_same_logits(
    row: str, family: str, pooling: str | None, case_of: Callable[..., Case], saved_of: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    case, run = case_of(row, family, pooling), saved_of(row, family, pooling)
    monkeypatch.chdir(case.backbone.folder.parent)  # a run says what its base is called, not where it is
    if pooling == MEAN:
        code = reload_without_textune(bundle.read_manifest(run), str(run))
        if "import textune" in code:
            assert not case.method.plain_weights and (run / "delta.safetensors").is_file()
            return  # it adds modules that transformers does not have
        loaded: dict[str, Any] = {}
        exec(compile(code[: code.index("logits = ")], "card", "exec"), loaded)
        model, tokenizer = loaded["model"].eval(), loaded["tokenizer"]
    elif (run / "adapter_config.json").is_file():
        model, tokenizer = load_by_peft(case, run)
    else:
        assert (run / "delta.safetensors").is_file() or (run / "model.safetensors").is_file()
        return  # one of textune's own methods
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # bitsandbytes' kernel raises on layers as narrow as these
    alone = case.method.needs_equal_lengths(case.backbone.family)
    batches = [[text] for text in UNEQUAL] if alone else [list(UNEQUAL)]
    logits = []
    for batch in batches:
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=case.longest, return_tensors="pt")
        with torch.inference_mode():
            logits.append(model(**inputs).logits.numpy())
    np.testing.assert_allclose(np.concatenate(logits), case.logits(), atol=1e-5)


def load_by_peft(case: Case, run: Path) -> tuple[Any, Any]:
    """Return model and tokenizer of a saved adapter, loaded by peft and transformers alone."""
    import peft
    import transformers

    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        str(case.backbone.folder), num_labels=2, pad_token_id=case.backbone.pad_token_id,
        attn_implementation="eager", **case.method.load_kwargs(case.backbone.family),
    )  # fmt: skip
    return peft.PeftModel.from_pretrained(base, str(run)).eval(), transformers.AutoTokenizer.from_pretrained(str(run))
