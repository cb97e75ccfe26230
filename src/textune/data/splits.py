"""Training, validation and test rows: stratified by label, the same for one seed, groups kept together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.data.examples import Examples
from textune.errors import DataError

Array = NDArray[Any]
TRAIN, VALIDATION, TEST = 0, 1, 2
_SPLIT_STREAM = 2  # keeps the draws of splits apart from those of samples under one seed


@dataclass(frozen=True)
class Splits:
    """The parts of the examples, None where not asked for; `notes` says what a person should know."""

    train: Examples
    validation: Examples | None
    test: Examples | None
    notes: tuple[str, ...]


def split_examples(
    examples: Examples, *, validation_fraction: float, test_fraction: float, seed: int, grouped: bool
) -> Splits:
    """Split by label in proportion; the order of the source is kept inside each part.

    Each fraction is of all rows. Every class keeps at least one row in training.
    grouped: rows with equal group values stay on one side; the proportions are met as nearly as they allow.
    Raises DataError where the rows or groups do not suffice.
    """
    fractions = np.array([1.0 - validation_fraction - test_fraction, validation_fraction, test_fraction])
    if fractions[TRAIN] <= 0 or fractions.min() < 0:
        raise DataError(
            f"validation and test take {validation_fraction:g} + {test_fraction:g} of the rows: none is left",
            hint="make the fractions smaller",
        )
    values = _strata(examples)
    names = sorted(set(values))
    number_of = {name: number for number, name in enumerate(names)}
    classes = np.fromiter((number_of[value] for value in values), dtype=np.int64, count=len(values))
    rng = np.random.default_rng([seed, _SPLIT_STREAM])
    if grouped:
        part = _assign_groups(_group_numbers(examples), classes, fractions, rng)
    else:
        part = _assign_rows(classes, fractions, rng)
    _refuse_empty(part, fractions, len(examples), grouped)
    pieces = [examples.take(np.flatnonzero(part == p)) if fractions[p] > 0 else None for p in (TRAIN, VALIDATION, TEST)]
    train = pieces[TRAIN]
    assert train is not None
    return Splits(train, pieces[VALIDATION], pieces[TEST], tuple(_notes(examples, names, classes, part, fractions)))


def split_folds(examples: Examples, folds: int, seed: int, *, grouped: bool = False) -> Array:
    """Return the fold of each row, by label in proportion: int64 [rows]; each fold is validated on once.

    grouped: rows with equal group values are in one fold. Raises DataError where a fold would be empty.
    """
    values = _strata(examples)
    classes = np.unique(np.asarray(values, dtype=object).astype(str), return_inverse=True)[1]
    rng = np.random.default_rng([seed, _SPLIT_STREAM])
    if grouped:
        fold = _assign_groups(_group_numbers(examples), classes, np.full(folds, 1 / folds), rng, alike=True)
    else:
        shuffled = rng.permutation(len(classes))
        fold = np.empty(len(classes), dtype=np.int64)
        fold[shuffled[np.argsort(classes[shuffled], kind="stable")]] = np.arange(len(classes)) % folds
    if len(np.unique(fold)) < folds:
        groups = ", whose groups stay whole," if grouped else ""
        raise DataError(f"{len(examples):,} rows{groups} do not suffice for {folds} folds", hint="set fewer folds")
    return fold


def _strata(examples: Examples) -> list[str]:
    """Return what a row is split by: its label; of several labels the rarest, which a draw would miss first."""
    sets = examples.label_sets()
    counts = Counter(label for labels in sets for label in labels)
    return [min(labels, key=lambda v: (counts[v], v), default="") for labels in sets] or [""] * len(examples)


def _part_sizes(rows: int, fractions: Array) -> Array:
    """Return the rows of each part; a part that is asked for gets at least one."""
    sizes = np.array([int(np.floor(rows * f + 0.5)) for f in fractions])
    sizes[1:] = np.where((fractions[1:] > 0) & (sizes[1:] == 0), 1, sizes[1:])
    sizes[TRAIN] = rows - sizes[1:].sum()
    return sizes


def _assign_rows(classes: Array, fractions: Array, rng: np.random.Generator) -> Array:
    """Return the part of each row: int64 [rows]; each part draws from every class in proportion."""
    counts = np.bincount(classes)
    sizes = _part_sizes(len(classes), fractions)
    shuffled = rng.permutation(len(classes))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    next_row = np.concatenate([[0], np.cumsum(counts)[:-1]])
    free = np.maximum(counts - 1, 0)  # one row of each class stays for training
    part = np.zeros(len(classes), dtype=np.int64)
    for p in (TEST, VALIDATION):
        for c, take in enumerate(_apportion(counts * fractions[p], free, int(sizes[p]), rng)):
            part[by_class[next_row[c] : next_row[c] + take]] = p
            next_row[c] += take
            free[c] -= take
    return part


def _apportion(ideal: Array, free: Array, total: int, rng: np.random.Generator) -> Array:
    """Round ideal shares to whole rows by largest remainder, never over what is free."""
    take = np.minimum(np.floor(ideal).astype(np.int64), free)
    left = min(total, int(free.sum())) - int(take.sum())
    tie_break = rng.random(len(ideal))
    while left > 0:
        remainder = np.where(take < free, ideal - take, -np.inf)
        chosen = np.lexsort((tie_break, -remainder))[: min(left, int((take < free).sum()))]
        take[chosen] += 1
        left -= len(chosen)
    return take


def _group_numbers(examples: Examples) -> Array:
    """Return the group of each row as numbers; a row of no group is a group of its own."""
    groups = examples.groups()
    if groups is None:
        raise DataError(f"{examples.name}: no group column was read", hint="set group= to the column")
    numbers: dict[object, int] = {}
    keys = (group if group is not None else (row,) for row, group in enumerate(groups))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _assign_groups(
    groups: Array, classes: Array, fractions: Array, rng: np.random.Generator, *, alike: bool = False
) -> Array:
    """Return the part of each row: whole groups, largest first, go where the class counts come nearest.

    alike: the parts are folds, of which none is training.
    """
    rows_of = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    totals = np.bincount(classes).astype(float)
    target = fractions[:, None] * totals
    counts = np.zeros_like(target)
    shuffled = rng.permutation(len(rows_of))
    order = sorted(shuffled.tolist(), key=lambda g: -len(rows_of[g]))
    part = np.zeros(len(classes), dtype=np.int64)
    asked = np.flatnonzero(fractions > 0)
    for group in order:
        found, sizes = np.unique(classes[rows_of[group]], return_counts=True)
        missing = target[asked][:, found] - counts[asked][:, found]
        # squared distance to the target after minus before, each class weighed by its rarity
        change = ((sizes * (sizes - 2 * missing)) / totals[found]).sum(axis=1)
        if alike:  # of folds that it would do equally well the one with the fewest rows
            change = change + 1e-9 * counts.sum(axis=1)[asked]
        chosen = asked[int(np.argmin(change))]
        counts[chosen, found] += sizes
        part[rows_of[group]] = chosen
    if not alike:
        _return_lost_classes(part, groups, classes, rows_of)
    return part


def _return_lost_classes(part: Array, groups: Array, classes: Array, rows_of: list[Array]) -> None:
    """Give training the smallest group of each class that it would else never see."""
    for c in np.setdiff1d(classes, classes[part == TRAIN]):
        candidates = np.unique(groups[classes == c])
        part[rows_of[min(candidates, key=lambda g: len(rows_of[g]))]] = TRAIN


def _refuse_empty(part: Array, fractions: Array, rows: int, grouped: bool) -> None:
    sizes = np.bincount(part, minlength=3)
    for p, name in ((TRAIN, "training"), (VALIDATION, "validation"), (TEST, "test")):
        if fractions[p] > 0 and not sizes[p]:
            what = "groups" if grouped else "rows"
            raise DataError(
                f"{rows:,} rows have too few {what} for every part: none is left for {name}",
                hint="give more rows, or set validation_fraction=0 or test_fraction=0",
            )


def _notes(examples: Examples, names: list[str], classes: Array, part: Array, fractions: Array) -> list[str]:
    if examples.form.sets:
        return _notes_on_sets(examples, part, fractions)
    counts = np.bincount(classes, minlength=len(names))
    notes = []
    if single := [names[c] for c in np.flatnonzero(counts == 1)]:
        which = "classes have one row each and stay" if len(single) > 1 else "class has one row, which stays"
        notes.append(f"{len(single)} {which} in training: {_list(single)}")
    for p, part_name in ((VALIDATION, "validation"), (TEST, "test")):
        absent = [names[c] for c in np.setdiff1d(np.flatnonzero(counts > 1), classes[part == p])]
        if fractions[p] > 0 and absent:
            which = "classes have" if len(absent) > 1 else "class has"
            notes.append(f"{len(absent)} {which} no row in {part_name}: {_list(absent)}")
    return notes


def _notes_on_sets(examples: Examples, part: Array, fractions: Array) -> list[str]:
    sets = examples.label_sets()
    labels = sorted({label for labels in sets for label in labels})
    notes = []
    for p, part_name in ((TRAIN, "training"), (VALIDATION, "validation"), (TEST, "test")):
        there = {label for row in np.flatnonzero(part == p) for label in sets[row]}
        absent = [label for label in labels if label not in there]
        if fractions[p] > 0 and absent:
            notes.append(
                f"{len(absent)} label{'s have' if len(absent) > 1 else ' has'} no row in {part_name}: {_list(absent)}"
            )
    return notes


def _list(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:5]) + (", ..." if len(names) > 5 else "")
