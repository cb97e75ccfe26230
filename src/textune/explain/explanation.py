"""What an explanation says, as plain values. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

STRONG, MIDDLE, FAINT = 2 / 3, 2 / 5, 1 / 5
"""Share of the largest score from which a word has three signs, two, and one."""
_TOP = 8


@dataclass(frozen=True)
class WordScore:
    """How much one word speaks for a label.

    start, end: characters of the text, so that `text` is the text's own [start:end]. score: in log-odds of the label;
    above 0 for it, below 0 against it.
    """

    start: int
    end: int
    text: str
    score: float

    @property
    def shown(self) -> str:
        """The word on one line, in quotes if it has no letter or digit, as in a list of words."""
        text = " ".join(self.text.split())
        return text if any(character.isalnum() for character in text) else f'"{text}"'

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Explanation:
    """Why a text has its probability of one label.

    words: every word that the model reads, in order. pair, pair_words: the second text of a pair, if there is one.
    log_odds: of the probability; empty_log_odds: the same with every word masked. The words' scores sum to their
    difference.
    completeness_gap: how far the sum misses it, in log-odds. complete: whether that is within the tolerance.
    steps: points on the way from the masked text to the text. notes: what the reader must know, such as a text that is
    not read to its end.
    """

    text: str
    label: str
    probability: float
    words: tuple[WordScore, ...]
    completeness_gap: float
    log_odds: float
    empty_log_odds: float
    steps: int
    complete: bool = True
    pair: str | None = None
    pair_words: tuple[WordScore, ...] = ()
    notes: tuple[str, ...] = ()

    def top_words(self, count: int = _TOP) -> list[WordScore]:
        """Return the words of the largest scores, for or against, largest first."""
        ranked = sorted((*self.words, *self.pair_words), key=lambda word: -abs(word.score))
        return [word for word in ranked[:count] if rank_strength(word.score, self.largest)]

    def supporting(self, count: int = _TOP) -> list[WordScore]:
        """Return the words that speak most for the label, strongest first."""
        return [word for word in self.top_words(len(self.words) + len(self.pair_words)) if word.score > 0][:count]

    def opposing(self, count: int = _TOP) -> list[WordScore]:
        """Return the words that speak most against the label, strongest first."""
        return [word for word in self.top_words(len(self.words) + len(self.pair_words)) if word.score < 0][:count]

    @property
    def empty_probability(self) -> float:
        """The label's probability with every word masked."""
        return 0.5 * (1.0 + math.tanh(self.empty_log_odds / 2))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        listed = {"words": self.words, "pair_words": self.pair_words}
        return vars(self) | {name: [word.to_dict() for word in words] for name, words in listed.items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Explanation:
        """Rebuild an explanation of `to_dict`; raise KeyError or TypeError for anything else."""
        words = {name: tuple(WordScore(**word) for word in stored[name]) for name in ("words", "pair_words")}
        return cls(**{**stored, **words, "notes": tuple(stored["notes"])})

    def __str__(self) -> str:
        """Return the label, the text with its words marked by signs, and the notes."""
        lines = [f"{self.label} {self.probability:.1%}", self.marked()]
        return "\n".join([*lines, *(f"note: {text}" for text in self.notes)])

    def marked(self) -> str:
        """Return the text with signs at its strongest words: ``the film is [---dull]``; a pair on two lines."""
        both = [mark_words(self.text, self.words, self.largest)]
        both += [] if self.pair is None else [mark_words(self.pair, self.pair_words, self.largest)]
        return "\n".join(both)

    @property
    def largest(self) -> float:
        """The largest score of a word, whatever its sign."""
        return max((abs(word.score) for word in (*self.words, *self.pair_words)), default=0.0)


@dataclass(frozen=True)
class Segment:
    """A part of a text. strength: -3 (strongly against the label) to 3 (strongly for it); 0: unmarked."""

    text: str
    strength: int = 0

    @property
    def signs(self) -> str:
        """The strength as up to three signs: ``++`` or ``-``."""
        return ("+" if self.strength > 0 else "-") * abs(self.strength)


def cut_segments(text: str, words: tuple[WordScore, ...], largest: float) -> Iterator[Segment]:
    """Yield the whole text in parts, each marked word a part of its own.

    largest: the score that counts as full strength.
    """
    place = 0
    for word in words:
        strength = rank_strength(word.score, largest)
        if strength:
            if word.start > place:
                yield Segment(text[place : word.start])
            yield Segment(text[word.start : word.end], strength)
            place = word.end
    if place < len(text):
        yield Segment(text[place:])


def clip_segments(segments: Iterable[Segment], longest: int) -> list[Segment]:
    """Return the segments of the first characters; longest: how many."""
    shown: list[Segment] = []
    for part in segments:
        if longest <= 0:
            break
        shown.append(Segment(part.text[:longest], part.strength))
        longest -= len(part.text)
    return shown


def rank_strength(score: float, largest: float) -> int:
    """Return -3 to 3: how strong a score is beside the largest."""
    share = abs(score) / largest if largest else 0.0
    size = 3 if share >= STRONG else 2 if share >= MIDDLE else 1 if share >= FAINT else 0
    return size if score > 0 else -size


def mark_words(text: str, words: tuple[WordScore, ...], largest: float) -> str:
    """Return the text with signs at its marked words: ``the film is [---dull]``."""
    return "".join(
        f"[{part.signs}{part.text}]" if part.strength else part.text for part in cut_segments(text, words, largest)
    )
