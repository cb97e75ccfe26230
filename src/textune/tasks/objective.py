"""What training minimises and how validation rows are scored: one label per text, or any number of them.

A loss is the sum over rows of each row's loss; the training loop divides by the rows of the whole optimizer step.
Validation losses are plain ones, without class weights and label smoothing: runs that differ in these can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from textune.config import TrainingConfig
from textune.evaluation import (
    best_constant_f1,
    explain_not_learning,
    explain_not_learning_labels,
    find_best_threshold,
    sigmoid,
)

Array = NDArray[Any]
_CLEARLY_BETTER = 0.1
"""A lead over the most frequent answer, in accuracy (micro F1 with several labels), that shows a model learning
whatever its loss says."""


class Objective(Protocol):
    """Loss and scores of one task. answers: what `score` found the model to say, for `explain`."""

    metric: str

    def starting_bias(self, train_targets: Array) -> Array | None:
        """Return the new head's first bias, float32 [classes], or None: as the library draws it."""

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the sum over rows of their losses. logits: [rows, classes]."""

    def score(self, logits: Array, targets: Array) -> tuple[dict[str, float], Array]:
        """Return loss, accuracy, macro_f1 and micro_f1 of validation rows, and the answers."""

    def describe(self, scores: Mapping[str, float]) -> str:
        """Return the scores in a few words."""

    def standard_error(self, scores: Mapping[str, float], targets: Array) -> float:
        """Return how far the metric may lie off by the luck of so few validation rows."""

    def explain(
        self,
        answers: Array,
        targets: Array,
        train_targets: Array,
        losses: Sequence[float],
        learning_rate: float,
        trainable_layers: int | None,
    ) -> str | None:
        """Return why the run does not learn, or None where it does."""


@dataclass
class CrossEntropy:
    """One label per text: cross entropy. targets: int64 [rows], -1 for a label that the model does not know.

    weights: float32 [classes], how much a row of each class counts. label_smoothing: the share of the target that is
    spread over all classes.
    """

    label_smoothing: float = 0.0
    weights: Array | None = None
    metric: str = "accuracy"

    def starting_bias(self, train_targets: Array) -> Array | None:
        """Return None: all classes start alike."""
        return None

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the sum of the rows' cross entropies, each times the weight of its class."""
        smoothing = self.label_smoothing
        if self.weights is None:
            return torch.nn.functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
        rows = torch.nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
        return (rows * torch.as_tensor(self.weights, device=logits.device)[targets]).sum()

    def score(self, logits: Array, targets: Array) -> tuple[dict[str, float], Array]:
        """Return plain scores, and the class numbers answered."""
        return score_logits(logits, targets), logits.argmax(1)

    def describe(self, scores: Mapping[str, float]) -> str:
        """Return accuracy and macro F1."""
        return f"accuracy {scores['accuracy']:.1%}, macro F1 {scores['macro_f1']:.3f}"

    def standard_error(self, scores: Mapping[str, float], targets: Array) -> float:
        """Return that of the accuracy."""
        return math.sqrt(scores["accuracy"] * (1 - scores["accuracy"]) / max(len(targets), 1))

    def explain(
        self,
        answers: Array,
        targets: Array,
        train_targets: Array,
        losses: Sequence[float],
        learning_rate: float,
        trainable_layers: int | None,
    ) -> str | None:
        """Compare the loss with always answering the class shares."""
        classes = int(max(targets.max(), answers.max(), train_targets.max())) + 1
        counts = np.bincount(targets[targets >= 0], minlength=classes)
        if (answers == targets).mean() > counts.max() / len(targets) + _CLEARLY_BETTER:
            return None
        given = np.bincount(answers, minlength=classes).tolist()
        weights = None if self.weights is None else self.weights.tolist()
        return explain_not_learning(
            given,
            counts.tolist(),
            losses,
            learning_rate,
            trainable_layers,
            class_weights=weights,
            label_smoothing=self.label_smoothing,
        )


