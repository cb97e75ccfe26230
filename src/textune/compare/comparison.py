"""From groups of runs to a comparison: scores and costs of each group, a test for every pair, and test set reads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from textune.compare.baselines import list_baselines
from textune.compare.contrast import contrast_groups
from textune.compare.goal import compare_goals, share_goal
from textune.compare.groups import Group, group_runs, list_common_settings
from textune.compare.records import RunRecord, read_run, refuse_other_rows
from textune.errors import ConfigError
from textune.evaluation import (
    Counts,
    Interval,
    adjust_holm,
    compare_pair,
    estimate_interval,
    estimate_macro_f1,
)
from textune.printable import count
from textune.report.comparison import COSTS, Candidate, Comparison, Pair, RunLine, mark_fronts
from textune.run.test_reads import count_reads_of_own_rows
from textune.tasks import task_of


def compare_runs(folders: Sequence[str | Path]) -> Comparison:
    """Compare finished runs that were measured on the same rows; the best mean comes first.

    Raises ConfigError for fewer than two runs, BundleError for an unfinished run, DataError if the rows differ.
    """
    if len({Path(folder).resolve() for folder in folders}) < max(len(folders), 2):
        raise ConfigError("a comparison needs at least two different runs", hint="give the folders of two or more runs")
    runs = [read_run(folder) for folder in folders]
    refuse_other_rows(runs)
    groups = group_runs(runs)
    counts = {group.name: _count(group.runs) for group in groups}
    groups.sort(key=lambda group: (-float(counts[group.name].values.mean()), group.name))
    machines = tuple(sorted({_describe_machine(run) for run in runs}))
    described = [_describe(group, counts[group.name]) for group in groups]
    candidates = mark_fronts(described, one_machine=len(machines) == 1)
    first = runs[0]
    baselines = list_baselines(groups, candidates[0])
    return Comparison(
        figure=first.evaluation.headline.name,
        split=first.split,
        rows=len(first.rows),
        test_reads=sum(count_reads_of_own_rows(run.folder) for run in runs),
        candidates=tuple(candidates),
        pairs=tuple(_test_pairs(groups, counts)),
        runs=tuple(_list_run(run, group.name) for group in groups for run in group.runs),
        common=tuple((k, str(v)) for k, v in list_common_settings(groups).items()),
        machines=machines,
        kept_layers=tuple(g.name for g in groups if any(r.manifest.engine.get("prefix_layers") for r in g.runs)),
        contrast=contrast_groups(groups[0], groups[1]) if len(groups) > 1 else None,
        goal=compare_goals(groups),
        one_goal=share_goal(groups),
        seen={group.name: seen for group in groups if (seen := max(run.seen for run in group.runs))},
        baselines=tuple(baselines),
    )


def _describe_machine(run: RunRecord) -> str:
    engine = run.manifest.engine
    precision = engine["precision"]["name"] if engine.get("precision") else "fp32"
    threads = engine.get("threads", "?")
    words = count(threads, "thread") if isinstance(threads, int) else f"{threads} threads"
    return f"{precision} on {engine.get('device', 'an unknown device')}, {words}"


def _count(runs: Sequence[RunRecord]) -> Counts:
    """Return each seed's counts: correct rows, or with several labels per text the counts of micro F1."""
    first = runs[0]
    return task_of(first.manifest).count_earned(first.true, [run.predicted for run in runs], first.unknown.sum(1))


def _describe(group: Group, counts: Counts) -> Candidate:
    runs = group.runs
    values = counts.values
    macro = [run.evaluation.further[0].value for run in runs]
    if len(runs) == 1:  # the same intervals as in the run's report
        interval, macro_interval = runs[0].evaluation.headline.interval, runs[0].evaluation.further[0].interval
    else:
        interval, macro_interval = estimate_interval(counts), _estimate_macro_f1(runs)
    return Candidate(
        name=group.name,
        seeds=group.seeds,
        value=float(values.mean()),
        spread=float(values.std(ddof=1)) if len(runs) > 1 else None,
        interval=interval,
        macro_f1=float(np.mean(macro)),
        macro_f1_interval=macro_interval,
        costs={key: _mean([run.costs[key] for run in runs]) for key in COSTS},
    )


def _estimate_macro_f1(runs: Sequence[RunRecord]) -> Interval:
    """Return the interval of macro F1; each label unknown to the models counts as a class that is always missed."""
    unknown = runs[0].unknown
    predicted = [np.hstack([run.predicted, np.zeros_like(unknown)]) for run in runs]
    return estimate_macro_f1(np.hstack([runs[0].true, unknown]), predicted)[1]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _test_pairs(groups: Sequence[Group], counts: dict[str, Counts]) -> list[Pair]:
    pairs = list(combinations(groups, 2))
    tests = [compare_pair(counts[a.name], counts[b.name], a.seeds, b.seeds) for a, b in pairs]
    adjusted = adjust_holm([test.p for test in tests])
    return [
        Pair(a.name, b.name, test, p, one_seed=1 in (len(a.runs), len(b.runs)))
        for (a, b), test, p in zip(pairs, tests, adjusted, strict=True)
    ]


def _list_run(run: RunRecord, group: str) -> RunLine:
    evaluation = run.evaluation
    return RunLine(
        str(run.folder),
        group,
        run.seed,
        evaluation.headline.value,
        evaluation.headline.interval,
        evaluation.further[0].value,
        run.costs,
        count_reads_of_own_rows(run.folder),
    )
