"""Two versions of a text: which of the words that differ change the answer. The edits are applied one by one."""

from __future__ import annotations

import bisect
import difflib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textune.printable import holds_text

MOST_EDITS = 24
"""More of them are joined with their neighbours, so that long texts cost no more than some fifty predictions."""
_FEW_WORDS, _DEPTH = 100, 8
"""Up to so many words are compared each with each, whose time may grow with their cube; more are divided first."""
_WORDS = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]|\s+")

_Change = tuple[int, int, int, int]
"""Start and end of what differs, in the words of the first version and in those of the second."""


@dataclass(frozen=True)
class Edit:
    """A place where two versions differ. start, end: in the first; new_start, new_end: in the second."""

    start: int
    end: int
    new_start: int
    new_end: int
    old: str
    new: str


@dataclass(frozen=True)
class Effect:
    """What an edit does to the first version. alone: this edit only. up_to: this one and all before it.

    Both are the answer and the probability of the comparison's label. flips: the answer changes by this edit alone.
    turns: it changes when this edit joins those before it.
    """

    edit: Edit
    alone: tuple[str, float]
    up_to: tuple[str, float]
    flips: bool
    turns: bool


@dataclass(frozen=True)
class Comparison:
    """Two versions of a text. before, after: answer, and the probability of the label.

    label: what the first version is answered; of several labels the most probable.
    """

    label: str
    before: tuple[str, float]
    after: tuple[str, float]
    effects: tuple[Effect, ...]

    @property
    def flipped(self) -> bool:
        """Whether the two versions are answered differently."""
        return self.before[0] != self.after[0]

    def describe(self) -> str:
        """Return in a sentence which edits change the answer."""
        if not self.effects:
            return "Both versions are the same text."
        if not self.flipped:
            alone = sum(effect.flips for effect in self.effects)
            more = f" {alone} of the edits would change it alone." if alone else ""
            return f"The answer stays the same.{more}"
        alone = sum(effect.flips for effect in self.effects)
        if alone:
            return f"The answer changes. {alone} of {len(self.effects)} edits change it alone."
        return f"The answer changes. None of the {len(self.effects)} edits changes it alone."


@dataclass(frozen=True)
class Answers:
    """What several texts are answered. probabilities: float64 [texts, labels].

    shown: the number of the label that stands for each answer: int64 [texts].
    """

    texts: Sequence[str]
    probabilities: NDArray[np.float64]
    labels: Sequence[str]
    shown: NDArray[np.int64]


Answering = Callable[[Sequence[str]], Answers]


def compare_versions(answer: Answering, before: str, after: str) -> Comparison:
    """Return the effect of each edit that leads from one version to the other.

    An edit that leaves no text is answered as the empty text is: by nothing.
    """
    edits = list_edits(before, after)
    alone = [apply_edits(before, [edit]) for edit in edits]
    up_to = [apply_edits(before, edits[: i + 1]) for i in range(len(edits))]
    texts = [before, after, *alone, *up_to]
    asked = [text for text in dict.fromkeys(texts) if holds_text(text)]
    answers = answer(asked)
    found = dict(zip(asked, zip(answers.texts, answers.probabilities, strict=True), strict=True))
    label = int(answers.shown[asked.index(before)])

    def show(text: str) -> tuple[str, float]:
        if text not in found:
            return "", float("nan")
        return str(found[text][0]), float(found[text][1][label])

    effects, last = [], show(before)[0]
    for edit, one, all_so_far in zip(edits, alone, up_to, strict=True):
        single, joint = show(one), show(all_so_far)
        effects.append(Effect(edit, single, joint, single[0] != show(before)[0], joint[0] != last))
        last = joint[0]
    return Comparison(str(answers.labels[label]), show(before), show(after), tuple(effects))


