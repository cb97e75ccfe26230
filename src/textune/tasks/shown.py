"""What report, card and command line read of any task's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from textune.evaluation import Headline

MAJORITY = "majority class"
TFIDF = "TF-IDF + logistic regression"
PROBE = "frozen embeddings + logistic regression"
BASE = "base model before tuning"
TUNED = "tuned model"


class AnyEvaluation(Protocol):
    """The figures of one model on one set of rows, as report, card and command line read them.

    classes: of each label, if there are labels. unknown_labels: labels that the model does not know, with their rows.
    log_loss: in nats, where there is one.
    """

    @property
    def task(self) -> str:
        """The task's name."""

    @property
    def rows(self) -> int:
        """The number of rows."""

    @property
    def headline(self) -> Headline:
        """The figure that stands first: a share, the larger the better."""

    @property
    def further(self) -> tuple[Headline, ...]:
        """The figures beside it, each a share with its interval."""

    @property
    def summary(self) -> dict[str, float]:
        """The figures that the manifest keeps, by name."""

    @property
    def intervals(self) -> dict[str, Any]:
        """95% intervals of the figures in `summary`."""

    @property
    def classes(self) -> Sequence[Any]:
        """How each label fared."""

    @property
    def log_loss(self) -> float | None:
        """Nats per row or decision."""

    @property
    def unknown_labels(self) -> dict[str, int]:
        """Labels that the model does not know, with their rows."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""

    def report_text(self) -> str:
        """Return every figure as plain text."""


class AnyPrediction(Protocol):
    """One text's prediction. probabilities: of every label."""

    @property
    def probabilities(self) -> dict[str, float]:
        """Of every label."""

    @property
    def answer(self) -> dict[str, float]:
        """What the text is given, with the probability."""


@dataclass(frozen=True)
class Column:
    """A column of the table of labels. show: takes a label's figures and the number of rows, and returns the cell."""

    heading: str
    show: Callable[[Any, int], str]
