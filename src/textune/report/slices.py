"""The worst slices as rows of a Markdown table. The report's page has them in slices.html.j2."""

from __future__ import annotations

from textune.evaluation.slices import Slice, SliceSearch
from textune.report.wording import clip, number, percent, span

MOST_SHOWN = 3
_FROM_TEXTS = ("word", "word pair")
"""Kinds that quote texts, which a card that may be published does not."""
HEADER = ("rows where", "rows", "error rate", "95% interval", "excess errors")


def list_slice_rows(search: SliceSearch) -> list[tuple[str, ...]]:
    """Return the cells of the three worst slices that quote no text."""
    shown = [each for each in search.slices if each.kind not in _FROM_TEXTS][:MOST_SHOWN]
    return [format_slice(each) for each in shown]


def format_slice(found: Slice) -> tuple[str, ...]:
    """Return the cells of a slice."""
    return (
        clip(found.description, 160),
        number(found.rows),
        percent(found.error_rate),
        span(found.interval),
        f"{found.excess_errors:.1f}",
    )


def describe_slices(search: SliceSearch) -> str:
    """Return what the table means."""
    rate = percent(search.errors / search.rows) if search.rows else "0%"
    return f"Over all {number(search.rows)} rows {rate} are wrong; excess: errors above that rate. {search.describe()}."