def list_edits(before: str, after: str, most: int = MOST_EDITS) -> list[Edit]:
    """Return the places where two texts differ, word by word, in their order; at most `most` of them."""
    old, new = (_WORDS.findall(text) for text in (before, after))
    joined: list[_Change] = []
    for change in _list_changes(old, new):  # what only white space separates is one edit
        gap = old[joined[-1][1] : change[0]] if joined else []
        if joined and not "".join(gap).strip():
            joined[-1] = (joined[-1][0], change[1], joined[-1][2], change[3])
        else:
            joined.append(change)
    joined = _join_nearest(joined, most)
    old_at, new_at = ([0, *np.cumsum([len(word) for word in words]).tolist()] for words in (old, new))
    return [
        Edit(
            old_at[i1],
            old_at[i2],
            new_at[j1],
            new_at[j2],
            before[old_at[i1] : old_at[i2]],
            after[new_at[j1] : new_at[j2]],
        )
        for i1, i2, j1, j2 in joined
    ]


def _list_changes(old: Sequence[str], new: Sequence[str], depth: int = _DEPTH) -> list[_Change]:
    """Return what differs between two lists of words, in time that grows little faster than they do.

    Long stretches are divided at the words that both have once (patience diff); one without such words is a single
    change. depth: how often a stretch is divided again.
    """
    start = _count_equal(old, new)
    end = _count_equal(old[start:][::-1], new[start:][::-1])
    old, new = old[start : len(old) - end], new[start : len(new) - end]
    whole = (0, len(old), 0, len(new))
    if not old and not new:
        return []
    if not old or not new:
        found = [whole]
    elif len(old) * len(new) <= _FEW_WORDS**2:
        codes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        found = [(i1, i2, j1, j2) for tag, i1, i2, j1, j2 in codes if tag != "equal"]
    elif depth and (anchors := _find_anchors(old, new)):
        found, i, j = [], 0, 0
        for next_i, next_j in [*anchors, (len(old), len(new))]:
            found += _shift(_list_changes(old[i:next_i], new[j:next_j], depth - 1), i, j)
            i, j = next_i, next_j  # the anchor itself is the beginning that both of the next stretches share
    else:
        found = [whole]
    return _shift(found, start, start)


def _count_equal(old: Sequence[str], new: Sequence[str]) -> int:
    """Return how many words at the beginning are the same."""
    return next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))


def _shift(changes: Sequence[_Change], i: int, j: int) -> list[_Change]:
    return [(i1 + i, i2 + i, j1 + j, j2 + j) for i1, i2, j1, j2 in changes]


def _find_anchors(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Return where the words are that both lists have once: the most of them that come in the same order."""
    counts, new_counts = Counter(old), Counter(new)
    new_at = {word: at for at, word in enumerate(new) if new_counts[word] == 1}
    pairs = [(i, new_at[word]) for i, word in enumerate(old) if counts[word] == 1 and word in new_at]
    ends: list[int] = []  # the lowest place in `new` at which a rising sequence of each length ends
    lengths = []
    for _, j in pairs:
        length = bisect.bisect_left(ends, j)
        ends[length : length + 1] = [j]
        lengths.append(length)
    chosen: list[tuple[int, int]] = []
    wanted = len(ends) - 1
    for pair, length in zip(reversed(pairs), reversed(lengths), strict=True):
        if length == wanted and (not chosen or pair[1] < chosen[-1][1]):
            chosen.append(pair)
            wanted -= 1
    return chosen[::-1]


def _join_nearest(changes: list[_Change], most: int) -> list[_Change]:
    """Return at most `most` changes: those with the fewest words between them are joined."""
    gaps = [second[0] - first[1] for first, second in itertools.pairwise(changes)]
    closed = set(np.argsort(gaps, kind="stable")[: max(len(changes) - most, 0)].tolist())
    joined: list[_Change] = []
    for at, change in enumerate(changes):
        if at - 1 in closed:
            joined[-1] = (joined[-1][0], change[1], joined[-1][2], change[3])
        else:
            joined.append(change)
    return joined


def apply_edits(before: str, edits: Sequence[Edit]) -> str:
    """Return the first version with some of the edits applied."""
    parts, at = [], 0
    for edit in edits:
        parts += [before[at : edit.start], edit.new]
        at = edit.end
    return "".join([*parts, before[at:]])
