"""Integrated gradients: exact on a linear model, complete on every method and family, special tokens left alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cells import CELLS, Case
from textune.backbones.families import families
from textune.explain.attribution import FIRST_STEPS, Attributor, Window
from textune.methods import methods
from textune.tasks import build_task
from textune.tokens.batches import Batch

MASK = 0
SINGLE, SEVERAL = build_task("single_label"), build_task("multi_label")


class BagOfWords(torch.nn.Module):
    """Sums embeddings, and is linear above them: attributions are known exactly. power: of the sum; 1: linear."""

    def __init__(self, power: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.power = power
        self.table = torch.nn.Embedding(20, 5, _weight=torch.randn(20, 5, generator=generator))
        self.head = torch.nn.Parameter(torch.randn(5, 3, generator=generator))
        self.model = SimpleNamespace(get_input_embeddings=lambda: self.table)
        self.device = torch.device("cpu")
        self.rows: list[int] = []

    def logits(self, ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return self(Batch(np.asarray([ids]), np.ones((1, len(ids))), None, np.arange(1)))

    def forward(self, batch: Batch) -> torch.Tensor:
        self.rows.append(len(batch.input_ids))
        return (self.table(torch.from_numpy(batch.input_ids)).sum(1) @ self.head) ** self.power


def window(ids: list[int], special: tuple[int, ...] = ()) -> Window:
    array = np.asarray(ids, np.int64)
    return Window(array, None, ~np.isin(np.arange(len(ids)), special))


def expected(model: BagOfWords, ids: list[int], label: int) -> np.ndarray[Any, Any]:
    difference = model.table.weight[ids] - model.table.weight[MASK]
    return (difference @ model.head[:, label]).detach().numpy()


@given(st.lists(st.lists(st.integers(1, 19), min_size=1, max_size=6), min_size=1, max_size=3), st.integers(0, 2))
@settings(max_examples=15, deadline=None)
def test_a_linear_model_has_exact_attributions_over_all_windows(texts: list[list[int]], label: int) -> None:
    model = BagOfWords()
    found = Attributor(model, SEVERAL.log_odds, MASK).attribute([window(ids) for ids in texts], label)
    for ids, scores in zip(texts, found.scores, strict=True):
        np.testing.assert_allclose(scores, expected(model, ids, label) / len(texts), atol=1e-5)
    assert found.complete and found.steps == FIRST_STEPS and found.gap < 1e-4


def test_special_tokens_stay_and_have_no_score() -> None:
    model = BagOfWords()
    found = Attributor(model, SEVERAL.log_odds, MASK).attribute([window([7, 3, 4, 8], special=(0, 3))], 1)
    assert found.scores[0][[0, 3]].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(found.scores[0][1:3], expected(model, [3, 4], 1), atol=1e-5)


def test_with_one_label_the_log_odds_are_those_of_the_softmax() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0]])
    shares = logits.softmax(1)
    for label in range(3):
        odds = torch.log(shares[0, label] / (1 - shares[0, label]))
        assert float(SINGLE.log_odds(logits, label)) == pytest.approx(float(odds), abs=1e-6)
        assert float(SEVERAL.log_odds(logits, label)) == float(logits[0, label])


def test_steps_are_raised_until_the_sum_is_complete_or_the_limit_is_reached() -> None:
    steep = BagOfWords()

    ids = [3, 4, 5]
    end, start = (float(steep.logits(row)[0, 0]) for row in (ids, [MASK] * 3))

    def step(logits: torch.Tensor, label: int) -> torch.Tensor:
        return 10 * torch.sigmoid(60 * ((logits[:, label] - start) / (end - start) - 0.37))

    patient = Attributor(steep, step, MASK).attribute([window(ids)], 0)
    hasty = Attributor(steep, step, MASK, most_steps=FIRST_STEPS).attribute([window(ids)], 0)
    assert patient.steps > FIRST_STEPS and hasty.steps == FIRST_STEPS
    assert not hasty.complete and hasty.gap > patient.gap


def test_an_empty_mask_is_replaced_by_the_mean_word() -> None:
    """A zero vector has no direction, so that a norm above the embeddings would jump there."""
    model = BagOfWords()
    with torch.no_grad():
        model.table.weight[MASK] = 0.0
    found = Attributor(model, SEVERAL.log_odds, MASK).attribute([window([3, 4])], 1)
    mean = model.table.weight.mean(0)
    by_hand = ((model.table.weight[[3, 4]] - mean) @ model.head[:, 1]).detach().numpy()
    np.testing.assert_allclose(found.scores[0], by_hand, atol=1e-5)


def test_passes_are_bounded_and_their_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = BagOfWords(power=3)
    whole = Attributor(model, SEVERAL.log_odds, MASK).attribute([window([3, 4, 5])], 2)
    monkeypatch.setattr("textune.explain.attribution._TOKENS_PER_PASS", 7)
    model.rows.clear()
    parts = Attributor(model, SEVERAL.log_odds, MASK).attribute([window([3, 4, 5])], 2)
    assert max(model.rows) == 2
    np.testing.assert_allclose(parts.scores[0], whole.scores[0], rtol=1e-5, atol=1e-6)
    assert parts.complete


def is_sampled(row: str, family: str) -> bool:
    """Every method on one encoder and one decoder that reads the last token, and every family with one method."""
    return (row in methods.names() and family == "bert") or row == "lora" or (row, family) in {
        ("prompt", "llama"), ("p_tuning", "gpt2"), ("prefix", "qwen2"), ("prefix", "modernbert"), ("qlora", "llama"),
        ("adapter", "gemma3_text"),
    }  # fmt: skip


SAMPLED = [cell for cell in CELLS if is_sampled(*cell.values)]


def test_the_sample_has_every_method_and_family() -> None:
    assert {cell.values[0] for cell in SAMPLED} == set(methods.names())
    assert {cell.values[1] for cell in SAMPLED} == set(families.names())


@pytest.mark.parametrize(("row", "family"), SAMPLED)
def test_every_method_and_family_is_complete(row: str, family: str, backbones: dict[str, Path]) -> None:
    case = Case(row, backbones[family])
    case.model.eval().requires_grad_(False)
    tokens = case.split.tokens.take(np.asarray([3]))
    ids = tokens.ids.astype(np.int64)
    words = np.ones(len(ids), bool)
    words[0] = False  # kept like a special token
    types = np.zeros_like(ids) if case.backbone.padding.token_types else None
    attributor = Attributor(case.engine, SINGLE.log_odds, case.backbone.pad_token_id)
    before = case.logits()
    found = attributor.attribute([Window(ids, types, words)], 1)
    np.testing.assert_array_equal(case.logits(), before)  # nothing is left behind in the model
    logits = case.engine(
        Batch(ids[None], np.ones_like(ids)[None], None if types is None else types[None], np.arange(1))
    )
    assert found.log_odds == pytest.approx(float(SINGLE.log_odds(logits, 1)), abs=1e-5)
    assert found.complete, f"{found.gap} after {found.steps} steps"
    assert found.scores[0][0] == 0 and (found.scores[0][1:] != 0).all()
