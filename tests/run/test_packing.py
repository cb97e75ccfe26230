"""Short rows of a training share rows of a batch, and train the same weights as without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textune.backbones.families import families
from textune.config import build_config
from textune.engine import reference
from textune.errors import ConfigError, ModelError
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.run import resume
from textune.run.fit import build_trainer, open_training
from textune.run.prepare import Prepared, prepare
from textune.tasks import generation
from textune.tokens.packed_rows import PackedRows, pack_rows, plan_packing
from textune.training.checkpoint import CheckpointState
from tiny import FAMILIES, WORDS, Backbones, StopAt, build_causal, hash_weights, settings_for, train_tiny, write_prompts

SETTINGS: dict[str, Any] = {
    "task": "generation",
    "method": "lora",
    "max_length": 64,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "contrast_steps": None,
    "epochs": 3,
    "answer_rows": 1,
}
STEPS = 4
PACKING = [name for name in FAMILIES if families.get(name).packs]
CELLS = [*((family, "lora") for family in PACKING), *((f, "full") for f in ("llama", "qwen2", "gemma", "gpt2"))]
OTHER_POSITIONS: dict[str, dict[str, Any]] = {
    "mistral": FAMILIES["llama"] | {"sliding_window": 8},
    "bloom": {"vocab_size": 200, "hidden_size": 32, "n_layer": 2, "n_head": 2},
}
"""Decoders that are not in the table: one of sliding windows, one of ALiBi."""


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    place = tmp_path_factory.mktemp("packing")

    def build(family: str) -> Path:
        return place / family if (place / family).is_dir() else build_causal(place / family, family)

    return build


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 8 to 50 tokens, so that a batch has much padding."""
    rows = [
        {"prompt": f"{WORDS[i % 4]} {i}" + " cold" * (i % 8), "completion": " ".join(WORDS[: 1 + i % 3])}
        for i in range(48)
    ]
    path = tmp_path_factory.mktemp("rows") / "unequal.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def open_prepared(data: Path, backbone: Path, folder: Path, progress: Any = None, **settings: Any) -> Prepared:
    return prepare(build_config(settings_for(data, backbone, folder, **SETTINGS | settings)), progress or Silent())


def take_steps(data: Path, backbone: Path, folder: Path, **settings: Any) -> tuple[list[Any], dict[str, torch.Tensor]]:
    """Return loss and gradient norm of the first steps, and the weights after them."""
    folder.mkdir()
    prepared = open_prepared(data, backbone, folder, **settings)
    opened = open_training(prepared, folder, Silent())
    trainer = build_trainer(prepared, opened, folder, Silent())
    opened.engine.train()
    figures = []
    for step, rows in trainer.remaining_steps(CheckpointState(step=0, plan="")):
        figures += trainer.take_step(step, rows, first=step == 1)
        if step == STEPS:
            break
    return figures, {name: p.detach() for name, p in opened.engine.named_parameters() if p.requires_grad}


def assert_same_training(data: Path, backbone: Path, place: Path, **settings: Any) -> None:
    expected, weights = take_steps(data, backbone, place / "unpacked", packing=False, **settings)
    found, packed = take_steps(data, backbone, place / "packed", packing=True, **settings)
    assert found == pytest.approx(expected, rel=1e-5)
    assert weights.keys() == packed.keys() and weights
    for name, weight in weights.items():
        assert float((weight - packed[name])[~ignored(name, weight)].abs().max()) <= 1e-5, name


