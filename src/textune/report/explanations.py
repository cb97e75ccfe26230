"""Explained texts with their words highlighted: a page of its own, and the form that a run's report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textune.explain.explanation import Explanation, Segment, WordScore, clip_segments, cut_segments
from textune.files import write_text_atomically
from textune.report.html import finish_page, open_templates
from textune.version import __version__

_TOP = 6
_SHOWN_IN_REPORT = 800
_SHOWN_ON_PAGE = 20_000


@dataclass(frozen=True)
class Highlighted:
    """One explanation as a page shows it.

    texts: one list of segments, or two of a pair. supporting, opposing: words with their scores, strongest first.
    cut: whether the text goes on after the last segment.
    """

    label: str
    probability: float
    empty_probability: float
    texts: list[list[Segment]]
    supporting: list[WordScore]
    opposing: list[WordScore]
    notes: tuple[str, ...]
    cut: bool


def highlight(explanation: Explanation, longest: int = _SHOWN_IN_REPORT) -> Highlighted:
    """Return the parts to show; longest: characters of each text."""
    both = [(explanation.text, explanation.words)]
    if explanation.pair is not None:
        both.append((explanation.pair, explanation.pair_words))
    texts = [clip_segments(cut_segments(text, words, explanation.largest), longest) for text, words in both]
    supporting, opposing = explanation.supporting(_TOP), explanation.opposing(_TOP)
    cut = any(len(text) > longest for text, _ in both)
    return Highlighted(
        explanation.label,
        explanation.probability,
        explanation.empty_probability,
        texts,
        supporting,
        opposing,
        explanation.notes,
        cut,
    )


def render_explanations(explanations: Sequence[Explanation], title: str) -> str:
    """Return a page of its own, without scripts or anything from elsewhere; every text is escaped."""
    shown = [highlight(explanation, _SHOWN_ON_PAGE) for explanation in explanations]
    template = open_templates().get_template("explanations.html.j2")
    return finish_page(template.render(title=title, explanations=shown, textune_version=__version__))


def write_explanations(explanations: Sequence[Explanation], title: str, path: Path) -> None:
    """Write the page atomically."""
    write_text_atomically(path, render_explanations(explanations, title))
