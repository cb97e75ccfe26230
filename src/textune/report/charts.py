"""The learning curves as inline SVG, drawn from numbers alone, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

Points = list[tuple[float, float]]

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 34
_MOST_POINTS = 240


@dataclass(frozen=True)
class Line:
    """One curve: its points, its style-sheet class, and whether each point gets a dot."""

    points: Points
    style: str
    dots: bool = False


def draw_losses(history: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Draw training loss (raw, smoothed) and validation loss over the steps; None where there are none."""
    raw, validation = _series(history, "step", "loss"), _series(history, "evaluation", "loss")
    if not raw and not validation:
        return None
    smooth = _thin(_smooth(raw))
    # One spike must not flatten the rest: the axis ends where nearly all raw points and all others lie.
    typical = sorted(y for _, y in raw)[: max(1, math.ceil(0.98 * len(raw)))] if raw else []
    heights = [*typical, *(y for _, y in validation)]
    lines = [Line(_thin(raw), "raw"), Line(smooth, "first"), Line(validation, "second", dots=True)]
    return _draw(lines, 0.0, max(heights), "Loss over training steps", "{:g}")


def draw_scores(history: Sequence[Mapping[str, Any]], names: Sequence[str] = ("accuracy", "macro F1")) -> Markup | None:
    """Draw one or two validation figures, such as "micro F1", over the steps; None where there are none."""
    series = [_series(history, "evaluation", name.lower().replace(" ", "_")) for name in names]
    scores = [100 * y for figure in series for _, y in figure]
    if not scores:
        return None
    room = max(2.0, 0.1 * (max(scores) - min(scores)))
    lines = [
        Line([(x, 100 * y) for x, y in figure], style, dots=True)
        for figure, style in zip(series, ("first", "second"), strict=False)
    ]
    low, high = max(0.0, min(scores) - room), min(100.0, max(scores) + room)
    return _draw(lines, low, high, f"Validation {' and '.join(names)} over training steps", "{:g}%")


def _series(history: Sequence[Mapping[str, Any]], kind: str, key: str) -> Points:
    """Return (step, value) by step; a step told twice (after a resume) keeps its last value."""
    found: dict[float, float] = {}
    for line in history:
        step, value = line.get("step"), line.get(key)
        if line.get("kind") != kind or not isinstance(step, int) or not isinstance(value, int | float):
            continue
        if math.isfinite(value):
            found[step] = value
    return sorted(found.items())


def _smooth(series: Points) -> Points:
    """Return the bias-corrected exponential mean over about a twentieth of the steps."""
    keep = 1 - 1 / max(1.0, len(series) / 20)
    mean, weight, smooth = 0.0, 0.0, []
    for x, y in series:
        mean, weight = keep * mean + (1 - keep) * y, keep * weight + (1 - keep)
        smooth.append((x, mean / weight))
    return smooth


def _thin(series: Points) -> Points:
    """Return at most so many points that a line shows them, the means of neighbours."""
    size = math.ceil(len(series) / _MOST_POINTS)
    if size <= 1:
        return series
    groups = [series[i : i + size] for i in range(0, len(series), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _draw(lines: Sequence[Line], low: float, high: float, title: str, tick: str) -> Markup:
    steps = [x for line in lines for x, _ in line.points]
    first, last = (min(steps), max(steps)) if max(steps) > min(steps) else (min(steps) - 1, max(steps) + 1)
    high = high if high > low else low + 1

    def place(x: float, y: float) -> tuple[float, float]:
        share = min(max((y - low) / (high - low), 0.0), 1.0)
        across = _LEFT + (x - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        return round(across, 1), round(_TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM), 1)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">']
    for value in list_ticks(low, high, 5):
        _, y = place(first, value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{tick.format(value)}</text>')
    for value in list_ticks(first, last, 5):
        if float(value).is_integer():
            x, _ = place(value, low)
            parts.append(f'<text x="{x}" y="{_HEIGHT - 16}" text-anchor="middle">{value:,.0f}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 2}" text-anchor="middle">step</text>')
    for line in lines:
        placed = [place(x, y) for x, y in line.points]
        if len(placed) > 1:
            path = " ".join(f"{x},{y}" for x, y in placed)
            parts.append(f'<polyline class="{line.style}" points="{path}"/>')
        if line.dots or len(placed) == 1:
            parts += [f'<circle class="{line.style}" cx="{x}" cy="{y}" r="3"/>' for x, y in placed]
    return Markup("".join(parts) + "</svg>")


def list_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round values (1, 2 or 5 times a power of ten apart) within the range."""
    magnitude = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(m * magnitude for m in (1, 2, 5, 10) if (high - low) / (m * magnitude) <= most)
    digits = max(0, -math.floor(math.log10(step)))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, digits) for i in range(first, math.floor(high / step + 1e-9) + 1)]
