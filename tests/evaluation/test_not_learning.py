"""A run that does not learn is told so, with the likely cause; one that learns is left alone."""

from __future__ import annotations

import math

import pytest

from textune.evaluation import explain_not_learning

BALANCED = [50, 50]
CHANCE = math.log(2)
FLAT = [CHANCE + 0.01 * (-1) ** i for i in range(60)]
FALLING = [CHANCE * math.exp(-i / 40) for i in range(60)]


@pytest.mark.parametrize(
    ("predicted", "targets", "losses"),
    [
        ([48, 52], BALANCED, FALLING),
        ([48, 52], BALANCED, FLAT[:10]),  # too early to say anything of answers that vary
        ([100, 0], BALANCED, FALLING),  # one answer still, but the loss is on its way down
        ([100, 0], [100, 0], FLAT),  # there is only one class to answer
        ([0, 0], [0, 0], []),
        ([5, 0], [3, 2], []),  # five rows show nothing
    ],
)
def test_a_run_that_learns_is_left_alone(predicted, targets, losses):
    assert explain_not_learning(predicted, targets, losses, 1e-4) is None


def explain(predicted=(100, 0), targets=BALANCED, losses=FLAT, learning_rate=1e-5, **known) -> str:
    sentence = explain_not_learning(predicted, targets, losses, learning_rate, **known)
    assert sentence is not None and sentence.endswith(".") and "\n" not in sentence
    return sentence


def test_the_majority_class_and_the_flat_loss_are_told():
    sentence = explain()
    assert "same class for 100% of the validation rows" in sentence
    assert "no better than the 0.693" in sentence
    assert "too low" in sentence and "learning_rate=5e-5" in sentence


def test_a_flat_loss_alone_is_told():
    assert "same class" not in explain(predicted=(40, 60))


def test_a_loss_that_rose_blames_a_high_rate():
    spiked = [CHANCE] * 10 + [2.5] * 10 + [CHANCE] * 40
    assert "too high: try learning_rate=2e-3" in explain(losses=spiked, learning_rate=1e-2)
    assert "too high" in explain(losses=[CHANCE + i / 40 for i in range(60)], learning_rate=1e-2)
    assert "too high" not in explain(losses=[*FLAT, 3.0, *FLAT])  # one unlucky batch
    assert "not a finite number" in explain(losses=[math.nan] * 3)


def test_few_steps_a_frozen_head_and_a_frozen_backbone_are_causes():
    assert "after 8 steps" in explain(losses=FLAT[:8])
    assert "only the head is trained" in explain(trainable_layers=0)


def test_nearly_all_is_measured_against_the_class_shares():
    skewed = [970, 30]
    loss = -(0.97 * math.log(0.97) + 0.03 * math.log(0.03))
    assert "99.8%" in explain(predicted=(998, 2), targets=skewed, losses=[loss] * 5)
    assert explain_not_learning([970, 30], skewed, [loss] * 5, 1e-4) is None
