"""What differs between one label per text and any number of them, so that no caller has to ask which it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from textune.errors import BundleError
from textune.evaluation.baselines import predict_majority, predict_prevalence, predict_tfidf, predict_tfidf_sets
from textune.evaluation.errors import ConfidentError, find_confident_errors, find_confident_set_errors
from textune.evaluation.intervals import Difference
from textune.evaluation.metrics import Evaluation, evaluate
from textune.evaluation.multilabel import MultiLabelEvaluation, evaluate_multi_label, paired_f1_difference
from textune.evaluation.paired import paired_difference
from textune.evaluation.probabilities import sigmoid, softmax
from textune.evaluation.thresholds import UNTUNED, tune_thresholds

Array = NDArray[Any]
Answer = str | tuple[str, ...]
AnyEvaluation = Evaluation | MultiLabelEvaluation
Unknown = Sequence[Sequence[str]]


class Task(Protocol):
    """One kind of classification. targets: as `Labels.encode_examples` gives them; unknown: row by row."""

    @property
    def name(self) -> str:
        """As the manifest keeps it."""

    @property
    def problem_type(self) -> str:
        """As transformers calls it."""

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """From which probability each label is given; None with one label per text."""

    def probabilities(self, logits: Array) -> NDArray[np.float64]:
        """Return probabilities, float64 [rows, labels]."""

    def answer(self, probabilities: Array, labels: Sequence[str]) -> Sequence[Answer]:
        """Return the answer for each row."""

    def tune(self, predict: Callable[[], Array], targets: Array) -> Task:
        """Return the task with what is left to choose chosen on validation rows, of which there may be none.

        predict: gives the probabilities of those rows, and is called only where they matter.
        """

    def evaluate(
        self, probabilities: Array, targets: Array, labels: Sequence[str], *, seed: int, unknown: Unknown
    ) -> AnyEvaluation:
        """Return all figures."""

    def compare(
        self, targets: Array, mine: Array, theirs: Array, other: Task, unknown: Unknown, seed: int
    ) -> Difference:
        """Return the lead in the headline figure over another model's probabilities on the same rows."""

    def predict_majority(self, train_targets: Array, rows: int, classes: int) -> tuple[Task, NDArray[np.float64]]:
        """Return the most frequent answer's probabilities, and the task that gives it."""

    def predict_tfidf(
        self, train_texts: Sequence[str], train_targets: Array, texts: Sequence[str], classes: int, seed: int
    ) -> NDArray[np.float64]:
        """Return the probabilities of logistic regression on TF-IDF."""

    def find_errors(
        self,
        probabilities: Array,
        targets: Array,
        labels: Sequence[str],
        texts: Sequence[str],
        rows: Array,
        unknown: Unknown,
        count: int = 20,
    ) -> list[ConfidentError]:
        """Return the wrong answers that the model was surest of."""


@dataclass(frozen=True)
class SingleLabel:
    """One label per text: the most probable."""

    name: str = "single_label"
    thresholds: None = None
    problem_type: str = "single_label_classification"

    def probabilities(self, logits: Array) -> NDArray[np.float64]:
        """Return probabilities by the softmax: each row sums to 1."""
        return softmax(logits)

    def answer(self, probabilities: Array, labels: Sequence[str]) -> Sequence[Answer]:
        """Return the most probable label of each row."""
        return [labels[i] for i in probabilities.argmax(1)]

    def tune(self, predict: Callable[[], Array], targets: Array) -> Task:
        """Return the task as it is: nothing is left to choose."""
        return self

    def evaluate(
        self, probabilities: Array, targets: Array, labels: Sequence[str], *, seed: int, unknown: Unknown
    ) -> AnyEvaluation:
        """Return accuracy, F1, confusion matrix and the rest."""
        return evaluate(probabilities, targets, labels, seed=seed, unknown=_flatten(unknown))

    def compare(
        self, targets: Array, mine: Array, theirs: Array, other: Task, unknown: Unknown, seed: int
    ) -> Difference:
        """Return the lead in accuracy."""
        return paired_difference(mine.argmax(1) == targets, theirs.argmax(1) == targets, seed)

    def predict_majority(self, train_targets: Array, rows: int, classes: int) -> tuple[Task, NDArray[np.float64]]:
        """Return the training shares of the classes, the largest of which is the answer."""
        return self, predict_majority(train_targets, rows, classes)

    def predict_tfidf(
        self, train_texts: Sequence[str], train_targets: Array, texts: Sequence[str], classes: int, seed: int
    ) -> NDArray[np.float64]:
        """Return the probabilities of one multinomial regression."""
        return predict_tfidf(train_texts, train_targets, texts, classes, seed)

    def find_errors(
        self,
        probabilities: Array,
        targets: Array,
        labels: Sequence[str],
        texts: Sequence[str],
        rows: Array,
        unknown: Unknown,
        count: int = 20,
    ) -> list[ConfidentError]:
        """Return the wrong answers of the highest probability."""
        return find_confident_errors(probabilities, targets, labels, texts, rows, count, unknown=_flatten(unknown))


