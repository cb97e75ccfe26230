"""Training, validation and test splits: stratified by label, determined by the seed, groups kept together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.data.checks import number_repeated
from textune.data.examples import Examples
from textune.errors import DataError

Array = NDArray[Any]
TRAIN, VALIDATION, TEST = 0, 1, 2
MORE_ROWS = "use more rows: no class or group can spare one; or name tables with test= and validation="
_SPLIT_STREAM = 2  # sampling and splitting with the same seed use different random streams


@dataclass(frozen=True)
class Splits:
    """The parts of the examples, None if not requested; `notes` lists what the user should know."""

    train: Examples
    validation: Examples | None
    test: Examples | None
    notes: tuple[str, ...]


def split_examples(
    examples: Examples, *, validation_fraction: float, test_fraction: float, seed: int, grouped: bool
) -> Splits:
    """Split in proportion to the labels; each part keeps the order of the source.

    Each fraction is of all rows. Every class keeps at least one row in training.
    grouped: rows with the same group stay in one part; proportions are then approximate.
    Raises DataError if there are too few rows or groups.
    """
    fractions = np.array([1.0 - validation_fraction - test_fraction, validation_fraction, test_fraction])
    if fractions[TRAIN] <= 0 or fractions.min() < 0:
        raise DataError(
            f"validation and test take {validation_fraction:g} + {test_fraction:g} of the rows: none left for training",
            hint="use smaller fractions",
        )
    strata = _strata(examples)
    names = sorted(set(strata))
    number_of = {name: number for number, name in enumerate(names)}
    classes = np.fromiter((number_of[stratum] for stratum in strata), dtype=np.int64, count=len(strata))
    rng = np.random.default_rng([seed, _SPLIT_STREAM])
    grouped = grouped or examples.form.free
    if grouped:
        part = _assign_groups(_group_numbers(examples), classes, fractions, rng)
    else:
        part = _assign_rows(classes, fractions, rng)
    spare = 0 if grouped else len(examples) - len(names)  # what whole groups allow is not known in advance
    _refuse_empty(part, fractions, len(examples), _groups_are(examples) if grouped else None, spare)
    pieces = [examples.take(np.flatnonzero(part == p)) if fractions[p] > 0 else None for p in (TRAIN, VALIDATION, TEST)]
    train = pieces[TRAIN]
    assert train is not None
    return Splits(train, pieces[VALIDATION], pieces[TEST], tuple(_notes(examples, names, classes, part, fractions)))


def split_folds(examples: Examples, folds: int, seed: int, *, grouped: bool = False) -> Array:
    """Return the validation fold of each row, in proportion to the labels: int64 [rows].

    grouped: rows with the same group are in one fold; otherwise rows with the same text are. Raises DataError if a fold
    would be empty.
    """
    strata = _strata(examples)
    classes = np.unique(np.asarray(strata, dtype=object).astype(str), return_inverse=True)[1]
    rng = np.random.default_rng([seed, _SPLIT_STREAM])
    if grouped or examples.form.free:
        fold = _assign_groups(_group_numbers(examples), classes, np.full(folds, 1 / folds), rng, alike=True)
    else:
        shuffled = rng.permutation(len(classes))
        fold = np.empty(len(classes), dtype=np.int64)
        fold[shuffled[np.argsort(classes[shuffled], kind="stable")]] = np.arange(len(classes)) % folds
        fold = keep_together(fold, number_repeated(examples))
    if len(np.unique(fold)) < folds:
        how = " in whole groups" if grouped else ""
        if not grouped and (texts := number_repeated(examples)) is not None:
            how = f" with {len(np.unique(texts)):,} different texts"
        raise DataError(f"{len(examples):,} rows{how} are too few for {folds} folds", hint="use fewer folds")
    return fold


def keep_together(fold_of: Array, texts: Array | None) -> Array:
    """Return the folds with every row in that of the first row with its text. texts: a number each, int64 [rows].

    A model that has learned a text answers its copy better than it answers new texts.
    """
    if texts is None:
        return fold_of
    _, first, inverse = np.unique(texts, return_index=True, return_inverse=True)
    return np.asarray(fold_of[first][inverse])


def _strata(examples: Examples) -> list[str]:
    """Return the stratum of each row: its label, or the rarest of its labels, which a split misses most easily."""
    sets = [] if examples.form.free else examples.label_sets()
    counts = Counter(label for labels in sets for label in labels)
    return [min(labels, key=lambda v: (counts[v], v), default="") for labels in sets] or [""] * len(examples)


def _part_sizes(rows: int, fractions: Array) -> Array:
    """Return the number of rows in each part; a requested part gets at least one."""
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
    free = np.maximum(counts - 1, 0)  # one row of each class stays in training
    part = np.zeros(len(classes), dtype=np.int64)
    for p in (TEST, VALIDATION):
        for c, take in enumerate(_apportion(counts * fractions[p], free, int(sizes[p]), rng)):
            part[by_class[next_row[c] : next_row[c] + take]] = p
            next_row[c] += take
            free[c] -= take
    return part


def _apportion(ideal: Array, free: Array, total: int, rng: np.random.Generator) -> Array:
    """Round ideal shares to whole rows by largest remainder, never above the free rows."""
    take = np.minimum(np.floor(ideal).astype(np.int64), free)
    left = min(total, int(free.sum())) - int(take.sum())
    tie_break = rng.random(len(ideal))
    while left > 0:
        remainder = np.where(take < free, ideal - take, -np.inf)
        largest = np.lexsort((tie_break, -remainder))[: min(left, int((take < free).sum()))]
        take[largest] += 1
        left -= len(largest)
    return take


def _group_numbers(examples: Examples) -> Array:
    """Return the group number of each row; a row without a group is its own group.

    Where labels are free text, rows with the same text are in one group, and so are groups that share a text.
    """
    groups = examples.groups()
    if examples.form.free:
        return _join_groups([text.casefold().split() for text in examples.texts()], groups)
    if groups is None:
        raise DataError(f"{examples.name}: no group column was read", hint="set group= to the column")
    numbers: dict[object, int] = {}
    keys = (group if group is not None else (row,) for row, group in enumerate(groups))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _join_groups(texts: list[list[str]], groups: list[str | None] | None) -> Array:
    """Return the number of each row's group: rows with an equal text or an equal group are connected."""
    parent = list(range(len(texts)))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[object, int] = {}
    for row, words in enumerate(texts):
        group = None if groups is None else groups[row]
        for key in (tuple(words), *(() if group is None else (group,))):
            parent[find(row)] = find(first.setdefault(key, row))
    return np.unique([find(row) for row in range(len(texts))], return_inverse=True)[1].astype(np.int64)


