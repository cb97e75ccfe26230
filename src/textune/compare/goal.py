"""Runs that were tuned for the same costs or the same rule, compared in these terms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from textune.compare.groups import Group
from textune.compare.records import RunRecord
from textune.evaluation import Difference
from textune.evaluation.decisions import Decisions, Share, find_dearest, list_costs, measure_costs, measure_ratio
from textune.evaluation.goal import COSTS, Goal, GoalFigure, compare_costs, compare_ratios, count_rule
from textune.evaluation.paired import add_seeds, find_p_of_seeds
from textune.tasks import task_of


def compare_goals(groups: Sequence[Group]) -> Goal | None:
    """Return the groups in the terms that all were tuned for, the best as `model`; None without common terms.

    Each group counts with all its seeds. The intervals hold rows and seeds. Which group is the best was seen
    first, so that its p-values are multiplied by the number of all pairs (Bonferroni).
    """
    if not share_goal(groups):
        return None
    asked = _read_asked(groups[0].runs[0])
    if asked.costs is None and (asked.rule is None or (asked.rule == "f1" and asked.label is None)):
        return None
    goal = _compare_costs(groups, asked) if asked.costs is not None else _compare_rule(groups, asked)
    pairs = len(groups) * (len(groups) - 1) // 2
    return replace(goal, others=tuple(replace(one, lead=_correct(one.lead, pairs)) for one in goal.others))


def _correct(lead: Difference | None, pairs: int) -> Difference | None:
    """Return a lead whose p-value allows for so many looks."""
    if lead is None or lead.p_value is None:
        return lead
    return replace(lead, p_value=min(1.0, lead.p_value * pairs))


def _hold_seeds(lead: Difference | None, *models: Sequence[float]) -> Difference | None:
    """Return a lead whose interval and p-value hold what other seeds may bring. models: the values of their seeds."""
    if lead is None:
        return None
    seeds = [np.asarray(values) for values in models]
    wide = add_seeds(lead, lead.mean, *seeds, limits=(-np.inf, np.inf))
    p = None if lead.p_value is None else max(lead.p_value, find_p_of_seeds(lead.mean, *seeds))
    return replace(lead, low=wide.low, high=wide.high, p_value=p)


def share_goal(groups: Sequence[Group]) -> bool:
    """Return whether all runs were tuned for the same."""
    asked = [_read_asked(run) for group in groups for run in group.runs]
    return len({json.dumps([each.rule, each.label, each.costs]) for each in asked}) == 1


def _read_asked(run: RunRecord) -> Decisions:
    return Decisions.from_dict(run.manifest.decisions)


def _compare_costs(groups: Sequence[Group], asked: Decisions) -> Goal:
    def price(run: RunRecord) -> NDArray[np.float64]:
        if task_of(run.manifest).reads_sets:
            return list_costs(asked.costs or (), run.true, run.predicted, run.unknown.sum(axis=1))
        true = np.where(run.true.any(axis=1), run.true.argmax(axis=1), -1)
        return list_costs(asked.costs or (), true, run.predicted.argmax(axis=1))

    prices = {group.name: [price(run) for run in group.runs] for group in groups}
    each = {name: np.mean(of_seeds, axis=0) for name, of_seeds in prices.items()}
    means = {name: [float(one.mean()) for one in of_seeds] for name, of_seeds in prices.items()}
    ranked = sorted(each, key=lambda name: float(each[name].mean()))
    figures, dearest = [], find_dearest(asked.costs or (), sets=task_of(groups[0].runs[0].manifest).reads_sets)
    for name in ranked:
        found = measure_costs(each[name], each[name], 0, dearest=dearest)
        lead = None if name == ranked[0] else compare_costs(each[ranked[0]], each[name], 0, dearest=dearest)
        lead = _hold_seeds(lead, means[ranked[0]], means[name])
        interval = add_seeds(found.interval, found.mean, np.asarray(means[name]), limits=(0.0, dearest))
        figures.append(GoalFigure(name, found.mean, interval, lead=lead))
    return Goal(COSTS, None, figures[0], tuple(figures[1:]))


def _compare_rule(groups: Sequence[Group], asked: Decisions) -> Goal:
    rule, chosen = str(asked.rule), slice(None) if asked.label is None else slice(asked.label, asked.label + 1)
    label = None if asked.label is None else groups[0].runs[0].manifest.labels[asked.label]
    parts, values, figures = {}, {}, []
    for group in groups:
        each = [
            count_rule(
                rule,
                run.true[:, chosen],
                run.predicted[:, chosen],
                run.unknown.sum(axis=1) if asked.label is None else None,
            )
            for run in group.runs
        ]
        best, floored = ([pair[i] for pair in each] for i in (0, 1))
        parts[group.name], values[group.name] = np.sum(best, axis=0), _list_ratios(best)
        share, below = (_share_over_seeds(of_seeds) for of_seeds in (best, floored))
        figures.append(GoalFigure(group.name, share.value, share.interval, below if ">=" in rule else None))
    plain = Goal(rule, label, figures[0], ())
    figures.sort(key=lambda one: (not plain.reaches(one), -(one.value or 0.0)))
    model = figures[0]
    others = []
    for one in figures[1:]:
        lead = compare_ratios(parts[model.name], parts[one.name], 0)
        others.append(replace(one, lead=_hold_seeds(lead, values[model.name], values[one.name])))
    return Goal(rule, label, model, tuple(others))


def _list_ratios(of_seeds: Sequence[NDArray[np.int64]]) -> list[float]:
    """Return each seed's ratio of sums. of_seeds: numerator and denominator, int64 [rows, 2]."""
    return [float(one[:, 0].sum() / max(one[:, 1].sum(), 1)) for one in of_seeds]


def _share_over_seeds(of_seeds: Sequence[NDArray[np.int64]]) -> Share:
    """Return the ratio over all seeds, with an interval over rows and seeds."""
    up, down = np.sum(of_seeds, axis=0).T
    share = measure_ratio(up, down, 0, copies=len(of_seeds))
    if share.value is None or share.interval is None:
        return share
    ratios = np.asarray(_list_ratios(of_seeds))
    return replace(share, interval=add_seeds(share.interval, share.value, ratios, limits=(0.0, 1.0)))
