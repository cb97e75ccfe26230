"""Losses as sums over rows, class weights, scores, and what a run that does not learn is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from textune.config import TrainingConfig, build_config
from textune.config.class_weights import HEAVIEST_POSITIVE, weigh_classes
from textune.errors import ConfigError
from textune.evaluation import explain_not_learning, explain_not_learning_labels
from textune.tasks import Objective, TrainingSoFar, build_task
from textune.training.head import set_starting_bias


def build_objective(task: str, config: TrainingConfig, weights: np.ndarray | None = None) -> Objective:
    return build_task(task).build_objective(config, weights)


LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0], [1.0, 1.0, 1.0], [-4.0, 0.0, 4.0]])
MARKS = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
CODES = torch.tensor([0, 1, 2, 2])


@pytest.mark.parametrize(("task", "targets"), [("single_label", CODES), ("multi_label", MARKS)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_loss_is_a_sum_over_rows(task: str, targets: torch.Tensor, smoothing: float, weighted: bool) -> None:
    weights = weigh_classes("balanced", [2, 1, 1], 4, "abc", "abc", multi_label=task == "multi_label")
    objective = build_objective(task, TrainingConfig(label_smoothing=smoothing), weights if weighted else None)
    whole = objective.loss(LOGITS, targets)
    rows = sum(objective.loss(LOGITS[i : i + 1], targets[i : i + 1]) for i in range(4))
    torch.testing.assert_close(whole, rows)


def test_the_losses_are_torchs() -> None:
    functional = torch.nn.functional
    single = build_objective("single_label", TrainingConfig(label_smoothing=0.1))
    torch.testing.assert_close(
        single.loss(LOGITS, CODES), functional.cross_entropy(LOGITS, CODES, reduction="sum", label_smoothing=0.1)
    )
    several = build_objective("multi_label", TrainingConfig())
    torch.testing.assert_close(
        several.loss(LOGITS, MARKS),
        functional.binary_cross_entropy_with_logits(LOGITS, MARKS, reduction="none").mean(1).sum(),
    )
    smooth = build_objective("multi_label", TrainingConfig(label_smoothing=0.2))
    torch.testing.assert_close(
        smooth.loss(LOGITS, MARKS),
        functional.binary_cross_entropy_with_logits(LOGITS, MARKS * 0.8 + 0.1, reduction="none").mean(1).sum(),
    )


def test_a_class_of_twice_the_weight_is_a_row_taken_twice() -> None:
    weighted = build_objective("single_label", TrainingConfig(), np.array([1.0, 1.0, 2.0], np.float32))
    plain = build_objective("single_label", TrainingConfig())
    torch.testing.assert_close(
        weighted.loss(LOGITS, CODES), plain.loss(LOGITS[[0, 1, 2, 2, 3, 3]], CODES[[0, 1, 2, 2, 2, 2]])
    )


def test_scores_are_those_of_the_validation_rows_without_weights() -> None:
    single = build_objective("single_label", TrainingConfig(label_smoothing=0.3), np.array([9.0, 1, 1], np.float32))
    scores, answers = single.score(LOGITS.numpy(), np.array([0, 1, 2, -1]))
    assert answers.tolist() == [0, 1, 0, 2] and scores["accuracy"] == scores["micro_f1"] == 0.5
    expected = torch.nn.functional.cross_entropy(LOGITS[:3], torch.tensor([0, 1, 2]))
    assert scores["loss"] == pytest.approx(float(expected), rel=1e-5)
    several = build_objective("multi_label", TrainingConfig(label_smoothing=0.3), np.full((3, 2), 7.0, np.float32))
    scores, answers = several.score(LOGITS.numpy() - 3, MARKS.numpy())
    expected = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS - 3, MARKS)
    assert scores["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert scores["micro_f1"] > 0.6 and answers.sum() > 1, "F1 is at the threshold that suits the rows, not at one half"


@pytest.mark.parametrize("counts", [[30, 10], [5, 500, 95]])
def test_balanced_weights_make_classes_count_alike(counts: list[int]) -> None:
    names = [f"c{i}" for i in range(len(counts))]
    weights = weigh_classes("balanced", counts, sum(counts), names, names, multi_label=False)
    assert weights * counts == pytest.approx(np.full(len(counts), sum(counts) / len(counts)))


def test_only_the_ratios_of_weights_matter() -> None:
    for setting in ("ham=1,spam=4", {"ham": 2, "spam": 8}, [["ham", 0.5], ["spam", 2]], "1,4", [3, 12]):
        parsed = build_config({"class_weights": setting}).training.class_weights
        weights = weigh_classes(parsed, [90, 10], 100, ("0", "1"), ("ham", "spam"), multi_label=False)
        assert weights[1] / weights[0] == pytest.approx(4)
        assert (weights * [0.9, 0.1]).sum() == pytest.approx(1), "the mean over the training rows is 1"
    by_value = weigh_classes((("0", 1.0), ("1", 4.0)), [90, 10], 100, ("0", "1"), ("ham", "spam"), multi_label=False)
    assert by_value == pytest.approx(weights)


def test_positive_weights_are_bounded_and_have_a_mean_of_one() -> None:
    weights = weigh_classes("balanced", [50, 20, 1], 100, "abc", "abc", multi_label=True)
    assert weights[:, 1] / weights[:, 0] == pytest.approx([1, 4, HEAVIEST_POSITIVE])
    present = np.array([0.5, 0.2, 0.01])
    assert (present * weights[:, 1] + (1 - present) * weights[:, 0]).mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("ham=1,spma=4", "unknown class 'spma'; did you mean 'spam'"),
        ("ham=1", "no weight for 'spam'"),
        ("1,2,3", "3 weights for 2 classes"),
        ("ham=1,spam=-4", "-4 must be above 0"),
        ("ham=1,spam=0", "0 must be above 0"),
        ("ham=1,spam=much", "'much' is not a weight"),
        ("ham=1,ham=2", "appears twice"),
        ("ham=nan,spam=1", "finite"),
        ("balance", "'balance' is not a weight"),
    ],
)
def test_wrong_weights_are_refused(setting: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed = build_config({"class_weights": setting}).training.class_weights
        weigh_classes(parsed, [90, 10], 100, ("ham", "spam"), ("ham", "spam"), multi_label=False)
    assert told in str(caught.value), caught.value


def test_a_class_without_rows_cannot_be_balanced() -> None:
    for several in (False, True):
        with pytest.raises(ConfigError, match="class 'spam' has no training row"):
            weigh_classes("balanced", [90, 0], 90, ("ham", "spam"), ("ham", "spam"), multi_label=several)
    assert weigh_classes(None, [90, 0], 90, ("ham", "spam"), ("ham", "spam"), multi_label=False) is None


def test_weights_move_the_yardstick_of_learning() -> None:
    """Balanced over two classes the loss of a model that knows nothing is ln 2, however rare one of them is."""
    counts, answers, losses = [900, 100], [800, 200], [0.69] * 60
    assert explain_not_learning(answers, counts, losses, 1e-3) is not None
    told = explain_not_learning(answers, counts, losses, 1e-3, class_weights=[1000 / 1800, 5.0])
    assert told is not None and "0.693" in told
    assert explain_not_learning(answers, counts, [0.6] * 60, 1e-3, class_weights=[1000 / 1800, 5.0]) is None


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 0.4])
@pytest.mark.parametrize("weighted", [False, True])
def test_right_answers_at_the_floor_of_a_smoothed_loss_are_learning(smoothing: float, weighted: bool) -> None:
    targets = np.repeat([0, 1, 2], [96, 2, 2])  # so skewed that accuracy alone proves nothing
    weights = np.array([0.5, 3, 3], np.float32) if weighted else None
    objective = build_objective("single_label", TrainingConfig(label_smoothing=smoothing), weights)
    likely = np.eye(3)[targets] * (1 - smoothing) + smoothing / 3
    floor = float(objective.loss(torch.tensor(np.log(likely + 1e-9)), torch.tensor(targets))) / 100
    assert objective.explain(TrainingSoFar(targets, targets, targets, [floor] * 60, 1e-4)) is None
    shares = np.bincount(targets) * (1 if weights is None else weights)
    constant = np.log((1 - smoothing) * shares / shares.sum() + smoothing / 3)
    chance = float(objective.loss(torch.tensor(np.tile(constant, (100, 1))), torch.tensor(targets))) / 100
    told = objective.explain(TrainingSoFar(np.zeros_like(targets), targets, targets, [chance] * 60, 1e-4))
    assert told is not None and f"no better than the {chance:.3f}" in told


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 0.4])
@pytest.mark.parametrize("weighted", [False, True])
def test_right_labels_at_the_floor_of_a_smoothed_loss_are_learning(smoothing: float, weighted: bool) -> None:
    targets = np.zeros((100, 3), np.float32)
    targets[:, 0], targets[:4, 1], targets[50:53, 2] = 1, 1, 1  # giving every row the first label is nearly right
    weights = np.array([[1, 1], [0.8, 4], [0.9, 5]], np.float32) if weighted else None
    objective = build_objective("multi_label", TrainingConfig(label_smoothing=smoothing), weights)

    def loss_of(likely: np.ndarray) -> float:
        odds = torch.tensor(np.log(likely / (1 - likely)), dtype=torch.float32)
        return float(objective.loss(odds.expand(100, 3), torch.tensor(targets))) / 100

    floor = loss_of(np.clip(targets * (1 - smoothing) + smoothing / 2, 1e-9, 1 - 1e-6))
    assert objective.explain(TrainingSoFar(targets > 0, targets, targets, [floor] * 60, 1e-4)) is None
    present = targets.mean(0) * (1 if weights is None else weights[:, 1])
    absent = (1 - targets.mean(0)) * (1 if weights is None else weights[:, 0])
    share = (1 - smoothing) * present / (present + absent) + smoothing / 2
    chance = loss_of(np.clip(share, 1e-9, 1 - 1e-6))
    always = np.tile([True, False, False], (100, 1))
    told = objective.explain(TrainingSoFar(always, targets, targets, [chance] * 60, 1e-4))
    assert told is not None and f"no better than the {chance:.3f}" in told


def test_a_run_that_gives_no_label_at_all_is_told() -> None:
    rng = np.random.default_rng(0)
    marks = (rng.random((200, 5)) < 0.1).astype(np.float32)
    nothing, something = np.zeros((200, 5), bool), marks > 0
    chance = 0.325  # the mean binary entropy of labels in a tenth of the rows
    told = explain_not_learning_labels(nothing, marks, [0.33] * 10, 1e-3)
    assert told is not None and "predicts no labels" in told and f"{0.33:.3f}" in told
    always = np.tile([True, False, False, False, False], (200, 1))
    assert "the same labels" in (explain_not_learning_labels(always, marks, [0.33] * 10, 1e-3) or "")
    assert explain_not_learning_labels(nothing, marks, [0.6 * chance] * 60, 1e-3) is None, "it learns; 0.5 is too high"
    assert explain_not_learning_labels(something, marks, [0.33] * 10, 1e-3) is None, "too early to tell"
    assert "likely too low" in (explain_not_learning_labels(something, marks, [0.33] * 60, 1e-3) or "")
    assert "not a finite number" in (explain_not_learning_labels(something, marks, [float("nan")], 1e-3) or "")


def test_a_head_starts_at_the_labels_shares() -> None:
    targets = np.zeros((100, 3), np.float32)
    targets[:20, 0], targets[:, 2] = 1, 1
    several = build_objective("multi_label", TrainingConfig())
    head = torch.nn.Sequential()
    head.dense, head.classifier = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    kept = head.dense.bias.clone()
    set_starting_bias(head, ("classifier", "dense"), several.starting_bias(targets))
    assert torch.equal(head.dense.bias, kept)
    assert torch.sigmoid(head.classifier.bias).tolist() == pytest.approx([0.2, 0.005, 0.995], abs=1e-6)
    set_starting_bias(head, (), np.zeros(3, np.float32))
    assert head.classifier.bias.abs().sum() > 0, "a head of the checkpoint's own is left alone"
    assert build_objective("single_label", TrainingConfig()).starting_bias(np.array([0, 1])) is None
    weights = weigh_classes("balanced", [20, 50], 100, "ab", "ab", multi_label=True)
    balanced = build_objective("multi_label", TrainingConfig(), weights).starting_bias(
        np.repeat([[1.0, 1], [0, 1], [0, 0]], [20, 30, 50], axis=0)
    )
    assert balanced == pytest.approx([0, 0], abs=1e-6), "of balanced labels a head that knows nothing says one half"