def _assign_groups(
    groups: Array, classes: Array, fractions: Array, rng: np.random.Generator, *, alike: bool = False
) -> Array:
    """Return the part of each row: each whole group, largest first, goes where the class counts fit best.

    alike: the parts are folds, none of which is training.
    """
    rows_of = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    totals = np.bincount(classes).astype(float)
    target = fractions[:, None] * totals
    counts = np.zeros_like(target)
    shuffled = rng.permutation(len(rows_of))
    order = sorted(shuffled.tolist(), key=lambda g: -len(rows_of[g]))
    part = np.zeros(len(classes), dtype=np.int64)
    parts = np.flatnonzero(fractions > 0)
    for group in order:
        group_classes, sizes = np.unique(classes[rows_of[group]], return_counts=True)
        missing = target[parts][:, group_classes] - counts[parts][:, group_classes]
        # change in squared distance to the target, with rare classes weighted more
        change = ((sizes * (sizes - 2 * missing)) / totals[group_classes]).sum(axis=1)
        if alike:  # between equally good folds, take the one with the fewest rows
            change = change + 1e-9 * counts.sum(axis=1)[parts]
        best = parts[int(np.argmin(change))]
        counts[best, group_classes] += sizes
        part[rows_of[group]] = best
    if not alike:
        _return_lost_classes(part, groups, classes, rows_of)
        _fill_empty_parts(part, classes, fractions, [rows_of[group] for group in reversed(order)])
    return part


def _return_lost_classes(part: Array, groups: Array, classes: Array, rows_of: list[Array]) -> None:
    """Move the smallest group of each class that training lacks into training."""
    for c in np.setdiff1d(classes, classes[part == TRAIN]):
        candidates = np.unique(groups[classes == c])
        part[rows_of[min(candidates, key=lambda g: len(rows_of[g]))]] = TRAIN


