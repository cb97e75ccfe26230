"""Labels that are probably wrong, from probabilities that were predicted without them.

A row's label is doubted where another is predicted with at least the probability that rows of that label usually get
(Northcutt, Jiang and Chuang 2021, "Confident learning", arXiv:1911.00068, Section 3.1), or where nearly all of the
most similar training rows agree on another. Model and neighbors count by their Brier skill scores on the same rows, so
that neighbors of no use change nothing, and doubts of a better model come before those of a worse one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_AGREEING = 0.8
_HELPFUL = 0.5
"""The least skill, relative to the model's, of neighbors whose agreement alone raises a doubt."""
_FEWEST_ROWS = 2
_LEVEL, _LEAST_SKILL = 0.01, 0.01


@dataclass(frozen=True)
class Doubt:
    """A row whose label is probably wrong. row: its position. suggested: bool [labels].

    score: how much more likely the suggested labels are, times the skill of what says so, from 0 to 1.
    label: the number of the label that is doubted most. confident, unlike: which of the two reasons hold.
    """

    row: int
    suggested: NDArray[np.bool_]
    score: float
    label: int
    confident: bool
    unlike: bool


def find_doubtful(
    labelled: NDArray[np.bool_],
    probabilities: NDArray[Any],
    votes: NDArray[np.floating[Any]] | None = None,
    *,
    exclusive: bool,
) -> list[Doubt]:
    """Return rows whose labels are probably wrong, most doubtful first.

    labelled: bool [rows, labels]. probabilities: [rows, labels], of a model that did not learn these rows.
    votes: the share of each row's neighbors with each label. exclusive: whether a row has exactly one label.
    Returns nothing if neither model nor neighbors separate rows with a label from the others.
    """
    scores = np.asarray(probabilities, np.float64)
    if not len(scores):
        return []
    skill, belief = _measure_skill(scores, labelled), scores
    if votes is not None:
        vote_skill = _measure_skill(votes, labelled)
        share = vote_skill / max(skill + vote_skill, 1e-12)
        belief = (1 - share) * scores + share * votes
        votes = votes if vote_skill >= _HELPFUL * skill and _tells_apart(votes, labelled) else None
        skill = max(skill, vote_skill)
    if votes is None and not _tells_apart(scores, labelled):
        return []
    skill = max(skill, _LEAST_SKILL)  # many wrong labels hide the skill of a good model
    doubts = (_doubt_single if exclusive else _doubt_sets)(labelled, scores, belief, votes)
    return [replace(doubt, score=doubt.score * skill) for doubt in doubts]


def _measure_skill(scores: NDArray[Any], labelled: NDArray[np.bool_]) -> float:
    """Return the Brier skill score: what is gained on always giving each label's share of the rows, at least 0."""
    constant = float(((labelled.mean(axis=0) - labelled) ** 2).mean())
    return max(0.0, 1 - float(((scores - labelled) ** 2).mean()) / constant) if constant else 0.0


def _tells_apart(scores: NDArray[Any], labelled: NDArray[np.bool_]) -> bool:
    """Return whether rows with some label have a higher score for it than the others, by more than chance."""
    from scipy.special import ndtri

    with_it, without = labelled.sum(axis=0), (~labelled).sum(axis=0)
    judged = np.flatnonzero((with_it >= _FEWEST_ROWS) & (without >= _FEWEST_ROWS))
    clear = float(-ndtri(_LEVEL / max(len(judged), 1)))
    for label in judged.tolist():
        mine, others = scores[labelled[:, label], label], scores[~labelled[:, label], label]
        error = np.sqrt(mine.var() / len(mine) + others.var() / len(others))
        if mine.mean() - others.mean() > clear * error:
            return True
    return not len(judged)


def _mean_of_marked(values: NDArray[np.float64], marks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean of each column over its marked rows; above 1 where too few are marked to say."""
    count = marks.sum(axis=0)
    means = np.where(marks, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    return np.where(count >= _FEWEST_ROWS, means, 2.0)


def _doubt_single(
    labelled: NDArray[np.bool_],
    scores: NDArray[np.float64],
    belief: NDArray[np.float64],
    votes: NDArray[np.floating[Any]] | None,
) -> list[Doubt]:
    usual = _mean_of_marked(scores, labelled)
    rows = np.arange(len(labelled))
    best = belief.argmax(axis=1)
    confident = (scores[rows, best] >= usual[best]) & (scores.argmax(axis=1) == best)
    unlike = np.zeros(len(labelled), bool)
    if votes is not None:
        unlike = (votes[rows, best] >= _AGREEING) & (np.where(labelled, votes, 0.0).sum(axis=1) == 0)
    margin = belief[rows, best] - np.where(labelled, belief, 0.0).sum(axis=1)
    doubted = np.flatnonzero(~labelled[rows, best] & (confident | unlike) & (margin > 0))
    labels = np.arange(labelled.shape[1])
    return [
        Doubt(int(i), labels == best[i], float(margin[i]), int(best[i]), bool(confident[i]), bool(unlike[i]))
        for i in doubted[np.argsort(-margin[doubted], kind="stable")]
    ]


def _doubt_sets(
    labelled: NDArray[np.bool_],
    scores: NDArray[np.float64],
    belief: NDArray[np.float64],
    votes: NDArray[np.floating[Any]] | None,
) -> list[Doubt]:
    """Doubt each label of a row for itself: one that is missing, and one that is given."""
    present, absent = _mean_of_marked(scores, labelled), _mean_of_marked(1 - scores, ~labelled)
    confident = np.where(labelled, 1 - scores >= absent, scores >= present)
    unlike = np.zeros(labelled.shape, bool)
    if votes is not None:
        unlike = np.where(labelled, votes == 0, votes >= _AGREEING) & ~(labelled & (scores >= 0.5))
    margin = np.where(labelled, 1 - 2 * belief, 2 * belief - 1)
    doubted = (confident | unlike) & (margin > 0)
    worst = np.where(doubted, margin, -1.0)
    most, label_of = worst.max(axis=1, initial=-1.0), worst.argmax(axis=1)
    rows = np.flatnonzero(most > 0)
    return [
        Doubt(
            int(i),
            labelled[i] ^ doubted[i],
            float(most[i]),
            int(label_of[i]),
            bool(confident[i, label_of[i]]),
            bool(unlike[i, label_of[i]]),
        )
        for i in rows[np.argsort(-most[rows], kind="stable")]
    ]
