"""The cache of frozen layers: the same logits and gradients, never stale, bounded, shared by runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textune import cache
from textune.backbones import load_classifier, resolve_backbone
from textune.bundle import read_manifest
from textune.engine import LeanEngine, Precision, prefix_cache
from textune.engine.prefix_cache import choose_layers, open_prefix
from textune.errors import ModelError
from textune.files import read_json
from textune.inference import Predictor
from textune.methods import resolve
from textune.tokens import Tokenized, encode_texts, load_tokenizer
from textune.tokens.batches import Batch, collate
from tiny import BAD, GOOD, NEUTRAL, train_tiny, write_reviews

TEXTS = ("film", "the film was a good story", "a dull and slow scene " * 6, "lovely music", "actors " * 30, "the film")
CASES = {"head": ("head", {}), "top layer": ("lora", {"top_layers": 1})}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make(folder: Path, method: str, options: dict[str, Any], precision: str = "fp32", dropout: float = 0.0) -> Any:
    backbone = resolve_backbone(str(folder))
    torch.manual_seed(1)
    model, new = load_classifier(backbone, ("a", "b", "c"), dropout=dropout)
    model = resolve(method, options).apply(model, backbone.family, new)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    engine = LeanEngine(model, Precision(precision, "test"), backbone.family).train()
    tokens = encode_texts(load_tokenizer(folder), TEXTS, None, 40)
    return engine, tokens, backbone.padding


def run(engine: LeanEngine, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    engine.zero_grad()
    logits = engine(batch)
    (logits * torch.arange(3.0)).sum().backward()
    return logits.detach(), {n: p.grad.clone() for n, p in engine.named_parameters() if p.grad is not None}


def nothing(rows: int) -> None:
    """Progress that nobody watches."""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "electra"])
def test_logits_and_gradients_are_those_of_the_layers(family: str, case: str, backbones: dict[str, Path]) -> None:
    engine, tokens, padding = make(backbones[family], *CASES[case])
    layers = engine.count_frozen_layers()
    assert layers == (engine.layers if case == "head" else engine.layers - 1)
    batch = collate(tokens, [4, 1, 0, 2], padding)
    logits, gradients = run(engine, batch)
    prefix = open_prefix(engine, tokens, layers, padding, nothing)
    assert prefix is not None
    engine.keep(prefix)
    calls = []
    engine._encoder.embedding_modules[0].register_forward_hook(lambda *_: calls.append(1))
    kept_logits, kept_gradients = run(engine, batch)
    assert not calls, "the embeddings ran all the same"
    assert float((kept_logits - logits).abs().max()) <= 1e-5 * float(logits.abs().max())
    assert gradients.keys() == kept_gradients.keys()
    for name, gradient in gradients.items():
        assert float((kept_gradients[name] - gradient).abs().max()) <= 1e-5 * float(gradient.abs().max()), name


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", ["bert", "roberta"])  # DistilBERT's head has a ReLU, whose gradient jumps
def test_bf16_is_kept_as_exactly_as_it_is_computed(family: str, case: str, backbones: dict[str, Path]) -> None:
    exact, tokens, padding = make(backbones[family], *CASES[case])
    batch = collate(tokens, range(len(TEXTS)), padding)
    wanted = run(exact, batch)
    engine, _, _ = make(backbones[family], *CASES[case], "bf16")
    direct = run(engine, batch)
    prefix = open_prefix(engine, tokens, engine.count_frozen_layers(), padding, nothing)
    whole = engine.count_frozen_layers() == engine.layers  # what the head reads is kept exactly
    assert prefix is not None and prefix.states.dtype == (np.float32 if whole else np.uint16)
    engine.keep(prefix)
    kept = run(engine, batch)

    def error(found: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> float:
        return float(sum((found[1][name] - wanted[1][name]).square().sum() for name in wanted[1])) ** 0.5

    assert float((kept[0] - wanted[0]).abs().max()) <= 2 * float((direct[0] - wanted[0]).abs().max()) + 1e-4
    assert error(kept) <= 2 * error(direct)


def test_what_another_run_kept_is_read_and_not_computed(
    backbones: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, tokens, padding = make(backbones["bert"], "head", {})
    first = open_prefix(engine, tokens, engine.layers, padding, nothing)
    again, same, _ = make(backbones["bert"], "head", {})
    monkeypatch.setattr(LeanEngine, "run_frozen", None)
    second = open_prefix(again, same, again.layers, padding, nothing)
    assert first is not None and second is not None
    np.testing.assert_array_equal(first.states, second.states)
    assert isinstance(second.states, np.memmap)


@pytest.mark.parametrize("harm", ["cut", "a bit", "no digest"])
def test_damaged_states_are_computed_anew(harm: str, backbones: dict[str, Path], own_cache: Path) -> None:
    engine, tokens, padding = make(backbones["bert"], "head", {})
    first = open_prefix(engine, tokens, engine.layers, padding, nothing)
    assert first is not None
    wanted = np.array(first.states)
    (path,) = own_cache.rglob("states.npy")
    content, middle = path.read_bytes(), path.stat().st_size // 2
    path.unlink()  # the old states are mapped still
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes({"cut": content[:middle], "a bit": flipped, "no digest": content}[harm])
    if harm == "no digest":
        (path.parent / "states.sha256").unlink()
    again = open_prefix(engine, tokens, engine.layers, padding, nothing)
    assert again is not None
    np.testing.assert_array_equal(again.states, wanted)
    assert path.read_bytes() == content and (path.parent / "states.sha256").is_file()


CHANGES: dict[str, Callable[[LeanEngine], Any]] = {
    "a weight written": lambda engine: engine._encoder.layers[0].feed_forward.parts[0].weight.data.mul_(1.5),
    "a weight written in place": lambda engine: torch.nn.init.normal_(engine._encoder.layers[0].attention_norm.weight),
    "an embedding written": lambda engine: torch.nn.init.normal_(
        engine._encoder.embedding_modules[0].word_embeddings.weight
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_stale_is_used(change: str, backbones: dict[str, Path]) -> None:
    engine, tokens, padding = make(backbones["bert"], "lora", {"top_layers": 1})
    layers = engine.count_frozen_layers()
    batch = collate(tokens, range(len(TEXTS)), padding)
    before = open_prefix(engine, tokens, layers, padding, nothing)
    assert before is not None
    engine.keep(before)
    old = run(engine, batch)[0]
    if change == "a weight written":  # .data leaves no version behind: the key of a new run sees it all the same
        CHANGES[change](engine)
        engine.keep()
    else:
        CHANGES[change](engine)
    engine.refresh()
    now = run(engine, batch)[0]
    assert float((now - old).abs().max()) > 1e-4
    after = open_prefix(engine, tokens, layers, padding, nothing)
    assert after is not None
    engine.keep(after)
    kept = run(engine, batch)[0]
    assert float((kept - now).abs().max()) <= 1e-5 * float(now.abs().max())


def test_other_tokens_have_other_states(backbones: dict[str, Path], own_cache: Path) -> None:
    engine, tokens, padding = make(backbones["bert"], "head", {})
    other = encode_texts(load_tokenizer(backbones["bert"]), ("a bad film", *TEXTS[1:]), None, 40)
    prefix = open_prefix(engine, tokens, engine.layers, padding, nothing)
    assert prefix is not None
    engine.keep(prefix)
    wanted = LeanEngine(engine.model, engine.precision, resolve_backbone(str(backbones["bert"])).family)
    batch = collate(other, range(len(TEXTS)), padding)
    torch.testing.assert_close(engine(batch), wanted(batch))
    assert open_prefix(engine, other, engine.layers, padding, nothing) is not None
    assert len(list((own_cache / "prefixes").iterdir())) == 2
    assert {entry.path.parent.name for entry in cache.list_entries()} == {"prefixes"}
    assert cache.clean() > 0 and not cache.list_entries()


def test_windows_and_pairs_are_kept(backbones: dict[str, Path]) -> None:
    from textune.config import LongText

    engine, _, padding = make(backbones["bert"], "lora", {"top_layers": 1})
    tokenizer = load_tokenizer(backbones["bert"])
    windows = encode_texts(tokenizer, TEXTS, None, 12, LongText("window", 2, 4))
    pairs = encode_texts(tokenizer, TEXTS, TEXTS[::-1], 40)
    for tokens in (windows, pairs):
        batch = collate(tokens, [2, 0, 4], padding)
        engine.keep()
        wanted = engine(batch)
        prefix = open_prefix(engine, tokens, engine.count_frozen_layers(), padding, nothing)
        assert prefix is not None
        engine.keep(prefix)
        torch.testing.assert_close(engine(batch), wanted, rtol=1e-5, atol=1e-6)


def test_it_is_used_only_where_it_saves_something_and_has_room(
    backbones: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, tokens, _ = make(backbones["bert"], "head", {})
    assert choose_layers(engine, [tokens], 3) == engine.layers
    assert choose_layers(engine, [tokens], 1) == 0
    monkeypatch.setattr(prefix_cache, "LARGEST_BYTES", 10)
    assert choose_layers(engine, [tokens], 3) == 0
    for method, options in (("full", {}), ("bitfit", {}), ("lora", {})):
        assert make(backbones["bert"], method, options)[0].count_frozen_layers() == 0
    assert make(backbones["bert"], "head", {}, dropout=0.1)[0].count_frozen_layers() == 0


def test_a_run_uses_it_says_so_and_gives_the_same_model(
    tmp_path: Path, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_reviews(tmp_path / "reviews.csv", rows=60)
    settings = {"method": {"name": "lora", "top_layers": 1}, "epochs": 3, "precision": "fp32"}
    with_cache = train_tiny(data, backbone, tmp_path / "with", **settings)
    assert read_manifest(with_cache.folder).engine["prefix_layers"] >= 1
    assert read_json(with_cache.folder / "plan.json", "plan")["engine"]["prefix_layers"] >= 1
    without = train_tiny(data, backbone, tmp_path / "without", prefix_cache=False, **settings)
    assert read_manifest(without.folder).engine["prefix_layers"] == 0
    texts = (GOOD[0], BAD[0], NEUTRAL[0])
    a, b = (Predictor.load(run.folder, backbone=str(backbone), precision="fp32") for run in (with_cache, without))
    np.testing.assert_allclose(a.predict_logits(texts), b.predict_logits(texts), rtol=1e-3, atol=1e-4)


def test_top_layers_is_checked(backbones: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="the backbone has"):
        make(backbones["bert"], "lora", {"top_layers": 99})
    with pytest.raises(ModelError, match="share the same weights"):
        make(backbones["albert"], "lora", {"top_layers": 1})


def test_only_the_top_layers_are_adapted(backbones: dict[str, Path]) -> None:
    engine, _, _ = make(backbones["bert"], "lora", {"top_layers": 1})
    adapted = {n for n, _ in engine.named_parameters() if "lora_A" in n}
    last = f"layer.{engine.layers - 1}."
    assert adapted and all(last in name or ".pooler." in name for name in adapted)


def test_tokens_are_told_apart_by_identity(backbones: dict[str, Path]) -> None:
    engine, tokens, padding = make(backbones["bert"], "head", {})
    prefix = open_prefix(engine, tokens, engine.layers, padding, nothing)
    assert prefix is not None
    engine.keep(prefix)
    assert isinstance(tokens, Tokenized)
    assert engine._find_prefix(collate(tokens, [0], padding)) is prefix
    assert engine._find_prefix(collate(tokens.take(np.array([0])), [0], padding)) is None
