"""The part of a confusion matrix that a page has room for, and a sentence on the classes that a table leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textune.report.wording import percent, plural


@dataclass(frozen=True)
class Crop:
    """Some classes of a confusion matrix. counts: [true][predicted], and with `others` a last column for the rest.

    others: the number of classes left out.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    others: int = 0


def crop_confusion(labels: Sequence[str], confusion: Sequence[Sequence[int]], *, whole: int, most: int) -> Crop:
    """Return the whole matrix of up to `whole` classes, else the `most` classes with the most errors.

    An error counts for its true and for its predicted class. The classes stay in order.
    """
    if len(labels) <= whole:
        return Crop(tuple(labels), tuple(tuple(row) for row in confusion))
    matrix = np.asarray(confusion, np.int64)
    errors = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diag(matrix)
    kept = np.sort(np.argsort(-errors, kind="stable")[:most])
    part = matrix[np.ix_(kept, kept)]
    counts = np.column_stack([part, matrix[kept].sum(axis=1) - part.sum(axis=1)])
    return Crop(tuple(labels[i] for i in kept), tuple(map(tuple, counts.tolist())), len(labels) - most)


def sum_up_classes(classes: Sequence[Any]) -> str:
    """Return how many classes a table leaves out, with their rows and their mean F1; nothing for none."""
    if not classes:
        return ""
    measured = [f.f1 for f in classes if f.support or f.predicted]
    mean = f"mean F1 {percent(sum(measured) / len(measured))}" if measured else "no figures"
    rows = plural(sum(f.support for f in classes), "row")
    return f"and {plural(len(classes), 'more class')}: {mean}, {rows}"
