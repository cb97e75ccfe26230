"""Grouping of runs that differ only by seed, and the names of the groups."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textune.compare.records import SOURCES, RunRecord
from textune.errors import ConfigError

_SEEDS = ("seed", "split_seed")
_NOT_OF_THE_GROUP = (*_SEEDS, "backbone")
"""Settings that may differ within a group: seeds, and the backbone's path, since its weights are compared instead."""
_COLUMNS = ("text", "text_pair", "label")
"""Settings that may be left open; the manifest says which columns were read."""
_MOST_SETTINGS_IN_NAME = 4


@dataclass(frozen=True)
class Group:
    """Runs that differ only by seed, in the order of the seeds."""

    name: str
    runs: tuple[RunRecord, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each run."""
        return tuple(run.seed for run in self.runs)


def group_runs(runs: Sequence[RunRecord]) -> list[Group]:
    """Group runs of the same settings and name each group by what distinguishes it.

    Raises ConfigError if two runs have the same settings and seed.
    """
    by_settings: dict[str, list[RunRecord]] = {}
    for run in runs:
        by_settings.setdefault(_key_of(run), []).append(run)
    members = [part for equal in by_settings.values() for part in _part_by_data(equal)]
    for group in members:
        seeds = [run.seed for run in group]
        if len(set(seeds)) < len(seeds):
            repeated = next(s for s in seeds if seeds.count(s) > 1)
            same = [run for run in group if run.seed == repeated]
            folders = " and ".join(str(run.folder) for run in same)
            if len({run.manifest.data_fingerprint for run in same}) > 1:
                raise ConfigError(
                    f"{folders} have the same settings and seed {repeated}, but other training rows (as with another "
                    "split_seed=): only runs of different seeds count as one model",
                    hint="train them with different seed=, or leave one out",
                )
            raise ConfigError(
                f"{folders} are the same run: settings, data and seed {repeated} are equal", hint="leave one out"
            )
    groups = [tuple(sorted(group, key=lambda run: run.seed)) for group in members]
    return [Group(name, group) for name, group in zip(_name_groups([g[0] for g in groups]), groups, strict=True)]


def _key_of(run: RunRecord) -> str:
    """Return what the runs of a group have in common, besides their rows."""
    settings = {k: v for k, v in run.settings.items() if k not in (*_NOT_OF_THE_GROUP, *SOURCES, *_COLUMNS)}
    columns = dataclasses.asdict(run.manifest.columns)
    return json.dumps([settings, run.manifest.base_model.sha256, columns], sort_keys=True)


def _part_by_data(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Split runs of equal settings by where their rows come from, and by the rows; runs on equal rows stay together."""
    of_one_source = _join([[run] for run in runs], list_sources)
    parts = [part for equal in of_one_source for part in _split_by_data(equal)]
    return _join(parts, lambda run: {run.manifest.data_fingerprint})


def list_sources(run: RunRecord) -> set[str]:
    """Return what a run's files are called: as they were given, and by their absolute paths."""
    given = {name: run.settings.get(name) for name in SOURCES}
    return {json.dumps(named, sort_keys=True) for named in (given, given | dict(run.sources))}


def _join(parts: Sequence[Sequence[RunRecord]], marks_of: Callable[[RunRecord], set[str]]) -> list[list[RunRecord]]:
    """Join the parts that share a mark, also through others, each at the place of its first run."""
    joined: list[tuple[set[str], list[RunRecord]]] = []
    for part in parts:
        marks, members = {mark for run in part for mark in marks_of(run)}, list(part)
        near = [i for i, (others, _) in enumerate(joined) if others & marks]
        whole = marks.union(*(joined[i][0] for i in near)), [*(run for i in near for run in joined[i][1]), *members]
        joined = [entry for i, entry in enumerate(joined) if i not in near]
        joined.insert(near[0] if near else len(joined), whole)
    return [members for _, members in joined]


def _split_by_data(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Split runs of equal settings by their rows, if runs with the same split seed have different rows.

    Runs with different split seeds have different rows anyway, and stay together.
    """
    fingerprints_of: dict[int, set[str]] = {}
    for run in runs:
        fingerprints_of.setdefault(run.split_seed, set()).add(run.manifest.data_fingerprint)
    if all(len(fingerprints) == 1 for fingerprints in fingerprints_of.values()):
        return [list(runs)]
    parts: dict[str, list[RunRecord]] = {}
    for run in runs:
        parts.setdefault(run.manifest.data_fingerprint, []).append(run)
    return list(parts.values())


def list_common_settings(groups: Sequence[Group]) -> dict[str, Any]:
    """Return the settings that are set and equal in all groups."""
    first, *others = [_compare_by(group.runs[0]) for group in groups]
    return {
        k: v
        for k, v in _flatten(groups[0].runs[0]).items()
        if v is not None and k not in _SEEDS and all(other.get(k) == first[k] for other in others)
    }


def _name_groups(firsts: Sequence[RunRecord]) -> list[str]:
    """Name each group by its method, by its backbone if there are several, and by settings that distinguish it."""
    compared = [_compare_by(run) for run in firsts]
    kinds = [(run.manifest.method, run.manifest.base_model.sha256) for run in firsts]
    several_backbones = len({weights for _, weights in kinds}) > 1
    names = []
    for own, run, kind in zip(compared, firsts, kinds, strict=True):
        backbone, given = run.manifest.base_model, _flatten(run)
        same_kind = [f for f, other in zip(compared, kinds, strict=True) if other == kind]
        different = [k for k in own if k not in _NOT_OF_THE_GROUP and any(f.get(k) != own[k] for f in same_kind)]
        shown = {k: own[k] if given.get(k) is None else given[k] for k in different[:_MOST_SETTINGS_IN_NAME]}
        parts = [f"{k.removeprefix('method.')}={_show(value)}" for k, value in shown.items()]
        more = " ..." if len(different) > _MOST_SETTINGS_IN_NAME else ""
        on_backbone = f" on {backbone.id.rpartition('/')[2]}" if several_backbones else ""
        names.append(" ".join([f"{run.manifest.method}{on_backbone}", *parts]) + more)
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, 1)]


def _flatten(run: RunRecord) -> dict[str, Any]:
    """Return the settings with the method's options, defaults included, as method.OPTION."""
    flat = {k: v for k, v in run.settings.items() if k != "method"}
    options = {f"method.{k}": v for k, v in run.manifest.method_options.items()}
    return {"method": run.manifest.method} | flat | options


def _compare_by(run: RunRecord) -> dict[str, Any]:
    """Return the flat settings with the files and columns that were read, however they were given."""
    columns = run.manifest.columns
    return _flatten(run) | dict(run.sources) | {name: getattr(columns, name) for name in _COLUMNS}


def _show(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_show, value))
    if isinstance(value, Mapping):
        return ",".join(f"{k}:{_show(v)}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else "open" if value is None else str(value)
