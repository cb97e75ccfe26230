"""Any number of labels per text: each from its threshold on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from textune.config import TrainingConfig
from textune.config.class_weights import ClassWeights, weigh_classes
from textune.config.defaults import TaskDefaults
from textune.config.rules import split_rule
from textune.evaluation import (
    ConfidentError,
    Counts,
    Difference,
    MultiLabelEvaluation,
    count_labels,
    evaluate_multi_label,
    find_confident_set_errors,
    paired_f1_difference,
    predict_prevalence,
    predict_tfidf_sets,
    sigmoid,
    tune_thresholds,
)
from textune.evaluation.decisions import Decisions
from textune.evaluation.text import percent, quote_names
from textune.evaluation.thresholds import UNTUNED, tune_costs, tune_floors
from textune.tasks.base import Answer, EvaluatedRows, FileCells, Task, Unknown
from textune.tasks.binary_loss import BinaryCrossEntropy, SigmoidLoss
from textune.tasks.catalogue import register
from textune.tasks.objective import Objective, ProbeLoss
from textune.tasks.shown import Column, describe_wrong_sets

if TYPE_CHECKING:
    import torch

    from textune.data import DataFacts, Examples, Labels

Array = NDArray[Any]
_ROWS_PER_LABEL = 5
"""Below so many rows per label on average, the interval of macro F1 covers 80% instead of 95%."""


@dataclass(frozen=True)
class SetPrediction:
    """One text's labels, of which there may be none. probabilities: of every label, each for itself."""

    labels: tuple[str, ...]
    probabilities: dict[str, float]

    @property
    def answer(self) -> dict[str, float]:
        """The labels given and their probabilities."""
        return {label: self.probabilities[label] for label in self.labels}


_THRESHOLD = Column("threshold", lambda figures, rows: f"{figures.threshold:.2f}")


