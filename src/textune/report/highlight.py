"""An explanation in the form that a page shows: its text in marked parts, and its strongest words."""

from __future__ import annotations

from dataclasses import dataclass

from textune.explain.explanation import Explanation, Segment, WordScore, clip_segments, cut_segments

_TOP = 6
_SHOWN_IN_REPORT = 800


@dataclass(frozen=True)
class Highlighted:
    """One explanation as a page shows it.

    texts: one list of segments, or two of a pair. supporting, opposing: words with their scores, strongest first.
    cut: whether each text goes on after its last segment.
    """

    label: str
    probability: float
    empty_probability: float
    texts: list[list[Segment]]
    supporting: list[WordScore]
    opposing: list[WordScore]
    notes: tuple[str, ...]
    cut: tuple[bool, ...]


def highlight(explanation: Explanation, longest: int = _SHOWN_IN_REPORT) -> Highlighted:
    """Return the parts to show; longest: characters of each text."""
    both = [(explanation.text, explanation.words)]
    if explanation.pair is not None:
        both.append((explanation.pair, explanation.pair_words))
    texts = [clip_segments(cut_segments(text, words, explanation.largest), longest) for text, words in both]
    supporting, opposing = explanation.supporting(_TOP), explanation.opposing(_TOP)
    cut = tuple(len(text) > longest for text, _ in both)
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
