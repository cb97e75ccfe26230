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
    build_labelled,
    build_rows,
    choose_task,
    describe_hidden,
    describe_objects,
    describe_twins,
    find_columns,
    find_leaks,
    inspect_examples,
    read_table,
    sample_examples,
    split_examples,
)
from textune.data.fixes import FixedRows, Fixes, apply_fixes, read_fixes
from textune.errors import DataError
from textune.methods import resolve
from textune.run.row_hashes import describe_seen_by_init
from textune.run.table_checks import check_splits, describe_skipped_rows, note_unused, warn_about_rows
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
    pool: the rows that a fold was taken from. It may lack a rare class, so weights of classes are of these.
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
    pool: Examples | None = None
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
    config: RunConfig,
    frames: Mapping[str, Any] | None = None,
    *,
    hold_test: bool = False,
    pool: bool = False,
    winner: bool = False,
) -> PreparedData:
    """Read, label, sample and split the rows, and check the splits against each other.

    frames: data frames passed from Python instead of config.data.data, .validation or .test.
    hold_test: do not open a test table, leave out the rows held out for testing, and hold some out for validation, by
    which a search compares trials. winner: hold those out only if a run of its own would.
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
    notes = [*table.notes, *columns.notes, *([form.note] if form.note else []), *examples.notes]
    warnings = [form.warning] if form.warning else []
    facts = inspect_examples(examples, table)
    task = build_task(form.task)
    labels = _build_labels(task, examples, columns, data)
    if not task.writes:
        rows = facts.label_counts
        warnings += [*describe_twins(rows, listed), *describe_hidden(rows), *describe_objects(rows)]
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
            warnings += describe_skipped_rows(f"{name}={read.name}", len(read.no_text), len(read.no_label), task)
    # A pool needs no validation rows, and leaves out the test rows of a whole run. With groups, which rows these are
    # depends on the share of validation rows, so that must be the run's, too.
    needed = (hold_test and not (pool or winner)) or task.needs_validation or config.training.patience is not None
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
    found, overlap = check_splits(train, {"validation": validation, "test": test}, labels, task)
    warnings += task.check_training_rows(labels, train, table.name)
    if fixes is not None:
        warnings += fixes.warn_about_test_rows("data" if others["test"] is None else "test", test)
    warnings += found + warn_about_rows(facts, table, task)
    for name, other in (("validation", validation), ("test", test)):
        warnings += [] if other is None else describe_seen_by_init(config.model.init, name, other)
    notes += note_unused(data, sources, len(examples), {"validation": validation, "test": test})
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
    """Return whether settings ask for what is found on held-out rows, and no solved head answers rows out of fold.

    sets: whether rows have sets of labels. By the settings alone, so that who reads a run's rows again splits them as
    the run did: a large backbone, which is not trained twice more either, is refused before training instead.
    """
    names = ("threshold_for", "abstain_for", "set_coverage", *(["costs"] if sets else []))
    asked = any(getattr(config.training, name) is not None for name in names)
    training = config.training
    solved = training.head_init != "random" and config.model.init is None and not training.epochs
    return asked and not (solved and not resolve(choose_method(config), config.method.options).trains_body)


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
        if fraction is None:
            return default
        return max(1, round(fraction * rows)) if fraction else 0  # a share that was asked for is never none

    test = decide("test", config.data.test_fraction, choose_test_rows(rows))
    classes = classes if test or sources["test"] is not None else 0  # without test rows, validation rows are required
    return decide("validation", config.data.validation_fraction, choose_validation_rows(rows - test, classes)), test


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
