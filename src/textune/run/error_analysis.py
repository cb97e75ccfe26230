"""On which texts a finished run fails, and why: slices, confused classes, confident errors, nearest training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import Manifest, find_run, read_manifest, refuse_exported
from textune.config import build_used
from textune.data import Examples, Labels
from textune.data.scripts import dominant_scripts
from textune.errors import ConfigError, TextuneError
from textune.evaluation import ConfidentError
from textune.evaluation.conditions import (
    list_column,
    list_labels,
    list_lengths,
    list_marked,
    list_negations,
    list_values,
    list_words,
    split_texts,
)
from textune.evaluation.slices import Condition, SliceSearch, choose_fewest_rows, find_slices
from textune.evaluation.words_apart import ConfusedPair, find_confused_pairs
from textune.explain import Explanation
from textune.explain.api import open_predictor
from textune.inference import LoadOptions
from textune.progress import Progress, Silent
from textune.run.explained_errors import MOST_EXPLAINED, explain_errors, list_explainable
from textune.run.neighbours import Neighbour, TrainingSpace, open_space, read_training_rows
from textune.run.predicted_rows import PredictedRows, add_own_table, predict_table, read_stored
from textune.run.predictions import joined_texts
from textune.run.review import ReviewRow, check_review_path, review_predicted, review_training, write_review
from textune.run.review_file import EarlierFixes, read_earlier_fixes
from textune.run.tables import tokenize
from textune.tasks import EvaluatedRows, Task, task_of
from textune.tokens import load_tokenizer

_LONGEST_EXCERPT = 300
NO_LABEL_GIVEN = "no label given"
UNKNOWN_LABEL = "the model does not know a true label"


@dataclass(frozen=True)
class ErrorAnalysis:
    """What a run's errors have in common.

    split: which rows: test, validation, or the name of a table. source: where rows and columns come from.
    slices, confused: their examples are row numbers. excerpts: the beginnings of these rows' texts.
    nearest: for the rows of confident errors, the nearest training rows, if they were asked for.
    explanations: likewise, how much each word spoke for the wrong answer.
    review: the rows whose labels look wrong, if they were asked for; review_file: where they were written.
    review_notes: about the review file that the run was trained with.
    labels: the run's, names and values.
    """

    run: str
    split: str
    source: str
    slices: SliceSearch
    confused: tuple[ConfusedPair, ...]
    confident: tuple[ConfidentError, ...]
    excerpts: dict[int, str]
    nearest: dict[int, list[Neighbour]] = field(default_factory=dict)
    explanations: dict[int, Explanation] = field(default_factory=dict)
    review: tuple[ReviewRow, ...] = ()
    review_file: str | None = None
    review_notes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.slices.rows

    @property
    def errors(self) -> int:
        """The number of rows that are not entirely right."""
        return self.slices.errors

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "run": self.run,
            "split": self.split,
            "source": self.source,
            "rows": self.rows,
            "errors": self.errors,
            "slices": self.slices.to_dict(),
            "confused": [pair.to_dict() for pair in self.confused],
            "confident_errors": [
                vars(e)
                | ({"nearest": [n.to_dict() for n in self.nearest[e.row]]} if e.row in self.nearest else {})
                | ({"explanation": self.explanations[e.row].to_dict()} if e.row in self.explanations else {})
                for e in self.confident
            ],
            "excerpts": {str(row): text for row, text in self.excerpts.items()},
            "review": [row.to_dict() for row in self.review],
            "review_file": self.review_file,
            "notes": [*self.notes, *self.review_notes],
        }


def find_errors(
    run: str | Path,
    data: Any = None,
    *,
    nearest: bool = False,
    explain: bool = False,
    review: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> ErrorAnalysis:
    """Return where a finished run errs: on its own evaluation rows, or on the labelled rows of another table.

    nearest: also find the training rows nearest to the most confident errors, which embeds the training rows.
    explain: also find which words spoke for the wrong answer in the most confident errors.
    review: a CSV file to write, with the rows whose labels look wrong; `train(..., fixes=FILE)` takes it back.
    settings: text=, label=, sample=, encoding= and so on, for `data`; backbone=, trust=, device= and precision= as for
    `train`. Any other setting is refused.
    Raises BundleError, ConfigError, DataError or ModelError.
    """
    folder, progress = find_run(run), progress or Silent()
    place = None if review is None else check_review_path(review, overwrite=overwrite)
    config = build_used("errors without a table" if data is None else "errors", settings)
    manifest = read_manifest(folder)
    refuse_exported(folder, manifest)
    if task_of(manifest).writes:
        raise ConfigError(
            f"{folder}: a model that writes answers has no classes to confuse",
            hint="see the answers side by side in its report, and evaluation/predictions.parquet",
        )
    earlier = EarlierFixes() if place is None else read_earlier_fixes(folder)  # read before it may be overwritten
    training = config.training
    options = LoadOptions(config.model.backbone, training.device, training.precision, config.model.trust)
    if data is None:
        rows = add_own_table(read_stored(folder, manifest), folder, manifest)
    else:
        rows = predict_table(folder, manifest, data, config, options)
    analysis = analyse(folder, manifest, rows)
    if explain and (explainable := list_explainable(analysis.confident)):
        progress.say(f"explaining {min(len(explainable), MOST_EXPLAINED)} errors")
        predictor = open_predictor(folder, **vars(options) | {"engine": "reference", "precision": "fp32"})
        analysis = replace(analysis, explanations=explain_errors(predictor, rows.examples, analysis.confident))
    if not nearest and place is None:
        return analysis
    task, space, notes = task_of(manifest), None, list(analysis.notes)
    try:
        # rows of the table that are evaluated are not their own nearest, and are reviewed once
        rows_there = read_training_rows(folder, validation=rows.split != "validation")
        progress.say(f"embedding {len(rows_there):,} training rows and {len(rows.examples):,} others")
        space = open_space(folder, manifest, rows_there, options)
        if len(space.examples) < len(rows_there):
            notes.append(f"{len(space.examples):,} of {len(rows_there):,} training rows were looked at")
    except TextuneError as error:
        notes.append(f"the training rows were not looked at: {str(error).splitlines()[0]}")
    if space is not None and nearest:
        analysis = replace(analysis, nearest=_find_nearest(space, rows, analysis.confident))
    if place is not None:
        found = review_predicted(rows, task, space)
        if space is not None and data is None:
            found += review_training(space, task, manifest.seed)
        found.sort(key=lambda row: -row.score)
        if found:
            write_review(place, found, earlier if data is None else EarlierFixes())
            review_notes = earlier.describe(written=data is None)
            analysis = replace(analysis, review_file=str(place), review_notes=review_notes)
        analysis = replace(analysis, review=tuple(found))
    return replace(analysis, notes=tuple(notes))


def analyse(folder: Path, manifest: Manifest, rows: PredictedRows) -> ErrorAnalysis:
    """Return slices, confused classes and confident errors of rows with a run's answers."""
    task, examples, labels = task_of(manifest), rows.examples, rows.labels
    texts, numbers = joined_texts(examples), examples.rows()
    true = labels.encode_sets(examples.label_sets()) > 0
    predicted = task.decide(rows.probabilities)
    unknown = task.find_unknown(labels, examples)
    search = _search(folder, manifest, rows)
    confused = find_confused_pairs(true, predicted, labels.names, texts)
    targets = task.encode_targets(labels, examples)
    confident = task.find_errors(rows.probabilities, targets, labels.names, EvaluatedRows(texts, numbers, unknown))
    shown = {at for each in search.slices for at in each.examples}
    shown |= {at for pair in confused for at in pair.examples}
    return ErrorAnalysis(
        str(folder),
        rows.split,
        rows.source,
        _number(search, numbers),
        tuple(replace(pair, examples=tuple(int(numbers[at]) for at in pair.examples)) for pair in confused),
        tuple(confident),
        {int(numbers[at]): " ".join(texts[at].split())[:_LONGEST_EXCERPT] for at in sorted(shown)},
        notes=rows.notes,
        labels=tuple(dict.fromkeys((*manifest.labels, *manifest.label_values))),
    )


