"""Multi-label evaluation: all metrics from probabilities and true labels, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from textune.errors import DataError, ModelError
from textune.evaluation.decisions import DecisionFigures, describe_decisions
from textune.evaluation.intervals import (
    RESAMPLES,
    Difference,
    Interval,
    percentile_interval,
    recentre,
    resampled_interval,
    widen,
    wilson_interval,
)
from textune.evaluation.labelled import Averages, ClassFigures, Headline, LabelEvaluation, read_common, refuse_damaged
from textune.evaluation.paired import apply_randomisation, bound_equal, count_labels, score_sums
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

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
_MOST_DRAWS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class LabelFigures(ClassFigures):
    """The scores of one label.

    hits: true positives. average_precision: the area under the precision-recall curve; None without rows of the label.
    """

    hits: int
    average_precision: float | None
    threshold: float


@dataclass(frozen=True, repr=False)
class MultiLabelEvaluation(LabelEvaluation):
    """All metrics of one model on one set of rows with any number of labels each.

    accuracy: the share of rows with exactly the right labels (subset accuracy).
    micro: over all decisions. macro, weighted: over the labels that occur as true or predicted; each unknown label is
        such a label, always missed.
    hamming_loss: the share of wrong decisions, one per row and label.
    mean_average_precision: over the labels that occur in the rows; None without any.
    log_loss: nats per decision. intervals: 95% intervals of ``micro_f1`` and ``macro_f1`` (bootstrap)
        and ``accuracy`` (Wilson).
    unknown_labels: labels that the model does not know, with their row counts.
    samples_f1: the mean F1 of a row's labels; 1 for a row that has none and is given none. None in older figures.
    probability_figures: calibration and ranking of the probabilities; None for figures stored without them.
    decision_figures: how thresholds, costs, sets and abstaining did; None for figures stored without them.
    seen: which rows the run was trained on, and the figures on the others, where that was looked for.
    """

    task: ClassVar[str] = "multi_label"

    rows: int
    accuracy: float
    micro: Averages
    macro: Averages
    weighted: Averages
    hamming_loss: float
    mean_average_precision: float | None
    log_loss: float
    classes: tuple[LabelFigures, ...]
    intervals: dict[str, Interval]
    unknown_labels: dict[str, int]
    samples_f1: float | None = None
    probability_figures: ProbabilityFigures | None = None
    decision_figures: DecisionFigures | None = None
    seen: SeenRows | None = field(default=None, compare=False, repr=False)

    @property
    def headline(self) -> Headline:
        """The headline metric."""
        return Headline("micro F1", self.micro.f1, self.intervals["micro_f1"])

    @property
    def summary(self) -> dict[str, float]:
        """The figures that a manifest keeps."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro.f1, "micro_f1": self.micro.f1}

    @property
    def mcc(self) -> float | None:
        """Matthews' correlation over all decisions, those on unknown labels included; None where all are the same."""
        decisions = self.rows * (len(self.classes) + len(self.unknown_labels))
        hits, predicted = sum(f.hits for f in self.classes), sum(f.predicted for f in self.classes)
        true = sum(f.support for f in self.classes) + sum(self.unknown_labels.values())
        right = decisions - true - predicted + 2 * hits
        return matthews_correlation(right, decisions, (true, decisions - true), (predicted, decisions - predicted))

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts and numbers for JSON, without loss."""
        return {"task": self.task} | super().to_dict()

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> MultiLabelEvaluation:
        """Rebuild what `to_dict` returned; raise BundleError if anything is missing or unexpected."""
        with refuse_damaged():
            return cls(
                **read_common(stored),
                hamming_loss=stored["hamming_loss"],
                mean_average_precision=stored["mean_average_precision"],
                micro=Averages(**stored["micro"]),
                classes=tuple(LabelFigures(**figures) for figures in stored["classes"]),
                samples_f1=stored.get("samples_f1"),
            )

    def report_text(self) -> str:
        """Return a classification report as plain text."""
        return format_multi_label(self)


def evaluate_multi_label(
    probabilities: NDArray[np.floating[Any]],
    targets: NDArray[Any],
    labels: Sequence[str],
    thresholds: Sequence[float],
    *,
    seed: int = 0,
    unknown: Sequence[Sequence[str]] = (),
) -> MultiLabelEvaluation:
    """Return all metrics of one model on one set of rows.

    probabilities: float [rows, labels]; targets: 0 or 1 [rows, labels]; thresholds: one per label.
    unknown: for each row, the labels that the model does not know; each counts as missed.
    Raises DataError without rows, ModelError if a probability is not finite, ValueError on wrong shapes.
    """
    scores, known = np.asarray(probabilities, dtype=np.float64), np.asarray(targets) > 0
    _check(scores, known, labels, thresholds, unknown)
    unknown_labels = dict(Counter(label for names in unknown for label in names).most_common())
    unknown_marks = _mark_unknown(unknown, unknown_labels, len(known))
    # An unknown label is a column that is never predicted, so every metric counts it as missed.
    true = np.hstack([known, unknown_marks])
    predicted = np.hstack([scores >= np.asarray(thresholds), np.zeros_like(unknown_marks)])

    hits, support, predictions = (true & predicted).sum(0), true.sum(0), predicted.sum(0)
    precision, recall, f1 = _divide(hits, predictions), _divide(hits, support), _divide(2 * hits, support + predictions)
    occurring = support + predictions > 0
    figures = tuple(
        LabelFigures(
            label,
            float(precision[i]),
            float(recall[i]),
            float(f1[i]),
            int(support[i]),
            int(predictions[i]),
            int(hits[i]),
            average_precision(scores[:, i], known[:, i]),
            float(thresholds[i]),
        )
        for i, label in enumerate(labels)
    )
    areas = [f.average_precision for f in figures if f.average_precision is not None]

    def average(weights: NDArray[Any]) -> Averages:
        total = max(float(weights.sum()), 1e-12)
        return Averages(*(float((values * weights).sum() / total) for values in (precision, recall, f1)))

    all_hits, all_true, all_predicted = (np.array([counts.sum()]) for counts in (hits, support, predictions))
    micro = Averages(
        float(_divide(all_hits, all_predicted)[0]),
        float(_divide(all_hits, all_true)[0]),
        float(_divide(2 * all_hits, all_true + all_predicted)[0]),
    )
    macro, weighted = average(occurring.astype(float)), average(support.astype(float))
    if not occurring.any():  # no row has a label and none is given one: all answers are right
        micro = macro = weighted = Averages(1.0, 1.0, 1.0)
    return MultiLabelEvaluation(
        rows=len(true),
        accuracy=float((true == predicted).all(axis=1).mean()),
        micro=micro,
        macro=macro,
        weighted=weighted,
        hamming_loss=float((true != predicted).mean()),
        mean_average_precision=sum(areas) / len(areas) if areas else None,
        log_loss=log_loss(scores, known),
        classes=figures,
        intervals=_estimate_intervals(true, predicted, seed),
        unknown_labels=unknown_labels,
        samples_f1=samples_f1(true, predicted),
        probability_figures=measure_probabilities(scores, known, seed=seed),
    )


def samples_f1(true: Bools, predicted: Bools) -> float:
    """Return the mean F1 of a row's labels; 1 for a row that has none and is given none. Both: bool [rows, labels]."""
    total = true.sum(1) + predicted.sum(1)
    return float(np.where(total > 0, _divide(2 * (true & predicted).sum(1), total), 1.0).mean())


