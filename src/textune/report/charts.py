"""Learning curves as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

Points = list[tuple[float, float]]

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 76, 22, 34
_MOST_POINTS = 240
_MOST_DOTS = 60
_LINE_OF_TEXT = 14
_COINCIDES = 0.5


@dataclass(frozen=True)
class Line:
    """One curve: its points, its CSS class, the name at its end, and whether each point gets a dot."""

    points: Points
    style: str
    dots: bool = False
    name: str = ""


@dataclass(frozen=True)
class Axis:
    """The vertical axis: its ends, how its ticks are written, and what the chart shows."""

    low: float
    high: float
    tick: str
    title: str


def has_validation_loss(history: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether validation rows were measured while a run trained."""
    return bool(_series(history, "evaluation", "loss"))


def draw_losses(history: Sequence[Mapping[str, Any]], chosen: int | None = None) -> Markup | None:
    """Draw training loss (raw and smoothed) and validation loss over steps; return None for fewer than two steps.

    chosen: the step of the checkpoint that was kept.
    """
    raw, validation = _series(history, "step", "loss"), _series(history, "evaluation", "loss")
    if len({step for step, _ in raw + validation}) < 2:
        return None
    smooth = _thin(_smooth(raw))
    # The axis covers 98% of the raw points, so that one spike does not flatten the curves.
    typical = sorted(y for _, y in raw)[: max(1, math.ceil(0.98 * len(raw)))] if raw else []
    heights = [*typical, *(y for _, y in validation)]
    lines = [
        Line(_thin(raw), "raw"),
        Line(smooth, "first", name="training"),
        Line(_thin(validation), "second", dots=True, name="validation"),
    ]
    return _draw(lines, Axis(0.0, max(heights), "{:g}", "Loss over training steps"), chosen)


def draw_scores(
    history: Sequence[Mapping[str, Any]], names: Sequence[str] = ("accuracy", "macro F1"), chosen: int | None = None
) -> Markup | None:
    """Draw one or two validation figures, such as "micro F1", over the steps; None for fewer than two.

    chosen: the step of the checkpoint that was kept.
    """
    series = [_scores(history, name) for name in names]
    scores = [y for figure in series for _, y in figure]
    if len({step for figure in series for step, _ in figure}) < 2:
        return None
    room = max(2.0, 0.1 * (max(scores) - min(scores)))
    lines = [
        Line(_thin(figure), style, dots=True, name=name)
        for figure, style, name in zip(series, ("first", "second"), names, strict=False)
    ]
    low, high = max(0.0, min(scores) - room), min(100.0, max(scores) + room)
    return _draw(lines, Axis(low, high, "{:g}%", f"Validation {' and '.join(names)} over training steps"), chosen)


