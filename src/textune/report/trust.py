"""The report's answer to "Can the probabilities be trusted?": sentences, tables and drawings from the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from textune.evaluation import CalibrationFigures, Curve, ProbabilityFigures, ReliabilityBin
from textune.report.decisions import Choices, describe_choices
from textune.report.wording import clip, number, percent, plural, span
from textune.tasks import AnyEvaluation, build_task

_SMALL = 0.05
"""An error below this is no reason to distrust the probabilities."""
_FEW_CLASSES = 20
_WORST_CLASSES = 10
_CURVES_OPEN = 6
_FEW_IN_BIN = 10
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _FLOOR = 460, 372, 46, 24, 10, 262
_COUNTS_TOP, _COUNTS_FLOOR = 292, 328


@dataclass(frozen=True)
class ClassRow:
    """A class in the table: its rows, their share, and how well its probability ranks them; None where undefined."""

    label: str
    rows: int
    share: float
    average_precision: float | None
    roc_auc: float | None


@dataclass(frozen=True)
class CalibrationRow:
    """A figure before and after the temperature, each as a value and its interval, which may be empty."""

    name: str
    before: tuple[str, str]
    after: tuple[str, str]


@dataclass(frozen=True)
class Trust:
    """What the section shows. has_before: whether there are figures from before a temperature.

    others: (name, value) of ranking and answers. classes: lowest average precision first.
    bins: the diagram as a table. unit, counted: what it counts, at length and in short. observed: which share of it.
    perfect_classes: those left out because their rows come before all others. curves: small drawings. choices:
    abstaining and prediction sets, where they were measured. split: whose rows these are.
    """

    split: str
    sentences: tuple[str, ...]
    diagram: Markup | None
    has_before: bool
    calibration: tuple[CalibrationRow, ...]
    others: tuple[tuple[str, str], ...]
    bins: tuple[ReliabilityBin, ...]
    unit: str
    counted: str
    observed: str
    classes: tuple[ClassRow, ...]
    more_classes: int
    perfect_classes: int
    curves: tuple[Markup, ...]
    more_curves: tuple[Markup, ...]
    choices: Choices | None = None


def describe_trust(evaluation: AnyEvaluation, split: str) -> Trust | None:
    """Return the section's content; None for figures that were stored without probabilities."""
    task = build_task(evaluation.task)
    figures = task.probability_figures(evaluation)
    if figures is None:
        return None
    labels = [f.label for f in evaluation.classes]
    unit, observed = _name_unit(evaluation, figures)
    ranked = _rank_classes(evaluation, figures)
    many = len(ranked) > _FEW_CLASSES
    shown = [row for row in ranked if row.average_precision != 1][:_WORST_CLASSES] if many else ranked
    drawn = [curve for curve in figures.curves if not (many and set(curve.precision) == {1.0})]
    curves = [draw_curve(curve, labels[curve.label]) for curve in drawn]
    values = [
        *((name, figures.undefined.get(name), getattr(figures.ranking, name)) for name in _RANKING_NAMES),
        *((name, None, value) for name, value in task.answer_figures(evaluation)),
    ]
    return Trust(
        split=split,
        sentences=tuple(_answer(evaluation, figures, split)),
        diagram=draw_reliability(figures, unit, observed),
        has_before=figures.before is not None,
        calibration=tuple(_list_calibration(figures)),
        others=tuple((_RANKING_NAMES.get(n, n), _show(value, reason)) for n, reason, value in values),
        bins=figures.calibration.bins,
        unit=unit,
        counted=unit.partition(",")[0],
        observed=observed,
        classes=tuple(shown),
        more_classes=len(ranked) - len(shown),
        perfect_classes=sum(row.average_precision == 1 for row in ranked) if many else 0,
        curves=tuple(curves[:_CURVES_OPEN]),
        more_curves=tuple(curves[_CURVES_OPEN:]),
        choices=describe_choices(evaluation),
    )


def describe_calibration(evaluation: AnyEvaluation) -> str:
    """Return the calibration in one or two sentences for the model card; empty without figures."""
    figures = build_task(evaluation.task).probability_figures(evaluation)
    if figures is None or figures.calibration.calibration_error is None:
        return ""
    text = f"Calibration: {_name(figures.calibration)}."
    if figures.before is not None:
        text += f" Before the temperature of {figures.temperature:.2f}: {_name(figures.before)}."
    return text


