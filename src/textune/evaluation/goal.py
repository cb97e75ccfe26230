"""What a run was tuned for, measured on the same rows as simpler answers: costs, a floor, or the F1 of one label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.evaluation.decisions import Share, list_costs, read_share
from textune.evaluation.intervals import RESAMPLES, Difference, Interval, percentile_interval, rule_of_three, widen
from textune.evaluation.paired import Counts, apply_randomisation, bound_equal, flip_signs

COSTS, MACRO_F1 = "costs", "macro_f1"


@dataclass(frozen=True)
class GoalFigure:
    """One model in the goal's terms.

    value: the mean cost of a row, or the share that the rule maximizes; None where it is undefined. floored: the share
    that has the floor. lead: the run's value minus this one's; None for the run itself, and where one is undefined.
    """

    name: str
    value: float | None
    interval: Interval | None
    floored: Share | None = None
    lead: Difference | None = None


@dataclass(frozen=True)
class Goal:
    """What a run was tuned for, and how far it and simpler answers got.

    rule: as in `Decisions`, or ``macro_f1``. label: whose recall, precision or F1 it is; None: of all labels.
    """

    rule: str
    label: str | None
    model: GoalFigure
    others: tuple[GoalFigure, ...]

    @property
    def floor(self) -> float | None:
        """The floor of the rule, if it has one."""
        number = self.rule.partition(">=")[2]
        return float(number) if number else None

    def reaches(self, figure: GoalFigure) -> bool:
        """Return whether a model reaches the floor; where there is none, every model does."""
        if self.floor is None:
            return True
        reached = None if figure.floored is None else figure.floored.value
        return reached is not None and reached >= self.floor - 1e-12


def count_rule(
    rule: str, true: NDArray[Any], predicted: NDArray[Any], unknown: NDArray[Any] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each row's part in what a rule maximizes, and in its floor: int64 [rows, 2], numerator and denominator.

    rule: ``f1``, ``precision>=0.9`` (then recall is maximized) or ``recall>=0.9`` (then precision). true, predicted:
    bool [rows, labels], of the rule's labels. unknown: int64 [rows], further true labels that the model does not know.
    A rule without a floor has the same numbers twice.
    """
    hits, of_true, of_given = (marks.sum(axis=1).astype(np.int64) for marks in (true & predicted, true, predicted))
    of_true = of_true if unknown is None else of_true + unknown
    recall, precision = np.stack([hits, of_true], axis=1), np.stack([hits, of_given], axis=1)
    figure = rule.partition(">=")[0]
    if figure == "precision":
        return recall, precision
    if figure == "recall":
        return precision, recall
    f1 = np.stack([2 * hits, of_true + of_given], axis=1)
    return f1, f1


def compare_ratios(mine: NDArray[np.int64], theirs: NDArray[np.int64], seed: int) -> Difference | None:
    """Return one ratio of sums minus another, with its interval from rows drawn together; None where one is undefined.

    mine, theirs: int64 [rows, 2], numerator and denominator. The p-value is that of an approximate randomisation test:
    of swapped rows where both models have the same denominators, else of flipped signs (`_flip_parts`).
    """
    if not mine[:, 1].sum() or not theirs[:, 1].sum():
        return None
    if np.array_equal(mine, theirs):
        return bound_equal(int((mine[:, 1] > 0).sum()))  # each row once, however many seeds are summed in it
    patterns, counts = np.unique(np.hstack([mine, theirs]), axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(mine), counts / len(mine), size=RESAMPLES)
    sums = draws @ patterns
    sums = sums[(sums[:, 1] > 0) & (sums[:, 3] > 0)]  # in other draws one ratio is undefined
    drawn = percentile_interval(sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3])
    drawn = widen(drawn, int(min((mine[:, 1] > 0).sum(), (theirs[:, 1] > 0).sum())))
    total = mine.sum(axis=0), theirs.sum(axis=0)
    mean = float(total[0][0] / total[0][1] - total[1][0] / total[1][1])
    same = np.array_equal(mine[:, 1], theirs[:, 1])
    return Difference(drawn.low, drawn.high, mean, _swap(mine, theirs) if same else _flip_parts(patterns, counts, seed))


