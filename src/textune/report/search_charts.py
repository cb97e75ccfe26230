"""The charts of a search as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from textune.evaluation.text import LOSSES
from textune.report.charts import list_ticks
from textune.report.wording import name_metric, name_setting

_WIDTH, _HEIGHT = 940, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 60, 34, 20
_MOST_TICKS = 6


def draw_coordinates(
    trials: Sequence[Mapping[str, Any]], names: Sequence[str], metric: str, best: int
) -> Markup | None:
    """Draw parallel coordinates: a line per trial, an axis per setting and the metric last; None without scores.

    Stopped trials are pale; the winner is drawn last and bold. An outlying score is drawn at the edge of its axis,
    marked ≤ or ≥, so that one collapsed trial does not squeeze all others together.
    """
    shown = [t for t in trials if t["scores"]]
    if not shown:
        return None
    axes: list[_Axis] = [_Axis(name, [t["settings"].get(name) for t in shown]) for name in names]
    axes.append(_ScoreAxis(metric, [float(t["scores"][metric]) for t in shown]))
    gap = (_WIDTH - _LEFT - _RIGHT) / (len(axes) - 1)
    parts = [_open(_WIDTH, _HEIGHT, "Every trial as a line through its settings and its score")]
    ticks: list[str] = []  # drawn over the lines, outlined in the background colour
    for i, axis in enumerate(axes):
        x = round(_LEFT + i * gap, 1)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{x}" y="16" text-anchor="middle">{escape(name_setting(axis.name))}</text>')
        beside = f'x="{x - 8}" text-anchor="end"' if i == 0 else f'x="{x + 8}"'  # no line is left of the first axis
        for value, share in axis.ticks():
            ticks.append(f'<text class="over" {beside} y="{_place(share) + 4}">{escape(value)}</text>')
    for trial in sorted(shown, key=lambda t: (t["number"] == best, t["state"] == "complete")):
        values = [*(trial["settings"].get(name) for name in names), trial["scores"][metric]]
        points = [
            f"{round(_LEFT + i * gap, 1)},{_place(axis.share(value))}"
            for i, (axis, value) in enumerate(zip(axes, values, strict=True))
        ]
        style = "second" if trial["number"] == best else "first" if trial["state"] == "complete" else "raw"
        title = f"<title>trial {trial['number']}</title>"
        parts.append(f'<polyline class="{style}" points="{" ".join(points)}">{title}</polyline>')
    return Markup("".join(parts + ticks) + "</svg>")


def draw_scores_by_trial(trials: Sequence[Mapping[str, Any]], metric: str) -> Markup | None:
    """Draw each trial's score by its number, and the best completed trial so far; None without scores."""
    shown = [t for t in trials if t["scores"]]
    if not shown:
        return None
    values = [float(t["scores"][metric]) for t in shown]
    low, high = _widen(min(values), max(values))
    width, height, left = 460, 250, 56
    last = max(t["number"] for t in shown)

    def place(number: float, value: float) -> tuple[float, float]:
        across = left + (number + 0.5) / (last + 1) * (width - left - 12)
        return round(across, 1), round(10 + (high - value) / (high - low) * (height - 44), 1)

    parts = [_open(width, height, "Score of each trial, in order")]
    most = math.inf if metric in LOSSES else 1.0
    for tick in (tick for tick in list_ticks(low, high, 5) if 0 <= tick <= most):
        y = place(0, tick)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{width - 12}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 7}" y="{y + 4}" text-anchor="end">{_format_score(tick, metric)}</text>')
    better = min if metric in LOSSES else max
    best: float | None = None
    steps: list[str] = []
    for trial in shown:
        value = float(trial["scores"][metric])
        if trial["state"] == "complete":
            best = value if best is None else better(best, value)
        if best is not None:
            steps.append("{},{}".format(*place(trial["number"], best)))
    if len(steps) > 1:
        parts.append(f'<polyline class="second" points="{" ".join(steps)}"/>')
    for trial in shown:
        x, y = place(trial["number"], float(trial["scores"][metric]))
        style = "first" if trial["state"] == "complete" else "pale"
        parts.append(f'<circle class="{style}" cx="{x}" cy="{y}" r="4"><title>trial {trial["number"]}</title></circle>')
    for number in {0, last}:
        parts.append(f'<text x="{place(number, low)[0]}" y="{height - 14}" text-anchor="middle">{number}</text>')
    parts.append(f'<text x="{(left + width) / 2}" y="{height - 2}" text-anchor="middle">trial</text>')
    return Markup("".join(parts) + "</svg>")


