"""Frozen embeddings with logistic regression, the baseline that depends on a backbone and not on a method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from textune.compare.groups import Group, list_sources
from textune.compare.records import ProbeRecord, RunRecord
from textune.evaluation import Difference, Interval
from textune.evaluation.paired import add_seeds
from textune.report.comparison import COSTS, Baseline, Candidate
from textune.report.leads import subtract
from textune.report.wording import list_names

_DECIDING = (
    "labels", "joiner", "long_text", "window_overlap", "max_windows", "head_fraction", "init", "learn_names",
    "class_weights", "threshold", "threshold_for", "threshold_label", "costs", "abstain_for",
)  # fmt: skip
"""The settings, besides those of the training rows, on which the baseline's scores depend."""
_SHARES = (0.0, 1.0)


def list_baselines(groups: Sequence[Group], best: Candidate) -> list[Baseline]:
    """Return one baseline for each backbone, the best first; more where runs on one read its texts otherwise.

    Groups share a baseline if they pool alike and have the same training rows, whatever their method. Runs that did not
    measure it are left out. best: the candidate that the baselines are held against.
    """
    parts: list[list[Group]] = []
    for group in groups:
        if not any(run.probe for run in group.runs):
            continue
        same = next((part for part in parts if all(_share_baseline(group, other) for other in part)), None)
        if same is None:
            parts.append([group])
        else:
            same.append(group)
    several = len({group.runs[0].manifest.base_model.sha256 for group in groups}) > 1
    named = zip(_name_parts(parts, several=several), parts, strict=True)
    found = [_measure(name, part, best, several=several) for name, part in named]
    return sorted(found, key=lambda baseline: (-baseline.value, baseline.name))


def _share_baseline(one: Group, other: Group) -> bool:
    if _describe_reading(one.runs[0]) != _describe_reading(other.runs[0]):
        return False
    rows = [{run.split_seed: run.manifest.data_fingerprint for run in group.runs} for group in (one, other)]
    if set(rows[0].values()) & set(rows[1].values()):
        return True
    if rows[0].keys() & rows[1].keys():
        return False
    sources = [{mark for run in group.runs for mark in list_sources(run)} for group in (one, other)]
    return bool(sources[0] & sources[1])


def _describe_reading(run: RunRecord) -> str:
    """Return all that the baseline's scores depend on, besides the rows."""
    manifest = run.manifest
    settings = {name: run.settings.get(name) for name in _DECIDING}
    read = [manifest.base_model.sha256, manifest.pooling, manifest.max_length, asdict(manifest.columns)]
    return json.dumps([read, settings], sort_keys=True)


def _name_parts(parts: Sequence[Sequence[Group]], *, several: bool) -> list[str]:
    """Name each baseline by its backbone if there are several, then by its pooling, then by its candidates."""
    measured = [next((run, run.probe) for group in part for run in group.runs if run.probe) for part in parts]
    firsts = [run for run, _ in measured]
    names = [probe.name + (f" on {_name_backbone(run)}" if several else "") for run, probe in measured]
    poolings = [f", pooling={run.manifest.pooling}" for run in firsts]
    candidates = [f", for {list_names([group.name for group in part])}" for part in parts]
    for ends in (poolings, candidates):
        pairs = list(zip(names, ends, strict=True))
        names = [name + end if any(n == name and e != end for n, e in pairs) else name for name, end in pairs]
    return names


def _name_backbone(run: RunRecord) -> str:
    return run.manifest.base_model.id.rpartition("/")[2]


def _measure(name: str, groups: Sequence[Group], best: Candidate, *, several: bool) -> Baseline:
    """Return the means over the seeds, and how much the best candidate leads."""
    runs = [(run, run.probe) for group in groups for run in group.runs if run.probe is not None]
    probes = [probe for _, probe in runs]
    by_seed: dict[int, list[ProbeRecord]] = {}
    for run, probe in runs:
        by_seed.setdefault(run.seed, []).append(probe)
    values = [float(np.mean([probe.evaluation.headline.value for probe in of])) for of in by_seed.values()]
    macro = [float(np.mean([probe.evaluation.further[0].value for probe in of])) for of in by_seed.values()]
    seconds = [probe.seconds for probe in probes if probe.seconds is not None]
    costs: dict[str, float | None] = dict.fromkeys(COSTS)
    if len(seconds) == len(probes):
        costs["training_seconds"] = float(np.mean(seconds))
    baseline = Baseline(
        name=name,
        seeds=tuple(sorted(by_seed)),
        value=float(np.mean(values)),
        spread=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        interval=_widen([probe.evaluation.headline.interval for probe in probes], values, _SHARES),
        macro_f1=float(np.mean(macro)),
        macro_f1_interval=_widen([probe.evaluation.further[0].interval for probe in probes], macro, _SHARES),
        costs=costs,
        backbone=_name_backbone(runs[0][0]) if several else "",
        candidates=tuple(group.name for group in groups),
    )
    return replace(baseline, lead=_find_lead(baseline, groups, best))


def _find_lead(baseline: Baseline, groups: Sequence[Group], best: Candidate) -> Difference:
    """Return the best candidate's lead: row by row where its own runs measured both, else by the two intervals."""
    own = [run.probe for group in groups if group.name == best.name for run in group.runs]
    leads = [probe.lead for probe in own if probe is not None and probe.lead is not None]
    if not own or len(leads) < len(own):
        return subtract(best.value, best.interval, baseline.value, baseline.interval)
    if len(leads) == 1:
        return leads[0]
    means = [lead.mean for lead in leads]
    interval = _widen(leads, means, (-1.0, 1.0))
    return Difference(interval.low, interval.high, float(np.mean(means)))


def _widen(intervals: Sequence[Interval], values: Sequence[float], limits: tuple[float, float]) -> Interval:
    """Return the mean of intervals over rows, widened by what other seeds may bring. values: one of each seed."""
    rows = Interval(*(float(np.mean([getattr(each, end) for each in intervals])) for end in ("low", "high")))
    return add_seeds(rows, float(np.mean(values)), np.asarray(values), limits=limits)