def log_loss(probabilities: Floats, true: Bools) -> float:
    """Return the mean over rows and labels of the binary cross entropy, in nats."""
    tiny = np.finfo(np.float64).eps
    return float(-np.log(np.clip(np.where(true, probabilities, 1 - probabilities), tiny, 1.0)).mean())


def average_precision(scores: Floats, true: Bools) -> float | None:
    """Return the average precision of one label; None without true rows."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(true, scores)) if true.any() else None


def paired_f1_difference(
    true: Bools, predicted_a: Bools, predicted_b: Bools, missed: NDArray[np.int64] | None = None, *, seed: int = 0
) -> Difference:
    """Return A's micro F1 minus B's on the same rows: paired-bootstrap 95% interval and permutation test's p-value.

    true, predicted_a, predicted_b: bool [rows, labels]. missed: int64 [rows], labels of a row that neither model knows.
    """
    both = (predicted_a, predicted_b)
    if any(predicted.shape != true.shape for predicted in both):
        shapes = f"{true.shape}, {predicted_a.shape} and {predicted_b.shape}"
        raise ValueError(f"the rows must be paired: got shapes {shapes}")
    if not len(true):
        raise DataError("no rows to compare the models on", hint="give rows with labels")
    if np.array_equal(predicted_a, predicted_b):
        return bound_equal(len(true))
    extra = np.zeros(len(true), np.int64) if missed is None else missed
    support = true.sum(1) + extra
    columns = [(true & predicted).sum(1) for predicted in both] + [predicted.sum(1) + support for predicted in both]
    patterns, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(true), counts / len(true), size=RESAMPLES)

    def lead(sums: NDArray[Any]) -> NDArray[np.float64]:
        return score_sums(2 * sums[:, 0], sums[:, 2]) - score_sums(2 * sums[:, 1], sums[:, 3])

    interval = widen(percentile_interval(lead(draws @ patterns)), len(true))
    p = apply_randomisation(*(count_labels(true, [predicted], extra) for predicted in both), seed=seed)
    return Difference(interval.low, interval.high, float(lead((counts @ patterns)[None])[0]), p)


def _estimate_intervals(true: Bools, predicted: Bools, seed: int) -> dict[str, Interval]:
    """Return bootstrap 95% intervals of micro and macro F1, and Wilson's interval of accuracy."""
    rows, labels = true.shape
    accuracy = wilson_interval(float((true == predicted).all(axis=1).mean()), rows)
    if not (true | predicted).any():
        return {"micro_f1": accuracy, "macro_f1": accuracy, "accuracy": accuracy}
    marks = np.hstack([true & predicted, true, predicted])
    patterns, counts = np.unique(marks, axis=0, return_counts=True)  # equal rows are drawn together
    patterns = patterns.astype(np.float32)  # fast, and exact for counts up to 16 million
    rng = np.random.default_rng(seed)

    def score(draws: NDArray[Any]) -> tuple[Floats, Floats]:
        """Return micro and macro F1. draws: the count of each pattern, [draws, patterns]."""
        sums = (draws.astype(np.float32) @ patterns).astype(np.float64)
        hits, total = sums[:, :labels], sums[:, labels : 2 * labels] + sums[:, 2 * labels :]
        macro = _divide(2 * hits, total).sum(1) / np.maximum((total > 0).sum(1), 1)
        micro = np.where(total.sum(1) > 0, _divide(2 * hits.sum(1), total.sum(1)), np.nan)
        return micro, macro

    block = max(1, _MOST_DRAWS_AT_ONCE // len(counts))
    sizes = [min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block)]
    pieces = [score(rng.multinomial(rows, counts / rows, size=size)) for size in sizes]
    micro, macro = (np.concatenate([piece[i] for piece in pieces]) for i in (0, 1))
    value = float(score(counts[None])[1][0])
    # Resamples miss rare labels, so their macro F1 is biased against the sample's as the sample's is in the limit.
    micro = micro[np.isfinite(micro)]  # draws without a label say nothing
    labelled = int(marks.any(axis=1).sum())
    return {
        "micro_f1": resampled_interval(micro, labelled),
        "macro_f1": recentre(macro, value, float(macro.mean()) - value, rows, true.sum(axis=0)),
        "accuracy": accuracy,
    }


