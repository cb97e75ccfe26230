"""The classes of a task in a fixed order, and labels as class numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.data.examples import Examples
from textune.data.spelling import find_same_labels, reveal, visible_form
from textune.errors import DataError, suggest

_INTEGER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class Labels:
    """The classes in order: `values` as written in the data, `names` for display."""

    values: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        by_name = {name: number for number, name in enumerate(self.names)}
        return by_name | {value: number for number, value in enumerate(self.values)}

    def encode(self, labels: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return class numbers, int64 [rows], by value or name; -1 for an unknown label."""
        return np.fromiter((self._numbers.get(label, -1) for label in labels), dtype=np.int64, count=len(labels))

    def encode_sets(self, sets: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Return 1 for each label of a row and 0 for the others, float32 [rows, labels]; unknown labels are ignored."""
        marks = np.zeros((len(sets), len(self)), dtype=np.float32)
        known = [
            (row, self._numbers[each]) for row, labels in enumerate(sets) for each in labels if each in self._numbers
        ]
        if known:
            marks[tuple(np.array(known, np.int64).T)] = 1.0
        return marks

    def encode_examples(self, examples: Examples) -> NDArray[Any]:
        """Return training targets: class numbers int64 [rows], or float32 [rows, labels] for multi-label data."""
        if examples.form.sets:
            return self.encode_sets(examples.label_sets())
        return self.encode(examples.labels() or [])

    def find_unknown(self, examples: Examples) -> list[tuple[str, ...]]:
        """Return the unknown labels of each row."""
        return [tuple(v for v in labels if v not in self._numbers) for labels in examples.label_sets()]


def build_labels(row_labels: Sequence[str], pairs: tuple[tuple[str, str], ...] | None) -> Labels:
    """Build the classes from the labels of all training rows, or from the (value, name) pairs of labels=.

    Order: that of the pairs; else by number if all are whole numbers; else by code point.
    Raises DataError for fewer than two classes, labels that are not among the pairs, and labels that print the
    same.
    """
    counts = Counter(row_labels)
    if pairs is not None:
        labels = Labels(tuple(value for value, _ in pairs), tuple(name for _, name in pairs))
        _refuse_unknown(counts, labels)
        return labels
    _refuse_same(counts)
    if len(counts) < 2:
        present = f"only the label '{next(iter(counts))}'" if counts else "no label"
        raise DataError(f"the training rows have {present}", hint="training needs at least two classes")
    numeric = all(_INTEGER.fullmatch(label) for label in counts)
    values = tuple(sorted(counts, key=(lambda label: (int(label), label)) if numeric else None))
    return Labels(values, values)


def _refuse_same(counts: Counter[str]) -> None:
    for labels in find_same_labels(counts):
        rows = " and ".join(f"{reveal(label)} ({counts[label]:,} rows)" for label in labels)
        raise DataError(
            f"the labels {rows} differ only in spaces or in characters that do not print",
            hint="clean the column, or list all classes with labels= if both are intended",
        )


def _refuse_unknown(counts: Counter[str], labels: Labels) -> None:
    known = (*labels.values, *labels.names)
    unknown = [(label, rows) for label, rows in counts.most_common() if label not in known]
    if not unknown:
        return
    lines = []
    for label, rows in unknown[:5]:
        twin = next((name for name in known if visible_form(name) == visible_form(label)), None)
        near = f"; it differs from '{twin}' only in spaces" if twin else suggest(label, known)
        lines.append(
            f"{rows:,} row{'s have' if rows > 1 else ' has'} the label '{label}', which is none of this run's{near}"
        )
    more = f"\n  and {len(unknown) - 5:,} other labels" if len(unknown) > 5 else ""
    raise DataError(
        "\n  ".join(lines) + more, hint=f"its labels, from labels= or the run of init=: {', '.join(labels.values)}"
    )
