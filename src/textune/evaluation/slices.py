"""Slices: groups of rows on which a model errs more often than on the rest, found among any conditions on the rows.

Each condition is tested by Fisher's exact test, one-sided: given how many rows meet it and how many errors there are,
how likely are so many errors among them? The p-values are corrected for all conditions that were looked at by Holm's
method (1979, Scandinavian Journal of Statistics 6), so that on data without any such slice at most 1 search in 20
reports one. It is used with weights: each subject (a column, the length, all words) has the same share of the 5%, so
that a thousand words do not hide a column of five values.

What is reported is sorted by its cost, the errors above what the average rate would give (rows times the "weighted
relative accuracy" of subgroup discovery: Lavrač, Flach and Zupan 1999, ILP). A condition is left out if those above it
account for its errors, and two conditions together if one of them does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.evaluation.intervals import Interval, wilson_interval

Rows = NDArray[np.int64]

SIGNIFICANT = 0.05
MOST_SLICES = 20
_FEWEST_ROWS, _MOST_FEWEST = 10, 50
_MOST_PAIRS = 300
_NEARLY_THE_SAME = 0.5
"""Shared rows over all rows of both, from which a slice that adds nothing is named with the other."""
_EXAMPLES = 3


@dataclass(frozen=True, eq=False)
class Condition:
    """A condition that some rows meet.

    kind: what it looks at, such as "column" or "word". subject: of two conditions on the same subject no pair is made.
    rows: positions of the rows that meet it, int64, ascending. paired: whether it is also tried together with others.
    parts: the rows of each of two conditions that hold together here.
    """

    kind: str
    subject: str
    description: str
    rows: Rows
    paired: bool = False
    parts: tuple[Rows, ...] = ()


@dataclass(frozen=True)
class Slice:
    """Rows on which the model errs more often.

    lift: the slice's error rate over that of all rows. excess_errors: above what the average rate would give.
    p: Fisher's exact test, one-sided. adjusted_p: corrected for all conditions examined, to be compared with 0.05.
    also: other conditions that hold for nearly the same rows, or whose errors this one accounts for.
    examples: positions of some of its errors.
    """

    kind: str
    description: str
    rows: int
    errors: int
    interval: Interval
    lift: float
    excess_errors: float
    p: float
    adjusted_p: float
    also: tuple[str, ...] = ()
    examples: tuple[int, ...] = ()

    @property
    def error_rate(self) -> float:
        """The share of its rows that are wrong."""
        return self.errors / self.rows

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        facts = dict(vars(self)) | {"error_rate": self.error_rate, "interval": [self.interval.low, self.interval.high]}
        return facts | {"also": list(self.also), "examples": list(self.examples)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Slice:
        """Rebuild what `to_dict` returned; raise KeyError or TypeError."""
        names = [name for name in cls.__dataclass_fields__ if name not in ("interval", "also", "examples")]
        return cls(
            **{name: stored[name] for name in names},
            interval=Interval(*stored["interval"]),
            also=tuple(stored["also"]),
            examples=tuple(stored["examples"]),
        )


@dataclass(frozen=True)
class SliceSearch:
    """What a search found. examined: the conditions tested, by kind. fewest_rows: of a condition that is tested."""

    rows: int
    errors: int
    slices: tuple[Slice, ...]
    examined: dict[str, int]
    fewest_rows: int

    @property
    def looks(self) -> int:
        """The number of conditions tested, which the p-values are corrected for."""
        return sum(self.examined.values())

    def describe(self) -> str:
        """Return one sentence on what was looked at, and how it was corrected."""
        kinds = ", ".join(f"{count:,} by {kind}" for kind, count in self.examined.items())
        tested = "1 condition" if self.looks == 1 else f"{self.looks:,} conditions"
        return (
            f"{tested} with {self.fewest_rows} rows or more {'was' if self.looks == 1 else 'were'} tested "
            f"({kinds or 'none'}); "
            "p-values are Fisher's exact test, corrected for all of them (Holm, each subject with an equal share)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "rows": self.rows,
            "errors": self.errors,
            "examined": dict(self.examined),
            "looks": self.looks,
            "correction": "Holm, weighted by subject",
            "fewest_rows": self.fewest_rows,
            "slices": [found.to_dict() for found in self.slices],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> SliceSearch:
        """Rebuild what `to_dict` returned; raise KeyError or TypeError."""
        slices = tuple(Slice.from_dict(found) for found in stored["slices"])
        return cls(stored["rows"], stored["errors"], slices, dict(stored["examined"]), stored["fewest_rows"])


def choose_fewest_rows(rows: int) -> int:
    """Return how many rows a condition needs: 10, or 1 in 200, but 50 suffice."""
    return min(_MOST_FEWEST, max(_FEWEST_ROWS, rows // 200))


def find_slices(
    wrong: NDArray[np.bool_], conditions: Sequence[Condition], *, fewest_rows: int | None = None
) -> SliceSearch:
    """Return the conditions under which rows are wrong more often, costliest first.

    wrong: bool [rows]. fewest_rows: of a condition that is tested; default: by the number of rows.
    Which conditions are tested does not depend on `wrong`, so the correction holds.
    """
    marks = np.asarray(wrong, bool)
    fewest = choose_fewest_rows(len(marks)) if fewest_rows is None else fewest_rows
    tested = _list_distinct([*conditions, *_pair(conditions, fewest, len(marks))], fewest, len(marks))
    examined: dict[str, int] = {}
    for condition, _ in tested:
        examined[condition.kind] = examined.get(condition.kind, 0) + 1
    slices = _test(marks, tested) if marks.any() and not marks.all() else []
    return SliceSearch(len(marks), int(marks.sum()), tuple(slices), examined, fewest)


def _pair(conditions: Sequence[Condition], fewest: int, rows: int) -> Iterator[Condition]:
    """Yield conditions that hold together, those on most rows first."""
    usable = [c for c in conditions if c.paired and fewest <= len(c.rows) < rows]
    ranked = sorted(usable, key=lambda c: -len(c.rows))
    tried, marks = 0, np.zeros(rows, bool)
    for a, b in combinations(ranked, 2):
        if a.subject == b.subject:
            continue
        tried += 1
        if tried > _MOST_PAIRS:
            return
        marks[:] = False
        marks[a.rows] = True
        both = b.rows[marks[b.rows]]
        yield Condition("pair", "pairs", f"{a.description}, and {b.description}", both, parts=(a.rows, b.rows))


def _list_distinct(conditions: Sequence[Condition], fewest: int, rows: int) -> list[tuple[Condition, list[str]]]:
    """Return conditions on enough rows, each with those that hold for exactly the same rows."""
    by_rows: dict[bytes, tuple[Condition, list[str]]] = {}
    for condition in conditions:
        if not fewest <= len(condition.rows) < rows:
            continue
        first = by_rows.setdefault(np.asarray(condition.rows, np.int64).tobytes(), (condition, []))
        if first[0] is not condition and condition.kind != "pair":
            first[1].append(condition.description)
    return list(by_rows.values())


def _test(wrong: NDArray[np.bool_], tested: list[tuple[Condition, list[str]]]) -> list[Slice]:
    from scipy.stats import hypergeom

    if not tested:
        return []
    support = np.array([len(condition.rows) for condition, _ in tested])
    errors = np.array([int(wrong[condition.rows].sum()) for condition, _ in tested])
    rows, total = len(wrong), int(wrong.sum())
    excess = errors - support * (total / rows)
    counts, at = np.unique(np.stack([errors, support], axis=1), axis=0, return_inverse=True)  # many have the same
    p = hypergeom.sf(counts[:, 0] - 1, rows, total, counts[:, 1])[at]
    adjusted = adjust_by_subject(p, [condition.subject for condition, _ in tested])
    called = np.flatnonzero((adjusted < SIGNIFICANT) & (excess > 0))
    called = called[np.array([_adds_to_parts(wrong, tested[i][0], len(called)) for i in called], bool)]
    ranked = called[np.argsort(-excess[called], kind="stable")]
    slices = []
    for i, also in _remove_explained(wrong, [tested[i][0].rows for i in ranked]):
        at = ranked[i]
        condition, same = tested[at]
        names = dict.fromkeys([*same, *(tested[ranked[j]][0].description for j in also)])
        slices.append(
            Slice(
                kind=condition.kind,
                description=condition.description,
                rows=int(support[at]),
                errors=int(errors[at]),
                interval=wilson_interval(float(errors[at] / support[at]), int(support[at])),
                lift=float(errors[at] / support[at] / (total / rows)),
                excess_errors=float(excess[at]),
                p=float(p[at]),
                adjusted_p=float(adjusted[at]),
                also=tuple(names),
                examples=tuple(condition.rows[wrong[condition.rows]][:_EXAMPLES].tolist()),
            )
        )
    return slices


def adjust_by_subject(p_values: NDArray[np.float64], subjects: Sequence[str]) -> NDArray[np.float64]:
    """Return p-values corrected by Holm's weighted method: every subject has the same weight, shared by its members."""
    members = Counter(subjects)
    weights = np.array([1 / (len(members) * members[subject]) for subject in subjects])
    order = np.argsort(p_values / weights, kind="stable")
    left = np.cumsum(weights[order][::-1])[::-1]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, p_values[order] / weights[order] * left))
    return adjusted


