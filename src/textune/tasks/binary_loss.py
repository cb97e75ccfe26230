"""The losses of any number of labels per text: binary cross entropy in training, and in solving the head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textune.evaluation import best_constant_f1, explain_not_learning_labels, find_best_threshold, sigmoid
from textune.evaluation.text import percent
from textune.tasks.objective import CLEARLY_BETTER, Objective, ProbeLoss, TrainingSoFar, apply_weights

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]


@dataclass
class BinaryCrossEntropy(Objective):
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
        import torch

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
        predicted = scores >= (0.5 if cut is None else cut)
        hits, seen = (true & predicted).sum(0), true.sum(0) + predicted.sum(0)
        f1 = np.divide(2 * hits, seen, out=np.zeros(len(seen)), where=seen > 0)
        # log(1 + exp(x)) - x * target, without overflow
        losses = np.logaddexp(0.0, logits.astype(np.float64)) - np.where(true, logits, 0.0)
        return {
            "loss": float(losses.mean()),
            "accuracy": float((true == predicted).all(axis=1).mean()),
            "macro_f1": float(f1[seen > 0].mean()) if seen.any() else 0.0,
            "micro_f1": float(2 * hits.sum() / max(seen.sum(), 1)),
        }, predicted

    def describe(self, scores: Mapping[str, float]) -> str:
        """Return micro and macro F1."""
        return f"micro F1 {percent(scores['micro_f1'])}, macro F1 {percent(scores['macro_f1'])}"

    def standard_error(self, scores: Mapping[str, float], targets: Array) -> float:
        """Take micro F1 for a share of the labels that the rows have."""
        return math.sqrt(scores["micro_f1"] * (1 - scores["micro_f1"]) / max(float(targets.sum()), 1.0))

    def explain(self, so_far: TrainingSoFar) -> str | None:
        """Compare the loss with always answering the labels' shares, and the answers with none at all."""
        true = so_far.targets > 0
        hits, seen = (true & so_far.answers).sum(), true.sum() + so_far.answers.sum()
        if 2 * hits / max(seen, 1) > best_constant_f1(so_far.targets) + CLEARLY_BETTER:
            return None
        return explain_not_learning_labels(
            so_far.answers,
            so_far.targets,
            so_far.losses,
            so_far.learning_rate,
            so_far.trainable_layers,
            positive_weights=self.weights,
            label_smoothing=self.label_smoothing,
        )


class SigmoidLoss(ProbeLoss):
    """Binary cross entropy. targets: [rows, labels] of 0 and 1; weights: float32 [labels, 2], of absent and present."""

    def curvature(self, classes: int) -> float:
        """Return the curvature at a probability of one half."""
        return 0.25

    def spread(self, targets: Array, classes: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the target and the weight of every row and label."""
        import torch

        present = torch.from_numpy(np.asarray(targets) > 0)
        cells = present * (1 - self.smoothing) + 0.5 * self.smoothing
        if self.weights is None:
            return cells, None
        absent, of_present = torch.from_numpy(self.weights).unbind(1)
        return cells, torch.where(present, of_present, absent)

    def measure(
        self, logits: torch.Tensor, cells: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum of the losses and its gradient with respect to the logits."""
        import torch

        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, cells, reduction="none")
        return apply_weights(losses, torch.sigmoid(logits) - cells, weights)
