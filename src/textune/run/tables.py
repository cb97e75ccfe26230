"""From settings to labelled, split, checked and tokenised rows."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from textune.bundle import TextColumns
from textune.config import DataConfig, LongText, RunConfig
from textune.config.defaults import MANY_CLASSES, choose_method, choose_test_rows, choose_validation_rows
from textune.data import (
    Columns,
    DataFacts,
    Examples,
    Labels,
    Leak,
    NamedColumns,
    Overlap,
    ReadOptions,
    Table,
    build_labelled,
    build_rows,
    choose_task,
    count_shared_groups,
    describe_foreign,
    describe_hidden,
    describe_near,
    describe_twins,
    find_columns,
    find_leaks,
    find_overlap,
    inspect_examples,
    read_table,
    sample_examples,
    split_examples,
)
from textune.data.fixes import FixedRows, Fixes, apply_fixes, read_fixes
from textune.errors import DataError
from textune.evaluation.text import quote_names
from textune.methods import resolve
from textune.run.row_hashes import describe_seen_by_init
from textune.tasks import Task, build_task
from textune.tokens import Tokenized, encode_cached
from textune.tokens.batches import EncodedSplit
from textune.tokens.dialogues import Dialogues, count_learned

_FEWEST_ROWS = 4


@dataclass(frozen=True)
class PreparedData:
    """Rows ready to be tokenised, and the results of the checks.

    notes: facts to print. warnings: problems that the user should act on, also shown in the report.
    fingerprint: SHA-256 of all splits and the labels. validation_fraction: the share of rows held out for validation.
    rule_rows: the training rows of a whole run, by which rules decide. A fold keeps the share and the rows of one.
    """

    labels: Labels
    columns: TextColumns
    train: Examples
    validation: Examples | None
    test: Examples | None
    facts: DataFacts
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    overlap: Overlap | None = None
    leaks: tuple[Leak, ...] = ()
    task: str = "single_label"
    fingerprint: str = field(default="")
    validation_fraction: float = 0.0
    rule_rows: int = 0
    fixed: FixedRows | None = None

    @property
    def evaluation(self) -> tuple[str, Examples]:
        """The split to evaluate on: the test rows if there are any, else the validation rows."""
        if self.test is not None:
            return "test", self.test
        if self.validation is not None:
            return "validation", self.validation
        raise DataError("no test or validation rows to evaluate on", hint=self._advise_on_holding_out())

    def _advise_on_holding_out(self) -> str:
        """Return a setting that gives rows to evaluate on, tried out here, or what else to do."""
        rows = len(self.train)
        for fraction in (max(0.1, math.ceil(100 / rows) / 100), 0.3, 0.5):  # the first is one row at least
            with contextlib.suppress(DataError):
                share, grouped = round(fraction * rows) / rows, self.train.groups() is not None
                for seed in range(8):  # where groups fit equally well, chance decides
                    split_examples(self.train, validation_fraction=share, test_fraction=0, seed=seed, grouped=grouped)
                return f"set validation_fraction={fraction:g}, or name a table with test="
        return "use more rows: no class or group can spare one; or name a table with test="


def read_options(config: DataConfig) -> ReadOptions:
    """Return how the files are read."""
    return ReadOptions(encoding=config.encoding, delimiter=config.delimiter)


def prepare_data(
    config: RunConfig, frames: Mapping[str, Any] | None = None, *, hold_test: bool = False, pool: bool = False
) -> PreparedData:
    """Read, label, sample and split the rows, and check the splits against each other.

    frames: data frames passed from Python instead of config.data.data, .validation or .test.
    hold_test: do not open a test table, and leave out the rows held out for testing.
    pool: keep the validation rows in the training rows, for cross-validation; the test rows stay the same.
    Raises DataError or ConfigError.
    """
    data, seed = config.data, config.split_seed
    sources = {"data": data.data or None, "validation": data.validation, "test": data.test} | dict(frames or {})
    if sources["data"] is None:
        raise DataError("no data", hint="give a table, or set data= in the YAML file")
    options = read_options(data)
    table = read_table(sources["data"], options)
    columns = find_columns(table, data, config.writing)
    listed = [word for pair in data.labels or () for word in pair]
    examples, form = build_rows(table, columns, choose_task(data, config.writing), data.label_separator, listed)
    fixes = None if data.fixes is None else read_fixes(data.fixes)
    if fixes is not None:
        fixes.require_tables([name for name, source in sources.items() if source is not None])
    examples, fixed = _fix(fixes, "data", examples, data.labels or ())
    notes = [*table.notes, *columns.notes, form.note, *examples.notes]
    warnings = [form.warning] if form.warning else []
    facts = inspect_examples(examples, table)
    task = build_task(form.task)
    labels = _build_labels(task, examples, columns, data)
    if not task.writes:
        warnings += [*describe_twins(facts.label_counts, listed), *describe_hidden(facts.label_counts)]
    leaks = [] if task.writes else find_leaks(table, columns)
    warnings += [leak.note for leak in leaks]
    every, examples = examples, sample_examples(examples, data.sample, seed)
    used = facts if len(examples) == len(every) else inspect_examples(examples, table)
    if len(examples) < _FEWEST_ROWS:
        raise DataError(
            f"{table.name}: {len(examples)} usable rows are too few to train on",
            hint=f"use {_FEWEST_ROWS} rows or more",
        )
    if len({*zip(examples.texts(), examples.text_pairs() or examples.texts(), strict=True)}) == 1:
        raise DataError(
            f"{table.name}: all {len(examples):,} rows have the same text, so nothing can be learned from it",
            hint=f"check text= (columns: {', '.join(table.columns)})",
        )
    others: dict[str, Examples | None] = {"validation": None, "test": None}
    for name in others:
        if sources[name] is not None and not (name == "test" and hold_test):
            read, other_notes = _read_other(sources[name], name, config, columns, form.task, labels)
            read, fixed_there = _fix(fixes, name, read, tuple(zip(labels.values, labels.names, strict=True)))
            others[name] = sample_examples(read, getattr(data, f"{name}_sample"), seed)
            fixed += fixed_there
            notes += other_notes
    # A pool needs no validation rows, and leaves out the test rows of a whole run. With groups, which rows these are
    # depends on the share of validation rows, so that must be the run's, too.
    needed = (hold_test and not pool) or task.needs_validation or config.training.patience is not None
    needed = needed or (len(labels) > MANY_CLASSES and decides_on_rows(config, sets=task.reads_sets))
    classes = 0 if needed else len(labels)
    validation_rows, test_rows = _rows_to_hold_out(config, len(examples), sources, classes)
    parts = split_examples(
        examples,
        validation_fraction=validation_rows / len(examples),
        test_fraction=test_rows / len(examples),
        seed=seed,
        grouped=data.group is not None,
    )
    notes += parts.notes
    notes += [] if fixes is None else [f"fixes: {fixed.describe()}"]
    train = _take_all_but(examples, parts.test) if pool else parts.train
    validation = others["validation"] if others["validation"] is not None or pool else parts.validation
    test = others["test"] if others["test"] is not None else None if hold_test else parts.test
    found, overlap = _check_splits(train, {"validation": validation, "test": test}, labels, task)
    warnings += task.check_training_rows(labels, train, table.name)
    if fixes is not None:
        warnings += fixes.warn_about_test_rows("data" if others["test"] is None else "test", test)
    warnings += found + _warn_about_rows(facts, table, task)
    for name, other in (("validation", validation), ("test", test)):
        warnings += [] if other is None else describe_seen_by_init(config.model.init, name, other)
    notes += _note_unused_samples(data, sources, len(examples), {"validation": validation, "test": test})
    text_columns = TextColumns(
        columns.text,
        columns.text_pair,
        columns.joiner,
        columns.label,
        columns.group,
        columns.indicators,
        data.label_separator,
    )
    prepared = PreparedData(
        labels,
        text_columns,
        train,
        validation,
        test,
        used,
        tuple(notes),
        tuple(warnings),
        overlap,
        tuple(leaks),
        form.task,
        rule_rows=len(parts.train),
        fixed=None if fixes is None else fixed,
    )
    return replace(prepared, fingerprint=_fingerprint(prepared), validation_fraction=validation_rows / len(examples))


def decides_on_rows(config: RunConfig, *, sets: bool) -> bool:
    """Return whether settings ask for what is found on held-out rows, and a head that is solved does not answer them.

    sets: whether rows have sets of labels. By the settings alone, so that who reads a run's rows again splits them as
    the run did: a large backbone, which is not trained twice more either, is refused before training instead.
    """
    names = ("threshold_for", "abstain_for", "set_coverage", *(["costs"] if sets else []))
    asked = any(getattr(config.training, name) is not None for name in names)
    return asked and resolve(choose_method(config), config.method.options).trains_body


def _note_unused_samples(
    data: DataConfig, sources: Mapping[str, Any], rows: int, parts: Mapping[str, Examples | None]
) -> list[str]:
    """Say that a sample of a part means nothing where the part is held out of the training table."""
    notes = []
    for part, examples in parts.items():
        wanted = getattr(data, f"{part}_sample")
        if wanted is not None and sources[part] is None:
            held_out = 0 if examples is None else len(examples)
            notes.append(
                f"{part}_sample={wanted} only applies with {part}=: {held_out:,} of the {rows:,} rows are held out, "
                f"as {part}_fraction= says or by rule"
            )
    return notes


def _take_all_but(examples: Examples, excluded: Examples | None) -> Examples:
    """Return the rows that are not excluded, in order."""
    return examples if excluded is None else examples.take(np.flatnonzero(~np.isin(examples.rows(), excluded.rows())))


def _build_labels(task: Task, examples: Examples, columns: Columns, data: DataConfig) -> Labels:
    """Return the classes; columns of their own are labels in the order of the columns, also without a single row."""
    listed = data.labels or tuple((name, name) for name in columns.indicators) or None
    return task.build_labels(examples, listed)


def _read_other(
    source: Any, name: str, config: RunConfig, columns: Columns, task: str, labels: Labels
) -> tuple[Examples, list[str]]:
    data = config.data
    table, test = read_table(source, read_options(data)), name == "test"
    named = NamedColumns(
        data.test_text, data.test_text_pair, data.test_label, label_setting="test_label" if test else None
    )
    examples, found, form = build_labelled(
        table,
        columns,
        named if test else NamedColumns(label_setting=None),
        task,
        data.label_separator,
        (*labels.values, *labels.names),
    )
    differs = test and any((data.test_text, data.test_text_pair, data.test_label))
    chosen_here = differs or found.text != columns.text or found.labels != columns.labels
    notes = [f"{name}: {note}" for note in (*table.notes, *(found.notes if chosen_here else ()))]
    notes += [f"{name}: {form.note}"] if form.column_labels else []
    notes += [f"{name}: {note}" for note in examples.notes]
    return examples, notes


def _fix(
    fixes: Fixes | None, table: str, examples: Examples, pairs: Sequence[tuple[str, str]]
) -> tuple[Examples, FixedRows]:
    """Return the rows of a table with the labels that a review file corrects."""
    return (examples, FixedRows()) if fixes is None else apply_fixes(fixes, table, examples, pairs)


def _rows_to_hold_out(config: RunConfig, rows: int, sources: Mapping[str, Any], classes: int) -> tuple[int, int]:
    """Return the numbers of validation and test rows. classes: 0 if validation rows are required."""

    def decide(name: str, fraction: float | None, default: int) -> int:
        if sources[name] is not None:
            return 0
        return default if fraction is None else round(fraction * rows)

    test = decide("test", config.data.test_fraction, choose_test_rows(rows))
    classes = classes if test or sources["test"] is not None else 0  # without test rows, validation rows are required
    return decide("validation", config.data.validation_fraction, choose_validation_rows(rows - test, classes)), test


def _check_splits(
    train: Examples, others: Mapping[str, Examples | None], labels: Labels, task: Task
) -> tuple[list[str], Overlap | None]:
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
        _refuse_foreign_labels(name, other, unknown_of, labels)
        if unknown := sorted({label for found in unknown_of for label in found}):
            rows = sum(bool(found) for found in unknown_of)
            warnings.append(
                f"{name}: {rows} rows have labels that the training set lacks ({quote_names(unknown)}); "
                "they count as errors"
            )
            warnings += [f"{name}: {near}" for near in describe_near(unknown, labels.names)]
        overlap = find_overlap(train, other)
        if name == "test":
            overlap_with_test = overlap
        if overlap.exact or overlap.near:
            warnings.append(_describe_overlap(overlap, name))
        if apart := count_shared_groups(train, other):
            warnings.append(f"{apart} groups have rows both in training and in {name}: hold them together with group=")
    return warnings, overlap_with_test


def _refuse_foreign_labels(name: str, other: Examples, unknown_of: list[tuple[str, ...]], labels: Labels) -> None:
    """Raise DataError if the split has labels and the training set has none of them."""
    described = describe_foreign(other.label_sets(), unknown_of, labels.names)
    if described is None:
        return
    foreign, known, near = described
    raise DataError(
        f"{other.name}: the training set has none of the {name} rows' labels: they are {foreign}, "
        f"the training labels are {known}{near}",
        hint="write the labels in the same way; or map them with labels=VALUE=NAME,..., where VALUE is from one table "
        "and NAME from the other; or check that the right label column is read",
    )


def _describe_overlap(overlap: Overlap, name: str) -> str:
    """Return the warning with row numbers but no text, because the model card that shows it may be published."""
    counts = [f"{overlap.exact:,} exact"] * bool(overlap.exact) + [f"{overlap.near:,} near"] * bool(overlap.near)
    pairs = ", ".join(f"{name} row {b} is training row {a}" for a, b, _ in overlap.examples[:3])
    return (
        f"{name} rows that also appear in the training set: {' and '.join(counts)} ({pairs}); "
        "scores will be too optimistic"
    )


def _warn_about_rows(facts: DataFacts, table: Table, task: Task) -> list[str]:
    skipped = describe_skipped_rows(table.name, facts.no_text, facts.no_label, task)
    return [*skipped, *(f"{table.name}: {odd}" for odd in facts.odd_texts)]


def describe_skipped_rows(name: str, no_text: int, no_label: int, task: Task) -> list[str]:
    """Return a sentence for the rows of a table that have no text, and one for those that have no label."""
    text, label = ("a prompt", "an answer") if task.writes else ("text", "label")
    return [
        f"{name}: {rows:,} {'row' if rows == 1 else 'rows'} without {what} {'was' if rows == 1 else 'were'} skipped"
        for rows, what in ((no_text, text), (no_label, label))
        if rows
    ]


def _fingerprint(data: PreparedData) -> str:
    parts = [e.fingerprint for e in (data.train, data.validation, data.test) if e is not None]
    return hashlib.sha256("|".join([*parts, *data.labels.values, *data.labels.names]).encode()).hexdigest()


def encode_dialogues(examples: Examples, dialogues: Dialogues, max_length: int) -> EncodedSplit:
    """Tokenize prompts and answers. The targets are the learned tokens of each row: int64 [rows]."""
    tokens = dialogues.encode_rows(examples.texts(), examples.labels() or [], max_length, examples.places())
    return EncodedSplit(tokens, count_learned(tokens), np.asarray(examples.rows(), np.int64))


def encode_split(
    examples: Examples, labels: Labels, tokenizer: Any, max_length: int, long_text: LongText
) -> EncodedSplit:
    """Tokenize a split through the cache and turn its labels into class numbers."""
    tokens = tokenize(examples, tokenizer, max_length, long_text)
    targets = build_task(examples.task).encode_targets(labels, examples)
    return EncodedSplit(tokens, targets, np.asarray(examples.rows(), np.int64))


def tokenize(examples: Examples, tokenizer: Any, max_length: int, long_text: LongText) -> Tokenized:
    """Tokenize a split through the cache."""
    texts, pairs = examples.texts(), examples.text_pairs()
    return encode_cached(tokenizer, texts, pairs, max_length, examples.fingerprint, long_text)
