"""A lead of one model over another in words: how large, and whether it may be chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from textune.evaluation import Difference, Interval
from textune.progress import format_seconds
from textune.report.wording import distance, points
from textune.tasks import AnyEvaluation

IDENTICAL = Difference(0.0, 0.0, 0.0, 1.0)
"""Of two models that are one and the same; others that answer alike have an interval around 0."""
_LEVEL = 0.05
_CLOSE = 0.005
"""Below this lead in the headline metric, the cheaper model is recommended."""


def difference_between(evaluation: AnyEvaluation, row: Mapping[str, Any]) -> Difference:
    """Return the headline metric's lead over a row: the row's paired difference, or one made from intervals.

    Without a row-by-row comparison, the two intervals are combined as if independent, which is conservative.
    """
    paired = row.get("difference")
    if isinstance(paired, Difference):
        return paired
    tuned, other = evaluation.headline, row["evaluation"].headline
    return subtract(tuned.value, tuned.interval, other.value, other.interval)


def subtract(value: float, interval: Interval, other: float, other_interval: Interval) -> Difference:
    """Return how much one value leads another, with an interval as if the two were independent."""
    mean = value - other
    down = math.hypot(value - interval.low, other_interval.high - other)
    up = math.hypot(interval.high - value, other - other_interval.low)
    return Difference(low=mean - down, high=mean + up, mean=mean)


def is_clear(lead: Difference) -> bool:
    """Return whether a lead is more than chance: its interval has no 0, and the exact test agrees where there is one.

    A bootstrap interval alone is too narrow on few rows.
    """
    return (lead.low > 0 or lead.high < 0) and (lead.p_value is None or lead.p_value < _LEVEL)


def describe_lead(lead: Difference) -> str:
    """Write a lead as ``lower by 20.8 points (95% interval 15.2 to 26.4)``; one that may be chance says so."""
    clear = is_clear(lead)
    if clear:
        low, high = sorted((abs(lead.low), abs(lead.high)))
        interval = f"{distance(low)} to {distance(high)}"
    else:
        interval = f"{points(lead.low)} to {points(lead.high)}"
    p = "" if lead.p_value is None else format_p(lead.p_value)
    test = "" if not p else f", p {p}" if p.startswith("<") else f", p = {p}"
    direction = "higher" if lead.mean > 0 else "lower"
    if not lead.mean:
        return f"the same (95% interval of the difference {interval}{test})"
    of = "" if clear else " of the difference"  # its ends have signs
    return f"{direction} by {distance(lead.mean)} points (95% interval{of} {interval}{test}){describe_doubt(lead)}"


def describe_doubt(lead: Difference) -> str:
    """Return why a lead may be chance, as the end of a sentence; nothing for a clear one.

    A bootstrap interval and an exact test may disagree on few rows; a clear lead needs both.
    """
    if is_clear(lead):
        return ""
    if lead.low > 0 or lead.high < 0:
        return ", which the test does not confirm"
    if lead.p_value is not None and lead.p_value < _LEVEL:
        return ", which the interval does not confirm"
    return ", which may be chance"


def is_identical(lead: Difference) -> bool:
    """Return whether a lead is `IDENTICAL`, also where it was read from a file."""
    return lead.low == lead.mean == lead.high == 0


def advise_on_probe(
    lead: Difference, seconds: float | None, figure: str, *, backbone: str = "", model: str = ""
) -> str:
    """Return a sentence that recommends the cheaper linear probe, or nothing.

    lead: of a model over the probe, in the figure. backbone, model: what the sentence names them, if anything.
    """
    if lead.mean >= _CLOSE:
        return ""
    trains = "" if seconds is None else f" and trains in {format_seconds(seconds)}"
    if lead.mean < 0:
        close = f"scored {distance(lead.mean)} points higher" + (model and f" than {model}")
    elif lead.mean:
        close = f"is within {distance(lead.mean)} points" + (model and f" of {model}")
    else:
        close = f"has the same {figure}" + (model and f" as {model}")
    return f"The linear probe (method=head){backbone and f' on {backbone}'} {close}{trains}."


def format_p(p: float) -> str:
    """Return a p-value with two digits, or ``<0.001`` if it is smaller."""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