def _mark_unknown(unknown: Sequence[Sequence[str]], names: Mapping[str, int], rows: int) -> Bools:
    marks = np.zeros((rows, len(names)), dtype=bool)
    number = {name: i for i, name in enumerate(names)}
    for row, labels in enumerate(unknown):
        marks[row, [number[label] for label in labels]] = True
    return marks


def _check(
    scores: Floats, true: Bools, labels: Sequence[str], thresholds: Sequence[float], unknown: Sequence[Sequence[str]]
) -> None:
    if scores.ndim != 2 or scores.shape != true.shape or scores.shape[1] != len(labels):
        raise ValueError(f"probabilities {scores.shape} do not fit {true.shape} targets and {len(labels)} labels")
    if len(thresholds) != len(labels) or (unknown and len(unknown) != len(true)):
        raise ValueError(f"{len(thresholds)} thresholds and {len(unknown)} unknown do not fit {scores.shape}")
    if len(true) == 0:
        raise DataError("no rows to evaluate", hint="give rows with a label")
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(broken):
        raise ModelError(
            f"the model's probabilities are not finite for {len(broken)} of {len(true)} rows, "
            f"the first at position {broken[0]}",
            hint="the weights contain NaN or infinity, or the precision is too low: try precision=fp32",
        )


def _divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    where = np.asarray(denominator) > 0
    return np.asarray(np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=where))