def _fill_empty_parts(part: Array, classes: Array, fractions: Array, groups: list[Array]) -> None:
    """Give each requested part without rows the smallest group that can be spared, if there is one.

    groups: the rows of each group, smallest first. Parts that have rows stay as they are, since the rows of older runs
    are split again.
    """
    requested = [p for p in (VALIDATION, TEST) if fractions[p] > 0]
    for empty in sorted((p for p in requested if not (part == p).any()), key=lambda p: float(fractions[p])):
        # training can spare a group if its classes are in others, too; else another part can, if it has several
        for giver in (TRAIN, *(p for p in requested if p != empty)):
            owned = [rows for rows in groups if part[rows[0]] == giver]
            if giver != TRAIN:
                owned = owned if len(owned) > 1 else []
            else:
                rows_left = np.bincount(classes[part == TRAIN], minlength=int(classes.max()) + 1)
                owned = [rows for rows in owned if _keeps_classes(classes[rows], rows_left)]
            if owned:
                part[owned[0]] = empty
                break


def _keeps_classes(taken: Array, rows_left: Array) -> bool:
    """Return whether each class of rows has others. rows_left: of each class, the taken ones included."""
    numbers, counts = np.unique(taken, return_counts=True)
    return bool((rows_left[numbers] > counts).all())


def _groups_are(examples: Examples) -> str:
    """Return what rows that stay together have in common."""
    return "different prompts" if examples.form.free and examples.groups() is None else "groups"


def _refuse_empty(part: Array, fractions: Array, rows: int, groups: str | None, spare: int) -> None:
    """Raise DataError for a part without rows.

    groups: what is split as a whole, if rows are not. spare: how many rows training can do without.
    """
    sizes = np.bincount(part, minlength=3)
    for p, name in ((TRAIN, "training"), (VALIDATION, "validation"), (TEST, "test")):
        if fractions[p] > 0 and not sizes[p]:
            what = groups or ("rows" if spare > 0 else "rows of each label")
            both = fractions[VALIDATION] > 0 and fractions[TEST] > 0
            hint = "use more rows, or set test_fraction=0" if both and spare > 0 else MORE_ROWS
            if groups is None and spare <= 0:
                hint = f"check that the label column holds classes; {MORE_ROWS}"
            if groups and both and p != TRAIN and sizes[VALIDATION] + sizes[TEST]:
                hint = f"use rows of more {groups}, or set validation_fraction=0"  # the other part has the only group
            raise DataError(f"{rows:,} rows: too few {what} for all parts, none left for {name}", hint=hint)


def _notes(examples: Examples, names: list[str], classes: Array, part: Array, fractions: Array) -> list[str]:
    if examples.form.free:
        return []
    if examples.form.sets:
        return _notes_on_sets(examples, part, fractions)
    counts = np.bincount(classes, minlength=len(names))
    notes = []
    if single := [names[c] for c in np.flatnonzero(counts == 1)]:
        which = "classes have only one row each, which is" if len(single) > 1 else "class has only one row, which is"
        notes.append(f"{len(single)} {which} in training: {_list(single)}")
    for p, part_name in ((VALIDATION, "validation"), (TEST, "test")):
        absent = [names[c] for c in np.setdiff1d(np.flatnonzero(counts > 1), classes[part == p])]
        if fractions[p] > 0 and absent:
            which = "classes have" if len(absent) > 1 else "class has"
            notes.append(f"{len(absent)} {which} no rows in {part_name}: {_list(absent)}")
    return notes


def _notes_on_sets(examples: Examples, part: Array, fractions: Array) -> list[str]:
    sets = examples.label_sets()
    labels = sorted({label for labels in sets for label in labels})
    notes = []
    for p, part_name in ((TRAIN, "training"), (VALIDATION, "validation"), (TEST, "test")):
        present = {label for row in np.flatnonzero(part == p) for label in sets[row]}
        absent = [label for label in labels if label not in present]
        if fractions[p] > 0 and absent:
            notes.append(
                f"{len(absent)} label{'s have' if len(absent) > 1 else ' has'} no rows in {part_name}: {_list(absent)}"
            )
    return notes


def _list(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:5]) + (", ..." if len(names) > 5 else "")
