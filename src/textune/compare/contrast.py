"""What each of two runs gets right that the other does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from textune.compare.groups import Group
from textune.compare.records import RunRecord
from textune.errors import BundleError
from textune.evaluation.errors import NO_LABEL
from textune.report.contrast import Contrast, ContrastRow, Side
from textune.run.error_analysis import search_differences
from textune.run.predicted_rows import PredictedRows
from textune.run.predictions import joined_texts

_EXAMPLES, _SLICES = 5, 3
_LONGEST_TEXT = 300


def contrast_groups(one: Group, other: Group) -> Contrast | None:
    """Return where the runs of two groups differ: those of their first common seed, or the first of each.

    None if the first run's rows cannot be read with their probabilities, which older runs may lack.
    """
    common = [seed for seed in one.seeds if seed in other.seeds]
    first, second = (_choose_run(group, common) for group in (one, other))
    right = [_mark_right(run) for run in (first, second)]
    try:
        rows, searches = search_differences(first.folder, first.manifest, right[0], right[1])
    except BundleError:
        return None
    texts = joined_texts(rows.examples)
    sides = [
        Side(
            name=group.name,
            only=int((mine & ~theirs).sum()),
            rows=tuple(_show_rows(np.flatnonzero(mine & ~theirs), rival, rows, texts)),
            slices=search.slices[:_SLICES],
        )
        for group, mine, theirs, rival, search in (
            (one, right[0], right[1], second, searches[0]),
            (other, right[1], right[0], first, searches[1]),
        )
    ]
    both, neither = int((right[0] & right[1]).sum()), int((~right[0] & ~right[1]).sum())
    return Contrast(sides[0], sides[1], (first.seed, second.seed), both, neither, searches[0].looks)


def _choose_run(group: Group, seeds: Sequence[int]) -> RunRecord:
    return next((run for run in group.runs if run.seed in seeds[:1]), group.runs[0])


def _mark_right(run: RunRecord) -> NDArray[np.bool_]:
    """Return which rows a run gets entirely right."""
    return np.asarray((run.true == run.predicted).all(axis=1) & ~run.unknown.any(axis=1))


def _show_rows(
    positions: NDArray[np.int64], rival: RunRecord, rows: PredictedRows, texts: Sequence[str]
) -> list[ContrastRow]:
    """Return the first rows with their labels and what the other run answers."""
    numbers, shown = rows.examples.rows(), []
    for at in positions[:_EXAMPLES].tolist():
        label = rival.labels[at]
        right = ", ".join(map(str, label)) if isinstance(label, tuple) else str(label)
        answers = [name for name, marked in zip(rival.manifest.labels, rival.predicted[at], strict=True) if marked]
        text = " ".join(texts[at].split())[:_LONGEST_TEXT]
        shown.append(ContrastRow(int(numbers[at]), text, right or NO_LABEL, ", ".join(answers) or NO_LABEL))
    return shown