@dataclass
class BinaryCrossEntropy:
    """Any number of labels per text: binary cross entropy, each row's the mean over labels.

    targets: float32 [rows, labels], 0 or 1. The mean keeps losses and gradients of the size they have with few labels.
    weights: float32 [labels, 2], how much a decision counts where the label is absent and present.
    label_smoothing s: targets become s/2 and 1 - s/2.
    """

    label_smoothing: float = 0.0
    weights: Array | None = None
    metric: str = "micro_f1"

    def starting_bias(self, train_targets: Array) -> Array | None:
        """Return the log-odds of the labels' shares of the training rows.

        A head that starts at one half for rare labels spends its first steps on learning that they are rare, and
        AdamW remembers those large gradients for a thousand steps (the start of Lin and others, 2017,
        https://arxiv.org/abs/1708.02002).
        """
        rows = len(train_targets)
        present = np.clip(train_targets.sum(axis=0), 0.5, rows - 0.5) / rows
        odds = present / (1 - present)
        if self.weights is not None:
            odds = odds * self.weights[:, 1] / self.weights[:, 0]
        return np.asarray(np.log(odds), dtype=np.float32)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the sum over rows of the mean over labels."""
        smooth = targets * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        cells = torch.nn.functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
        if self.weights is not None:
            weights = torch.as_tensor(self.weights, device=logits.device)
            cells = cells * torch.where(targets > 0, weights[:, 1], weights[:, 0])
        return cells.mean(dim=1).sum()

    def score(self, logits: Array, targets: Array) -> tuple[dict[str, float], Array]:
        """F1 and accuracy are at the one threshold that suits these rows best: 0.5 would miss most rare labels."""
        true = targets > 0
        scores = sigmoid(logits)
        cut = find_best_threshold(scores.ravel(), true.ravel())
        given = scores >= (0.5 if cut is None else cut)
        hits, seen = (true & given).sum(0), true.sum(0) + given.sum(0)
        f1 = np.divide(2 * hits, seen, out=np.zeros(len(seen)), where=seen > 0)
        # log(1 + exp(x)) - x * target, without overflow
        losses = np.logaddexp(0.0, logits.astype(np.float64)) - np.where(true, logits, 0.0)
        return {
            "loss": float(losses.mean()),
            "accuracy": float((true == given).all(axis=1).mean()),
            "macro_f1": float(f1[seen > 0].mean()) if seen.any() else 0.0,
            "micro_f1": float(2 * hits.sum() / max(seen.sum(), 1)),
        }, given

    def describe(self, scores: Mapping[str, float]) -> str:
        """Return micro and macro F1."""
        return f"micro F1 {scores['micro_f1']:.3f}, macro F1 {scores['macro_f1']:.3f}"

    def standard_error(self, scores: Mapping[str, float], targets: Array) -> float:
        """Take micro F1 for a share of the labels that the rows have."""
        return math.sqrt(scores["micro_f1"] * (1 - scores["micro_f1"]) / max(float(targets.sum()), 1.0))

    def explain(
        self,
        answers: Array,
        targets: Array,
        train_targets: Array,
        losses: Sequence[float],
        learning_rate: float,
        trainable_layers: int | None,
    ) -> str | None:
        """Compare the loss with always answering the labels' shares, and the answers with none at all."""
        true = targets > 0
        hits, seen = (true & answers).sum(), true.sum() + answers.sum()
        if 2 * hits / max(seen, 1) > best_constant_f1(targets) + _CLEARLY_BETTER:
            return None
        return explain_not_learning_labels(
            answers,
            targets,
            losses,
            learning_rate,
            trainable_layers,
            positive_weights=self.weights,
            label_smoothing=self.label_smoothing,
        )


def build_objective(task: str, config: TrainingConfig, weights: Array | None = None) -> Objective:
    """Return the objective of a task; weights: as `weigh_classes` gives them."""
    kinds: dict[str, type[CrossEntropy] | type[BinaryCrossEntropy]]
    kinds = {"single_label": CrossEntropy, "multi_label": BinaryCrossEntropy}
    return kinds[task](config.label_smoothing, weights)


def set_starting_bias(model: torch.nn.Module, new_modules: Sequence[str], bias: Array | None) -> None:
    """Give the last layer of a new head its first bias; a head that the checkpoint brought stays as it is."""
    layers = [
        module
        for name, module in model.named_modules()
        if name in new_modules
        and isinstance(module, torch.nn.Linear)
        and bias is not None
        and module.out_features == len(bias)
        and module.bias is not None
    ]
    if layers:
        with torch.no_grad():
            layers[-1].bias.copy_(torch.from_numpy(bias))


def score_logits(logits: Array, targets: Array) -> dict[str, float]:
    """Return loss, accuracy and F1 of logits [rows, classes]; a target of -1 counts as an error."""
    from sklearn.metrics import f1_score

    known = targets >= 0
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    loss = -log_probabilities[known, targets[known]].mean() if known.any() else float("nan")
    predicted = logits.argmax(1)
    accuracy = float((predicted == targets).mean())
    return {
        "loss": float(loss),
        "accuracy": accuracy,
        "macro_f1": float(f1_score(targets[known], predicted[known], average="macro", zero_division=0.0)),
        "micro_f1": accuracy,
    }
