"""The headline metric against a cost as inline SVG, with a line through the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from textune.report.charts import list_ticks
from textune.report.comparison import COSTS, Candidate, format_cost, shorten_count
from textune.report.wording import clip

_WIDTH, _HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 16, 40
_PER_CHARACTER = 6.6
_Box = tuple[float, float, float, float]


def draw_pareto(candidates: Sequence[Candidate], cost: str, figure: str) -> Markup | None:
    """Draw the metric and its interval against a cost on a log axis; return None with fewer than two known costs.

    cost: a key of `COSTS`. figure: the metric's name.
    """
    priced = [(c, float(c.costs[cost] or 0.0)) for c in candidates if c.costs[cost]]
    if len(priced) < 2:
        return None
    prices = [price for _, price in priced]
    left, right = math.log10(min(prices)) - 0.12, math.log10(max(prices)) + 0.12
    low = max(0.0, 100 * min(c.interval.low for c, _ in priced) - 0.5)
    high = min(100.0, 100 * max(c.interval.high for c, _ in priced) + 0.5)

    def across(price: float) -> float:
        return round(_LEFT + (math.log10(price) - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT), 1)

    def up(share: float) -> float:
        return round(_TOP + (high - 100 * share) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    title = f"{figure} against {COSTS[cost]}"
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    parts += _draw_axes(low, high, left, right, across, up, cost)
    front = sorted((across(price), up(c.value)) for c, price in priced if cost in c.fronts)
    if len(front) > 1:
        steps = [f"{x},{y1} {x},{y}" for (_, y1), (x, y) in pairwise(front)]
        parts.append(f'<polyline class="front" points="{front[0][0]},{front[0][1]} {" ".join(steps)}"/>')
    boxes: list[_Box] = [(across(p) - 6, up(c.value) - 6, across(p) + 6, up(c.value) + 6) for c, p in priced]
    for candidate, price in priced:
        x, y, kind = across(price), up(candidate.value), "best" if cost in candidate.fronts else "beaten"
        ends = up(candidate.interval.high), up(candidate.interval.low)
        parts.append(f'<line class="span" x1="{x}" x2="{x}" y1="{ends[0]}" y2="{ends[1]}"/>')
        tooltip = f"{candidate.name}: {100 * candidate.value:.1f}%, {format_cost(cost, price)}"
        parts.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="5"><title>{escape(tooltip)}</title></circle>')
    for candidate, price in priced:
        name = clip(candidate.name, 34)
        x, y, anchor = _place_label(across(price), up(candidate.value), name, boxes)
        kind = "best" if cost in candidate.fronts else "beaten"
        parts.append(f'<text class="name {kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(name)}</text>')
    return Markup("".join(parts) + "</svg>")


def _draw_axes(
    low: float,
    high: float,
    left: float,
    right: float,
    across: Callable[[float], float],
    up: Callable[[float], float],
    cost: str,
) -> list[str]:
    parts = []
    for value in list_ticks(low, high, 5):
        y = up(value / 100)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{value:g}%</text>')
    for value in _list_log_ticks(left, right):
        x = across(value)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{_HEIGHT - _BOTTOM}" y2="{_HEIGHT - _BOTTOM + 4}"/>')
        label = _write_round(cost, value)
        parts.append(f'<text x="{x}" y="{_HEIGHT - 22}" text-anchor="middle">{escape(label)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 5}" text-anchor="middle">{COSTS[cost]}</text>')
    return parts


def _list_log_ticks(left: float, right: float) -> list[float]:
    """Return at most about six round values between 10**left and 10**right."""
    for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        powers = range(math.floor(left), math.ceil(right) + 1)
        ticks = [s * 10.0**p for p in powers for s in steps if left <= p + math.log10(s) <= right]
        if len(ticks) <= 6:
            break
    return ticks


def _write_round(cost: str, value: float) -> str:
    if cost.endswith("_seconds"):
        return f"{value:g} s" if value < 300 else f"{value / 60:.3g} min" if value < 7200 else f"{value / 3600:.3g} h"
    return shorten_count(value)


def _place_label(x: float, y: float, name: str, boxes: list[_Box]) -> tuple[float, float, str]:
    """Return the first free place beside a point for its name, and add it to the boxes."""
    width = _PER_CHARACTER * len(name)
    spots = [
        (x + side * 9 - (width if side < 0 else 0), y + 4 + down)
        for down in (0, -13, 13, -26, 26, -39, 39)
        for side in (1, -1)
    ]
    for start, base in spots:
        box = (start, base - 10, start + width, base + 3)
        inside = box[0] >= _LEFT and box[2] <= _WIDTH and box[1] >= 0 and box[3] <= _HEIGHT - _BOTTOM
        if inside and not any(_overlap(box, other) for other in boxes):
            boxes.append(box)
            return (start, base, "start") if start > x else (start + width, base, "end")
    return x + 9, y + 4, "start"


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