@dataclass(frozen=True)
class MultiLabel:
    """Any number of labels per text: each from its threshold on. No thresholds: 0.5 for all."""

    thresholds: tuple[float, ...] | None = None
    fixed: float | None = None
    name: str = "multi_label"
    problem_type: str = "multi_label_classification"

    def probabilities(self, logits: Array) -> NDArray[np.float64]:
        """Return probabilities by the sigmoid: each label for itself."""
        return sigmoid(logits)

    def cuts(self, labels: int) -> NDArray[np.float64]:
        """Return the threshold of each label."""
        return np.asarray(self.thresholds if self.thresholds is not None else (UNTUNED,) * labels, np.float64)

    def given(self, probabilities: Array) -> NDArray[np.bool_]:
        """Return which labels each row is given: bool [rows, labels]."""
        return np.asarray(probabilities >= self.cuts(probabilities.shape[1]))

    def answer(self, probabilities: Array, labels: Sequence[str]) -> Sequence[Answer]:
        """Return the labels given to each row, of which there may be none."""
        return [tuple(labels[i] for i in np.flatnonzero(row).tolist()) for row in self.given(probabilities)]

    def tune(self, predict: Callable[[], Array], targets: Array) -> Task:
        """Return the task with its thresholds tuned on the rows, or 0.5 where there are none."""
        if self.fixed is not None or not len(targets):
            value = UNTUNED if self.fixed is None else self.fixed
            return replace(self, thresholds=(value,) * targets.shape[1])
        return replace(self, thresholds=tune_thresholds(predict(), targets))

    def evaluate(
        self, probabilities: Array, targets: Array, labels: Sequence[str], *, seed: int, unknown: Unknown
    ) -> AnyEvaluation:
        """Return micro, macro and weighted F1, the figures of each label and the rest."""
        cuts = self.cuts(len(labels)).tolist()
        return evaluate_multi_label(probabilities, targets, labels, cuts, seed=seed, unknown=unknown)

    def compare(
        self, targets: Array, mine: Array, theirs: Array, other: Task, unknown: Unknown, seed: int
    ) -> Difference:
        """Return the lead in micro F1."""
        assert isinstance(other, MultiLabel)
        missed = np.array([len(names) for names in unknown], np.int64) if len(unknown) else None
        return paired_f1_difference(targets > 0, self.given(mine), other.given(theirs), missed, seed=seed)

    def predict_majority(self, train_targets: Array, rows: int, classes: int) -> tuple[Task, NDArray[np.float64]]:
        """Return the training shares of the labels, and thresholds that give the most frequent."""
        scores, thresholds = predict_prevalence(train_targets, rows)
        return replace(self, thresholds=thresholds), scores

    def predict_tfidf(
        self, train_texts: Sequence[str], train_targets: Array, texts: Sequence[str], classes: int, seed: int
    ) -> NDArray[np.float64]:
        """Return the probabilities of one regression per label."""
        return predict_tfidf_sets(train_texts, train_targets, texts, seed)

    def find_errors(
        self,
        probabilities: Array,
        targets: Array,
        labels: Sequence[str],
        texts: Sequence[str],
        rows: Array,
        unknown: Unknown,
        count: int = 20,
    ) -> list[ConfidentError]:
        """Return the rows with the surest wrong decision."""
        given = self.given(probabilities)
        return find_confident_set_errors(probabilities, targets, given, labels, texts, rows, unknown=unknown)


def build_task(name: str, thresholds: tuple[float, ...] | None = None, fixed: float | None = None) -> Task:
    """Return the task of a manifest or of prepared data; raise BundleError for a name that is not known.

    fixed: one threshold for all labels, so that none is tuned.
    """
    if name == "single_label":
        return SingleLabel()
    if name == "multi_label":
        return MultiLabel(thresholds, fixed)
    raise BundleError(f"the task '{name}' is not known to this version", hint="install a newer textune")


def read_evaluation(stored: Any) -> AnyEvaluation:
    """Rebuild the figures that `to_dict` of either kind returned; raise BundleError."""
    multi = isinstance(stored, dict) and stored.get("task") == MultiLabelEvaluation.task
    return MultiLabelEvaluation.from_dict(stored) if multi else Evaluation.from_dict(stored)


def _flatten(unknown: Unknown) -> list[str]:
    return [label for names in unknown for label in names]
