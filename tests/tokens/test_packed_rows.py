"""Packed equals unpacked: the same logits and gradients, for any lengths and every kind of decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.tokens.packed_rows import (
    IGNORED,
    PackedRows,
    build_block_mask,
    count_padded,
    pack_rows,
    plan_packing,
    plan_tightly,
)
from tiny import FAMILIES

CAUSAL = ("llama", "qwen2", "gemma", "qwen3", "gemma2", "gemma3_text", "gpt2")
LENGTHS = (9, 23, 1, 4, 16, 7, 2)
WINDOW = 6
LARGEST_ERROR = 1e-5
"""Of the largest logit or gradient."""


def build_model(family: str, attention: str) -> Any:
    torch.manual_seed(0)
    settings = FAMILIES[family] | ({"sliding_window": WINDOW} if family in ("gemma2", "gemma3_text") else {})
    config = transformers.AutoConfig.for_model(family, **settings)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def make_examples(lengths: tuple[int, ...], seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Return ids and labels: the first half of an example is its prompt."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(5, 199, length) for length in lengths]
    labels = [np.where(np.arange(len(row)) < len(row) // 2, IGNORED, row) for row in ids]
    return ids, labels


def sum_losses(logits: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
    targets = torch.from_numpy(labels)[:, 1:].reshape(-1)
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), targets, ignore_index=IGNORED, reduction="sum"
    )


def run_unpacked(model: Any, ids: list[Any], labels: list[Any]) -> tuple[list[torch.Tensor], list[torch.Tensor], float]:
    model.zero_grad()
    logits, total = [], 0.0
    for row, targets in zip(ids, labels, strict=True):
        out = model(input_ids=torch.from_numpy(row)[None], use_cache=False).logits
        loss = sum_losses(out, targets[None])
        loss.backward()
        total += loss.item()
        logits.append(out[0].detach())
    return logits, [p.grad.clone() for p in model.parameters() if p.grad is not None], total


def mask_for(model: Any, packed: PackedRows) -> Any:
    def build(window: int | None) -> torch.Tensor:
        mask = torch.from_numpy(build_block_mask(packed.segments, window))
        if model.config._attn_implementation == "sdpa":
            return mask
        return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)

    if "sliding_attention" not in (getattr(model.config, "layer_types", None) or ()):
        return build(None)
    return {"full_attention": build(None), "sliding_attention": build(WINDOW)}


def run_packed(model: Any, packed: PackedRows) -> tuple[list[torch.Tensor], list[torch.Tensor], float]:
    model.zero_grad()
    out = model(
        input_ids=torch.from_numpy(packed.input_ids), position_ids=torch.from_numpy(packed.position_ids),
        attention_mask=mask_for(model, packed), use_cache=False,
    ).logits  # fmt: skip
    loss = sum_losses(out, packed.labels)
    loss.backward()
    logits: list[torch.Tensor] = [torch.empty(0)] * len(packed.examples)
    for example, row, start in zip(packed.examples, packed.rows, packed.starts, strict=True):
        length = int((packed.segments[row] == packed.segments[row, start]).sum())
        logits[example] = out[row, start : start + length].detach()
    return logits, [p.grad.clone() for p in model.parameters() if p.grad is not None], loss.item()


def assert_equal(model: Any, lengths: tuple[int, ...], row_length: int, seed: int = 0) -> PackedRows:
    ids, labels = make_examples(lengths, seed)
    packed = pack_rows(ids, labels, plan_packing(lengths, row_length), pad_token_id=1)
    expected_logits, expected_grads, expected_loss = run_unpacked(model, ids, labels)
    logits, grads, loss = run_packed(model, packed)
    largest = max(float(e.abs().max()) for e in expected_logits)
    for found, expected in zip(logits, expected_logits, strict=True):
        assert float((found - expected).abs().max()) <= LARGEST_ERROR * largest
    assert loss == pytest.approx(expected_loss, rel=1e-5, abs=1e-6)
    largest = max(float(e.abs().max()) for e in expected_grads)
    for found, expected in zip(grads, expected_grads, strict=True):
        assert float((found - expected).abs().max()) <= LARGEST_ERROR * largest + 1e-9
    return packed


@pytest.mark.parametrize(
    ("family", "attention"),
    [(f, a) for f in CAUSAL for a in ("sdpa", "eager") if (f, a) != ("gemma2", "sdpa")],  # transformers refuses it
)
def test_packed_equals_unpacked_on_every_decoder(family: str, attention: str) -> None:
    packed = assert_equal(build_model(family, attention), LENGTHS, 32)
    assert len(packed.input_ids) < len(LENGTHS) and (packed.segments > 1).any()


@pytest.fixture(scope="module")
def llama() -> Any:
    return build_model("llama", "sdpa")


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8).map(tuple), st.integers(20, 64), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_packed_equals_unpacked_for_any_lengths(llama: Any, lengths: tuple[int, ...], longest: int, seed: int) -> None:
    assert_equal(llama, lengths, longest, seed)


def test_without_the_mask_or_the_positions_it_would_differ(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof can fail."""
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "mask_for", lambda model, packed: torch.from_numpy((packed.segments > 0).astype(int)))
        with pytest.raises(AssertionError):
            assert_equal(llama, LENGTHS, 32)
    ids, labels = make_examples(LENGTHS)
    packed = pack_rows(ids, labels, plan_packing(LENGTHS, 32), 1)
    first = packed.labels[packed.rows, packed.starts]
    assert (first == IGNORED).all(), "nothing predicts the first token of an example"
    whole = pack_rows(ids, ids, plan_packing(LENGTHS, 32), 1)
    assert (whole.labels[whole.rows, whole.starts] == IGNORED).all()


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(40, 100))
@settings(max_examples=200, deadline=None)
def test_plans_hold_every_example_once_and_waste_little(lengths: list[int], row_length: int) -> None:
    plan = plan_packing(lengths, row_length)
    assert sorted(i for row in plan for i in row.tolist()) == list(range(len(lengths)))
    totals = sorted(sum(lengths[i] for i in row) for row in plan)
    assert all(total <= row_length for total in totals)
    assert len(totals) < 2 or totals[0] + totals[1] > row_length, "two rows would fit in one"


