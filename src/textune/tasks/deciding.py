"""What every task inherits about decisions: confidence, prediction sets, and how both did on labelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from textune.evaluation.conformal import find_sets
from textune.evaluation.decisions import DecisionFigures, Decisions
from textune.evaluation.thresholds import PRIOR_ROWS
from textune.tasks.decided import describe_missed, describe_rare, measure_decisions

Array = NDArray[Any]
Floats = NDArray[np.float64]
E = TypeVar("E")


class Deciding:
    """The part of a task that follows from its probabilities and from which labels it gives."""

    name: ClassVar[str]
    reads_sets: ClassVar[bool] = False

    @property
    def gives_labels(self) -> bool:
        """Whether answers are labels."""
        raise NotImplementedError

    @classmethod
    def open(cls, thresholds: tuple[float, ...] | None = None, fixed: float | None = None) -> Any:
        """Return the task."""
        raise NotImplementedError

    def decide(self, probabilities: Array) -> NDArray[np.bool_]:
        """Return which labels each row is given: bool [rows, labels]."""
        raise NotImplementedError

    @property
    def temperature(self) -> float | None:
        """By which the logits of the probabilities were divided; None where that is not known."""
        return None

    @property
    def decisions(self) -> Decisions:
        """How probabilities become answers beyond the task's own rule; what a task without labels has stays empty."""
        return Decisions()

    def with_decisions(self, decisions: Decisions) -> Self:
        """Return the task with decisions, as settings ask for them or as a manifest keeps them."""
        return self

    def as_rival(self) -> Self:
        """Return the task for a simpler classifier: tuned by the same rule, with nothing found yet."""
        asked = self.decisions
        return self.with_decisions(Decisions(asked.rule, asked.label, costs=asked.costs))

    def confidence(self, probabilities: Array) -> Floats:
        """Return the probability that a row's least certain decision is right: float64 [rows]."""
        predicted, scores = self.decide(probabilities), np.asarray(probabilities, np.float64)
        if self.reads_sets:
            return np.asarray(np.where(predicted, scores, 1 - scores).min(axis=1))
        return np.asarray(scores[np.arange(len(scores)), predicted.argmax(axis=1)])

    def find_shown(self, probabilities: Array) -> NDArray[np.int64]:
        """Return the label that is explained and followed for each row's answer: int64 [rows].

        The answer itself, which need not be the most probable label; of several given labels the most probable, and of
        none given the most probable of all.
        """
        shares = np.asarray(probabilities)
        ranked = shares + 2 * self.decide(shares) if self.gives_labels else shares
        return np.asarray(ranked.argmax(axis=1), np.int64)

    def find_sets(self, probabilities: Array, coverage: str) -> NDArray[np.bool_]:
        """Return which labels are in each row's prediction set: bool [rows, labels]. coverage: of those kept."""
        return find_sets(probabilities, self.decisions.quantiles[coverage], never_empty=not self.reads_sets)

    def describe_tuning(self, probabilities: Array, targets: Array, labels: Sequence[str]) -> list[str]:
        """Return warnings of floors that the tuned task does not reach on the rows it was tuned on."""
        figure, _, floor = (self.decisions.rule or "").partition(">=")
        if not floor or not len(targets):
            return []
        predicted = self.decide(probabilities)
        true = targets > 0 if self.reads_sets else targets[:, None] == np.arange(len(labels))
        chosen = range(len(labels)) if self.decisions.label is None else [self.decisions.label]
        whole = predicted if figure == "precision" else true
        hits, counts = (true & predicted).sum(axis=0), whole.sum(axis=0)
        missed = [i for i in chosen if hits[i] < float(floor) * counts[i] - 1e-9]
        rare = [i for i in missed if self.reads_sets and true[:, i].sum() < PRIOR_ROWS]
        told = ((describe_missed, [i for i in missed if i not in rare]), (describe_rare, rare))
        return [describe(str(self.decisions.rule), [labels[i] for i in which]) for describe, which in told if which]

    def add_decisions(
        self, evaluation: E, probabilities: Array, targets: Array, labels: Sequence[str], unknown: Array, seed: int
    ) -> E:
        """Return an evaluation of this task with how its decisions did, where it is a run's and no rival's.

        unknown: [rows], how many labels of each row the model does not know.
        """
        if self.temperature is None:
            return evaluation
        figures = measure_decisions(self, probabilities, targets, labels, unknown, seed)
        changed: E = replace(cast(Any, evaluation), decision_figures=figures)
        return changed

    def decision_figures(self, evaluation: Any) -> DecisionFigures | None:
        """Return how the decisions did; None where the task or older figures have none."""
        figures: DecisionFigures | None = getattr(evaluation, "decision_figures", None)
        return figures
