"""One label per text: the most probable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from textune.config import TrainingConfig
from textune.config.class_weights import ClassWeights, weigh_classes
from textune.config.rules import split_rule
from textune.errors import DataError
from textune.evaluation import (
    ConfidentError,
    Counts,
    Difference,
    Evaluation,
    count_confusions,
    count_correct,
    evaluate,
    explain_not_learning,
    paired_difference,
    predict_majority,
    predict_tfidf,
    softmax,
)
from textune.evaluation.decisions import Decisions
from textune.evaluation.errors import GivenLabels, list_errors
from textune.evaluation.text import percent
from textune.evaluation.thresholds import find_best_threshold, find_floor_threshold
from textune.tasks.base import Answer, EvaluatedRows, FileCells, Task, Unknown
from textune.tasks.catalogue import register
from textune.tasks.objective import CLEARLY_BETTER, Objective, ProbeLoss, TrainingSoFar, apply_weights
from textune.tasks.shown import Column, describe_wrong_classes

if TYPE_CHECKING:
    import torch

    from textune.data import Examples, Labels

Array = NDArray[Any]
_MANY_KINDS = 20
"""From so many different labels on, it is asked whether they are classes at all."""


@dataclass(frozen=True)
class Prediction:
    """One text's class. probabilities: of every label, in the labels' order."""

    label: str
    probability: float
    probabilities: dict[str, float]

    @property
    def answer(self) -> dict[str, float]:
        """The label and its probability."""
        return {self.label: self.probability}


@register("single_label")
@dataclass(frozen=True)
class SingleLabel(Task):
    """One label per text: the most probable, unless decisions say otherwise.

    targets: int64 [rows], -1 for a label that the model does not know.
    """

    temperature: float | None = None
    decisions: Decisions = Decisions()

    problem_type: ClassVar[str] = "single_label_classification"
    chooses_one: ClassVar[bool] = True
    hub_metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1")
    class_columns: ClassVar[tuple[Column, ...]] = (Column("predicted", lambda figures, rows: f"{figures.predicted:,}"),)

    def with_temperature(self, temperature: float | None) -> Task:
        """Return the task for probabilities of logits divided by the temperature."""
        return replace(self, temperature=temperature)

    def with_decisions(self, decisions: Decisions) -> Self:
        """Return the task with decisions."""
        return replace(self, decisions=decisions)

    @property
    def tunes(self) -> bool:
        """Whether one label's threshold is tuned."""
        return self.decisions.label is not None

    def check_training_rows(self, labels: Labels, train: Examples, source: str) -> list[str]:
        """Raise DataError where all rows have the same label, or where the labels cannot be classes."""
        codes = labels.encode(train.labels() or [])
        if len(set(codes.tolist())) < 2:
            raise DataError(
                f"{source}: the training rows have only one class ('{labels.names[int(codes[0])]}')",
                hint="use more rows, or check sample= and the label column",
            )
        return self._question_labels(labels, train, source)

    def _question_labels(self, labels: Labels, train: Examples, source: str) -> list[str]:
        """Warn about labels that look like numbers to predict or texts to write; raise DataError where most are numbers
        that occur once."""
        counts = self.count_labels(labels, train)
        kinds, single = int(np.count_nonzero(counts)), int(np.count_nonzero(counts == 1))
        measured, rare = _are_measurements(labels.values), 2 * single >= kinds
        named = labels.names != labels.values  # by labels=, so they are meant as classes
        if kinds < _MANY_KINDS or named or not (measured or rare):
            return []
        found = f"{source}: {kinds:,} different labels in {len(train):,} training rows, {single:,} of them only once"
        if not measured:
            return [f"{found}; if they are no classes, set label= to another column, or task=generation to write them"]
        such = f"{found}: numbers such as {', '.join(labels.values[:3])}, each of which would be a class of its own"
        hint = "make a few classes of the numbers, such as low and high, or set label= to another column"
        if rare:
            raise DataError(such, hint=hint)
        return [f"{such}; {hint}"]

    def build_objective(self, config: TrainingConfig, weights: Array | None = None) -> Objective:
        """Return cross entropy; weights: float32 [classes]."""
        return CrossEntropy(config.label_smoothing, weights)

    def probe_loss(self, weights: Array | None, smoothing: float) -> ProbeLoss:
        """Return the loss of multinomial regression."""
        return SoftmaxLoss(weights, smoothing)

    def weigh(
        self, setting: ClassWeights | None, counts: Array, rows: int, labels: Labels
    ) -> NDArray[np.float32] | None:
        """Return how much a row of each class counts: float32 [classes]."""
        return weigh_classes(setting, counts, rows, labels.values, labels.names, multi_label=False)

    def probabilities(self, logits: Array) -> NDArray[np.float64]:
        """Return probabilities by the softmax: each row sums to 1."""
        return softmax(logits)

    def log_odds(self, logits: torch.Tensor, label: int) -> torch.Tensor:
        """Return the label's logit minus those of all others together: [rows]; with two labels the difference."""
        import torch

        others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
        return logits[:, label] - others.logsumexp(1)

    def choose(self, probabilities: Array) -> NDArray[np.int64]:
        """Return the number of each row's label: int64 [rows].

        By the lowest expected cost; or one label from its threshold on, else the most probable other; or the most
        probable.
        """
        asked = self.decisions
        if asked.costs is not None:
            return np.asarray((np.asarray(probabilities, np.float64) @ np.asarray(asked.costs)).argmin(1))
        if asked.cutoff is not None and asked.label is not None:
            others = np.array(probabilities, np.float64)
            others[:, asked.label] = -1
            return np.where(probabilities[:, asked.label] >= asked.cutoff, asked.label, others.argmax(1))
        return np.asarray(probabilities.argmax(1))

    def decide(self, probabilities: Array) -> NDArray[np.bool_]:
        """Mark the label of each row."""
        return np.asarray(self.choose(probabilities)[:, None] == np.arange(probabilities.shape[1]))

    def answer(self, probabilities: Array, labels: Sequence[str]) -> Sequence[Answer]:
        """Return the label of each row."""
        return [labels[i] for i in self.choose(probabilities)]

    def tune(self, predict: Callable[[], Array], targets: Array) -> Task:
        """Return the task with the threshold of its label tuned on the rows; without rows as it is."""
        asked = self.decisions
        if asked.label is None or asked.rule is None or not len(targets):
            return self
        (figure, floor), scores = split_rule(asked.rule), np.asarray(predict(), np.float64)[:, asked.label]
        if floor is None:
            cutoff = find_best_threshold(scores, targets == asked.label)
        else:
            cutoff = find_floor_threshold(scores, targets == asked.label, figure, floor)[0]
        return replace(self, decisions=replace(asked, cutoff=cutoff))

    def classify(self, probabilities: Array, labels: Sequence[str]) -> Sequence[Prediction]:
        """Return the label of each row, with all probabilities."""
        each = [dict(zip(labels, map(float, row), strict=True)) for row in probabilities]
        answers = self.answer(probabilities, labels)
        return [Prediction(answer, shares[answer], shares) for answer, shares in zip(answers, each, strict=True)]

    def labels_in(self, answer: Answer) -> tuple[str, ...]:
        """Return the one label."""
        return (answer,)

    def file_columns(self, answers: Sequence[Answer | None], scores: Array, form: FileCells) -> dict[str, Any]:
        """Return the label and its probability."""
        import pyarrow as pa

        place = {label: i for i, label in enumerate(form.labels)}
        top = [None if a is None else float(row[place[a]]) for a, row in zip(answers, scores, strict=True)]
        return {"label": pa.array(answers, pa.large_string()), "probability": pa.array(top, pa.float64())}

    def prediction_columns(self, examples: Examples, probabilities: Array, answers: Sequence[Answer]) -> dict[str, Any]:
        """Return both labels and the probability of the answer."""
        shares = probabilities[np.arange(len(probabilities)), self.choose(probabilities)]
        return {"label": examples.labels(), "predicted_label": list(answers), "probability": shares}

    def evaluate(
        self, probabilities: Array, targets: Array, labels: Sequence[str], *, seed: int, unknown: Unknown
    ) -> Evaluation:
        """Return accuracy, F1, confusion matrix and the rest."""
        answers, names = self.choose(np.asarray(probabilities)), _flatten(unknown)
        evaluation = evaluate(probabilities, targets, labels, seed=seed, unknown=names, predicted=answers)
        evaluation = self.add_decisions(evaluation, probabilities, targets, labels, targets < 0, seed)
        return self.add_before(evaluation, probabilities, targets, seed)

    def read_evaluation(self, stored: Mapping[str, Any]) -> Evaluation:
        """Rebuild stored figures; raise BundleError."""
        return Evaluation.from_dict(stored)

    def compare(
        self, targets: Array, mine: Array, theirs: Array, other: Task, unknown: Unknown, seed: int
    ) -> Difference:
        """Return the lead in accuracy."""
        return paired_difference(self.choose(mine) == targets, other.decide(theirs).argmax(1) == targets, seed)

    def count_earned(self, true: Array, predicted: Sequence[Array], missed: Array) -> Counts:
        """Return the right answers."""
        return count_correct([np.asarray((true & answers).any(1)) for answers in predicted])

    def predict_majority(self, train_targets: Array, rows: int, classes: int) -> tuple[Task, NDArray[np.float64]]:
        """Return the training shares of the classes, the largest of which is the answer."""
        return SingleLabel(), predict_majority(train_targets, rows, classes)

    def predict_tfidf(
        self, train_texts: Sequence[str], train_targets: Array, texts: Sequence[str], classes: int, seed: int
    ) -> NDArray[np.float64]:
        """Return the probabilities of one multinomial regression."""
        return predict_tfidf(train_texts, train_targets, texts, classes, seed)

    def find_errors(
        self, probabilities: Array, targets: Array, labels: Sequence[str], rows: EvaluatedRows, count: int = 20
    ) -> list[ConfidentError]:
        """Return the wrong answers of the highest probability."""
        unknown = _flatten(rows.unknown)
        numbers = self.choose(probabilities)
        answers = GivenLabels(numbers, np.asarray(probabilities[np.arange(len(numbers)), numbers], np.float64))
        return list_errors(answers, targets, labels, rows.texts, rows.numbers, count, unknown)

    def describe_errors(self, evaluation: Any, split: str) -> str:
        """Return how many rows are misclassified, and the confusion that most of them are."""
        return describe_wrong_classes(evaluation, split)

    def count_confusions(self, evaluation: Any, count: int = 10) -> list[tuple[str, str, int]]:
        """Return the most frequent confusions of the matrix."""
        return count_confusions(evaluation, count)


