"""Data checks before training: duplicates, overlap between splits, text lengths, unusual rows."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.data.examples import Examples
from textune.data.odd_texts import OddTexts, find_odd_texts
from textune.data.scripts import dominant_scripts
from textune.data.shingles import find_near
from textune.data.spelling import find_label_twins
from textune.data.table import Table

NEAR_THRESHOLD = 0.85
MAX_NEAR_ROWS = 50_000
_MAX_CHECKS = 100_000
_SHOWN = 5
_EXCERPT_CHARS = 80


@dataclass(frozen=True)
class Overlap:
    """Rows of another table that also appear in the training rows.

    exact: rows with the same text, ignoring case and white space. near: rows whose word 3-grams have a Jaccard
    similarity of at least 0.85. examples: (training row, other row, excerpt), exact ones first. note: which rows were
    not compared.
    """

    exact: int
    near: int
    examples: tuple[tuple[int, int, str], ...]
    note: str = ""


@dataclass(frozen=True)
class Conflict:
    """One text with conflicting labels."""

    rows: tuple[int, ...]
    labels: tuple[str, ...]
    excerpt: str


@dataclass(frozen=True)
class OddScript:
    """Rows in a script other than the most common one: the script, how many, and the first few row numbers."""

    script: str
    count: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class DataFacts:
    """Facts about examples; row numbers are those of the source.

    rows_labelled: rows with at least one label; in multi-label data a row may have none.
    words: mean, median, p95 and max of the words per text, split at white space.
    exact_duplicates: rows that repeat an earlier text, ignoring case and white space.
    conflicting_duplicates: rows whose text also appears with another label; `conflicts` shows some.
    label_twins: labels that look alike. empty_cells: missing cells by column.
    odd_texts: texts that are hardly texts.
    """

    rows: int
    no_text: int
    no_label: int
    rows_labelled: int
    label_counts: dict[str, int]
    words: dict[str, float]
    exact_duplicates: int
    conflicting_duplicates: int
    conflicts: tuple[Conflict, ...]
    label_twins: tuple[tuple[str, ...], ...]
    empty_cells: dict[str, int]
    script: str
    odd_scripts: tuple[OddScript, ...]
    odd_texts: tuple[OddTexts, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return a dict that JSON can store."""
        return dataclasses.asdict(self)


def fold_text(text: str) -> str:
    """Return the text case-folded and with single spaces, for comparing texts."""
    return " ".join(text.casefold().split())


