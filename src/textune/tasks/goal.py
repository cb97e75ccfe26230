"""A run in the terms it was tuned for, beside simpler answers: a cost table, a floor, one label's F1, or macro F1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.evaluation import Difference
from textune.evaluation.decisions import find_dearest, list_costs, measure_costs, measure_ratio
from textune.evaluation.goal import (
    COSTS,
    MACRO_F1,
    Goal,
    GoalFigure,
    compare_costs,
    compare_ratios,
    count_rule,
    find_cheapest_constant,
)
from textune.evaluation.text import show_name
from textune.tasks.base import Task
from textune.tasks.shown import MAJORITY, AnyEvaluation

Array = NDArray[Any]
_MOST_NAMED = 3


@dataclass(frozen=True)
class Answered:
    """One model's answers on the evaluation rows. task: with its thresholds. evaluation: its figures."""

    name: str
    task: Task
    probabilities: Array
    evaluation: AnyEvaluation


@dataclass(frozen=True)
class GoalRows:
    """The rows that a goal is measured on.

    targets: as the task encodes them. metric: that chose the checkpoint. unknown: int64 [rows], labels of each row that
    the model does not know; None: it knows all.
    """

    targets: Array
    labels: Sequence[str]
    metric: str | None
    seed: int
    unknown: Array | None = None


def measure_goal(model: Answered, others: Sequence[Answered], rows: GoalRows) -> Goal | None:
    """Return how far a run and simpler models got in what it was tuned for; None where that is its first figure."""
    decisions = model.task.decisions
    if not len(rows.targets) or not np.isfinite(model.probabilities).all():
        return None
    if decisions.costs is not None:
        return _measure_costs(model, others, rows)
    if decisions.rule is not None and (decisions.rule != "f1" or decisions.label is not None):
        return _measure_rule(model, others, rows)
    if rows.metric == MACRO_F1 and decisions.rule is None:
        return _read_macro_f1(model, others)
    return None


def _measure_costs(model: Answered, others: Sequence[Answered], rows: GoalRows) -> Goal:
    """Compare the mean cost of a row; the cheapest constant answer takes the place of the most frequent one."""
    task, costs = model.task, np.asarray(model.task.decisions.costs, np.float64)
    dearest = find_dearest(model.task.decisions.costs or (), sets=task.reads_sets)
    true = rows.targets > 0 if task.reads_sets else rows.targets

    def price(predicted: NDArray[np.bool_]) -> NDArray[np.float64]:
        given = predicted if task.reads_sets else predicted.argmax(axis=1)
        return list_costs(task.decisions.costs or (), true, given, rows.unknown)

    def show(name: str, each: NDArray[np.float64]) -> GoalFigure:
        figures = measure_costs(each, each, rows.seed, dearest=dearest)
        lead = compare_costs(mine, each, rows.seed, dearest=dearest)
        return GoalFigure(name, figures.mean, figures.interval, lead=lead)

    mine = price(task.decide(model.probabilities))
    constant = find_cheapest_constant(costs, true)
    answer = np.zeros((len(true), len(rows.labels)), bool)
    answer[:, constant] = True
    found = [show(_name_constant([rows.labels[i] for i in constant.tolist()]), price(answer))]
    found += [show(o.name, price(o.task.decide(o.probabilities))) for o in others if o.name != MAJORITY]
    return Goal(COSTS, None, replace(show(model.name, mine), lead=None), tuple(found))


def _name_constant(labels: Sequence[str]) -> str:
    """Return the name of a constant answer, such as ``always 'ham'``."""
    named = ", ".join(f"'{show_name(label)}'" for label in labels[:_MOST_NAMED])
    more = len(labels) - _MOST_NAMED
    return f"always {named}{f' and {more:,} more' if more > 0 else ''}" if labels else "never any label"


def _measure_rule(model: Answered, others: Sequence[Answered], rows: GoalRows) -> Goal:
    """Compare what the rule maximizes, and what has the floor."""
    rule, label, targets = str(model.task.decisions.rule), model.task.decisions.label, rows.targets
    true = targets > 0 if label is None else (targets == label)[:, None]

    def count(one: Answered) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        predicted = one.task.decide(one.probabilities)
        if label is None:
            return count_rule(rule, true, predicted, rows.unknown)
        return count_rule(rule, true, predicted[:, [label]])

    def show(one: Answered) -> GoalFigure:
        best, floored = count(one)
        share, below = (measure_ratio(each[:, 0], each[:, 1], rows.seed) for each in (best, floored))
        lead = compare_ratios(mine, best, rows.seed)
        return GoalFigure(one.name, share.value, share.interval, below if ">=" in rule else None, lead)

    mine = count(model)[0]
    name = None if label is None else rows.labels[label]
    return Goal(rule, name, replace(show(model), lead=None), tuple(map(show, others)))


def _read_macro_f1(model: Answered, others: Sequence[Answered]) -> Goal | None:
    """Compare macro F1 by its intervals, as if independent, which is conservative."""

    def show(one: Answered) -> GoalFigure | None:
        figure = next((f for f in one.evaluation.further if f.name == "macro F1"), None)
        return None if figure is None else GoalFigure(one.name, figure.value, figure.interval)

    mine, found = show(model), [figure for figure in map(show, others) if figure is not None]
    if mine is None:
        return None
    return Goal(MACRO_F1, None, mine, tuple(replace(other, lead=_subtract(mine, other)) for other in found))


def _subtract(mine: GoalFigure, other: GoalFigure) -> Difference | None:
    if mine.value is None or other.value is None or mine.interval is None or other.interval is None:
        return None
    mean = mine.value - other.value
    down = math.hypot(mine.value - mine.interval.low, other.interval.high - other.value)
    up = math.hypot(mine.interval.high - mine.value, other.value - other.interval.low)
    return Difference(mean - down, mean + up, mean)