@dataclass
class CrossEntropy(Objective):
    """One label per text: cross entropy. targets: int64 [rows], -1 for a label that the model does not know.

    weights: float32 [classes], how much a row of each class counts. label_smoothing: the share of the target that is
    spread over all classes.
    """

    label_smoothing: float = 0.0
    weights: Array | None = None
    metric: str = "accuracy"

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the sum of the rows' cross entropies, each times the weight of its class."""
        import torch

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
        return f"accuracy {percent(scores['accuracy'])}, macro F1 {percent(scores['macro_f1'])}"

    def standard_error(self, scores: Mapping[str, float], targets: Array) -> float:
        """Return that of the accuracy."""
        return math.sqrt(scores["accuracy"] * (1 - scores["accuracy"]) / max(len(targets), 1))

    def explain(self, so_far: TrainingSoFar) -> str | None:
        """Compare the loss with always answering the class shares."""
        answers, targets = so_far.answers, so_far.targets
        classes = int(max(targets.max(), answers.max(), so_far.train_targets.max())) + 1
        counts = np.bincount(targets[targets >= 0], minlength=classes)
        if (answers == targets).mean() > counts.max() / len(targets) + CLEARLY_BETTER:
            return None
        return explain_not_learning(
            np.bincount(answers, minlength=classes).tolist(),
            counts.tolist(),
            so_far.losses,
            so_far.learning_rate,
            so_far.trainable_layers,
            class_weights=None if self.weights is None else self.weights.tolist(),
            label_smoothing=self.label_smoothing,
        )