def draw_importances(importances: Mapping[str, float]) -> Markup | None:
    """Draw the importance of each setting as bars; None without importances."""
    if not importances:
        return None
    ranked = sorted(importances.items(), key=lambda item: -item[1])
    width, row, left = 460, 28, 150
    parts = [_open(width, row * len(ranked) + 8, "Importance of each setting")]
    for i, (name, share) in enumerate(ranked):
        y = 4 + i * row
        length = round(share * (width - left - 60), 1)
        parts.append(f'<text x="{left - 8}" y="{y + 17}" text-anchor="end">{escape(name_setting(name))}</text>')
        parts.append(f'<rect class="first" x="{left}" y="{y + 4}" width="{length}" height="{row - 10}"/>')
        parts.append(f'<text x="{left + length + 6}" y="{y + 17}">{share:.0%}</text>')
    return Markup("".join(parts) + "</svg>")


class _Axis:
    """One axis of the parallel coordinates: linear or logarithmic for numbers, categorical for the rest."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        present = [v for v in values if v is not None]
        self.numeric = bool(present) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in present)
        if self.numeric:
            self.low, self.high = _widen(min(present), max(present), 0.0)
            self.log = self.low > 0 and self.high / self.low >= 10
            self.distinct = sorted(set(present))
        else:
            self.words = sorted({_format_category(v) for v in values})

    def share(self, value: Any) -> float:
        """Return a value's position on the axis, from 0 to 1; 0 if the trial lacks the setting."""
        if not self.numeric:
            return (self.words.index(_format_category(value)) + 0.5) / len(self.words)
        if value is None:
            return 0.0
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return float((at - low) / (high - low))

    def ticks(self) -> list[tuple[str, float]]:
        """Return the axis labels and their positions."""
        if not self.numeric:
            return [(word[:24], (i + 0.5) / len(self.words)) for i, word in enumerate(self.words[:40])]
        values = self.distinct if len(self.distinct) <= _MOST_TICKS else [self.low, self.high]
        return [(f"{v:.3g}", self.share(v)) for v in values]


class _ScoreAxis(_Axis):
    """The metric's axis, cut at Tukey's fence: scores more than 1.5 interquartile ranges worse than the quartile."""

    def __init__(self, metric: str, values: Sequence[float]) -> None:
        self._sign = -1.0 if metric in LOSSES else 1.0
        ordered = sorted(self._sign * value for value in values)
        lower, upper = (ordered[int(share * (len(ordered) - 1))] for share in (0.25, 0.75))
        usual = [value for value in ordered if value >= lower - 1.5 * (upper - lower)]
        self._cut = self._sign * usual[0] if len(usual) < len(ordered) else None
        super().__init__(name_metric(metric), [self._sign * value for value in usual])
        self._metric = metric

    def share(self, value: Any) -> float:
        """Return a score's position on the axis; scores beyond the cut are at its end."""
        worst = self.low if self._sign > 0 else self.high
        inside = value if self._cut is None or self._sign * (value - self._cut) >= 0 else worst
        return super().share(inside)

    def ticks(self) -> list[tuple[str, float]]:
        """Return the best and the worst score, the latter marked ≤ or ≥ if the axis is cut."""
        sign = "≥" if self._metric in LOSSES else "≤"
        if len(self.distinct) == 1 and self._cut is None:
            return [(_format_score(self.distinct[0], self._metric), self.share(self.distinct[0]))]
        worst = self.low if self._sign > 0 else self.high
        values = [self.low, self.high]
        if len(self.distinct) == 1:  # the axis is padded around one score, so that its ends are no scores
            only, beyond = _format_score(self.distinct[0], self._metric), ">" if self._metric in LOSSES else "<"
            return [(f"{beyond}{only}", self.share(worst)), (only, self.share(self.distinct[0]))]
        return [
            (f"{sign if v == worst and self._cut is not None else ''}{_format_score(v, self._metric)}", self.share(v))
            for v in values
        ]


def _format_category(value: Any) -> str:
    return "–" if value is None else ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _place(share: float) -> float:
    return round(_TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _widen(low: float, high: float, margin: float = 0.08) -> tuple[float, float]:
    if high <= low:
        return low - (abs(low) * 0.01 or 1), high + (abs(high) * 0.01 or 1)
    return low - margin * (high - low), high + margin * (high - low)


def _format_score(value: float, metric: str) -> str:
    return f"{value:.3g}" if metric in LOSSES else f"{100 * value:.4g}%"


def _open(width: int, height: int, title: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