@register("multi_label")
@dataclass(frozen=True)
class MultiLabel(Task):
    """Any number of labels per text: each from its threshold on. No thresholds: 0.5 for all.

    targets: float32 [rows, labels], 0 or 1.
    """

    thresholds: tuple[float, ...] | None = None
    fixed: float | None = None
    temperature: float | None = None
    decisions: Decisions = Decisions()

    problem_type: ClassVar[str] = "multi_label_classification"
    reads_sets: ClassVar[bool] = True
    needs_validation: ClassVar[bool] = True
    defaults: ClassVar[TaskDefaults] = TaskDefaults(
        metric="micro_f1",
        metric_reason="with several labels a text, few rows are right to the last label",
        no_contrast="pairs are told apart by one label per text, and this data has several",
        no_names="a text can have several labels, and a name stands for one alone",
    )
    figure: ClassVar[tuple[str, str]] = ("micro F1", "micro_f1")
    hub_metrics: ClassVar[tuple[str, ...]] = ("f1",)
    class_columns: ClassVar[tuple[Column, ...]] = (
        Column("given", lambda figures, rows: f"{figures.predicted:,}"),
        Column("rightly", lambda figures, rows: f"{figures.hits:,}"),
        Column("wrongly", lambda figures, rows: f"{figures.predicted - figures.hits:,}"),
        Column("missed", lambda figures, rows: f"{figures.support - figures.hits:,}"),
        Column("rightly not", lambda figures, rows: f"{rows - figures.support - figures.predicted + figures.hits:,}"),
        Column("average precision", lambda figures, rows: _percent_or_dash(figures.average_precision)),
        _THRESHOLD,
    )
    card_columns: ClassVar[tuple[Column, ...]] = (_THRESHOLD,)
    errors_note: ClassVar[str] = ": rows with a label given or withheld most surely, and wrongly"
    unknown_counts_as: ClassVar[str] = "missed"

    @classmethod
    def open(cls, thresholds: tuple[float, ...] | None = None, fixed: float | None = None) -> Task:
        """Return the task with its thresholds. fixed: one for all labels, so that none is tuned."""
        return cls(thresholds, fixed)

    def with_temperature(self, temperature: float | None) -> Task:
        """Return the task for probabilities of logits divided by the temperature."""
        return replace(self, temperature=temperature)

    def with_decisions(self, decisions: Decisions) -> Self:
        """Return the task with decisions."""
        return replace(self, decisions=decisions)

    @property
    def tunes(self) -> bool:
        """Whether the thresholds are tuned, and not fixed."""
        return self.fixed is None

    def check_training_rows(self, labels: Labels, train: Examples, source: str) -> list[str]:
        """Warn about labels that every row has."""
        counts = self.count_labels(labels, train)
        everywhere = [labels.names[i] for i, n in enumerate(counts) if n == len(train)]
        return (
            [f"in every training row: {quote_names(everywhere)}; the model cannot learn when it does not apply"]
            if everywhere
            else []
        )

    def check_settings(self, config: TrainingConfig) -> None:
        """Accept every setting."""

    def total_labels(self, facts: DataFacts) -> int:
        """Return the rows: labels overlap."""
        return facts.rows

    def describe_rows(self, facts: DataFacts) -> list[tuple[str, str]]:
        """Return how many labels a row has on average."""
        none = facts.rows - facts.rows_labelled
        without = f"; {none:,} rows have none" if none else ""
        average = sum(facts.label_counts.values()) / max(facts.rows, 1)
        return [("labels of a row", f"{average:.2f} on average{without}")]

    def build_objective(self, config: TrainingConfig, weights: Array | None = None) -> Objective:
        """Return binary cross entropy; weights: float32 [labels, 2]."""
        return BinaryCrossEntropy(config.label_smoothing, weights)

    def probe_loss(self, weights: Array | None, smoothing: float) -> ProbeLoss:
        """Return the loss of one regression per label."""
        return SigmoidLoss(weights, smoothing)

    def weigh(
        self, setting: ClassWeights | None, counts: Array, rows: int, labels: Labels
    ) -> NDArray[np.float32] | None:
        """Return how much a decision counts where each label is absent and present: float32 [labels, 2]."""
        return weigh_classes(setting, counts, rows, labels.values, labels.names, multi_label=True)

    def probabilities(self, logits: Array) -> NDArray[np.float64]:
        """Return probabilities by the sigmoid: each label for itself."""
        return sigmoid(logits)

    def cuts(self, labels: int) -> NDArray[np.float64]:
        """Return the threshold of each label."""
        return np.asarray(self.thresholds if self.thresholds is not None else (UNTUNED,) * labels, np.float64)

    def log_odds(self, logits: torch.Tensor, label: int) -> torch.Tensor:
        """Return the label's logit: [rows]."""
        return logits[:, label]

    def decide(self, probabilities: Array) -> NDArray[np.bool_]:
        """Return which labels reach their thresholds."""
        return np.asarray(probabilities >= self.cuts(probabilities.shape[1]))

    def answer(self, probabilities: Array, labels: Sequence[str]) -> Sequence[Answer]:
        """Return the labels given to each row, of which there may be none."""
        return [tuple(labels[i] for i in np.flatnonzero(row).tolist()) for row in self.decide(probabilities)]

    def classify(self, probabilities: Array, labels: Sequence[str]) -> Sequence[SetPrediction]:
        """Return the labels given to each row, with all probabilities."""
        each = [dict(zip(labels, map(float, row), strict=True)) for row in probabilities]
        answers = self.answer(probabilities, labels)
        return [SetPrediction(answer, shares) for answer, shares in zip(answers, each, strict=True)]

    def labels_in(self, answer: Answer) -> tuple[str, ...]:
        """Return the labels given."""
        return tuple(answer)

    def file_columns(self, answers: Sequence[Answer | None], scores: Array, form: FileCells) -> dict[str, Any]:
        """Return the labels, as a list or joined in one cell."""
        import pyarrow as pa

        from textune.data import join_set

        text, separator = pa.large_string(), form.separator
        if separator is not None:
            joined = [None if a is None else join_set(a, separator, form.labels) for a in answers]
            return {"label": pa.array(joined, text)}
        return {"label": pa.array([None if a is None else list(a) for a in answers], pa.list_(text))}

    def prediction_columns(self, examples: Examples, probabilities: Array, answers: Sequence[Answer]) -> dict[str, Any]:
        """Return both label columns as lists."""
        import pyarrow as pa

        lists = pa.list_(pa.string())
        return {
            "label": pa.array([list(labels) for labels in examples.label_sets()], lists),
            "predicted_label": pa.array([list(labels) for labels in answers], lists),
        }

    def tune(self, predict: Callable[[], Array], targets: Array) -> Task:
        """Return the task with its thresholds tuned on the rows, or 0.5 where there are none."""
        if self.fixed is not None or not len(targets):
            value = UNTUNED if self.fixed is None else self.fixed
            return replace(self, thresholds=(value,) * targets.shape[1])
        if self.decisions.costs is not None:
            return replace(self, thresholds=tune_costs(predict(), targets, np.asarray(self.decisions.costs)))
        figure, floor = split_rule(self.decisions.rule or "f1")
        if floor is None:
            return replace(self, thresholds=tune_thresholds(predict(), targets))
        return replace(self, thresholds=tune_floors(predict(), targets, figure, floor)[0])

    def untuned(self, labels: int) -> Task:
        """Return the task with thresholds of 0.5."""
        return replace(self, thresholds=(UNTUNED,) * labels)

    def evaluate(
        self, probabilities: Array, targets: Array, labels: Sequence[str], *, seed: int, unknown: Unknown
    ) -> MultiLabelEvaluation:
        """Return micro, macro and weighted F1, the figures of each label and the rest."""
        cuts = self.cuts(len(labels)).tolist()
        evaluation = evaluate_multi_label(probabilities, targets, labels, cuts, seed=seed, unknown=unknown)
        counts = np.array([len(names) for names in unknown] or [0] * len(targets))
        evaluation = self.add_decisions(evaluation, probabilities, targets, labels, counts, seed)
        return self.add_before(evaluation, probabilities, targets, seed)

    def answer_figures(self, evaluation: Any) -> list[tuple[str, float | None]]:
        """Return F1 in three averages, and the rest."""
        e: MultiLabelEvaluation = evaluation
        averages = [("micro F1", e.micro.f1), ("macro F1", e.macro.f1), ("samples F1", e.samples_f1)]
        return [*averages, *super().answer_figures(evaluation)]

    def read_evaluation(self, stored: Mapping[str, Any]) -> MultiLabelEvaluation:
        """Rebuild stored figures; raise BundleError."""
        return MultiLabelEvaluation.from_dict(stored)

    def compare(
        self, targets: Array, mine: Array, theirs: Array, other: Task, unknown: Unknown, seed: int
    ) -> Difference:
        """Return the lead in micro F1."""
        missed = np.array([len(names) for names in unknown], np.int64) if len(unknown) else None
        return paired_f1_difference(targets > 0, self.decide(mine), other.decide(theirs), missed, seed=seed)

    def count_earned(self, true: Array, predicted: Sequence[Array], missed: Array) -> Counts:
        """Return the label counts behind micro F1."""
        return count_labels(true, predicted, missed)

    def predict_majority(self, train_targets: Array, rows: int, classes: int) -> tuple[Task, NDArray[np.float64]]:
        """Return the training shares of the labels, and thresholds that give the most frequent."""
        scores, thresholds = predict_prevalence(train_targets, rows)
        return MultiLabel(thresholds=thresholds), scores

    def predict_tfidf(
        self, train_texts: Sequence[str], train_targets: Array, texts: Sequence[str], classes: int, seed: int
    ) -> NDArray[np.float64]:
        """Return the probabilities of one regression per label."""
        return predict_tfidf_sets(train_texts, train_targets, texts, seed)

    def find_errors(
        self, probabilities: Array, targets: Array, labels: Sequence[str], rows: EvaluatedRows, count: int = 20
    ) -> list[ConfidentError]:
        """Return the rows with the most confident wrong decision."""
        predicted = self.decide(probabilities)
        return find_confident_set_errors(
            probabilities, targets, predicted, labels, rows.texts, rows.numbers, unknown=rows.unknown
        )

    def describe_errors(self, evaluation: Any, split: str) -> str:
        """Return how many rows have a wrong label, and the label that most errors are on."""
        return describe_wrong_sets(evaluation, split)

    def explain_figures(self, evaluation: Any) -> list[str]:
        """Return the figures over whole rows and single decisions."""
        e: MultiLabelEvaluation = evaluation
        area = e.mean_average_precision
        mean = "" if area is None else f", mean average precision {percent(area)}"
        return [
            f"All labels of a row are right for {percent(e.accuracy)} of the rows. Of the single decisions, one for "
            f"each row and label, {percent(e.hamming_loss)} are wrong (Hamming loss); their precision is "
            f"{percent(e.micro.precision)}, their recall {percent(e.micro.recall)}. Weighted F1 "
            f"{percent(e.weighted.f1)}{mean}. Log loss is per decision. Every model has "
            "the threshold that threshold= sets, or thresholds of its own, tuned on held-out rows where there were any."
        ]

    def note_figures(self, evaluation: Any) -> list[str]:
        """Warn where few rows per label make the interval of macro F1 too narrow."""
        support = [f.support for f in evaluation.classes if f.support]
        if not support or sum(support) >= _ROWS_PER_LABEL * len(support):
            return []
        average = f"{sum(support) / len(support):.2g}"
        return [f"With {average} rows per label on average, the interval of macro F1 is too narrow."]


def _percent_or_dash(share: float | None) -> str:
    return "–" if share is None else percent(share)
