"""The review file: rows whose labels look wrong, for a person to correct and `fixes=` to take back."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.data import Examples, Labels, find_copies
from textune.data.fixes import CORRECT, KEY, ROW, TABLE, TEXT, TEXT_PAIR, make_key, show_label
from textune.errors import ConfigError, flag
from textune.evaluation.doubtful import Doubt, find_doubtful
from textune.evaluation.text import percent
from textune.inference.writers import escape_formula
from textune.run.neighbours import NEIGHBOURS, TrainingSpace
from textune.run.predicted_rows import PredictedRows
from textune.run.review_file import LABEL, SCORE, SUGGESTED, WHY, EarlierFixes, write_rows
from textune.tasks import Task


@dataclass(frozen=True)
class ReviewRow:
    """A row whose label looks wrong. table: the setting that names its table. score: from 0 to 1, larger is worse."""

    table: str
    row: int
    label: str
    suggested_label: str
    score: float
    why: str
    text: str
    text_pair: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return dict(vars(self))


def check_review_path(path: str | Path, *, overwrite: bool) -> Path:
    """Return where the review file goes; raise ConfigError before any work if it cannot be written there."""
    place = Path(path)
    if place.is_dir():
        raise ConfigError(f"{place}: is a folder", hint="give the name of a file, such as review.csv")
    if place.suffix.lower() not in (".csv", ".tsv"):
        raise ConfigError(f"{place}: a review file is CSV", hint="give it a name that ends in .csv or .tsv")
    if not place.parent.is_dir():
        raise ConfigError(
            f"{place}: its folder does not exist", hint=f"make it: mkdir -p {shlex.quote(str(place.parent))}"
        )
    if place.exists() and not overwrite:
        raise ConfigError(f"{place}: already exists", hint=f"choose another name, or add {flag('overwrite')}")
    return place


def review_predicted(rows: PredictedRows, task: Task, space: TrainingSpace | None) -> list[ReviewRow]:
    """Return the rows of an evaluation whose labels look wrong. space: the training rows, if they could be read."""
    votes = None
    if space is not None:  # a training row with the same text may be the row itself, and would confirm its label
        votes = space.vote(space.place(rows.examples), skip=find_copies(space.examples, rows.examples))
    voters = NEIGHBOURS if space is None else min(NEIGHBOURS, len(space.directions))
    source = _Source(rows.table, rows.examples, rows.labels, task, "the tuned model gives", voters)
    return source.review(rows.probabilities, votes)


def review_training(space: TrainingSpace, task: Task, seed: int) -> list[ReviewRow]:
    """Return the training rows whose labels look wrong to models and neighbors that did not see them."""
    votes = space.vote(space.directions, skip=np.arange(len(space.directions)))
    voters = min(NEIGHBOURS, len(space.directions) - 1)
    source = _Source("data", space.examples, space.labels, task, "a model trained without this row gives", voters)
    return source.review(space.predict_out_of_fold(task, seed), votes)


@dataclass(frozen=True)
class _Source:
    """Labelled rows to be reviewed. giver: how `why` begins. neighbours: how many training texts vote on each."""

    table: str
    examples: Examples
    labels: Labels
    task: Task
    giver: str
    neighbours: int = NEIGHBOURS

    def review(self, probabilities: NDArray[Any], votes: NDArray[Any] | None) -> list[ReviewRow]:
        labelled = self.labels.encode_sets(self.examples.label_sets()) > 0
        found = find_doubtful(labelled, probabilities, votes, exclusive=not self.task.reads_sets)
        texts, pairs, numbers = self.examples.texts(), self.examples.text_pairs(), self.examples.rows()
        sets = self.examples.label_sets()
        names = dict(zip(self.labels.values, self.labels.names, strict=True))
        return [
            ReviewRow(
                self.table,
                int(numbers[doubt.row]),
                self._show([names.get(label, label) for label in sets[doubt.row]]),
                self._show([name for name, mark in zip(self.labels.names, doubt.suggested, strict=True) if mark]),
                round(doubt.score, 4),
                self._explain(doubt, labelled, probabilities, votes),
                texts[doubt.row],
                None if pairs is None else pairs[doubt.row],
            )
            for doubt in found
        ]

    def _show(self, labels: Sequence[str]) -> str:
        return show_label(labels, self.examples, self.labels.names)

    def _explain(
        self, doubt: Doubt, labelled: NDArray[np.bool_], probabilities: NDArray[Any], votes: NDArray[Any] | None
    ) -> str:
        """Return why a label is doubted: what the model gives, and what the neighbors have."""
        name, row = self.labels.names[doubt.label], probabilities[doubt.row]
        shares = [f"'{name}' {percent(float(row[doubt.label]))}"]
        others = [] if self.task.reads_sets else np.flatnonzero(labelled[doubt.row]).tolist()
        shares += [f"'{self.labels.names[i]}' {percent(float(row[i]))}" for i in others]
        reasons = [f"{self.giver} {', '.join(shares)}"]
        if votes is not None:
            near = round(float(votes[doubt.row, doubt.label]) * self.neighbours)
            reasons.append(f"{near} of the {self.neighbours} nearest training texts are '{name}'")
        return "; ".join(reasons)


def write_review(path: Path, rows: Sequence[ReviewRow], earlier: EarlierFixes) -> None:
    """Write the review file, most doubtful first, with an empty column to fill; no cell runs as a formula.

    earlier: what the file begins with.
    """
    write_rows(path, earlier.put_first([_describe(row) for row in rows]))


def _describe(row: ReviewRow) -> dict[str, str]:
    cells = {
        LABEL: row.label,
        SUGGESTED: row.suggested_label,
        CORRECT: "",
        SCORE: f"{row.score:.4f}",
        WHY: row.why,
        TEXT: row.text,
    }
    cells |= {} if row.text_pair is None else {TEXT_PAIR: row.text_pair}
    safe = {name: escape_formula(cell) for name, cell in cells.items()}
    return {TABLE: row.table, ROW: str(row.row), **safe, KEY: make_key(row.text, row.text_pair)}