def compare_costs(mine: NDArray[np.float64], theirs: NDArray[np.float64], seed: int, *, dearest: float) -> Difference:
    """Return one mean cost minus another, with its interval from rows drawn together. Both: float64 [rows].

    dearest: what an answer can cost. The p-value is that of random swaps: if the models are equally good, which of them
    costs more in a row is a coin toss.
    """
    values, counts = np.unique(mine - theirs, return_counts=True)
    if not values.any():
        alike = bound_equal(len(mine))
        return Difference(alike.low * dearest, alike.high * dearest, 0.0, alike.p_value)
    draws = np.random.default_rng(seed).multinomial(len(mine), counts / len(mine), size=RESAMPLES)
    drawn, whole = percentile_interval(draws @ values / len(mine)), np.ones_like(mine)
    mean, p = float((mine - theirs).mean()), _swap(np.stack([mine, whole], axis=1), np.stack([theirs, whole], axis=1))
    if len(values) == 1:  # resamples never vary, but other rows may differ by all that an answer can cost
        share = rule_of_three(len(mine))
        drawn = Interval(mean - max(dearest + mean, 0.0) * share, mean + max(dearest - mean, 0.0) * share)
    return Difference(drawn.low, drawn.high, mean, p)


def _swap(mine: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Return the p-value of random swaps of two models' answers. Both: numerator and denominator, [rows, 2]."""
    unused = np.zeros((1, len(mine)), bool)
    return apply_randomisation(*(Counts(each[None, :, 0], each[None, :, 1], unused) for each in (mine, theirs)))


def _flip_parts(patterns: NDArray[np.int64], counts: NDArray[np.int64], seed: int) -> float:
    """Return the p-value of two ratios' difference where the models divide by different rows, as precision does.

    Swapping the answers of a row would swap these rows, too. Instead the difference is split into what each row adds to
    it if both ratios are equal, and these parts change signs. patterns: int64 [patterns, 4], numerator and
    denominator of both. counts: the rows of each pattern.
    """
    parts = patterns.astype(np.float64)
    totals = counts @ parts
    both = (totals[0] + totals[2]) / (totals[1] + totals[3])
    added = (parts[:, 0] - both * parts[:, 1]) / totals[1] - (parts[:, 2] - both * parts[:, 3]) / totals[3]
    return flip_signs(added, counts, seed)


def find_cheapest_constant(costs: NDArray[np.float64], true: NDArray[Any]) -> NDArray[np.int64]:
    """Return the answer that costs least if every row of these gets it: the numbers of its labels.

    costs, true: as for `list_costs`. With several labels per text it may have none.
    """
    if true.ndim == 1:
        each = [list_costs(costs.tolist(), true, np.full(len(true), label)).sum() for label in range(len(costs))]
        return np.array([int(np.argmin(each))])
    rows = true.sum(axis=0)
    return np.flatnonzero(costs[:, 1] * (len(true) - rows) < costs[:, 0] * rows)


def read_goal(stored: Mapping[str, Any] | None) -> Goal | None:
    """Rebuild a goal of plain data; None of None. Raises KeyError, TypeError or ValueError for anything else."""
    if stored is None:
        return None
    model, others = _read_figure(stored["model"]), tuple(map(_read_figure, stored["others"]))
    return Goal(stored["rule"], stored["label"], model, others)


def _read_figure(stored: Mapping[str, Any]) -> GoalFigure:
    interval, floored, lead = stored["interval"], stored["floored"], stored["lead"]
    return GoalFigure(
        stored["name"],
        stored["value"],
        None if interval is None else Interval(**interval),
        None if floored is None else read_share(floored),
        None if lead is None else Difference(**lead),
    )
