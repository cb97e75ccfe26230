"""Where a model errs: its most confident wrong answers and the classes it confuses most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.evaluation.metrics import NAMELESS, Evaluation

NO_LABEL = "(no label)"
"""Stands where a row has, or was given, no label at all."""


@dataclass(frozen=True)
class ConfidentError:
    """A row that the model got wrong while being sure; row is its number in the data.

    decision: with several labels per text, the wrong decision that the probability is of, such as "joy withheld".
    """

    row: int
    text: str
    true: str
    predicted: str
    probability: float
    decision: str | None = None


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
    """Return the wrong answers of the highest probability, surest first.

    probabilities: float [rows, classes]; targets: int64 [rows], -1 for a label that the model does not know.
    rows: each row's number in the data. unknown: the labels of the rows at -1, in the order of the rows.
    Raises ValueError where the lengths differ.
    """
    scores, true = np.asarray(probabilities, dtype=np.float64), np.asarray(targets, dtype=np.int64)
    if not len(scores) == len(true) == len(texts) == len(rows) or scores.shape[1:] != (len(labels),):
        raise ValueError(f"{scores.shape} probabilities, {len(true)} targets, {len(texts)} texts, {len(rows)} rows")
    if not len(scores):
        return []
    predicted, sureness = scores.argmax(axis=1), scores.max(axis=1)
    wrong = np.flatnonzero(predicted != true)
    surest = wrong[np.argsort(-sureness[wrong], kind="stable")][:count]
    names = dict(zip(np.flatnonzero(true < 0).tolist(), unknown, strict=False))
    return [
        ConfidentError(
            row=int(rows[i]),
            text=texts[i],
            true=labels[true[i]] if true[i] >= 0 else names.get(i, NAMELESS),
            predicted=labels[predicted[i]],
            probability=float(sureness[i]),
        )
        for i in surest.tolist()
    ]


def find_confident_set_errors(
    probabilities: NDArray[np.floating[Any]],
    targets: NDArray[Any],
    given: NDArray[np.bool_],
    labels: Sequence[str],
    texts: Sequence[str],
    rows: Sequence[int] | NDArray[np.int64],
    *,
    unknown: Sequence[Sequence[str]] = (),
) -> list[ConfidentError]:
    """Return the rows with the most confident wrong decisions: a label given that the row has not, or withheld.

    probabilities, targets (0 or 1), given: [rows, labels]. probability: of the row's worst decision; `predicted` holds
    all labels given, `true` all that the row has, with the unknown ones.
    """
    scores, true = np.asarray(probabilities, dtype=np.float64), np.asarray(targets) > 0
    sureness = np.where(true == given, 0.0, np.where(given, scores, 1 - scores))
    worst, label_of = sureness.max(axis=1, initial=0.0), sureness.argmax(axis=1)
    surest = np.argsort(-worst, kind="stable")[:MOST_SHOWN]

    def show(marks: NDArray[np.bool_], more: Sequence[str] = ()) -> str:
        return ", ".join([*(label for label, mark in zip(labels, marks, strict=True) if mark), *more]) or NO_LABEL

    return [
        ConfidentError(
            row=int(rows[i]),
            text=texts[i],
            true=show(true[i], unknown[i] if len(unknown) else ()),
            predicted=show(given[i]),
            probability=float(worst[i]),
            decision=f"{labels[label_of[i]]} {'given' if given[i, label_of[i]] else 'withheld'}",
        )
        for i in surest.tolist()
        if worst[i] > 0
    ]


def count_confusions(evaluation: Evaluation, count: int = 10) -> list[tuple[str, str, int]]:
    """Return the most frequent confusions as (true, predicted, rows), most rows first."""
    confusion = np.array(evaluation.confusion, dtype=np.int64)
    np.fill_diagonal(confusion, 0)
    flat = confusion.ravel()
    most = np.argsort(-flat, kind="stable")[:count]
    labels = evaluation.labels
    pairs = [(*divmod(cell, len(labels)), int(flat[cell])) for cell in most.tolist()]
    return [(labels[true], labels[predicted], rows) for true, predicted, rows in pairs if rows]
