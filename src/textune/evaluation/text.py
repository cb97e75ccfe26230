"""Plain-text helpers shared by the evaluations, for terminals and logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from textune.printable import count

_LONGEST_NAME = 40
MOST_UNKNOWN_SHOWN = 20
BITS_PER_BYTE = "bits_per_byte"
LOSSES = ("loss", BITS_PER_BYTE)
"""Validation scores of which less is better, and which are no shares."""


def show_name(label: str, longest: int = _LONGEST_NAME) -> str:
    """Return a label on one line: truncated, and without terminal control characters."""
    clean = "".join(c if c.isprintable() else "\ufffd" for c in label)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def percent(share: float) -> str:
    """Write 0.905 as ``90.5%``; 100% and 0% are kept for exactly that."""
    shown = f"{100 * share:.1f}"
    if shown == "100.0":
        return "100%" if share == 1 else ">99.9%"
    if shown == "0.0":
        return "0%" if share == 0 else "<0.1%"
    return shown + "%"


def show_cost(cost: float, *, signed: bool = False) -> str:
    """Write a cost with three digits, such as 0.123, and one of 1,000 or more as ``1,234``. signed: of a lead."""
    rounded = float(f"{cost:.3g}")
    size = f"{abs(rounded):.3g}" if abs(rounded) < 1000 else f"{abs(cost):,.0f}"
    return f"{'−' if rounded < 0 else '+' if signed and rounded else ''}{size}"


def shorten_evaluation(evaluation: Any) -> str:
    """Return what Python shows of an evaluation: one line."""
    headline = evaluation.headline
    name = type(evaluation).__name__
    return f"{name}({headline.name} {percent(headline.value)} on {count(evaluation.rows, 'row')})"


def describe_evaluation(evaluation: Any) -> str:
    """Return what Python prints of an evaluation: each figure with its interval, and what is known of seen rows."""
    lines = [
        f"{figure.name} {percent(figure.value)} "
        f"(95% interval {percent(figure.interval.low)} to {percent(figure.interval.high)})"
        for figure in (evaluation.headline, *evaluation.further)
    ]
    lines[0] += f" on {count(evaluation.rows, 'row')}"
    return "\n".join([*lines, *(() if evaluation.seen is None else evaluation.seen.describe())])


def quote_names(names: Sequence[str], most: int = 5) -> str:
    """Return names in quotation marks, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more


def format_label_notes(unknown_labels: Mapping[str, int], absent_labels: Iterable[str]) -> list[str]:
    """Return notes on labels that the model does not know and on those that occur nowhere.

    unknown_labels: how often each occurs, which is in more places than rows where a row has several.
    """
    notes = []
    unknown = sum(unknown_labels.values())
    if unknown:
        count = len(unknown_labels)
        names_shown = ", ".join(show_name(label) for label in list(unknown_labels)[:5])
        more = f" and {count - 5} more" if count > 5 else ""
        times = "once" if unknown == 1 else f"{unknown:,} times"
        notes.append(f"labels that the model does not know, counted as errors: {names_shown}{more} ({times})")
    absent = [show_name(label) for label in absent_labels]
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        notes.append(f"neither in these rows nor predicted: {', '.join(absent[:5])}{more}")
    return notes
