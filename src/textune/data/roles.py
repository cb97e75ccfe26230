"""How the columns of training are reused on another table: for validation, test, evaluation and prediction alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from textune.config import DataConfig, WritingConfig, show_names
from textune.data.columns import Columns, choose_columns
from textune.data.dialogues import build_dialogues, choose_dialogue_columns
from textune.data.examples import Examples, build_examples
from textune.data.label_sets import LabelForm, choose_form, match_label_columns, refuse_part_of_columns
from textune.data.table import Table
from textune.errors import ConfigError, DataError

GENERATION = "generation"


class _TrainedColumns(Protocol):
    """The columns of training, as `Columns` and the manifest of a run have them."""

    @property
    def text(self) -> tuple[str, ...]: ...
    @property
    def text_pair(self) -> str | None: ...
    @property
    def joiner(self) -> str: ...
    @property
    def label(self) -> str | None: ...
    @property
    def group(self) -> str | None: ...
    @property
    def indicators(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class NamedColumns:
    """The columns that a person named for this table.

    label_setting: what names its label columns; None: nothing. guess: whether other columns may be looked for where the
    table lacks those of training; a finished run is never applied to a column that nobody named. tuned: whether the
    model was trained on columns; a zero-shot model reads its own by default.
    """

    text: Sequence[str] | None = None
    text_pair: str | None = None
    label: Sequence[str] | None = None
    writing: WritingConfig = WritingConfig()
    label_setting: str | None = "label"
    guess: bool = True
    tuned: bool = True


def choose_task(data: DataConfig, writing: WritingConfig) -> str | None:
    """Return the task as set, or that which the named columns are for; None: to be detected from the labels."""
    named = (writing.prompt, writing.completion, writing.messages)
    return GENERATION if data.task is None and any(named) else data.task


def name_column(setting: str, name: str | None, alias: str, names: Sequence[str] | None) -> str | None:
    """Return the column that one of two settings names; raise ConfigError where both do.

    setting, name: such as prompt=q. alias, names: such as text=q, which means the same where a model writes.
    """
    if name and names:
        raise ConfigError(
            f"{setting}={name} and {show_names(alias, *names)}: both name the column of the {setting}s",
            hint=f"leave {alias}= out",
        )
    return name or (names[0] if names else None)


def find_columns(table: Table, data: DataConfig, writing: WritingConfig) -> Columns:
    """Return the columns of a training table: those named, else found. Raises DataError."""
    if choose_task(data, writing) == GENERATION:
        return choose_dialogue_columns(
            table,
            prompt=name_column("prompt", writing.prompt, "text", data.text),
            completion=name_column("completion", writing.completion, "label", data.label),
            messages=writing.messages,
            group=data.group,
        )
    return choose_columns(
        table,
        text=data.text,
        text_pair=data.text_pair,
        label=data.label,
        group=data.group,
        joiner=data.joiner,
    )


def build_rows(
    table: Table, columns: Columns, task: str | None, separator: str, known_labels: Sequence[str] = ()
) -> tuple[Examples, LabelForm]:
    """Return the labelled rows, and how the table writes its labels. known_labels: as for `build_labelled`."""
    if task == GENERATION:
        form = LabelForm("one", separator, task=GENERATION, free=True)
        return build_dialogues(table, columns, form), form
    form = choose_form(table, columns, task, separator)
    return build_examples(table, columns, form, known_labels), form


def _reuse_dialogue_columns(table: Table, trained: _TrainedColumns, named: NamedColumns) -> Columns:
    """Return the columns of prompts and completions in another table."""
    wanted, group = named.writing, _keep_existing((trained.group,) if trained.group else (), table)
    prompt = name_column("prompt", wanted.prompt, "text", named.text)
    completion = name_column("completion", wanted.completion, "label", named.label)
    if not any((prompt, completion, wanted.messages)):
        kept = _keep_existing((*trained.text, trained.label or trained.text[0]), table)
        if kept is not None:
            return Columns(trained.text, None, trained.label, group[0] if group else None, " ", ())
        if not named.guess:
            answers = (trained.label,) if trained.label else ()
            _require(table, trained.text, "prompt", answers)
            _require(table, answers, "completion", trained.text)
    else:
        prompt = prompt or (trained.text[0] if wanted.messages is None else None)
        completion = completion or (trained.label if wanted.messages is None else None)
    return choose_dialogue_columns(table, prompt=prompt, completion=completion, messages=wanted.messages)


def reuse_columns(table: Table, trained: _TrainedColumns, named: NamedColumns, *, need_label: bool = True) -> Columns:
    """Return the columns to read: those named, else those of training where the table has them all, else found.

    The second text of a pair is never looked for: without it the model cannot classify. Raises DataError.
    """
    labels = trained.indicators or ((trained.label,) if trained.label is not None else ())
    if not named.guess:
        pair = named.text_pair or trained.text_pair
        wanted = trained.text if named.text is None else ()
        if not named.tuned:
            _require_default(table, wanted)
        _require(table, wanted, "text", (*labels, pair, trained.group))
        known_pair = () if trained.text_pair is None or named.text_pair is not None else (trained.text_pair,)
        _require(table, known_pair, "text_pair", (*(named.text or trained.text), *labels, trained.group))
        needed = labels if need_label and named.label is None else ()
        texts = (*(named.text or trained.text), pair, trained.group)
        _require(table, needed, "label", texts, named.label_setting)
    group = None if trained.group is None else _keep_existing((trained.group,), table)
    return choose_columns(
        table,
        text=named.text or _keep_existing(trained.text, table),
        text_pair=named.text_pair or trained.text_pair,
        label=named.label or (_keep_existing(labels, table) if need_label else None),
        group=group[0] if group else None,
        joiner=trained.joiner,
        need_label=need_label,
    )


def _require_default(table: Table, names: Sequence[str]) -> None:
    """Raise DataError where the table lacks the column that is read unless another is named."""
    if missing := [name for name in names if name not in table.columns]:
        columns = ", ".join(f"'{name}'" for name in table.columns[:12])
        example = f", for example {show_names('text', table.columns[0])}" if table.columns else ""
        raise DataError(
            f"{table.name}: no column '{missing[0]}', which is read unless text= names another; it has {columns}",
            hint=f"name the column with text={example}",
        )


def _require(
    table: Table, names: Sequence[str], role: str, others: Sequence[str | None], setting: str | None = None
) -> None:
    """Raise DataError where the table lacks a column of training, naming those that it has.

    others: columns with another role, which no advice may name. setting: what names the columns; default: the role.
    """
    missing = [name for name in names if name not in table.columns]
    if missing:
        setting, free = setting or role, [name for name in table.columns if name not in others]
        columns = ", ".join(f"'{name}'" for name in table.columns[:12])
        example = f", for example {show_names(setting, free[0])}" if free else ""
        columns_for = f"name the columns for {', '.join(names)} in this order with {setting}="
        several = f"{columns_for}, or one column that lists the labels"
        raise DataError(
            f"{table.name}: no column '{missing[0]}', which the run was trained on as {role}; it has {columns}",
            hint=several if role == "label" and len(names) > 1 else f"name the column with {setting}={example}",
        )


def build_labelled(
    table: Table,
    trained: _TrainedColumns,
    named: NamedColumns,
    task: str,
    separator: str,
    known_labels: Sequence[str] = (),
) -> tuple[Examples, Columns, LabelForm]:
    """Return the labelled rows of another table, the columns that were read, and how it writes its labels.

    task: of training. separator: stands between the labels of one cell. known_labels: of training; a label that prints
    like one of them is read as it. Raises DataError.
    """
    if task == GENERATION:
        columns = _reuse_dialogue_columns(table, trained, named)
        examples, form = build_rows(table, columns, task, separator)
        return examples, columns, form
    setting = named.label_setting
    if named.label is None:
        hint = (
            f"name its label columns with {setting}="
            if setting
            else "call its label columns as the training table does"
        )
        refuse_part_of_columns(table, trained.indicators, hint)
    columns = reuse_columns(table, trained, named)
    form = choose_form(table, columns, task, separator)
    form = match_label_columns(form, table, columns, trained.indicators, setting or "label")
    return build_examples(table, columns, form, known_labels), columns, form


def _keep_existing(names: tuple[str, ...], table: Table) -> tuple[str, ...] | None:
    """Return the names where the table has a column of each, else None."""
    return names if names and set(names) <= set(table.columns) else None