def search_slices(
    folder: Path, manifest: Manifest, split: str, examples: Examples, probabilities: NDArray[Any]
) -> SliceSearch | None:
    """Return where a run errs most on its evaluation rows, for its report; examples are row numbers.

    None where answers are no labels.
    """
    if not task_of(manifest).gives_labels:
        return None
    labels = Labels(manifest.label_values, manifest.labels)
    rows = PredictedRows(examples, probabilities, labels, "data", split, f"the run's own {split} rows")
    return _number(_search(folder, manifest, add_own_table(rows, folder, manifest)), examples.rows())


def search_differences(
    folder: Path, manifest: Manifest, first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]
) -> tuple[PredictedRows, tuple[SliceSearch, SliceSearch]]:
    """Return a run's rows, and where its answers and another run's differ: groups in which only one is right too often.

    first_right, second_right: bool [rows], for the run's evaluation rows in order. The first search counts the rows
    that only the first run gets right, the second those of the other, both among the rows where the runs differ; their
    examples are row numbers. Raises BundleError.
    """
    rows = add_own_table(read_stored(folder, manifest), folder, manifest)
    apart = np.flatnonzero(first_right != second_right)
    part = replace(
        rows,
        examples=rows.examples.take(apart),
        probabilities=rows.probabilities[apart],
        columns=None if rows.columns is None else (rows.columns[0], rows.columns[1][apart]),
    )
    true = rows.labels.encode_sets(part.examples.label_sets()) > 0
    conditions = [*_list_row_conditions(folder, manifest, part), *list_labels("true label", rows.labels.names, true)]
    searches = [find_slices(right[apart], conditions) for right in (first_right, second_right)]
    numbers = part.examples.rows()
    return rows, (_number(searches[0], numbers), _number(searches[1], numbers))


