"""Explained texts with their words highlighted, as a page of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textune.explain import Explanation
from textune.report.highlight import highlight
from textune.report.html import finish_page, open_templates, write_page
from textune.version import __version__

_SHOWN_ON_PAGE = 20_000


def render_explanations(explanations: Sequence[Explanation], title: str) -> str:
    """Return a page of its own, without scripts or anything from elsewhere; every text is escaped."""
    shown = [highlight(explanation, _SHOWN_ON_PAGE) for explanation in explanations]
    template = open_templates().get_template("explanations.html.j2")
    return finish_page(template.render(title=title, explanations=shown, textune_version=__version__))


def write_explanations(explanations: Sequence[Explanation], title: str, path: Path) -> None:
    """Write the page atomically."""
    write_page(render_explanations(explanations, title), path)
