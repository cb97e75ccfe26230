"""The words that separate two groups of texts: log-odds ratios with an informative Dirichlet prior.

After Monroe, Colaresi and Quinn 2008, "Fightin' Words", Political Analysis 16(4), but each text counts a word once:
words come in bursts, and a repeated one is no evidence of its own. For a word w that y_i and y_j texts have, in groups
of n_i and n_j such words, and the prior a_w = a_0 f_w, where f_w is the word's share of a background text and a_0
the number of words that the prior is worth:

    delta_w = log((y_i + a_w) / (n_i + a_0 - y_i - a_w)) - log((y_j + a_w) / (n_j + a_0 - y_j - a_w))
    variance_w = 1 / (y_i + a_w) + 1 / (y_j + a_w)
    z_w = delta_w / sqrt(variance_w)

Words are ranked by z_w: a rare word that happens to be in one group gets a small one, and so does a word as frequent as
"the" whose share hardly differs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.evaluation.conditions import split_words

PRIOR_WORDS = 500.0
"""a_0: what the prior weighs, in words."""
_LEVEL = 0.05
_MOST_TEXTS, _MOST_CHARACTERS = 5_000, 2_000
_MOST_WORDS = 6
_ROWS_AT_ONCE = 2_000
_EXAMPLES = 3


@dataclass(frozen=True)
class WordsApart:
    """Words typical of one group of texts and of the other, most telling first, with their z-scores."""

    first: tuple[tuple[str, float], ...]
    second: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes that are confused. a_as_b: rows of class A that were given B; b_as_a: the other way round.

    words: those typical of the texts of A and of B. examples: positions of some rows of either kind.
    """

    a: str
    b: str
    a_as_b: int
    b_as_a: int
    words: WordsApart
    examples: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How often either was given for the other."""
        return self.a_as_b + self.b_as_a

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        words = {"a_words": [list(w) for w in self.words.first], "b_words": [list(w) for w in self.words.second]}
        counts = {"a": self.a, "b": self.b, "a_as_b": self.a_as_b, "b_as_a": self.b_as_a}
        return counts | words | {"examples": list(self.examples)}


def count_words(texts: Sequence[str]) -> Counter[str]:
    """Return in how many of the texts each word occurs; at most 5,000 are read, evenly over all.

    A text that repeats a word says no more of its group than one that has it once.
    """
    counts: Counter[str] = Counter()
    for text in texts[:: math.ceil(len(texts) / _MOST_TEXTS) or 1]:
        counts.update(set(split_words(text[:_MOST_CHARACTERS])))
    return counts


def score_words(first: Counter[str], second: Counter[str], background: Counter[str]) -> dict[str, float]:
    """Return z_w for every word of the two groups: positive where it is typical of the first."""
    words = sorted({*first, *second})
    total, n_i, n_j = sum(background.values()), sum(first.values()), sum(second.values())
    if not words or not total:
        return {}
    scores = {}
    for word in words:
        prior = PRIOR_WORDS * max(background[word], 1) / total
        y_i, y_j = first[word] + prior, second[word] + prior
        rest_i, rest_j = n_i + PRIOR_WORDS - y_i, n_j + PRIOR_WORDS - y_j
        if rest_i <= 0 or rest_j <= 0:  # one word is all that there is
            scores[word] = 0.0
            continue
        delta = math.log(y_i / rest_i) - math.log(y_j / rest_j)
        scores[word] = delta / math.sqrt(1 / y_i + 1 / y_j)
    return scores


def find_words_apart(
    first: Sequence[str], second: Sequence[str], background: Counter[str], count: int = _MOST_WORDS
) -> WordsApart:
    """Return the words that separate two groups of texts more clearly than the most telling of so many would by chance.

    background: the word counts of all texts, which the prior is taken from.
    """
    from scipy.special import ndtri

    scores = score_words(count_words(first), count_words(second), background)
    clear = float(-ndtri(_LEVEL / 2 / max(len(scores), 1)))  # Bonferroni: as many tests as words
    ranked = sorted(scores, key=lambda word: (-scores[word], word))
    high = [(w, scores[w]) for w in ranked if scores[w] >= clear][:count]
    low = [(w, -scores[w]) for w in reversed(ranked) if scores[w] <= -clear][:count]
    return WordsApart(tuple(high), tuple(low))


def find_confused_pairs(
    true: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    labels: Sequence[str],
    texts: Sequence[str],
    count: int = 5,
) -> list[ConfusedPair]:
    """Return the pairs of classes that are most often given for each other.

    true, predicted: bool [rows, labels]. With several labels per text, a row counts where one label is missing and the
    other is wrongly given.
    """
    missed, extra = true & ~predicted, predicted & ~true
    wrong = np.flatnonzero(missed.any(axis=1) & extra.any(axis=1))
    confusion = np.zeros((len(labels), len(labels)), np.float32)
    for start in range(0, len(wrong), _ROWS_AT_ONCE):
        rows = wrong[start : start + _ROWS_AT_ONCE]
        confusion += missed[rows].astype(np.float32).T @ extra[rows].astype(np.float32)
    both = np.triu(confusion + confusion.T, 1).ravel()
    ranked = np.argsort(-both, kind="stable")[:count]
    background = count_words(texts) if len(wrong) else Counter()
    found = []
    for a, b in (divmod(int(cell), len(labels)) for cell in ranked if both[cell] > 0):
        either = (missed[:, a] & extra[:, b]) | (missed[:, b] & extra[:, a])
        only = [[texts[i] for i in np.flatnonzero(true[:, x] & ~true[:, y]).tolist()] for x, y in ((a, b), (b, a))]
        found.append(
            ConfusedPair(
                labels[a],
                labels[b],
                int(confusion[a, b]),
                int(confusion[b, a]),
                find_words_apart(only[0], only[1], background),
                tuple(np.flatnonzero(either)[:_EXAMPLES].tolist()),
            )
        )
    return found
