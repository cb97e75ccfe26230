"""Rows of a run's own evaluation to try: right ones and wrong ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from textune.app.answers import MOST_CHARACTERS
from textune.app.loading import stamp_bundle
from textune.printable import holds_text

COUNT = 6


@dataclass(frozen=True)
class ExampleRow:
    """A row of the evaluation. true, given: its label and what the run answered."""

    row: int
    text: str
    second: str | None
    true: str
    predicted: str

    @property
    def right(self) -> bool:
        """Whether the run answered with the row's label."""
        return self.true == self.predicted


def list_examples(folder: Path, count: int = COUNT) -> tuple[ExampleRow, ...]:
    """Return some rows that the run was evaluated on, wrong and right ones in turn; none where it kept none."""
    rows: tuple[ExampleRow, ...] = _list_examples(str(folder.absolute()), stamp_bundle(folder), count)
    return rows


@st.cache_data(max_entries=16, show_spinner=False)  # type: ignore[untyped-decorator]
def _list_examples(place: str, stamp: tuple[int, int, int], count: int) -> tuple[ExampleRow, ...]:
    import pyarrow as pa

    from textune.bundle import read_manifest
    from textune.run.other_rows import PREDICTIONS
    from textune.run.predictions import read_predictions

    path = Path(place) / "evaluation" / PREDICTIONS
    try:
        stored = read_predictions(path, read_manifest(place, verify=False))
        return pick_examples(stored, count)
    except (OSError, KeyError, pa.ArrowException):
        return ()


def pick_examples(stored: dict[str, list[Any]], count: int = COUNT) -> tuple[ExampleRow, ...]:
    """Return up to half of the rows from those that are answered wrongly, the rest from the others."""
    seconds = stored.get("text_pair") or [None] * len(stored["text"])
    columns = (stored["row"], stored["text"], seconds, stored["label"], stored["predicted_label"])
    rows = [
        ExampleRow(int(n), t, s, _join(true), _join(predicted))
        for n, t, s, true, predicted in zip(*columns, strict=True)
        if predicted is not None  # a model that writes answers some of its rows only
    ]
    short = [row for row in rows if len(row.text) <= MOST_CHARACTERS and holds_text(row.text)]
    drawn = [short[i] for i in np.random.default_rng(0).permutation(len(short))]
    wrong, right = ([row for row in drawn if row.right == wanted] for wanted in (False, True))
    chosen = wrong[: count // 2]
    chosen = right[: count - len(chosen)] + chosen
    return tuple(sorted(chosen, key=lambda row: drawn.index(row)))


def _join(label: Any) -> str:
    """Return a label, or several in one order: the table sorts them, the model has an order of its own."""
    return ", ".join(sorted(map(str, label))) if isinstance(label, list) else str(label)
