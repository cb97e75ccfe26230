"""The worst slices as Markdown, for the model card. The report's page has them in slices.html.j2."""

from __future__ import annotations

from textune.evaluation.slices import SliceSearch
from textune.report.wording import clip, number, percent, span

MOST_SHOWN = 3
_FROM_TEXTS = ("word", "word pair")
"""Kinds that quote texts, which a card that may be published does not."""
HEADER = ("rows where", "rows", "error rate", "95% interval", "excess errors")


def list_slice_rows(search: SliceSearch) -> list[tuple[str, ...]]:
    """Return the cells of the three worst slices that quote no text."""
    shown = [each for each in search.slices if each.kind not in _FROM_TEXTS][:MOST_SHOWN]
    return [
        (
            clip(each.description, 160),
            number(each.rows),
            percent(each.error_rate),
            span(each.interval),
            f"{each.excess_errors:.1f}",
        )
        for each in shown
    ]


def describe_slices(search: SliceSearch) -> str:
    """Return what the table means."""
    rate = percent(search.errors / search.rows) if search.rows else "0%"
    return f"Over all {number(search.rows)} rows {rate} are wrong; excess: errors above that rate. {search.describe()}."