def test_an_example_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="41 tokens, a row at most 40"):
        plan_packing([3, 41], 40)
    assert plan_packing([], 40) == []


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=3), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_masks_equal_their_definition(rows: list[list[int]], window: int) -> None:
    longest = max(map(sum, rows))
    segments = np.zeros((len(rows), longest), np.int64)
    for row, sizes in enumerate(rows):
        filled = np.repeat(np.arange(1, len(sizes) + 1), sizes)
        segments[row, : len(filled)] = filled
    mask, near = build_block_mask(segments), build_block_mask(segments, window)
    for row in range(len(rows)):
        for query in range(longest):
            for key in range(longest):
                own = segments[row, query] == segments[row, key] > 0 and key <= query
                assert mask[row, 0, query, key] == (own or query == key)
                assert near[row, 0, query, key] == ((own and query - key < window) or query == key)


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(1, 120))
@settings(max_examples=150, deadline=None)
def test_tight_plans_never_have_more_tokens_than_padded_rows(lengths: list[int], row_length: int) -> None:
    sizes = np.array(lengths, np.int64)
    plan = plan_tightly(sizes, row_length)
    assert sorted(i for row in plan for i in row.tolist()) == list(range(len(lengths)))
    longest = max(lengths, default=0)
    assert all(sizes[row].sum() <= max(longest, row_length) for row in plan)
    assert sum(lengths) <= count_padded(sizes, plan) <= longest * len(lengths)
    if sum(lengths) <= row_length:
        assert count_padded(sizes, plan) == sum(lengths), "one row without any padding, or rows of equal length"