def format_multi_label(evaluation: MultiLabelEvaluation) -> str:
    """Return a classification report with thresholds, averages and the metrics over whole rows."""
    headers = ("precision", "recall", "f1-score", "support", "predicted", "avg prec", "threshold")
    rows = [f for f in evaluation.classes if f.support or f.predicted]
    names = ("weighted avg", *(show_name(f.label) for f in rows), *(show_name(n) for n in evaluation.unknown_labels))
    width = max(len(name) for name in names)
    lines = [f"{'':>{width}} " + "".join(f" {header:>9}" for header in headers), ""]
    for f in rows:
        area = f"{percent(f.average_precision):>9}" if f.average_precision is not None else f"{'':9}"
        lines.append(
            f"{show_name(f.label):>{width}}  {percent(f.precision):>9} {percent(f.recall):>9} {percent(f.f1):>9} "
            f"{f.support:9d} {f.predicted:9d} {area} {f.threshold:9.4f}"
        )
    for label, count in list(evaluation.unknown_labels.items())[:MOST_UNKNOWN_SHOWN]:
        lines.append(f"{show_name(label):>{width}}  {percent(0.0):>9} {percent(0.0):>9} {percent(0.0):>9} {count:9d}")
    support = sum(f.support for f in evaluation.classes) + sum(evaluation.unknown_labels.values())
    averages = {"micro avg": evaluation.micro, "macro avg": evaluation.macro, "weighted avg": evaluation.weighted}
    lines.append("")
    lines += [
        f"{n:>{width}}  {percent(a.precision):>9} {percent(a.recall):>9} {percent(a.f1):>9} {support:9d}"
        for n, a in averages.items()
    ]
    names_of = {"micro_f1": "micro F1", "macro_f1": "macro F1", "accuracy": "subset accuracy"}
    notes = [
        f"{names_of[key]}: 95% interval {percent(interval.low)} to {percent(interval.high)}"
        for key, interval in evaluation.intervals.items()
    ]
    notes.append(f"subset accuracy: {percent(evaluation.accuracy)} on {evaluation.rows} rows")
    notes.append(f"Hamming loss: {percent(evaluation.hamming_loss)} of the decisions")
    if evaluation.mean_average_precision is not None:
        notes.append(f"mean average precision: {percent(evaluation.mean_average_precision)}")
    if evaluation.samples_f1 is not None:
        notes.append(f"samples F1: {percent(evaluation.samples_f1)}")
    notes.append(f"log loss: {evaluation.log_loss:.4f} per decision")
    notes += describe_probabilities(evaluation.probability_figures, evaluation.mcc, ranked=False)
    notes += describe_decisions(evaluation.decision_figures)
    return "\n".join(
        [
            *lines,
            "",
            *notes,
            *format_label_notes(
                evaluation.unknown_labels, (f.label for f in evaluation.classes if not f.support and not f.predicted)
            ),
            "",
        ]
    )