def _adds_to_parts(wrong: NDArray[np.bool_], condition: Condition, called: int) -> bool:
    """Return whether two conditions together have more errors than either of them gives reason to expect."""
    from scipy.stats import hypergeom

    errors = int(wrong[condition.rows].sum())
    return all(
        hypergeom.sf(errors - 1, len(part), int(wrong[part].sum()), len(condition.rows)) < SIGNIFICANT / called
        for part in condition.parts
    )


def _remove_explained(wrong: NDArray[np.bool_], ranked: list[Rows]) -> list[tuple[int, list[int]]]:
    """Return which slices have more errors than those above them account for, each with those nearly the same.

    The rows are stratified by the first kept slice that they belong to. Within the strata a slice must still have more
    errors than expected (Mantel and Haenszel 1959, one-sided), corrected for the number of slices tested so.
    """
    from scipy.special import ndtr

    stratum = np.zeros(len(wrong), np.int64)
    kept: list[tuple[int, list[int]]] = []
    for i, rows in enumerate(ranked):
        size = np.bincount(stratum, minlength=len(kept) + 1).astype(np.float64)
        errors = np.bincount(stratum[wrong], minlength=len(size))
        inside = np.bincount(stratum[rows], minlength=len(size))
        expected = inside * errors / np.maximum(size, 1)
        spread = inside * (size - inside) * errors * (size - errors) / np.maximum(size**2 * (size - 1), 1)
        more = int(wrong[rows].sum()) - expected.sum() - 0.5
        if len(kept) < MOST_SLICES and (
            not kept or ndtr(-more / np.sqrt(max(spread.sum(), 1e-12))) < SIGNIFICANT / len(ranked)
        ):
            kept.append((i, []))
            stratum[rows[stratum[rows] == 0]] = len(kept)
            continue
        shared = [_share_rows(rows, ranked[j]) for j, _ in kept]
        nearest = int(np.argmax(shared))
        if shared[nearest] >= _NEARLY_THE_SAME:
            kept[nearest][1].append(i)
    return kept


def _share_rows(a: Rows, b: Rows) -> float:
    """Return the Jaccard similarity of two sets of rows."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)
