"""The lean engine's contract: the reference's logits and gradients, no parameter of its own, nothing stale, a list."""

from __future__ import annotations

import copy
import dataclasses
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from cells import Case
from passes import (
    FAMILIES,
    FP32,
    RAGGED,
    Made,
    assert_same,
    make,
    run,
    run_reference,
    train_in_process,
    train_tiny_bert,
)
from textune.backbones import resolve_backbone
from textune.engine import LeanEngine, ReferenceEngine, attention, lora_op, open_engine, predict_logits
from textune.errors import ModelError
from textune.tokens import Tokenized, encode_texts, load_tokenizer
from textune.tokens.batches import Batch, EncodedSplit, Padding, collate
from textune.training.device import open_accelerator
from tiny import BAD, GOOD, NEUTRAL, run_in_two_processes, train_tiny

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {}), "rslora": ("lora", {"rslora": True, "r": 4}), "some targets": ("lora", {}),
    "full": ("full", {}), "bitfit": ("bitfit", {}), "head": ("head", {}),
}  # fmt: skip
each = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def made_of(backbones: dict[str, Path]) -> Callable[[str, str], Made]:
    known: dict[tuple[str, str], Made] = {}

    def get(row: str, family: str) -> Made:
        if (row, family) not in known:
            method, options = METHODS[row]
            if row == "some targets":
                names = ("query", "value") if family != "distilbert" else ("q_lin", "v_lin")
                options = {"targets": names, "r": 3}
            known[row, family] = make(backbones[family], method, options)
        return known[row, family]

    return get