_CALIBRATION_NAMES = {"calibration_error": "expected calibration error", "brier": "Brier score", "log_loss": "log loss"}
_RANKING_NAMES = {"mean_average_precision": "average precision, mean of classes", "mean_roc_auc": "ROC AUC, mean"}


def _name_unit(evaluation: AnyEvaluation, figures: ProbabilityFigures) -> tuple[str, str]:
    """Return what the bins count, and which of it the shares are of."""
    if len(evaluation.classes) > 1 and sum(b.count for b in figures.calibration.bins) > evaluation.rows:
        return "decisions, one per row and label", "where the label applies"
    return "rows", "correct"


def _name(figures: CalibrationFigures) -> str:
    parts = []
    if figures.calibration_error is not None and figures.interval is not None:
        between = f"95% interval {span(figures.interval)}"
        parts.append(f"expected calibration error {percent(figures.calibration_error)} ({between})")
    parts += [f"Brier score {figures.brier:.3f}"] if figures.brier is not None else []
    parts += [f"log loss {figures.log_loss:.3f}"] if figures.log_loss is not None else []
    return ", ".join(parts)


def _answer(evaluation: AnyEvaluation, figures: ProbabilityFigures, split: str) -> list[str]:
    unit, observed = _name_unit(evaluation, figures)
    now, before = figures.calibration, figures.before
    if now.calibration_error is None or now.interval is None or now.chance is None:
        return [f"That cannot be measured: {figures.undefined['calibration_error']}."]
    error, between = _points(now.calibration_error), f"95% interval {span(now.interval)}"
    where = f"on {number(evaluation.rows)} {split} rows"
    direction = "mostly too high" if now.tendency > 0 else "mostly too low"
    if abs(now.tendency) < now.calibration_error / 2:
        direction = "too high in some ranges and too low in others"
    if now.interval.low == 0:
        sure = now.interval.high < 2 * _SMALL
        answer = "Yes, as far as these rows can tell" if sure else "These rows are too few to tell"
        sentences = [
            f"{answer}: the probability and the share {observed} differ by {error} on average {where}, and chance "
            f"alone explains as much: perfect probabilities would show up to {_points(now.chance)}. The true error may "
            f"be as large as {_points(now.interval.high)}."
        ]
    elif now.calibration_error < _SMALL:
        sentences = [f"Mostly: they are off by {error} on average {where} ({between}), {direction}."]
    else:
        sentences = [f"Only with care: they are off by {error} on average {where} ({between}), {direction}."]
    if before is not None and before.calibration_error is not None:
        fitted = "these very rows" if split == "validation" else "held-out rows"
        sentences.append(
            f"The temperature of {figures.temperature:.2f}, fitted on {fitted}, changed this error from "
            f"{percent(before.calibration_error)} to {percent(now.calibration_error)}."
        )
    elif figures.temperature == 1:
        sentences.append("The temperature is 1, so these are the model's own probabilities.")
    if evaluation.unknown_labels and unit == "rows":
        rows = sum(evaluation.unknown_labels.values())
        have, errors = ("has", "an error") if rows == 1 else ("have", "errors")
        sentences.append(
            f"{plural(rows, 'row')} {have} a label that the model does not know, counted as {errors} here and left out "
            "of Brier score and log loss."
        )
    return sentences


def _list_calibration(figures: ProbabilityFigures) -> list[CalibrationRow]:
    """Return the figures that the temperature changes, before and after it."""
    rows = []
    for key, name in _CALIBRATION_NAMES.items():
        cells = []
        for side in (figures.before, figures.calibration):
            value = None if side is None else getattr(side, key)
            if key == "calibration_error" and side is not None and value is not None and side.interval is not None:
                cells.append((percent(value), span(side.interval)))
            else:
                cells.append((_show(value, figures.undefined.get(key)), ""))
        rows.append(CalibrationRow(name, cells[0], cells[1]))
    return rows


def _points(share: float) -> str:
    return f"{100 * share:.1f} percentage points"


def _show(value: float | None, reason: str | None) -> str:
    if value is None:
        return f"– ({reason})" if reason else "–"
    return f"{value:.3f}"


