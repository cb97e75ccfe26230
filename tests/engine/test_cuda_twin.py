"""What runs on CUDA, as far as a CPU can tell: all of it but the kernels and the recording of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.backbones import load_classifier, resolve_backbone
from textune.engine import LeanEngine, Precision, graphs, predict_logits
from textune.engine.lean import attend_varlen
from textune.engine.packing import Pack, pack_batch
from textune.engine.varlen import has_varlen
from textune.methods import resolve
from textune.tokens import encode_texts, load_tokenizer
from textune.tokens.batches import Batch, EncodedSplit, collate

TEXTS = ("film", "the film was a good story", "a dull and slow scene " * 6, "lovely music", "actors " * 30, "the film")
CPU = torch.device("cpu")


def make(folder: Path, precision: str = "fp32") -> Any:
    backbone = resolve_backbone(str(folder))
    torch.manual_seed(1)
    model, new = load_classifier(backbone, ("a", "b", "c"), dropout=0.0)
    model = resolve("lora", {}).apply(model, backbone.family, new)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    tokens = encode_texts(load_tokenizer(folder), TEXTS, None, 40)
    return LeanEngine(model, Precision(precision, "test"), backbone.family).train(), tokens, backbone.padding


def run(engine: LeanEngine, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    engine.zero_grad()
    logits = engine(batch)
    (logits * torch.arange(3.0)).sum().backward()
    return logits.detach(), {n: p.grad.clone() for n, p in engine.named_parameters() if p.grad is not None}


def stand_in(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, own: torch.Tensor, bounds: torch.Tensor,
    most: int, longest: int,
) -> torch.Tensor:  # fmt: skip
    """What `torch.nn.attention.varlen.varlen_attn` is documented to give, on a CPU, text by text."""
    assert own.dtype == bounds.dtype == torch.int32 and int(bounds[-1]) == len(key) and int(own[-1]) == len(query)
    assert most >= int(own.diff().max()) and longest >= int(bounds.diff().max())
    assert int(own.diff().min()) > 0 and int(bounds.diff().min()) > 0
    mixed = []
    for text in range(len(bounds) - 1):
        rows, columns = slice(own[text], own[text + 1]), slice(bounds[text], bounds[text + 1])
        parts = (query[rows], key[columns], value[columns])
        q, k, v = (part.transpose(0, 1) for part in parts)
        mixed.append(torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(0, 1))
    return torch.cat(mixed)


@pytest.fixture
def varlen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each launch of attention."""
    launched: list[int] = []
    monkeypatch.setattr("textune.engine.lean.has_varlen", lambda *_: True)
    monkeypatch.setattr("textune.engine.varlen._find_kernel", lambda: stand_in)
    monkeypatch.setattr("textune.engine.lean.attend_varlen", lambda *a: launched.append(1) or attend_varlen(*a))
    return launched


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_attention_in_one_launch_is_that_of_the_groups(
    family: str, backbones: dict[str, Path], request: pytest.FixtureRequest
) -> None:
    engine, tokens, padding = make(backbones[family])
    batch = collate(tokens, range(len(TEXTS)), padding)
    logits, gradients = run(engine, batch)
    launched = request.getfixturevalue("varlen")
    own_logits, own_gradients = run(engine, batch)
    assert len(launched) == engine.layers
    assert float((own_logits - logits).abs().max()) <= 1e-5 * float(logits.abs().max())
    for name, gradient in gradients.items():
        assert float((own_gradients[name] - gradient).abs().max()) <= 1e-5 * float(gradient.abs().max()), name


def test_the_kernels_signature_is_as_it_is_called() -> None:
    from torch.nn.attention import varlen

    names = list(inspect.signature(varlen.varlen_attn).parameters)[:7]
    assert names == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]


