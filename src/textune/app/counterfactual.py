"""Two versions of a text: which of the words that differ change the answer. The edits are applied one by one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textune.printable import holds_text

MOST_EDITS = 24
"""More of them are joined with their neighbours, so that long texts cost no more than some fifty predictions."""
_WORDS = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]|\s+")


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
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    blocks = [[i1, i2, j1, j2] for tag, i1, i2, j1, j2 in matcher.get_opcodes() if tag != "equal"]
    joined: list[list[int]] = []
    for block in blocks:  # what only white space separates is one edit
        gap = old[joined[-1][1] : block[0]] if joined else []
        if joined and not "".join(gap).strip():
            joined[-1][1], joined[-1][3] = block[1], block[3]
        else:
            joined.append(block)
    while len(joined) > most:
        gaps = [joined[i + 1][0] - joined[i][1] for i in range(len(joined) - 1)]
        at = int(np.argmin(gaps))
        joined[at : at + 2] = [[joined[at][0], joined[at + 1][1], joined[at][2], joined[at + 1][3]]]
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


def apply_edits(before: str, edits: Sequence[Edit]) -> str:
    """Return the first version with some of the edits applied."""
    parts, at = [], 0
    for edit in edits:
        parts += [before[at : edit.start], edit.new]
        at = edit.end
    return "".join([*parts, before[at:]])
