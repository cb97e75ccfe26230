"""Single-label evaluation: all metrics from probabilities and true classes, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from textune.errors import DataError, ModelError
from textune.evaluation.decisions import DecisionFigures, describe_decisions
from textune.evaluation.intervals import Interval, bootstrap_intervals
from textune.evaluation.labelled import Averages, ClassFigures, Headline, LabelEvaluation, read_common, refuse_damaged
from textune.evaluation.probability_figures import (
    ProbabilityFigures,
    describe_probabilities,
    measure_probabilities,
)
from textune.evaluation.ranking import matthews_correlation
from textune.evaluation.seen import SeenRows
from textune.evaluation.text import (
    MOST_UNKNOWN_SHOWN,
    format_label_notes,
    percent,
    show_name,
)

NAMELESS = "(unknown label)"
"""Stands for unknown labels without names."""

_MOST_CLASSES_IN_MATRIX = 12
_MOST_CLASSES_STORED_DENSE = 50
"""A dense matrix grows with the square of the classes; with more of them only the cells that are not 0 are stored."""
_HEADERS = ("precision", "recall", "f1-score", "support")


@dataclass(frozen=True, repr=False)
class Evaluation(LabelEvaluation):
    """All metrics of one model on one set of rows.

    classes, confusion: in the model's label order; confusion is [true][predicted], in rows.
    macro, weighted: over the classes that occur as true or predicted, as in scikit-learn; each unknown label is
        such a class, with an F1 of 0.
    intervals: 95% intervals of ``accuracy`` (Wilson) and ``macro_f1`` (simulated rows).
    log_loss: nats per row, over the rows with a known label; None without any.
    unknown_labels: labels that the model does not know, with their row counts; each such row is an error.
    probability_figures: calibration and ranking of the probabilities; None for figures stored without them.
    decision_figures: how thresholds, costs, sets and abstaining did; None for figures stored without them.
    seen: which rows the run was trained on, and the figures on the others, where that was looked for.
    """

    task: ClassVar[str] = "single_label"

    rows: int
    accuracy: float
    macro: Averages
    weighted: Averages
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    intervals: dict[str, Interval]
    log_loss: float | None
    unknown_labels: dict[str, int]
    probability_figures: ProbabilityFigures | None = None
    decision_figures: DecisionFigures | None = None
    seen: SeenRows | None = field(default=None, compare=False, repr=False)

    @property
    def headline(self) -> Headline:
        """The headline metric."""
        return Headline("accuracy", self.accuracy, self.intervals["accuracy"])

    @property
    def summary(self) -> dict[str, float]:
        """The figures that a manifest keeps."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro.f1}

    @property
    def mcc(self) -> float | None:
        """Matthews' correlation; each unknown label is a class, never predicted. None where only one class occurs."""
        none = [0] * len(self.unknown_labels)
        return matthews_correlation(
            sum(row[i] for i, row in enumerate(self.confusion)),
            self.rows,
            [*(f.support for f in self.classes), *self.unknown_labels.values()],
            [*(f.predicted for f in self.classes), *none],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts and numbers for JSON, without loss."""
        plain = super().to_dict()
        if len(self.classes) > _MOST_CLASSES_STORED_DENSE:
            plain["confusion"] = {"classes": len(self.classes), "counts": _list_counts(self.confusion)}
        else:
            plain["confusion"] = [list(row) for row in self.confusion]
        return plain

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Evaluation:
        """Rebuild what `to_dict` returned; raise BundleError if anything is missing or unexpected."""
        with refuse_damaged():
            return cls(
                **read_common(stored),
                classes=tuple(ClassFigures(**figures) for figures in stored["classes"]),
                confusion=_read_confusion(stored["confusion"]),
            )

    def report_text(self) -> str:
        """Return a classification report in scikit-learn's layout, and a small confusion matrix."""
        return format_evaluation(self)


def evaluate(
    probabilities: NDArray[np.floating[Any]],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    *,
    seed: int = 0,
    unknown: Sequence[str] = (),
    predicted: NDArray[np.int64] | None = None,
) -> Evaluation:
    """Return all metrics of one model on one set of rows.

    probabilities: float [rows, classes]; targets: int64 [rows], -1 for a label that the model does not know.
    labels: the model's labels, in order. unknown: the labels of the rows at -1, in row order.
    predicted: int64 [rows], the labels given; default: the most probable.
    Raises DataError without rows, ModelError if a probability is not finite, ValueError on wrong shapes.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    true = np.asarray(targets, dtype=np.int64)
    _check(scores, true, labels)
    predicted = (scores.argmax(axis=1) if predicted is None else predicted).astype(np.int64)
    known = true >= 0
    unknown_labels = _count_unknown(int((~known).sum()), unknown)

    size = len(labels)
    keys = true[known] * size + predicted[known]
    confusion = np.bincount(keys, minlength=size * size).reshape(size, size)
    right, support = np.diag(confusion), confusion.sum(axis=1)
    predictions = np.bincount(predicted, minlength=size)
    precision, recall = _divide(right, predictions), _divide(right, support)
    f1 = _divide(2 * right, support + predictions)
    figures = tuple(
        ClassFigures(label, float(p), float(r), float(f), int(s), int(n))
        for label, p, r, f, s, n in zip(labels, precision, recall, f1, support, predictions, strict=True)
    )
    # Unknown labels are separate classes here, so that resamples count them as errors, too.
    codes = true.copy()
    codes[~known] = size + _number_unknown(unknown_labels, unknown, int((~known).sum()))
    return Evaluation(
        rows=len(true),
        accuracy=float(right.sum() / len(true)),
        macro=_average(figures, unknown_labels, weighted=False),
        weighted=_average(figures, unknown_labels, weighted=True),
        classes=figures,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        intervals=bootstrap_intervals(codes, predicted, seed=seed, known_classes=size),
        log_loss=_log_loss(scores[known], true[known]) if known.any() else None,
        unknown_labels=unknown_labels,
        probability_figures=measure_probabilities(scores, true, seed=seed),
    )


def _check(scores: NDArray[np.float64], true: NDArray[np.int64], labels: Sequence[str]) -> None:
    if scores.ndim != 2 or scores.shape != (len(true), len(labels)) or true.ndim != 1:
        raise ValueError(f"probabilities {scores.shape} do not fit {true.shape} targets and {len(labels)} labels")
    if len(true) == 0:
        raise DataError("no rows to evaluate", hint="give rows with a label")
    if true.min() < -1 or true.max() >= len(labels):
        raise ValueError(f"targets must lie between -1 and {len(labels) - 1}")
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(broken):
        raise ModelError(
            f"the model's probabilities are not finite for {len(broken)} of {len(true)} rows, "
            f"the first at position {broken[0]}",
            hint="the weights contain NaN or infinity, or the precision is too low: try precision=fp32",
        )


def _count_unknown(rows: int, unknown: Sequence[str]) -> dict[str, int]:
    if rows and not unknown:
        return {NAMELESS: rows}
    if len(unknown) != rows:
        raise ValueError(f"{rows} rows have an unknown label, but unknown has {len(unknown)} names")
    return dict(Counter(unknown).most_common())


def _number_unknown(counts: Mapping[str, int], unknown: Sequence[str], rows: int) -> NDArray[np.int64]:
    numbers = {label: number for number, label in enumerate(counts)}
    return np.array([numbers[label] for label in unknown] or [0] * rows, dtype=np.int64)


def _divide(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def _average(figures: Sequence[ClassFigures], unknown: Mapping[str, int], *, weighted: bool) -> Averages:
    occurring = [f for f in figures if f.support or f.predicted]
    weights = [float(f.support) if weighted else 1.0 for f in occurring]
    total = sum(weights) + (sum(unknown.values()) if weighted else len(unknown))

    def mean(values: Sequence[float]) -> float:
        return sum(v * w for v, w in zip(values, weights, strict=True)) / total

    return Averages(
        precision=mean([f.precision for f in occurring]),
        recall=mean([f.recall for f in occurring]),
        f1=mean([f.f1 for f in occurring]),
    )


def _log_loss(scores: NDArray[np.float64], true: NDArray[np.int64]) -> float:
    true_scores = scores[np.arange(len(true)), true]
    # As in scikit-learn, clipping keeps the mean finite if a probability is rounded to zero.
    return float(-np.log(np.clip(true_scores, np.finfo(np.float64).eps, 1.0)).mean())


def _list_counts(confusion: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return [true, predicted, rows] of the cells that are not 0."""
    return [[i, j, count] for i, row in enumerate(confusion) for j, count in enumerate(row) if count]


def _read_confusion(stored: Any) -> tuple[tuple[int, ...], ...]:
    """Return the matrix [true][predicted] of either form in which it is stored."""
    if not isinstance(stored, Mapping):
        return tuple(tuple(row) for row in stored)
    matrix = np.zeros((stored["classes"],) * 2, np.int64)
    for true, predicted, count in stored["counts"]:
        matrix[true, predicted] = count
    return tuple(tuple(int(count) for count in row) for row in matrix)


def format_evaluation(evaluation: Evaluation) -> str:
    """Return a classification report in scikit-learn's layout, in percent, then a small confusion matrix."""
    parts = [_format_figures(evaluation), *_format_notes(evaluation)]
    if len(evaluation.classes) <= _MOST_CLASSES_IN_MATRIX:
        parts.append(_format_confusion(evaluation))
    return "\n".join(parts)


def _format_figures(evaluation: Evaluation) -> str:
    rows = [
        (show_name(f.label), f.precision, f.recall, f.f1, f.support)
        for f in evaluation.classes
        if f.support or f.predicted
    ]
    unknown = list(evaluation.unknown_labels.items())[:MOST_UNKNOWN_SHOWN]
    rows += [(show_name(label), 0.0, 0.0, 0.0, count) for label, count in unknown]
    width = max(len("weighted avg"), *(len(name) for name, *_ in rows))
    lines = [f"{'':>{width}} " + "".join(f" {header:>9}" for header in _HEADERS), ""]
    averages = [("macro avg", evaluation.macro), ("weighted avg", evaluation.weighted)]

    def line(name: str, precision: float, recall: float, f1: float, support: int) -> str:
        return f"{name:>{width}}  {percent(precision):>9} {percent(recall):>9} {percent(f1):>9} {support:9d}"

    lines += [line(*row) for row in rows]
    lines += ["", f"{'accuracy':>{width}}  {'':9} {'':9} {percent(evaluation.accuracy):>9} {evaluation.rows:9d}"]
    lines += [line(name, a.precision, a.recall, a.f1, evaluation.rows) for name, a in averages]
    return "\n".join(lines) + "\n"


def _format_notes(evaluation: Evaluation) -> list[str]:
    notes = []
    names = {"accuracy": "accuracy", "macro_f1": "macro F1"}
    for key, interval in evaluation.intervals.items():
        notes.append(f"{names.get(key, key)}: 95% interval {percent(interval.low)} to {percent(interval.high)}")
    unknown = sum(evaluation.unknown_labels.values())
    if evaluation.log_loss is not None:
        over = f" (on the {evaluation.rows - unknown} rows with a known label)" if unknown else ""
        notes.append(f"log loss: {evaluation.log_loss:.4f}{over}")
    return [
        *notes,
        *describe_probabilities(evaluation.probability_figures, evaluation.mcc),
        *describe_decisions(evaluation.decision_figures),
        *format_label_notes(
            evaluation.unknown_labels, (f.label for f in evaluation.classes if not f.support and not f.predicted)
        ),
        "",
    ]


def _format_confusion(evaluation: Evaluation) -> str:
    names = [show_name(label, 20) for label in evaluation.labels]
    corner = "true \\ predicted"
    side = max(len(corner), *(len(name) for name in names))
    highest = max(count for row in evaluation.confusion for count in row)
    widths = [max(len(name), len(str(highest))) for name in names]
    lines = [f"{corner:>{side}}" + "".join(f"  {n:>{w}}" for n, w in zip(names, widths, strict=True))]
    for name, row in zip(names, evaluation.confusion, strict=True):
        cells = "".join(f"  {count:>{width}}" for count, width in zip(row, widths, strict=True))
        lines.append(f"{name:>{side}}{cells}")
    return "\n".join(lines) + "\n"
