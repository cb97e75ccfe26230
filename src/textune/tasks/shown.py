"""What report, card and command line read of any task's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from textune.evaluation import Evaluation, Headline, MultiLabelEvaluation, count_confusions
from textune.evaluation.text import show_name

MAJORITY = "majority class"
TFIDF = "TF-IDF + logistic regression"
PROBE = "frozen embeddings + logistic regression"
BASE = "base model before tuning"
LIKELIHOOD = "label likelihood without tuning"
TUNED = "tuned model"
FREQUENT = "most frequent training answer"
NEAREST = "nearest training row's answer"


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


def describe_wrong_classes(evaluation: Evaluation, split: str) -> str:
    """Return how many rows are misclassified, and the confusion that most of them are, in one sentence."""
    rows, classes = evaluation.rows, evaluation.classes
    wrong = rows - sum(row[i] for i, row in enumerate(evaluation.confusion))
    if not wrong:
        return f"All {rows:,} {split} rows are classified correctly."
    answer = f"{wrong:,} of {rows:,} {split} rows {'is' if wrong == 1 else 'are'} misclassified"
    unknown, pairs = sum(evaluation.unknown_labels.values()), count_confusions(evaluation, 2)
    kinds = [f"'{show_name(true)}' taken for '{show_name(given)}'" for true, given, _ in pairs]
    if unknown > wrong / 2:
        return f"{answer}, most of them because the model does not know their labels ({unknown:,})."
    if unknown:
        answer += f", {unknown:,} of them because the model does not know their labels"
    if pairs and wrong == 1:
        return f"{answer}: {kinds[0]}."
    if pairs and pairs[0][2] > wrong / 2:
        return f"{answer}, {'and ' if unknown else ''}most of them {kinds[0]} ({pairs[0][2]:,})."
    if len(classes) == 2 and len(pairs) == 2:
        split_up = ", ".join(
            f"{n:,} {'is' if n == 1 else 'are'} {kind}" for kind, (_, _, n) in zip(kinds, pairs, strict=True)
        )
        return f"{answer}{'; of the others ' if unknown else ': '}{split_up}."
    if pairs and pairs[0][2] == 1:
        return f"{answer}; no {'other ' if unknown else ''}confusion occurs twice."
    return f"{answer}; the most frequent confusion is {kinds[0]} ({pairs[0][2]:,})." if pairs else f"{answer}."


def describe_wrong_sets(evaluation: MultiLabelEvaluation, split: str) -> str:
    """Return how many rows have a wrong or missing label, and the label that most errors are on, in one sentence."""
    rows = evaluation.rows
    wrong = rows - round(evaluation.accuracy * rows)
    if not wrong:
        return f"All labels of all {rows:,} {split} rows are right."
    answer = f"{wrong:,} of {rows:,} {split} rows {'has' if wrong == 1 else 'have'} a wrong or missing label"
    worst = max(evaluation.classes, key=lambda f: f.support + f.predicted - 2 * f.hits)
    missed, extra = worst.support - worst.hits, worst.predicted - worst.hits
    if not missed + extra:
        return f"{answer}."
    return f"{answer}, most often '{show_name(worst.label)}' ({missed:,} missed, {extra:,} wrongly given)."