class SoftmaxLoss(ProbeLoss):
    """Cross entropy. targets: int64 [rows]; weights: float32 [classes]."""

    folds_by_class = True

    def curvature(self, classes: int) -> float:
        """Return the curvature where all classes are equally probable."""
        return 1 / classes

    def spread(self, targets: Array, classes: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return each row's target shares, and the weight of its class."""
        import torch

        index = torch.from_numpy(np.asarray(targets, np.int64))
        cells = torch.full((len(index), classes), self.smoothing / classes)
        cells[torch.arange(len(index)), index] += 1 - self.smoothing
        return cells, None if self.weights is None else torch.from_numpy(self.weights)[index][:, None]

    def measure(
        self, logits: torch.Tensor, cells: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum of the losses and its gradient with respect to the logits."""
        import torch

        shares = torch.log_softmax(logits, 1)
        losses = -(shares * cells).sum(1, keepdim=True)
        return apply_weights(losses, shares.exp_() - cells, weights)


def score_logits(logits: Array, targets: Array) -> dict[str, float]:
    """Return loss, accuracy and F1 of logits [rows, classes]; a target of -1 counts as an error.

    For macro F1 all such rows are one class, which is never answered.
    """
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
        "macro_f1": float(f1_score(targets, predicted, average="macro", zero_division=0.0)),
        "micro_f1": accuracy,
    }


def _are_measurements(values: Sequence[str]) -> bool:
    """Return whether all values are finite numbers and some have decimals."""
    try:
        numbers = [float(value.replace(",", ".")) for value in values]
    except ValueError:
        return False
    return all(map(math.isfinite, numbers)) and not all(number.is_integer() for number in numbers)


def _flatten(unknown: Unknown) -> list[str]:
    return [label for names in unknown for label in names]