def _rank_classes(evaluation: AnyEvaluation, figures: ProbabilityFigures) -> list[ClassRow]:
    ranking = figures.ranking
    pairs = zip(evaluation.classes, ranking.average_precision, ranking.roc_auc, strict=True)
    rows = [ClassRow(f.label, f.support, f.support / evaluation.rows, area, auc) for f, area, auc in pairs if f.support]
    return sorted(rows, key=lambda row: -1.0 if row.average_precision is None else row.average_precision)


def draw_reliability(figures: ProbabilityFigures, unit: str, observed: str = "correct") -> Markup | None:
    """Draw the share that came true over the probability, with intervals and the count of each bin."""
    bins, before = figures.calibration.bins, figures.before
    if not bins:
        return None
    bars = "; ".join(f"{100 * b.low:.0f} to {100 * b.high:.0f}%: {percent(b.right)} of {number(b.count)}" for b in bins)
    title = f"Reliability diagram: the share {observed} by probability, in {unit}. {bars}."
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _place(share, share)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{100 * share:.0f}%</text>')
        parts.append(f'<text x="{x}" y="{_FLOOR + 18}" text-anchor="middle">{100 * share:.0f}%</text>')
    (x1, y1), (x2, y2) = _place(0, 0), _place(1, 1)
    parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="diagonal"/>')
    if before is not None:
        parts.append(_draw_points(before.bins, "second"))
    for b in bins:
        x, low = _place(b.probability, b.interval.low)
        _, high = _place(b.probability, b.interval.high)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{low}" y2="{high}" class="whisker"/>')
    parts += [_draw_points(bins, "first"), _draw_counts(bins)]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">probability; below, {unit}</text>')
    return Markup("".join(parts) + "</svg>")


def _place(probability: float, share: float) -> tuple[float, float]:
    return round(_LEFT + probability * (_WIDTH - _LEFT - _RIGHT), 1), round(_FLOOR - share * (_FLOOR - _TOP), 1)


def _draw_points(bins: Sequence[ReliabilityBin], style: str) -> str:
    """Draw a point for each bin, small for few decisions, and a line through the others."""
    placed = [(*_place(b.probability, b.right), b.count >= _FEW_IN_BIN) for b in bins]
    path = [f"{x},{y}" for x, y, many in placed if many]
    line = f'<polyline class="{style}" points="{" ".join(path)}"/>' if len(path) > 1 else ""
    return line + "".join(
        f'<circle class="{style}" cx="{x}" cy="{y}" r="{4 if many else 2}"/>' for x, y, many in placed
    )


def _draw_counts(bins: Sequence[ReliabilityBin]) -> str:
    highest, parts = max(b.count for b in bins), []
    for b in bins:
        left, right = _place(b.low, 0)[0], _place(b.high, 0)[0]
        height = max(1.0, round((_COUNTS_FLOOR - _COUNTS_TOP) * b.count / highest, 1))
        size = f'x="{left + 2:.1f}" y="{_COUNTS_FLOOR - height:.1f}" width="{right - left - 4:.1f}" height="{height}"'
        parts.append(f'<rect {size} class="count"><title>{number(b.count)}</title></rect>')
        at = f'x="{(left + right) / 2:.1f}" y="{_COUNTS_FLOOR + 12}"'
        parts.append(f'<text {at} text-anchor="middle" class="count">{_short(b.count)}</text>')
    return "".join(parts)


def _short(count: int) -> str:
    """Write 12345 as ``12k``."""
    if count < 10_000:
        return str(count)
    return f"{count / 1000:.0f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"


def draw_curve(curve: Curve, label: str) -> Markup:
    """Draw one class's precision over recall, small, with its label below."""
    size, edge = 110, 4
    points = [(0.0, curve.precision[0]), *zip(curve.recall, curve.precision, strict=True)]
    path = " ".join(f"{edge + r * size:.1f},{edge + (1 - p) * size:.1f}" for r, p in points)
    title = f"Precision over recall of {clip(label, 60)}: {percent(curve.precision[-1])} at full recall"
    side = size + 2 * edge
    frame = f'<rect x="{edge}" y="{edge}" width="{size}" height="{size}" class="frame"/>'
    return Markup(
        '<figure><svg viewBox="0 0 {side} {side}" role="img" aria-label="{title}">{frame}'
        '<polyline class="first" points="{path}"/></svg><figcaption dir="auto">{label}</figcaption></figure>'
    ).format(side=side, title=title, frame=Markup(frame), path=path, label=clip(label, 40))