def describe_coincidence(history: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return a sentence where two figures are so close at every step that their curves lie on each other, or ""."""
    series = [dict(_scores(history, name)) for name in names[:2]]
    if len(series) < 2 or not series[0].keys() & series[1].keys():
        return ""
    widest = max(abs(series[0][step] - series[1][step]) for step in series[0].keys() & series[1].keys())
    return f"{names[0]} and {names[1]} differ by less than {_COINCIDES:g} points." if widest < _COINCIDES else ""


def _scores(history: Sequence[Mapping[str, Any]], name: str) -> Points:
    return [(x, 100 * y) for x, y in _series(history, "evaluation", name.lower().replace(" ", "_"))]


def _series(history: Sequence[Mapping[str, Any]], kind: str, key: str) -> Points:
    """Return (step, value) pairs by step; a step logged twice (after a resume) keeps its last value."""
    values: dict[float, float] = {}
    for line in history:
        step, value = line.get("step"), line.get(key)
        if line.get("kind") != kind or not isinstance(step, int) or not isinstance(value, int | float):
            continue
        if math.isfinite(value):
            values[step] = value
    return sorted(values.items())


def _smooth(series: Points) -> Points:
    """Return the bias-corrected exponential moving average over about 1/20 of the steps."""
    decay = 1 - 1 / max(1.0, len(series) / 20)
    mean, weight, smooth = 0.0, 0.0, []
    for x, y in series:
        mean, weight = decay * mean + (1 - decay) * y, decay * weight + (1 - decay)
        smooth.append((x, mean / weight))
    return smooth


def _thin(series: Points) -> Points:
    """Return at most `_MOST_POINTS` points, each the mean of its neighbours."""
    size = math.ceil(len(series) / _MOST_POINTS)
    if size <= 1:
        return series
    groups = [series[i : i + size] for i in range(0, len(series), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _draw(lines: Sequence[Line], axis: Axis, chosen: int | None) -> Markup:
    steps = [x for line in lines for x, _ in line.points]
    first, last = (min(steps), max(steps)) if max(steps) > min(steps) else (min(steps) - 1, max(steps) + 1)
    low, high = axis.low, axis.high if axis.high > axis.low else axis.low + 1

    def place(x: float, y: float) -> tuple[float, float]:
        share = min(max((y - low) / (high - low), 0.0), 1.0)
        across = _LEFT + (x - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        return round(across, 1), round(_TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM), 1)

    marked = chosen is not None and first <= chosen <= last
    label = escape("; ".join([axis.title, *_tell(lines, axis.tick), *([f"chosen: step {chosen:,}"] if marked else [])]))
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">']
    for value in list_ticks(low, high, 5):
        _, y = place(first, value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{axis.tick.format(value)}</text>')
    for value in list_ticks(first, last, 4):
        if float(value).is_integer():
            x, _ = place(value, low)
            parts.append(f'<text x="{x}" y="{_HEIGHT - 16}" text-anchor="middle">{value:,.0f}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 2}" text-anchor="middle">step</text>')
    if chosen is not None and marked:
        x, _ = place(chosen, low)
        side = "end" if x > middle else "start"
        parts.append(f'<line class="chosen" x1="{x}" x2="{x}" y1="{_TOP - 6}" y2="{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text class="chosen" x="{x}" y="{_TOP - 10}" text-anchor="{side}">chosen: {chosen:,}</text>')
    for line in lines:
        placed = [place(x, y) for x, y in line.points]
        if len(placed) > 1:
            path = " ".join(f"{x},{y}" for x, y in placed)
            parts.append(f'<polyline class="{line.style}" points="{path}"/>')
        if (line.dots and len(placed) <= _MOST_DOTS) or len(placed) == 1:
            parts += [f'<circle class="{line.style}" cx="{x}" cy="{y}" r="3"/>' for x, y in placed]
    parts += _name_ends([(line, place(*line.points[-1])) for line in lines if line.name and line.points])
    return Markup("".join(parts) + "</svg>")


def _tell(lines: Sequence[Line], tick: str) -> list[str]:
    """Return the first and the last value of each named curve, for those who do not see it."""
    return [
        f"{line.name} from {tick.format(round(line.points[0][1], 3))} to {tick.format(round(line.points[-1][1], 3))}"
        for line in lines
        if line.name and line.points
    ]


def _name_ends(ends: Sequence[tuple[Line, tuple[float, float]]]) -> list[str]:
    """Write each curve's name beside its end, one below the other where the ends are close."""
    parts, taken = [], -math.inf
    for line, (x, y) in sorted(ends, key=lambda end: end[1][1]):
        taken = max(y + 4, taken + _LINE_OF_TEXT)
        parts.append(f'<text class="end {line.style}" x="{x + 7}" y="{round(taken, 1)}">{escape(line.name)}</text>')
    return parts


def list_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round values in the range, spaced 1, 2 or 5 times a power of ten apart."""
    magnitude = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(m * magnitude for m in (1, 2, 5, 10) if (high - low) / (m * magnitude) <= most)
    digits = max(0, -math.floor(math.log10(step)))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, digits) for i in range(first, math.floor(high / step + 1e-9) + 1)]