def test_norms_have_one_type_where_mixed_ones_are_refused(
    backbones: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, tokens, padding = make(backbones["bert"], "bf16")
    batch = collate(tokens, range(len(TEXTS)), padding)
    logits, gradients = run(engine, batch)
    monkeypatch.setattr("textune.engine.lean._norms_mixed_types", lambda device: False)
    norm, seen = torch.nn.functional.layer_norm, []

    def strict(x: torch.Tensor, shape: Any, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
        assert x.dtype == weight.dtype, "expected scalar type BFloat16 but found Float"
        seen.append(x.dtype)
        return norm(x, shape, weight, *rest)

    monkeypatch.setattr("torch.nn.functional.layer_norm", strict)
    own_logits, own_gradients = run(engine, batch)
    assert len(seen) >= 2 * engine.layers
    assert float((own_logits - logits).abs().max()) <= 0.02 * float(logits.abs().max())
    assert gradients.keys() == own_gradients.keys()


@dataclass
class Recorder:
    """Takes the place of `graphs.capture`: playing runs the pass anew over the recording's own tensors."""

    wrong: float = 0.0
    captured: list[tuple[int, int, int]] = field(default_factory=list)
    played: int = 0

    def capture(self, run: graphs.Pass, pack: Pack, pool: Any) -> graphs.Recording:
        own = pack.map(torch.clone)
        logits = run(own).clone()

        def play() -> None:
            self.played += 1
            logits.copy_(run(own) + self.wrong)

        self.captured.append((len(own.ids), len(own.starts), own.longest))
        return graphs.Recording(own, logits, play)


@pytest.fixture
def recorder(varlen: list[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    found = Recorder()
    monkeypatch.setattr("textune.engine.lean.has_graphs", lambda _: True)
    monkeypatch.setattr(graphs, "capture", found.capture)
    yield found


def idle(engine: LeanEngine, batch: Batch) -> torch.Tensor:
    engine.eval()
    with torch.inference_mode():
        return engine(batch)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_a_recording_gives_what_the_pass_gives(
    family: str, backbones: dict[str, Path], request: pytest.FixtureRequest
) -> None:
    engine, tokens, padding = make(backbones[family])
    batches = [collate(tokens, rows, padding) for rows in ([0, 1, 2], [4, 3], [5, 1, 0, 2], [2], [3, 4])]
    wanted = [idle(engine, batch) for batch in batches]
    recorder = request.getfixturevalue("recorder")
    for batch, logits in zip(batches, wanted, strict=True):
        assert float((idle(engine, batch) - logits).abs().max()) <= 1e-5 * float(logits.abs().max())
    assert len(recorder.captured) == 1 and recorder.played == len(batches) - 1, "the first sight is not recorded"


def test_predictions_by_recordings_are_in_the_order_of_the_rows(
    backbones: dict[str, Path], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, tokens, padding = make(backbones["bert"])
    split = EncodedSplit(tokens.take(np.arange(60) % len(TEXTS)), np.zeros(60, np.int64), np.arange(60))
    wanted = predict_logits(engine, split, padding)
    recorder = request.getfixturevalue("recorder")
    monkeypatch.setattr("textune.engine.inference._TOKENS_PER_BATCH", 60)
    np.testing.assert_allclose(predict_logits(engine, split, padding), wanted, atol=1e-5)
    assert recorder.played > 3


def test_recordings_of_changed_weights_are_dropped(recorder: Recorder, backbones: dict[str, Path]) -> None:
    engine, tokens, padding = make(backbones["bert"])
    batch = collate(tokens, [0, 1, 2], padding)
    before = [idle(engine, batch) for _ in range(3)][-1]
    assert recorder.played == 2
    with torch.no_grad():
        next(p for n, p in engine.named_parameters() if "lora_B" in n).add_(0.5)
    after = idle(engine, batch)
    assert recorder.played == 2 and not torch.equal(after, before)
    again = [idle(engine, batch) for _ in range(2)][-1]
    assert recorder.played == 4 and torch.equal(after, again)
    engine.refresh()
    idle(engine, batch)
    assert recorder.played == 4


def test_training_is_not_recorded(recorder: Recorder, backbones: dict[str, Path]) -> None:
    engine, tokens, padding = make(backbones["bert"])
    for _ in range(3):
        run(engine, collate(tokens, [0, 1, 2], padding))
    engine.eval()
    for _ in range(3):
        engine(collate(tokens, [0, 1, 2], padding))  # with gradients
    assert not recorder.captured


def test_a_wrong_recording_is_not_used(recorder: Recorder, backbones: dict[str, Path]) -> None:
    engine, tokens, padding = make(backbones["bert"])
    batch = collate(tokens, [0, 1, 2], padding)
    recorder.wrong = 1.0
    first = idle(engine, batch)
    with pytest.warns(UserWarning, match="CUDA graphs are not used: the logits differ"):
        assert torch.equal(idle(engine, batch), first)
    assert torch.equal(idle(engine, batch), first)
    assert len(recorder.captured) == 1 and recorder.played == 1


def test_without_cuda_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not graphs.has_graphs(CPU)
    assert graphs.has_graphs(torch.device("cuda"))
    monkeypatch.setenv("TEXTUNE_CUDA_GRAPHS", "off")
    assert not graphs.has_graphs(torch.device("cuda"))


@settings(max_examples=60)
@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=70))
def test_a_filled_pack_begins_with_the_texts(lengths: list[int]) -> None:
    ids = np.zeros((len(lengths), max(lengths)), np.int64)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids[mask.astype(bool)] = 2 + np.arange(sum(lengths))  # 1 is the padding token
    batch = Batch(ids, mask, None, np.arange(len(lengths)))
    plain, filled = (
        pack_batch(batch, 2, 1 << 20, torch.float32, CPU, grouped=False, filled=filled) for filled in (False, True)
    )
    tokens, texts = len(plain.ids), len(plain.starts)
    for name in ("ids", "positions", "types"):
        assert torch.equal(getattr(filled, name)[:tokens], getattr(plain, name)), name
    assert torch.equal(filled.starts[:texts], plain.starts) and torch.equal(filled.order, plain.order)
    assert torch.equal(filled.bounds[: texts + 1], plain.bounds)
    assert len(filled.ids) % 512 == 0 and len(filled.starts) % 16 == 0 and len(filled.bounds) == len(filled.starts) + 1
    sizes = filled.bounds.diff()
    assert int(sizes.min()) > 0 and int(sizes.max()) <= filled.longest and int(filled.bounds[-1]) == len(filled.ids)
    assert int(filled.positions.max()) == int(plain.positions.max()), "no position that the model may lack"
    assert len(filled.ids) - tokens <= 512 + 16


@pytest.mark.parametrize(("width", "fits"), [(32, True), (64, True), (26, False), (256, True), (264, False)])
def test_the_kernel_takes_heads_of_some_widths_only(width: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.engine.varlen._find_kernel", lambda: stand_in)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert has_varlen(torch.device("cuda"), torch.bfloat16, width) == fits
