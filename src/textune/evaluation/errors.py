"""A model's most confident errors and its most frequent confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.evaluation.metrics import NAMELESS, Evaluation

NO_LABEL = "(no label)"
"""Shown for a row without any true or predicted label."""


UNKNOWN = "unknown label: "
"""How the decision begins where nothing else is wrong: the model cannot know the label."""

MISSED = "false negative: "
"""How the decision begins where a label is missed."""


@dataclass(frozen=True)
class ConfidentError:
    """A confidently misclassified row.

    row: its number in the data. decision: multi-label only, the error that the probability is for, such as "false
    negative: joy".
    """

    row: int
    text: str
    true: str
    predicted: str
    probability: float
    decision: str | None = None

    @property
    def probability_of(self) -> str:
        """What the probability is of where it is not that of a predicted label, to follow the number."""
        missed = self.decision is not None and self.decision.startswith(MISSED)
        return " that this label is absent" if missed else ""


MOST_SHOWN = 20


def find_confident_errors(
    probabilities: NDArray[np.floating[Any]],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    texts: Sequence[str],
    rows: Sequence[int] | NDArray[np.int64],
    count: int = 20,
    *,
    unknown: Sequence[str] = (),
) -> list[ConfidentError]:
    """Return the wrong predictions with the highest probability, most confident first.

    probabilities: float [rows, classes]; targets: int64 [rows], -1 for a label that the model does not know.
    rows: each row's number in the data. unknown: the labels of the rows at -1, in row order.
    Raises ValueError if the lengths differ.
    """
    scores, true = np.asarray(probabilities, dtype=np.float64), np.asarray(targets, dtype=np.int64)
    if not len(scores) == len(true) == len(texts) == len(rows) or scores.shape[1:] != (len(labels),):
        raise ValueError(f"{scores.shape} probabilities, {len(true)} targets, {len(texts)} texts, {len(rows)} rows")
    if not len(scores):
        return []
    answers = GivenLabels(scores.argmax(axis=1), scores.max(axis=1))
    return list_errors(answers, true, labels, texts, rows, count, unknown)


@dataclass(frozen=True)
class GivenLabels:
    """The label given to each row, int64 [rows], and its probability, float64 [rows]."""

    numbers: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def list_errors(
    answers: GivenLabels,
    true: NDArray[np.int64],
    labels: Sequence[str],
    texts: Sequence[str],
    rows: Sequence[int] | NDArray[np.int64],
    count: int,
    unknown: Sequence[str],
) -> list[ConfidentError]:
    """Return the wrong labels given with the highest probability; arguments as for `find_confident_errors`."""
    predicted, confidence = answers.numbers, answers.probabilities
    wrong = np.flatnonzero(predicted != true)
    ranked = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    names = dict(zip(np.flatnonzero(true < 0).tolist(), unknown, strict=False))
    return [
        ConfidentError(
            row=int(rows[i]),
            text=texts[i],
            true=labels[true[i]] if true[i] >= 0 else names.get(i, NAMELESS),
            predicted=labels[predicted[i]],
            probability=float(confidence[i]),
        )
        for i in ranked.tolist()
    ]


def find_confident_set_errors(
    probabilities: NDArray[np.floating[Any]],
    targets: NDArray[Any],
    predicted: NDArray[np.bool_],
    labels: Sequence[str],
    texts: Sequence[str],
    rows: Sequence[int] | NDArray[np.int64],
    *,
    unknown: Sequence[Sequence[str]] = (),
) -> list[ConfidentError]:
    """Return the rows with the most confident false positives or false negatives, and those with unknown labels.

    probabilities, targets (0 or 1), predicted: [rows, labels]. In each error, `probability` is that of the row's worst
    decision, `predicted` lists all predicted labels, and `true` all labels of the row, unknown ones included.
    """
    scores, true = np.asarray(probabilities, dtype=np.float64), np.asarray(targets) > 0
    certain = np.where(predicted, scores, 1 - scores)
    confidence = np.where(true == predicted, 0.0, certain)
    worst, label_of = confidence.max(axis=1, initial=0.0), confidence.argmax(axis=1)
    only_unknown = (worst == 0) & np.array([bool(each) for each in unknown] or [False] * len(true), bool)
    worst = np.where(only_unknown, certain.min(axis=1, initial=1.0), worst)
    ranked = np.argsort(-worst, kind="stable")[:MOST_SHOWN]

    def show(marks: NDArray[np.bool_], extra: Sequence[str] = ()) -> str:
        return ", ".join([*(label for label, mark in zip(labels, marks, strict=True) if mark), *extra]) or NO_LABEL

    return [
        ConfidentError(
            row=int(rows[i]),
            text=texts[i],
            true=show(true[i], unknown[i] if len(unknown) else ()),
            predicted=show(predicted[i]),
            probability=float(worst[i]),
            decision=f"{UNKNOWN}{', '.join(unknown[i])}"
            if only_unknown[i]
            else f"{'false positive: ' if predicted[i, label_of[i]] else MISSED}{labels[label_of[i]]}",
        )
        for i in ranked.tolist()
        if worst[i] > 0
    ]


def count_confusions(evaluation: Evaluation, count: int = 10) -> list[tuple[str, str, int]]:
    """Return the most frequent confusions as (true, predicted, rows), most frequent first."""
    confusion = np.array(evaluation.confusion, dtype=np.int64)
    np.fill_diagonal(confusion, 0)
    flat = confusion.ravel()
    most = np.argsort(-flat, kind="stable")[:count]
    labels = evaluation.labels
    pairs = [(*divmod(cell, len(labels)), int(flat[cell])) for cell in most.tolist()]
    return [(labels[true], labels[predicted], rows) for true, predicted, rows in pairs if rows]
