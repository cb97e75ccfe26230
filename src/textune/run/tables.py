"""From settings to labelled, split, checked and tokenised rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import TextColumns
from textune.config import DataConfig, LongText, RunConfig
from textune.config.defaults import choose_test_rows, choose_validation_rows
from textune.data import (
    MULTI,
    Columns,
    DataFacts,
    Examples,
    Labels,
    Leak,
    Overlap,
    ReadOptions,
    Table,
    build_examples,
    build_labels,
    choose_columns,
    choose_form,
    describe_groups_split_apart,
    find_leaks,
    find_overlap,
    inspect_examples,
    match_label_columns,
    read_table,
    refuse_part_of_columns,
    sample_examples,
    split_examples,
)
from textune.errors import DataError
from textune.tokens import Tokenized, encode_cached
from textune.tokens.batches import EncodedSplit

_FEWEST_ROWS = 4


@dataclass(frozen=True)
class PreparedData:
    """Rows ready to be tokenised, and the results of the checks.

    notes: facts to print. warnings: problems that the user should act on, also shown in the report.
    fingerprint: SHA-256 of all splits and the labels. validation_fraction: the share of rows held out for validation.
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

    @property
    def evaluation(self) -> tuple[str, Examples]:
        """The split to evaluate on: the test rows if there are any, else the validation rows."""
        if self.test is not None:
            return "test", self.test
        if self.validation is not None:
            return "validation", self.validation
        raise DataError("no test or validation rows to evaluate on", hint="set validation_fraction=0.1")


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
        raise DataError("no data", hint="textune train DATA, or data= in the YAML file")
    options = read_options(data)
    table = read_table(sources["data"], options)
    columns = choose_columns(
        table,
        text=data.text,
        text_pair=data.text_pair,
        label=data.label,
        group=data.group,
        joiner=data.joiner,
    )
    form = choose_form(table, columns, data.task, data.label_separator)
    notes, warnings = [*table.notes, *columns.notes, form.note], []
    examples = build_examples(table, columns, form)
    facts = inspect_examples(examples, table)
    labels = _build_labels(examples, columns, data)
    leaks = find_leaks(table, columns)
    warnings += [leak.note for leak in leaks]
    examples = sample_examples(examples, data.sample, seed)
    if len(examples) < _FEWEST_ROWS:
        raise DataError(f"{table.name}: {len(examples)} usable rows are too few to train on")
    others: dict[str, Examples | None] = {"validation": None, "test": None}
    for name in others:
        if sources[name] is not None and not (name == "test" and hold_test):
            others[name], other_notes = _read_other(sources[name], name, config, columns, form.task, options)
            notes += other_notes
    classes = 0 if hold_test or form.task == MULTI or config.training.patience is not None else len(labels)
    validation_rows, test_rows = _rows_to_hold_out(config, len(examples), sources, classes)
    parts = split_examples(
        examples,
        validation_fraction=validation_rows / len(examples),
        test_fraction=test_rows / len(examples),
        seed=seed,
        grouped=data.group is not None,
    )
    notes += parts.notes
    train = _take_all_but(examples, parts.test) if pool else parts.train
    validation = others["validation"] if others["validation"] is not None or pool else parts.validation
    test = others["test"] if others["test"] is not None else None if hold_test else parts.test
    split_warnings, overlap = _check_splits(train, validation, test, labels)
    if form.task == MULTI:
        warnings += _warn_about_constant_labels(train, labels)
    else:
        _check_training_labels(train, labels, table)
    warnings += split_warnings + _warn_about_rows(facts, table)
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
        facts,
        tuple(notes),
        tuple(warnings),
        overlap,
        tuple(leaks),
        form.task,
    )
    return replace(prepared, fingerprint=_fingerprint(prepared), validation_fraction=validation_rows / len(examples))


def _take_all_but(examples: Examples, excluded: Examples | None) -> Examples:
    """Return the rows that are not excluded, in order."""
    return examples if excluded is None else examples.take(np.flatnonzero(~np.isin(examples.rows(), excluded.rows())))