def list_keys(texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[str]:
    """Return what is compared of each row: its text, or both of a pair, ignoring case and white space."""
    if pairs is None:
        return [fold_text(text) for text in texts]
    return [f"{fold_text(text)} \x1f {fold_text(pair)}" for text, pair in zip(texts, pairs, strict=True)]


def number_repeated(examples: Examples) -> NDArray[np.int64] | None:
    """Return a number for each row's text, equal for equal texts: int64 [rows]; None where no text occurs twice."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(key, len(numbers)) for key in _keys(examples)]
    return None if len(numbers) == len(found) else np.array(found, np.int64)


def _keys(examples: Examples) -> list[str]:
    return list_keys(examples.texts(), examples.text_pairs())


def find_copies(train: Examples, other: Examples) -> NDArray[np.int64]:
    """Return the position of the first training row with each row's text, int64 [rows]; -1 where there is none."""
    return _match_keys(_keys(train), _keys(other))


def _match_keys(train_keys: Sequence[str], other_keys: Sequence[str]) -> NDArray[np.int64]:
    first_of: dict[str, int] = {}
    for position, key in enumerate(train_keys):
        first_of.setdefault(key, position)
    return np.array([first_of.get(key, -1) for key in other_keys], np.int64)


def find_overlap(train: Examples, other: Examples) -> Overlap:
    """Find rows of `other` that also appear in `train`, exactly or nearly.

    All rows are checked for exact overlap; at most 50,000 evenly spaced rows of each side for near overlap.
    """
    train_keys, other_keys = _keys(train), _keys(other)
    exact = {
        position: first for position, first in enumerate(_match_keys(train_keys, other_keys).tolist()) if first >= 0
    }
    left, right = _spread(range(len(train))), _spread([p for p in range(len(other)) if p not in exact])
    matches = find_near([train_keys[p] for p in left], [other_keys[p] for p in right], NEAR_THRESHOLD, _MAX_CHECKS)
    near = {right[r]: left[position] for r, position in matches.items()}
    sampled = len(left) < len(train) or len(right) < len(other) - len(exact)
    note = f"near-duplicates: {len(left):,} of {len(train):,} and {len(right):,} of {len(other):,} rows compared"
    train_rows, other_rows, texts = train.rows(), other.rows(), other.arrow.column("text")
    examples = [
        (int(train_rows[in_train]), int(other_rows[in_other]), excerpt(texts[in_other].as_py()))
        for pairs in (exact, near)
        for in_other, in_train in sorted(pairs.items())[:_SHOWN]
    ]
    return Overlap(len(exact), len(near), tuple(examples), note if sampled else "")


def _spread(positions: range | list[int]) -> list[int]:
    if len(positions) <= MAX_NEAR_ROWS:
        return list(positions)
    return [positions[int(i)] for i in np.linspace(0, len(positions) - 1, MAX_NEAR_ROWS)]


def excerpt(text: str) -> str:
    """Return the start of a text as a single line."""
    line = " ".join(text[: 4 * _EXCERPT_CHARS].split())
    return line if len(line) <= _EXCERPT_CHARS else line[: _EXCERPT_CHARS - 3] + "..."


def inspect_examples(examples: Examples, table: Table | None = None) -> DataFacts:
    """Collect facts about the examples and about the table they were built from."""
    texts, sets = examples.texts(), examples.label_sets()
    labels = [label for row_labels in sets for label in row_labels]
    lengths = np.array([len(text.split()) for text in texts] or [0])
    duplicates, conflicting, conflicts = _duplicates(examples, [", ".join(row_labels) for row_labels in sets])
    script, odd = _odd_scripts(examples, texts)
    empty = {c: int(table.arrow.column(c).null_count) for c in table.columns} if table is not None else {}
    return DataFacts(
        rows=len(examples),
        no_text=len(examples.no_text),
        no_label=len(examples.no_label),
        rows_labelled=sum(bool(labels) for labels in sets),
        label_counts=dict(Counter(labels).most_common()),
        words={
            "mean": round(float(lengths.mean()), 1),
            "median": float(np.median(lengths)),
            "p95": round(float(np.percentile(lengths, 95)), 1),
            "max": float(lengths.max()),
        },
        exact_duplicates=duplicates,
        conflicting_duplicates=conflicting,
        conflicts=conflicts,
        label_twins=tuple(find_label_twins(labels)),
        empty_cells=empty,
        script=script,
        odd_scripts=odd,
        odd_texts=find_odd_texts(examples),
    )


def _duplicates(examples: Examples, labels: list[str]) -> tuple[int, int, tuple[Conflict, ...]]:
    positions: dict[str, list[int]] = {}
    for position, key in enumerate(_keys(examples)):
        positions.setdefault(key, []).append(position)
    repeated = [group for group in positions.values() if len(group) > 1]
    conflicting = [group for group in repeated if labels and len({labels[p] for p in group}) > 1]
    rows, texts = examples.rows(), examples.arrow.column("text")
    conflicts = tuple(
        Conflict(
            tuple(int(rows[p]) for p in group[:_SHOWN]),
            tuple(labels[p] for p in group[:_SHOWN]) if labels else (),
            excerpt(texts[group[0]].as_py()),
        )
        for group in conflicting[:_SHOWN]
    )
    return sum(len(p) - 1 for p in repeated), sum(len(p) for p in conflicting), conflicts


def _odd_scripts(examples: Examples, texts: list[str]) -> tuple[str, tuple[OddScript, ...]]:
    scripts = dominant_scripts(texts)
    counts = Counter(script for script in scripts if script)
    if not counts:
        return "", ()
    main_script = counts.most_common(1)[0][0]
    rows = examples.rows()
    odd = []
    for script, count in counts.most_common()[1:]:
        positions = [position for position, row_script in enumerate(scripts) if row_script == script][:_SHOWN]
        odd.append(OddScript(script, count, tuple(int(rows[p]) for p in positions)))
    return main_script, tuple(odd)


def count_shared_groups(train: Examples, other: Examples) -> int:
    """Return how many groups have rows on both sides; 0 without a group column."""
    train_groups, other_groups = (set(part.groups() or ()) - {None} for part in (train, other))
    return len(train_groups & other_groups)
