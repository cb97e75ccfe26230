"""The report's answer to "When should it abstain?": thresholds, costs, prediction sets and the risk-coverage curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

from textune.evaluation.abstention import RiskCoverage
from textune.evaluation.decisions import SetFigures, Share, describe_decisions
from textune.report.wording import percent, span
from textune.tasks import AnyEvaluation, build_task

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _FLOOR = 460, 292, 52, 24, 10, 248
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
_SHOWN_SHARES = (0.5, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class SetRow:
    """Sets of one coverage: stated, reached with its interval, labels of a set on average, sets of one label."""

    stated: str
    reached: tuple[str, str]
    size: str
    single: str


@dataclass(frozen=True)
class Choices:
    """What the section shows. answered: (share answered, from which confidence, error) of a few points of the curve."""

    sentences: tuple[str, ...]
    sets: tuple[SetRow, ...]
    diagram: Markup
    answered: tuple[tuple[str, str, str], ...]


def describe_choices(evaluation: AnyEvaluation) -> Choices | None:
    """Return the section's content; None for figures that were stored without decisions."""
    figures = build_task(evaluation.task).decision_figures(evaluation)
    if figures is None:
        return None
    curve = figures.risk_coverage
    return Choices(
        tuple(_sentences(evaluation)),
        tuple(_list_row(each) for each in figures.sets),
        draw_risk_coverage(curve),
        tuple(_list_answered(curve)),
    )


def describe_promises(evaluation: AnyEvaluation) -> list[str]:
    """Return the sentences for the model card: floors, costs, abstaining, and each coverage of sets."""
    figures = build_task(evaluation.task).decision_figures(evaluation)
    return [f"{line[:1].upper()}{line[1:]}." for line in describe_decisions(figures)[:-1]]


def _sentences(evaluation: AnyEvaluation) -> list[str]:
    figures = build_task(evaluation.task).decision_figures(evaluation)
    assert figures is not None
    lines = describe_decisions(figures)
    kept = [line for line in lines[:-1] if not line.startswith("sets of")]
    return [f"{line[:1].upper()}{line[1:]}." for line in kept]


def _list_row(each: SetFigures) -> SetRow:
    return SetRow(percent(each.stated), _show(each.covered), f"{each.size:.2f}", percent(each.single))


def _show(share: Share) -> tuple[str, str]:
    return ("–", "") if share.value is None or share.interval is None else (percent(share.value), span(share.interval))


def _list_answered(curve: RiskCoverage) -> list[tuple[str, str, str]]:
    """Return the first point of the curve from each share on, without repeats."""
    places = [next((i for i, c in enumerate(curve.coverage) if c >= share - 1e-9), -1) for share in _SHOWN_SHARES]
    return [
        (percent(curve.coverage[i]), percent(curve.confidence[i]), percent(curve.risk[i]))
        for i in dict.fromkeys(places)
    ]


def draw_risk_coverage(curve: RiskCoverage) -> Markup:
    """Draw the error of the answers kept over the share of rows answered."""
    top = next((step for step in _STEPS if step >= max(curve.risk)), 1.0)
    points = "; ".join(f"{share} answered: {risk}" for share, _, risk in _list_answered(curve))
    title = f"Risk-coverage curve: the error of the most confident answers. {points}."
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for quarter in range(5):
        x, y = _place(quarter / 4, quarter / 4)
        shown = f"{100 * top * quarter / 4:g}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{shown}%</text>')
        parts.append(f'<text x="{x}" y="{_FLOOR + 18}" text-anchor="middle">{25 * quarter}%</text>')
    placed = (_place(c, r / top) for c, r in zip(curve.coverage, curve.risk, strict=True))
    path = " ".join(f"{x},{y}" for x, y in placed)
    if len(curve.coverage) > 1:
        parts.append(f'<polyline class="first" points="{path}"/>')
    else:
        x, y = _place(curve.coverage[0], curve.risk[0] / top)
        parts.append(f'<circle class="first" cx="{x}" cy="{y}" r="4"/>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">share of rows answered</text>')
    return Markup("".join(parts) + "</svg>")


def _place(coverage: float, height: float) -> tuple[float, float]:
    height = height if math.isfinite(height) else 0.0
    return round(_LEFT + coverage * (_WIDTH - _LEFT - _RIGHT), 1), round(_FLOOR - height * (_FLOOR - _TOP), 1)
