"""What is said of a run's tables: rows that were skipped, parts that overlap, settings without their table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textune.config import DataConfig
from textune.data import (
    DataFacts,
    Examples,
    Labels,
    Overlap,
    Table,
    count_shared_groups,
    describe_foreign,
    describe_near,
    find_overlap,
    list_reading_settings,
)
from textune.errors import DataError
from textune.evaluation.text import quote_names
from textune.printable import count
from textune.tasks import Task


def note_unused(
    data: DataConfig, sources: Mapping[str, Any], rows: int, parts: Mapping[str, Examples | None]
) -> list[str]:
    """Return notes on settings that no table uses.

    Those of a test or validation table where the part is held out of the training table, shares to hold out where there
    is a table, and how to read text where no table is a file of text.
    """
    notes = [
        f"{name}= only applies with test=: the test rows have the columns of the training table"
        for name in ("test_text", "test_text_pair", "test_label")
        if getattr(data, name) is not None and sources["test"] is None
    ]
    for part, examples in parts.items():
        wanted = getattr(data, f"{part}_sample")
        if wanted is not None and sources[part] is None:
            held_out = 0 if examples is None else len(examples)
            notes.append(
                f"{part}_sample={wanted} only applies with {part}=: {held_out:,} of the {rows:,} rows are held out, "
                f"as {part}_fraction= says or by rule"
            )
        share = getattr(data, f"{part}_fraction")
        if share and sources[part] is not None:
            notes.append(f"{part}_fraction={share:g} only applies without {part}=: no rows are held out for {part}")
    tables = [source for source in sources.values() if source is not None]
    used = {name for source in tables if isinstance(source, str | Path) for name in list_reading_settings(str(source))}
    notes += [
        f"{name}={getattr(data, name)!r} does not apply: no table here is read with a {name}"
        for name in ("delimiter", "encoding")
        if getattr(data, name) is not None and name not in used
    ]
    return notes


def check_splits(
    train: Examples, others: Mapping[str, Examples | None], labels: Labels, task: Task
) -> tuple[list[str], Overlap | None]:
    """Return warnings about the labels and rows of the parts, and the overlap of training and test rows."""
    warnings: list[str] = []
    overlap_with_test: Overlap | None = None
    counts = task.count_labels(labels, train)
    if rare := [labels.names[i] for i, n in enumerate(counts) if n == 1]:
        warnings.append(f"only one training row: {quote_names(rare)}; the model can hardly learn such a class")
    if absent := [labels.names[i] for i, n in enumerate(counts) if n == 0]:
        warnings.append(f"no training rows: {quote_names(absent)}; the model cannot learn such a class")
    for name, other in others.items():
        if other is None:
            continue
        unknown_of = task.find_unknown(labels, other)
        refuse_foreign_labels(other, unknown_of, labels, name)
        if unknown := sorted({label for found in unknown_of for label in found}):
            rows = sum(bool(found) for found in unknown_of)
            which = f"{count(rows, 'row')} {'has' if rows == 1 else 'have'}"
            warnings.append(
                f"{name}: {which} labels that the training set lacks ({quote_names(unknown)}); they count as errors"
            )
            warnings += [f"{name}: {near}" for near in describe_near(unknown, labels.names)]
        overlap = find_overlap(train, other)
        if name == "test":
            overlap_with_test = overlap
        if overlap.exact or overlap.near:
            warnings.append(_describe_overlap(overlap, name))
        if apart := count_shared_groups(train, other):
            which = "1 group has" if apart == 1 else f"{apart:,} groups have"
            warnings.append(
                f"{which} rows both in training and in {name}: leave them out of one of the two tables, "
                "or scores may be too optimistic"
            )
    return [*warnings, *_compare_held_out(others.get("validation"), others.get("test"))], overlap_with_test


def _compare_held_out(validation: Examples | None, test: Examples | None) -> list[str]:
    """Return warnings about test rows and groups that are validation rows and groups, too."""
    if validation is None or test is None:
        return []
    warnings = []
    overlap = find_overlap(validation, test)
    if overlap.exact or overlap.near:
        warnings.append(_describe_overlap(overlap, "test", "validation"))
    if apart := count_shared_groups(validation, test):
        which = "1 group has" if apart == 1 else f"{apart:,} groups have"
        warnings.append(
            f"{which} rows both in validation and in test: leave them out of one of the two tables, "
            "or scores may be too optimistic"
        )
    return warnings


def refuse_foreign_labels(
    other: Examples, unknown_of: list[tuple[str, ...]], labels: Labels, name: str | None = None
) -> None:
    """Raise DataError if rows have labels and the training set has none of them.

    unknown_of: the labels of each row that training lacks. name: of the split; None after training, when labels= can
    map nothing any more.
    """
    described = describe_foreign(other.label_sets(), unknown_of, labels.names)
    if described is None:
        return
    foreign, known, near = described
    mapping = "; or map them with labels=VALUE=NAME,..., where VALUE is from one table and NAME from the other"
    raise DataError(
        f"{other.name}: the training set has none of the {f'{name} ' if name else ''}rows' labels: they are {foreign}, "
        f"the training labels are {known}{near}",
        hint=f"write the labels in the same way{mapping if name else ''}; or check that the right label column is read",
    )


def _describe_overlap(overlap: Overlap, name: str, other: str = "training") -> str:
    """Return the warning with row numbers but no text, because the model card that shows it may be published.

    name: of the split that is measured. other: of the one that has its rows, too.
    """
    counts = [f"{overlap.exact:,} exact"] * bool(overlap.exact) + [f"{overlap.near:,} near"] * bool(overlap.near)
    pairs = ", ".join(f"{name} row {b} is {other} row {a}" for a, b, _ in overlap.examples[:3])
    return (
        f"{name} rows that also appear in the {other} set: {' and '.join(counts)} ({pairs}); "
        "scores will be too optimistic"
    )


def warn_about_rows(facts: DataFacts, table: Table, task: Task) -> list[str]:
    """Return warnings about rows that were skipped, and about odd texts."""
    skipped = describe_skipped_rows(table.name, facts.no_text, facts.no_label, task)
    return [*skipped, *(f"{table.name}: {odd}" for odd in facts.odd_texts)]


def describe_skipped_rows(name: str, no_text: int, no_label: int, task: Task) -> list[str]:
    """Return a sentence for the rows of a table that have no text, and one for those that have no label."""
    text, label = ("a prompt", "an answer") if task.writes else ("text", "label")
    return [
        f"{name}: {count(rows, 'row')} without {what} {'was' if rows == 1 else 'were'} skipped"
        for rows, what in ((no_text, text), (no_label, label))
        if rows
    ]
