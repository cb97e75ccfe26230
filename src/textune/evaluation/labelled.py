"""What evaluations with labels have in common: their averages, what is shown of them, and how they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from textune.errors import BundleError
from textune.evaluation.decisions import DecisionFigures, read_decision_figures, store_decisions
from textune.evaluation.intervals import Interval
from textune.evaluation.probability_figures import ProbabilityFigures, read_figures, store_figures
from textune.evaluation.seen import SeenRows, add_seen
from textune.evaluation.text import describe_evaluation, shorten_evaluation


@dataclass(frozen=True)
class ClassFigures:
    """The scores of one class; support and predicted are numbers of rows."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class Averages:
    """Precision, recall and F1 averaged over classes."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Headline:
    """The headline metric: its name, its value (a share) and its 95% interval."""

    name: str
    value: float
    interval: Interval


class LabelEvaluation:
    """Base of the dataclasses that hold all metrics of one model on one set of rows with labels."""

    rows: int
    macro: Averages
    classes: tuple[ClassFigures, ...]
    intervals: dict[str, Interval]
    probability_figures: ProbabilityFigures | None
    decision_figures: DecisionFigures | None
    seen: SeenRows | None

    def __repr__(self) -> str:
        return shorten_evaluation(self)

    def __str__(self) -> str:
        """Return the figures with their intervals, one a line."""
        return describe_evaluation(self)

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's labels, in order."""
        return tuple(figures.label for figures in self.classes)

    @property
    def further(self) -> tuple[Headline, ...]:
        """The figures beside the first."""
        return (Headline("macro F1", self.macro.f1, self.intervals["macro_f1"]),)

    @property
    def mcc(self) -> float | None:
        """Matthews' correlation; None where it is undefined."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts and numbers for JSON, without loss."""
        bare: Any = replace(self, seen=None, probability_figures=None, decision_figures=None)  # type: ignore[type-var]
        plain = asdict(bare)
        plain["classes"] = list(plain["classes"])
        plain = store_decisions(plain, self.decision_figures)
        return add_seen(store_figures(plain, self.probability_figures, self.mcc), self.seen)


def read_common(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that all evaluations with labels have; raise KeyError or TypeError where one is not there."""
    return {
        "rows": stored["rows"],
        "accuracy": stored["accuracy"],
        "log_loss": stored["log_loss"],
        "macro": Averages(**stored["macro"]),
        "weighted": Averages(**stored["weighted"]),
        "intervals": {name: Interval(**bounds) for name, bounds in stored["intervals"].items()},
        "unknown_labels": dict(stored["unknown_labels"]),
        "probability_figures": read_figures(stored),
        "decision_figures": read_decision_figures(stored),
    }


@contextmanager
def refuse_damaged() -> Iterator[None]:
    """Raise BundleError where anything in a stored evaluation is missing or unexpected."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BundleError(
            f"the stored evaluation cannot be read: {type(error).__name__}: {error}",
            hint="evaluate the run again to rewrite it",
        ) from error