def _build_labels(examples: Examples, columns: Columns, data: DataConfig) -> Labels:
    """Return the classes; label columns are classes in their order, even without rows."""
    pairs = data.labels or tuple((name, name) for name in columns.indicators) or None
    return build_labels([label for labels in examples.label_sets() for label in labels], pairs)


def _read_other(
    source: Any, name: str, config: RunConfig, columns: Columns, task: str, options: ReadOptions
) -> tuple[Examples, list[str]]:
    data = config.data
    table = read_table(source, options)
    differs = name == "test" and any((data.test_text, data.test_text_pair, data.test_label))
    named = data.test_label if name == "test" else None
    if named is None:
        same_names = "name its label columns as in the training table"
        refuse_part_of_columns(
            table, columns.indicators, "name its label columns with test_label=" if name == "test" else same_names
        )
    table_columns = choose_columns(
        table,
        text=(data.test_text if name == "test" else None) or _if_present(columns.text, table),
        text_pair=(data.test_text_pair if name == "test" else None) or columns.text_pair,
        label=named or _if_present(columns.labels, table),
        group=_if_present(columns.group, table),
        joiner=data.joiner,
    )
    differs |= table_columns.text != columns.text or table_columns.labels != columns.labels
    notes = [f"{name}: {note}" for note in (*table.notes, *(table_columns.notes if differs else ()))]
    sample = data.test_sample if name == "test" else data.validation_sample
    form = choose_form(table, table_columns, task, data.label_separator)
    form = match_label_columns(form, table, table_columns, columns.indicators, "test_label")
    notes += [f"{name}: {form.note}"] if form.column_labels else []
    return sample_examples(build_examples(table, table_columns, form), sample, config.split_seed), notes


def _if_present(names: Any, table: Table) -> Any:
    """Return the training table's column names if this table has them too, else None."""
    wanted = (names,) if isinstance(names, str) else names or ()
    return names if wanted and all(n in table.columns for n in wanted) else None


def _rows_to_hold_out(config: RunConfig, rows: int, sources: Mapping[str, Any], classes: int) -> tuple[int, int]:
    """Return the numbers of validation and test rows. classes: 0 if validation rows are required."""

    def decide(name: str, fraction: float | None, default: int) -> int:
        if sources[name] is not None:
            return 0
        return default if fraction is None else round(fraction * rows)

    test = decide("test", config.data.test_fraction, choose_test_rows(rows))
    classes = classes if test or sources["test"] is not None else 0  # without test rows, validation rows are required
    return decide("validation", config.data.validation_fraction, choose_validation_rows(rows - test, classes)), test


def _check_training_labels(train: Examples, labels: Labels, table: Table) -> None:
    codes = labels.encode(train.labels() or [])
    if len(set(codes.tolist())) < 2:
        raise DataError(
            f"{table.name}: the training rows have only one class ('{labels.names[int(codes[0])]}')",
            hint="use more rows, or check sample= and the label column",
        )


def _check_splits(
    train: Examples, validation: Examples | None, test: Examples | None, labels: Labels
) -> tuple[list[str], Overlap | None]:
    warnings: list[str] = []
    overlap_with_test: Overlap | None = None
    counts = count_labels(train, labels)
    if rare := [labels.names[i] for i, n in enumerate(counts) if n == 1]:
        warnings.append(f"only one training row: {_list(rare)}; the model can hardly learn such a class")
    if absent := [labels.names[i] for i, n in enumerate(counts) if n == 0]:
        warnings.append(f"no training rows: {_list(absent)}; the model cannot learn such a class")
    for name, other in (("validation", validation), ("test", test)):
        if other is None:
            continue
        unknown_of = labels.find_unknown(other)
        _refuse_foreign_labels(name, other, unknown_of, labels)
        if unknown := sorted({label for unknown_labels in unknown_of for label in unknown_labels}):
            rows = sum(bool(unknown_labels) for unknown_labels in unknown_of)
            warnings.append(
                f"{name}: {rows} rows have labels that the training set lacks ({_list(unknown)}); they count as errors"
            )
        overlap = find_overlap(train, other)
        if name == "test":
            overlap_with_test = overlap
        if overlap.exact or overlap.near:
            warnings.append(_describe_overlap(overlap, name))
        if split_groups := describe_groups_split_apart(train, other):
            warnings.append(
                f"{split_groups} groups have rows in both the training and the {name} set; keep them together with "
                "group="
            )
    return warnings, overlap_with_test


