"""All labels in one pass equal each label by itself, on every kind of decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.engine import label_likelihood
from textune.engine.label_likelihood import LabelScorer
from textune.engine.precision import Precision
from tiny import FAMILIES

CAUSAL = ("llama", "qwen2", "gemma", "qwen3", "gemma2", "gemma3_text", "gpt2")
FP32 = Precision("fp32", "as set")
IDS = st.lists(st.integers(5, 198), min_size=1, max_size=12)
LABELS = [[7], [9, 11, 12], [7, 30], [100, 101, 102, 103]]
PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [20], [33, 34, 35, 36]]


def build_model(family: str) -> Any:
    torch.manual_seed(0)
    small = {"sliding_window": 4} if family in ("gemma2", "gemma3_text") else {}
    config = transformers.AutoConfig.for_model(family, **FAMILIES[family] | small)
    form = "eager" if family == "gemma2" else "sdpa"
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation=form).eval()


def score_plainly(model: Any, prompts: list[list[int]], labels: list[list[int]]) -> np.ndarray:
    """One pass for each prompt and label, without padding."""
    scores = np.zeros((len(prompts), len(labels)))
    for row, prompt in enumerate(prompts):
        for column, label in enumerate(labels):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + label]), use_cache=False).logits[0].log_softmax(-1)
            found = [logits[len(prompt) - 1 + i, token].item() for i, token in enumerate(label)]
            scores[row, column] = np.mean(found)
    return scores


@pytest.mark.parametrize("family", CAUSAL)
def test_one_pass_equals_the_plain_computation(family: str) -> None:
    model = build_model(family)
    expected = score_plainly(model, PROMPTS, LABELS)
    found = LabelScorer(model, LABELS, FP32, 1).score(PROMPTS)
    assert np.abs(found - expected).max() < 1e-5
    assert len(np.unique(expected.argmax(1))) > 1 or len(np.unique(expected.round(3))) > 6, "the test can tell"


@pytest.fixture(scope="module")
def llama() -> Any:
    return build_model("llama")


@given(st.lists(IDS, min_size=1, max_size=5), st.lists(IDS, min_size=2, max_size=5))
@settings(max_examples=25, deadline=None)
def test_it_does_for_any_prompts_and_labels(llama: Any, prompts: list[list[int]], labels: list[list[int]]) -> None:
    found = LabelScorer(llama, labels, FP32, 1).score(prompts)
    assert np.abs(found - score_plainly(llama, prompts, labels)).max() < 1e-5


@pytest.mark.parametrize("bound", ["_MOST_LABEL_TOKENS", "_MOST_TOKENS", "_MOST_LOGITS"])
def test_bounds_split_the_work_and_change_nothing(llama: Any, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    expected = LabelScorer(llama, LABELS, FP32, 1).score(PROMPTS)
    monkeypatch.setattr(label_likelihood, bound, 3)
    passes = []
    score = LabelScorer._score
    monkeypatch.setattr(LabelScorer, "_score", lambda self, *a: passes.append(a) or score(self, *a))
    assert np.abs(LabelScorer(llama, LABELS, FP32, 1).score(PROMPTS) - expected).max() < 1e-5
    assert len(passes) >= 3


def test_a_prompt_is_computed_once_for_all_labels(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    llama.model.register_forward_pre_hook(
        lambda m, args, kwargs: sizes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    LabelScorer(llama, LABELS, FP32, 1).score(PROMPTS)
    assert sizes == [(3, 11 + 10)]


def test_bf16_rounds_the_body_and_not_the_scores() -> None:
    model = build_model("llama")
    expected = score_plainly(model, PROMPTS, LABELS)
    found = LabelScorer(model, LABELS, Precision("bf16", "as set"), 1).score(PROMPTS)
    assert 0 < np.abs(found - expected).max() < 0.1
    assert len(np.unique(found)) == found.size, "bf16 logits would often be equal"
