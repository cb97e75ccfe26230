"""What training minimizes and how validation rows are scored: the part of a task that computes losses.

A loss is the sum over rows of each row's loss; the training loop divides by the rows of the whole optimizer step.
Validation losses are plain ones, without class weights and label smoothing: runs that differ in these can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]
CLEARLY_BETTER = 0.1
"""A lead over the most frequent answer, in accuracy (micro F1 with several labels), that shows a model learning
whatever its loss says."""


@dataclass(frozen=True)
class TrainingSoFar:
    """What is known at an evaluation in the middle of training.

    answers: what `Objective.score` found the model to say of the validation rows. targets: of these rows.
    losses: of every optimizer step up to now. trainable_layers: 0 where only the head is trained, else None.
    """

    answers: Array
    targets: Array
    train_targets: Array
    losses: Sequence[float]
    learning_rate: float
    trainable_layers: int | None = None


class Objective:
    """Loss and scores of one task. metric: the score that ranks checkpoints, or "loss"."""

    metric: str = "loss"

    def starting_bias(self, train_targets: Array) -> Array | None:
        """Return the new head's first bias, float32 [classes], or None: as the library draws it."""
        return None

    def count(self, targets: Array) -> int:
        """Return what the loss of an optimizer step is divided by: its rows, or what else the loss is a sum over."""
        return len(targets)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the sum over rows of their losses. logits: [rows, classes]."""
        raise NotImplementedError

    def score(self, logits: Array, targets: Array) -> tuple[dict[str, float], Array]:
        """Return the loss and all scores of validation rows, and the answers."""
        raise NotImplementedError

    def describe(self, scores: Mapping[str, float]) -> str:
        """Return the scores in a few words."""
        return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in scores.items() if name != "loss")

    def standard_error(self, scores: Mapping[str, float], targets: Array) -> float:
        """Return the metric's standard error on so few validation rows."""
        return 0.0

    def explain(self, so_far: TrainingSoFar) -> str | None:
        """Return why the run does not learn, or None where it does."""
        return None


@dataclass(frozen=True)
class ProbeLoss:
    """What the regression behind a solved head minimizes: the loss of training.

    weights: float32, as `Task.weigh` gives them. smoothing: label_smoothing. intercept: whether a bias is solved, too.
    fold_of: each row's fold of cross-validation, int64 [rows], where groups must stay together; None: drawn by class.
    texts: a number for each row's text, int64 [rows]; rows with the same stay in one fold. None: all differ.
    """

    weights: NDArray[np.float32] | None = None
    smoothing: float = 0.0
    intercept: bool = True
    fold_of: NDArray[np.int64] | None = None
    texts: NDArray[np.int64] | None = None

    @property
    def folds_by_class(self) -> bool:
        """Whether targets are class numbers, which cross-validation spreads evenly over the folds."""
        return False

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the loss with what it says of each row for these rows, in that order."""
        fold_of, texts = (None if each is None else each[rows] for each in (self.fold_of, self.texts))
        return replace(self, fold_of=fold_of, texts=texts)

    def curvature(self, classes: int) -> float:
        """Return about how strongly the loss curves along one logit; it only speeds up the solver."""
        raise NotImplementedError

    def spread(self, targets: Array, classes: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the target of every cell, float32 [rows, classes], and a weight for every row or cell."""
        raise NotImplementedError

    def weigh_rows(self, targets: Array, classes: int) -> NDArray[np.float32] | None:
        """Return the weight of every row, or of every row and label, as `spread` does; None where all are alike."""
        weights = self.spread(targets, classes)[1]
        return None if weights is None else weights.numpy()

    def measure(
        self, logits: torch.Tensor, cells: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum of the losses and its gradient with respect to the logits."""
        raise NotImplementedError


def apply_weights(
    losses: torch.Tensor, gradient: torch.Tensor, weights: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of the weighted losses and the weighted gradient."""
    if weights is not None:
        losses, gradient = losses * weights, gradient * weights
    return losses.sum(), gradient