def _refuse_foreign_labels(name: str, other: Examples, unknown_of: list[tuple[str, ...]], labels: Labels) -> None:
    """Raise DataError if the split has labels and the training set has none of them."""
    sets = other.label_sets()
    if not any(sets) or any(len(unknown) < len(row) for unknown, row in zip(unknown_of, sets, strict=True)):
        return
    foreign = sorted({label for row in sets for label in row})
    raise DataError(
        f"{other.name}: the training set has none of the {name} rows' labels: they are {_list(foreign)}, "
        f"the training labels are {_list(list(labels.names))}",
        hint="write the labels in the same way; or map them with labels=VALUE=NAME,..., where VALUE is from one table "
        "and NAME from the other; or check that the right label column is read",
    )


def count_labels(examples: Examples, labels: Labels) -> NDArray[Any]:
    """Return the number of rows with each label: int64 [labels]."""
    return np.asarray(labels.encode_sets(examples.label_sets()).sum(axis=0, dtype=np.int64))


def _warn_about_constant_labels(train: Examples, labels: Labels) -> list[str]:
    everywhere = [labels.names[i] for i, n in enumerate(count_labels(train, labels)) if n == len(train)]
    if not everywhere:
        return []
    return [f"in every training row: {_list(everywhere)}; the model cannot learn when it does not apply"]


def _describe_overlap(overlap: Overlap, name: str) -> str:
    """Return the warning with row numbers but no text, because the model card that shows it may be published."""
    counts = [f"{overlap.exact:,} exact"] * bool(overlap.exact) + [f"{overlap.near:,} near"] * bool(overlap.near)
    pairs = ", ".join(f"{name} row {b} is training row {a}" for a, b, _ in overlap.examples[:3])
    return (
        f"{name} rows that also appear in the training set: {' and '.join(counts)} ({pairs}); "
        "scores will be too optimistic"
    )


def _encoded(examples: Examples, labels: Labels) -> list[tuple[str, int]]:
    values = examples.labels() or []
    return list(zip(values, labels.encode(values).tolist(), strict=True))


def _warn_about_rows(facts: DataFacts, table: Table) -> list[str]:
    warnings = []
    if facts.no_text:
        warnings.append(f"{table.name}: {facts.no_text} rows without text were skipped")
    if facts.no_label:
        warnings.append(f"{table.name}: {facts.no_label} rows without label were skipped")
    return warnings


def _list(names: list[str], most: int = 5) -> str:
    return ", ".join(f"'{n}'" for n in names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _fingerprint(data: PreparedData) -> str:
    parts = [e.fingerprint for e in (data.train, data.validation, data.test) if e is not None]
    return hashlib.sha256("|".join([*parts, *data.labels.values, *data.labels.names]).encode()).hexdigest()


def encode_split(
    examples: Examples, labels: Labels, tokenizer: Any, max_length: int, long_text: LongText
) -> EncodedSplit:
    """Tokenize a split through the cache and turn its labels into class numbers."""
    tokens = tokenize(examples, tokenizer, max_length, long_text)
    return EncodedSplit(tokens, labels.encode_examples(examples), np.asarray(examples.rows(), np.int64))


def tokenize(examples: Examples, tokenizer: Any, max_length: int, long_text: LongText) -> Tokenized:
    """Tokenize a split through the cache."""
    texts, pairs = examples.texts(), examples.text_pairs()
    return encode_cached(tokenizer, texts, pairs, max_length, examples.fingerprint, long_text)