def ignored(name: str, weight: torch.Tensor) -> torch.Tensor:
    """Return where a weight is a bias of keys: softmax ignores it, so that its gradient is but rounding."""
    mask = torch.zeros_like(weight, dtype=torch.bool)
    if name.endswith("k_proj.bias"):
        mask[1:] = True
    elif name.endswith("c_attn.bias"):
        mask[len(mask) // 3 : 2 * len(mask) // 3] = True
    return mask


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The segments of every batch that was packed."""
    found: list[Any] = []
    original = reference.build_block_mask

    def build(segments: Any, window: int | None = None) -> Any:
        found.append(segments)
        return original(segments, window)

    monkeypatch.setattr(reference, "build_block_mask", build)
    return found


# ---- packed equals unpacked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "method"), CELLS)
def test_packed_training_equals_unpacked(
    family: str, method: str, causal: Callable[[str], Path], data: Path, tmp_path: Path, seen: list[Any]
) -> None:
    assert_same_training(data, causal(family), tmp_path, method=method)
    assert len(seen) >= STEPS and all((segments > 1).any() for segments in seen)


def test_packed_micro_batches_equal_the_whole_step(
    causal: Callable[[str], Path], data: Path, tmp_path: Path, seen: list[Any]
) -> None:
    assert_same_training(data, causal("llama"), tmp_path, micro_batch_size=5)
    assert len(seen) > STEPS


@pytest.mark.parametrize("row_length", [64, 512])
def test_either_form_of_attention_takes_the_mask(
    row_length: int,
    causal: Callable[[str], Path],
    data: Path,
    tmp_path: Path,
    seen: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Plain attention adds a mask to the scores, fused attention takes one of bools."""
    monkeypatch.setattr(generation, "plan_tightly", lambda lengths: plan_packing(lengths, row_length))
    assert_same_training(data, causal("qwen3"), tmp_path)
    widths = {segments.shape[1] for segments in seen}
    assert max(widths) <= 64 if row_length == 64 else max(widths) > 192


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text"])
def test_packed_equals_unpacked_in_bf16_but_for_rounding(
    family: str, causal: Callable[[str], Path], data: Path, tmp_path: Path, seen: list[Any]
) -> None:
    expected, _ = take_steps(data, causal(family), tmp_path / "unpacked", packing=False, precision="bf16")
    found, _ = take_steps(data, causal(family), tmp_path / "packed", packing=True, precision="bf16")
    assert found == pytest.approx(expected, rel=0.02) and seen


def see_all(segments: Any, window: int | None = None) -> Any:
    tokens = np.arange(segments.shape[1])
    return np.broadcast_to(tokens[:, None] >= tokens, (len(segments), 1, len(tokens), len(tokens))).copy()


def count_on(*arguments: Any, **named: Any) -> PackedRows:
    packed = pack_rows(*arguments, **named)
    packed.position_ids[:] = np.arange(packed.position_ids.shape[1]) % 64  # the model has no more
    return packed


@pytest.mark.parametrize(
    ("family", "broken", "by"),
    [
        ("llama", "textune.engine.reference.build_block_mask", see_all),
        ("gpt2", "textune.engine.reference.build_block_mask", see_all),
        ("gpt2", "textune.tasks.generation.pack_rows", count_on),
    ],
)
def test_without_the_mask_or_the_positions_it_would_differ(
    family: str,
    broken: str,
    by: Any,
    causal: Callable[[str], Path],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broken, by)
    with pytest.raises(AssertionError):
        assert_same_training(data, causal(family), tmp_path)


def test_resumed_equals_uninterrupted_when_packed(
    causal: Callable[[str], Path], data: Path, tmp_path: Path, seen: list[Any]
) -> None:
    settings = SETTINGS | {"packing": True}
    whole = train_tiny(data, causal("llama"), tmp_path / "whole", **settings)
    with pytest.raises(RunInterrupted):
        train_tiny(data, causal("llama"), tmp_path / "run", StopAt(2), **settings)
    before = len(seen)
    resume(tmp_path / "run", progress=Silent())
    assert len(seen) > before, "the resumed run packs, too"
    assert hash_weights(tmp_path / "run") == hash_weights(whole.folder)


# ---- the rule, and what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [None, True, False])
def test_unequal_rows_are_packed_unless_that_is_set_otherwise(
    asked: bool | None, causal: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    progress = StopAt()
    prepared = open_prepared(data, causal("llama"), tmp_path, progress, packing=asked)
    assert prepared.config.writing.packing is (asked is not False)
    assert prepared.config.to_dict()["packing"] is (asked is not False), "it is stored with the run"
    said = [line for line in progress.said if line.startswith("packing: ")]
    assert len(said) == (asked is not False)
    if said:
        assert said[0].startswith(f"packing: true ({len(prepared.train)} rows become ") and "fewer tokens" in said[0]


def test_equal_rows_are_not_packed_by_rule(causal: Callable[[str], Path], tmp_path: Path) -> None:
    progress = StopAt()
    prepared = open_prepared(write_prompts(tmp_path / "equal.jsonl"), causal("llama"), tmp_path, progress)
    assert prepared.config.writing.packing is False
    assert any(line.startswith("packing: false (") for line in progress.said)


@pytest.mark.parametrize("family", OTHER_POSITIONS)
def test_other_positions_take_the_unpacked_path(
    family: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, family, OTHER_POSITIONS[family])
    backbone = build_causal(tmp_path / family, family)
    assert open_prepared(data, backbone, tmp_path, method="full").config.writing.packing is False
    with pytest.raises(ModelError, match=f"packing=true: {family} models are not known to keep"):
        open_prepared(data, backbone, tmp_path, method="full", packing=True)


def test_classifiers_refuse_packing(backbones: Backbones, reviews: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="packing=: only applies to a task that writes answers"):
        prepare(build_config(settings_for(reviews, backbones["bert"], tmp_path, packing=True)), Silent())