@pytest.fixture(params=[0, 10**9], ids=["merged", "beside"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Both forms of the LoRA operator, whatever the number of tokens."""
    monkeypatch.setattr(lora_op, "_MERGE_FROM_TOKENS", request.param)
    return int(request.param)


@each
@pytest.mark.parametrize("row", METHODS)
@pytest.mark.usefixtures("form")
def test_logits_and_gradients_are_the_references(row: str, family: str, made_of: Callable[[str, str], Made]) -> None:
    made = made_of(row, family)
    assert_same(run(made.lean(), made.model, made.batch()), run_reference(made, made.batch()))


@each
@pytest.mark.parametrize("row", ["lora", "full"])
@pytest.mark.usefixtures("form")
def test_bf16_is_as_near_to_fp32_as_twice_the_hugging_face_model(
    row: str, family: str, made_of: Callable[[str, str], Made]
) -> None:
    made = made_of(row, family)
    words, random = (*NEUTRAL, *GOOD, *BAD), np.random.default_rng(0)
    batch = made.batch(tuple(" ".join(random.choice(words, n)) for n in random.integers(1, 38, 96)))
    exact = run_reference(made, batch)
    lean = run(made.lean("bf16"), made.model, batch)
    theirs = copy.deepcopy(made.model).to(torch.bfloat16)

    def plain(given: Batch) -> torch.Tensor:
        inputs = {"input_ids": given.input_ids, "attention_mask": given.attention_mask}
        if given.token_type_ids is not None:
            inputs["token_type_ids"] = given.token_type_ids
        result: torch.Tensor = theirs(**{name: torch.from_numpy(value) for name, value in inputs.items()}).logits
        return result

    rough = run(plain, theirs, batch)

    def error(result: dict[str, torch.Tensor], names: list[str]) -> float:
        return float(sum(((result[n] - exact[n]) ** 2).sum() for n in names)) ** 0.5

    gradients = [name for name in exact if name != "logits"]
    assert 0 < error(lean, ["logits"]) <= 2 * error(rough, ["logits"])
    assert 0 < error(lean, gradients) <= 2 * error(rough, gradients)


@pytest.mark.parametrize(
    "change", ["made again in the backward pass", "fused by PyTorch", "one text a group", "all tokens"]
)
@pytest.mark.parametrize("row", ["lora", "full"])
def test_every_form_of_attention_gives_the_same(
    change: str, row: str, made_of: Callable[[str, str], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_of(row, "bert")
    batch = made.batch(RAGGED)
    engine = made.lean(first_token_only=change != "all tokens")
    if change == "made again in the backward pass":
        monkeypatch.setattr(attention, "_LARGEST_KEPT", 0)
    elif change == "fused by PyTorch":
        engine.adopt({"fused_attention_from": 0})
    elif change == "one text a group":
        monkeypatch.setattr(attention, "_BYTES_AT_ONCE", 1)
    assert_same(run(engine, made.model, batch), run_reference(made, batch))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pairs_keep_their_token_types(family: str, made_of: Callable[[str, str], Made]) -> None:
    made = made_of("full", family)
    batch = made.batch(RAGGED, tuple(reversed(RAGGED)))
    assert (batch.token_type_ids is not None) == (family == "bert")
    assert_same(run(made.lean(), made.model, batch), run_reference(made, batch))


@pytest.mark.parametrize(
    "words", ["DefaultCPUAllocator: can't allocate memory", "CUDA error: out of memory", "MPS backend out of memory"]
)
def test_passes_without_gradients_get_smaller_where_memory_runs_out(
    words: str, made_of: Callable[[str, str], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_of("lora", "bert")
    tokens = encode_texts(load_tokenizer(made.backbone.folder), RAGGED * 40, None, 40)
    split, engine, passes = EncodedSplit(tokens, np.zeros(len(tokens)), np.arange(len(tokens))), made.lean(), []
    expected = predict_logits(engine, split, made.backbone.padding)
    forward = engine.forward

    def small(batch: Batch) -> torch.Tensor:
        passes.append(batch.input_ids.size)
        if batch.input_ids.size > 300:
            raise RuntimeError(words)
        return forward(batch)

    monkeypatch.setattr(engine, "forward", small)
    found = predict_logits(engine, split, made.backbone.padding)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert max(passes) > 300 > passes[-1]
    monkeypatch.setattr(engine, "forward", lambda batch: (_ for _ in ()).throw(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        predict_logits(engine, split, made.backbone.padding)


@each
def test_a_padding_token_within_a_text_is_numbered_as_by_the_reference(
    family: str, made_of: Callable[[str, str], Made]
) -> None:
    """Tokenizers read a literal <pad> as the padding token, for which RoBERTa has one position."""
    made = made_of("full", family)
    batch, random = made.batch(), np.random.default_rng(0)
    batch.input_ids[(batch.attention_mask > 0) & (random.random(batch.input_ids.shape) < 0.2)] = (
        made.backbone.pad_token_id
    )
    assert_same(run(made.lean(), made.model, batch), run_reference(made, batch))


def test_windows_are_pooled_as_by_the_reference(made_of: Callable[[str, str], Made]) -> None:
    made = made_of("lora", "bert")
    batch = dataclasses.replace(made.batch(), windows=np.asarray([1, 3, 2, 2]))
    assert_same(run(made.lean(), made.model, batch), run_reference(made, batch))


@given(st.lists(st.integers(1, 38), min_size=1, max_size=9), st.sampled_from(["left", "right"]), st.integers(0, 9))
@settings(max_examples=40)
def test_padding_and_company_change_nothing(
    made_of: Callable[[str, str], Made], lengths: list[int], side: str, seed: int
) -> None:
    made = made_of("lora", "electra")
    engine = made.lean()
    ids = np.random.default_rng(seed).integers(5, 190, sum(lengths)).astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = Tokenized(ids, offsets, np.asarray(lengths, np.int32), None, 40)
    padding = Padding(0, side, token_types=True)
    with torch.inference_mode():
        together = engine(collate(tokens, range(len(lengths)), padding)).numpy()
        alone = np.concatenate([engine(collate(tokens, [i], padding)).numpy() for i in range(len(lengths))])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_it_owns_no_parameter_and_leaves_the_model_as_it_was(made_of: Callable[[str, str], Made]) -> None:
    made = made_of("lora", "bert")
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    engine = made.lean("bf16")
    engine(made.batch())
    assert {name.removeprefix("model.") for name in engine.state_dict()} == before.keys()
    assert engine.release() is made.model
    assert all(torch.equal(value, before[name]) for name, value in made.model.state_dict().items())


def fresh_logits(made: Made) -> torch.Tensor:
    with torch.no_grad():
        return made.lean("bf16")(made.batch())


def step_fused(made: Made, engine: LeanEngine) -> None:
    parameters = [p for p in made.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.05, fused=True)
    optimizer.register_step_post_hook(lambda *_: engine.refresh())
    engine(made.batch()).sum().backward()
    optimizer.step()


def replace_data(made: Made, engine: LeanEngine) -> None:
    for parameter in made.model.parameters():
        if parameter.ndim == 2:
            parameter.data = parameter.data + 0.05


def load_state(made: Made, engine: LeanEngine) -> None:
    made.model.load_state_dict({n: v + 0.05 * torch.randn_like(v) for n, v in made.model.state_dict().items()})


def write_in_place(made: Made, engine: LeanEngine) -> None:
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.mul_(1.1)


@pytest.mark.parametrize("change", [step_fused, replace_data, load_state, write_in_place], ids=lambda f: f.__name__)
@pytest.mark.parametrize("row", ["lora", "full"])
@pytest.mark.usefixtures("form")
def test_nothing_stale_is_ever_used(
    change: Callable[[Made, LeanEngine], None], row: str, backbones: dict[str, Path]
) -> None:
    made = make(backbones["bert"], *METHODS[row])
    engine = made.lean("bf16")
    with torch.no_grad():
        before = engine(made.batch())
    engine(made.batch())  # what the backward pass needs is derived apart
    change(made, engine)
    with torch.no_grad():
        now = engine(made.batch())
    assert not torch.equal(now, before)
    assert torch.equal(now, fresh_logits(made))
    assert torch.equal(engine(made.batch()).detach(), made.lean("bf16")(made.batch()).detach())


def test_a_change_between_forward_and_backward_is_an_error(
    backbones: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora_op, "_MERGE_FROM_TOKENS", 0)
    made = make(backbones["bert"], "lora", {})
    engine = made.lean("bf16")
    loss = engine(made.batch()).sum()
    engine.refresh()
    engine(made.batch())  # derives the weights anew, where those of the first pass stood
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_inference_first_does_not_spoil_training(made_of: Callable[[str, str], Made]) -> None:
    made = made_of("lora", "roberta")
    engine = made.lean()
    with torch.inference_mode():
        engine(made.batch())
    assert_same(run(engine, made.model, made.batch()), run_reference(made, made.batch()))


def test_nothing_below_the_lowest_trained_layer_has_a_backward_pass(backbones: dict[str, Path]) -> None:
    made = make(backbones["bert"], "lora", {})
    for name, parameter in made.model.named_parameters():
        if "layer.0." in name:
            parameter.requires_grad_(False)
    engine, seen = made.lean(), []
    original = engine._run_layer
    engine._run_layer = lambda *given: seen.append(out := original(*given)) or out  # type: ignore[method-assign, func-returns-value]
    engine(made.batch())
    assert [out.requires_grad for out in seen] == [False]


@pytest.mark.parametrize("lora_dropout", [0.0, 0.4])
def test_dropout_has_the_references_statistics(lora_dropout: float, backbones: dict[str, Path]) -> None:
    made = make(backbones["bert"], "lora", {"dropout": lora_dropout, "r": 4}, dropout=0.0 if lora_dropout else 0.2)
    for name, parameter in made.model.named_parameters():
        if "lora_B" in name:
            parameter.data.mul_(4)
    batch = made.batch(RAGGED[:3])
    made.model.train()
    lean = made.lean().train()
    reference = ReferenceEngine(made.model, FP32, made.backbone.family).train()
    draws = []
    for engine in (lean, reference):
        torch.manual_seed(0)
        with torch.no_grad():
            draws.append(torch.stack([engine(batch) for _ in range(600)]))
    means, spreads = zip(*((d.mean(0), d.std(0)) for d in draws), strict=True)
    assert float(spreads[1].min()) > 0.005, "dropout does something here"
    error = torch.sqrt((spreads[0] ** 2 + spreads[1] ** 2) / 600)
    assert float(((means[0] - means[1]).abs() / error).max()) < 4.5
    assert float((spreads[0] / spreads[1]).max()) < 1.2 and float((spreads[0] / spreads[1]).min()) > 1 / 1.2


def test_masks_of_one_update_are_not_those_of_another() -> None:
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.zeros(8, 8)) for _ in range(2)]
    ones = [torch.nn.Parameter(torch.eye(8)) for _ in range(4)]
    parts = [lora_op.Part(w, None, a, b, 1.0, 0.5) for w, a, b in zip(weights, ones[:2], ones[2:], strict=True)]
    y = lora_op.FusedLinear(parts, torch.float32)(torch.ones(64, 8), training=True).detach()
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(y[:, :8], y[:, 8:])


def test_small_updates_survive_bf16() -> None:
    """cast(W + BA), not cast(W) + cast(BA): an update of a quarter of the weights' last bit must not vanish."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(64, 32))
    down, up = torch.nn.Parameter(torch.randn(4, 32) * 0.01), torch.nn.Parameter(torch.randn(64, 4) * 0.05)
    product = lora_op.FusedLinear([lora_op.Part(weight, None, down, up, 2.0)], torch.bfloat16)
    derived = product._derive(merged=True)
    exact = (weight + 2.0 * up @ down).detach()
    assert torch.equal(derived.weight, exact.to(torch.bfloat16))


def refused_models(backbones: dict[str, Path]) -> Iterator[tuple[str, torch.nn.Module, str]]:
    bert = backbones["bert"]
    for method, options, reason in (
        ("lora", {"dora": True}, "dora"), ("ia3", {}, "ia3"), ("adapter", {}, ""), ("ln_tuning", {}, "ln_tuning"),
        ("prefix", {}, ""), ("prompt", {}, "tokens"), ("vera", {}, "vera"), ("qlora", {}, "4bit"),
    ):  # fmt: skip
        if method == "qlora":
            case = Case("qlora", bert)
            yield method, case.model, ""
        else:
            yield f"{method} {options}", make(bert, method, options).model, reason
    hooked = make(bert, "lora", {}).model
    hooked.get_submodule("base_model.model.bert.encoder.layer.0").register_forward_hook(lambda *_: None)
    yield "a hook", hooked, "hooks"
    checkpointed = make(bert, "full", {}).model
    checkpointed.gradient_checkpointing_enable()  # type: ignore[operator]
    yield "gradient checkpointing", checkpointed, "checkpointing"
    several: Any = make(bert, "lora", {}).model
    several.add_adapter("second", several.peft_config["default"])
    yield "two adapters", several, "adapters"
    yield "merged by hand", _merge_in_place(make(bert, "lora", {}).model), "merged"
    yield "bf16 weights", make(bert, "full", {}).model.to(torch.bfloat16), "bfloat16"
    yield "another family", make(backbones["gpt2"], "full", {}).model, "GPT2"


def _merge_in_place(model: Any) -> torch.nn.Module:
    model.merge_adapter()
    return model  # type: ignore[no-any-return]


def test_whatever_is_not_on_the_list_takes_the_reference_and_says_why(backbones: dict[str, Path]) -> None:
    family = resolve_backbone(str(backbones["bert"])).family
    for name, model, reason in refused_models(backbones):
        engine, why = open_engine(model, FP32, family)
        assert engine.name == "reference", name
        assert why and reason in why, f"{name}: {why}"
        with pytest.raises(ModelError, match="engine=lean"):
            open_engine(model, FP32, family, wanted="lean")


def test_the_engine_asked_for_is_the_one_that_runs(made_of: Callable[[str, str], Made]) -> None:
    made = made_of("lora", "bert")
    chosen = [
        open_engine(made.model, FP32, made.backbone.family, wanted=w)[0].name for w in ("auto", "lean", "reference")
    ]
    assert chosen == ["lean", "lean", "reference"]
    assert open_engine(made.model, FP32, made.backbone.family, equal_lengths=True)[0].name == "reference"


def test_a_run_says_which_engine_ran_and_both_learn_the_same(
    reviews: Path, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {name: train_tiny(reviews, backbone, tmp_path / name, engine=name, max_tokens=64)
            for name in ("lean", "reference")}  # fmt: skip
    logits = []
    for name, trained in runs.items():
        assert trained.manifest.engine["name"] == name and trained.manifest.engine["max_tokens"] == 64
        logits.append(trained.load(precision="fp32", device="cpu").predict_logits(list(RAGGED)))
    np.testing.assert_allclose(logits[0], logits[1], rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_two_processes_stay_in_step_and_give_the_weights_of_one(backbones: dict[str, Path], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bert = str(backbones["bert"])
    run_in_two_processes(train_in_process, port, str(tmp_path / "two"), bert)
    one = train_tiny_bert(bert, tmp_path / "one", open_accelerator("cpu"))
    two = [load_file(tmp_path / "two" / f"{rank}.safetensors") for rank in (0, 1)]
    for name, value in one.items():
        assert torch.equal(two[0][name], two[1][name])
        torch.testing.assert_close(two[0][name], value, atol=1e-5, rtol=1e-4)