def _list_row_conditions(folder: Path, manifest: Manifest, rows: PredictedRows) -> list[Condition]:
    """Return conditions on columns, texts and what is cut, which hold whatever a model answers."""
    return [
        *_list_columns(rows, manifest),
        *_list_text_conditions(joined_texts(rows.examples)),
        *list_marked("max_length", *_mark_cut(folder, manifest, rows)),
    ]


def _search(folder: Path, manifest: Manifest, rows: PredictedRows) -> SliceSearch:
    """Return the slices with too many errors; their examples are positions."""
    task, labels = task_of(manifest), rows.labels
    true = labels.encode_sets(rows.examples.label_sets()) > 0
    predicted = task.decide(rows.probabilities)
    unknown = task.find_unknown(labels, rows.examples)
    strange = np.array([bool(names) for names in unknown], bool)
    wrong = (true != predicted).any(axis=1) | strange
    conditions = [
        *_list_row_conditions(folder, manifest, rows),
        *_list_label_conditions(task, labels.names, true, predicted),
        Condition("true label", "true label", UNKNOWN_LABEL, np.flatnonzero(strange).astype(np.int64)),
    ]
    return find_slices(wrong, conditions)


def _number(search: SliceSearch, numbers: NDArray[Any]) -> SliceSearch:
    """Return the search with row numbers as its examples instead of positions."""
    slices = [replace(each, examples=tuple(int(numbers[at]) for at in each.examples)) for each in search.slices]
    return replace(search, slices=tuple(slices))


def _list_text_conditions(texts: Sequence[str]) -> list[Condition]:
    scripts = [script or None for script in dominant_scripts(texts)]
    split = split_texts(texts)
    found = [*list_lengths(texts), *list_negations(split)]
    if len(set(scripts)) > 1:
        found += list_values("script", "script", scripts, "text in {} script")
    return [*found, *list_words(split, choose_fewest_rows(len(texts)))]


def _list_columns(rows: PredictedRows, manifest: Manifest) -> list[Condition]:
    """Return conditions on the columns that are neither text nor label."""
    if rows.columns is None:
        return []
    table, positions = rows.columns
    columns = manifest.columns
    used = {*columns.text, columns.text_pair, columns.label, *columns.indicators}
    found: list[Condition] = []
    for name in table.columns:
        if name not in used:
            found += list_column(name, table.arrow.column(name).take(positions).to_pylist())
    return found


def _mark_cut(folder: Path, manifest: Manifest, rows: PredictedRows) -> tuple[tuple[str, str], NDArray[np.bool_]]:
    """Return which texts the model does not read to their end, and the names of both kinds."""
    tokens = tokenize(rows.examples, load_tokenizer(folder), manifest.max_length, manifest.long_text)
    longest = tokens.capacity or tokens.max_length
    names = (f"longer than {longest:,} tokens, and cut", f"not longer than {longest:,} tokens")
    return names, np.asarray(tokens.full_lengths > longest, bool)


def _list_label_conditions(
    task: Task, labels: Sequence[str], true: NDArray[np.bool_], predicted: NDArray[np.bool_]
) -> list[Condition]:
    found = [*list_labels("true label", labels, true), *list_labels("predicted label", labels, predicted)]
    if task.reads_sets:
        none = np.flatnonzero(~predicted.any(axis=1)).astype(np.int64)
        found.append(Condition("predicted label", "predicted label", NO_LABEL_GIVEN, none))
    return found


def _find_nearest(
    space: TrainingSpace, rows: PredictedRows, confident: Sequence[ConfidentError]
) -> dict[int, list[Neighbour]]:
    """Return the nearest training rows of each of the confident errors, by row number."""
    positions = {int(row): at for at, row in enumerate(rows.examples.rows())}
    chosen = rows.examples.take([positions[error.row] for error in confident])
    if not len(chosen):
        return {}
    return dict(zip((error.row for error in confident), space.show(space.place(chosen)), strict=True))
