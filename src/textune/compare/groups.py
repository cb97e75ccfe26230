"""Which runs are the same but for their seed, and what each group is called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textune.compare.records import RunRecord
from textune.errors import ConfigError

_SEEDS = ("seed", "split_seed")
_NOT_OF_THE_GROUP = (*_SEEDS, "backbone")
"""A group's seeds differ; of its backbone the weights count, not where they lie."""
_MOST_SETTINGS_IN_NAME = 4


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed alone, in the order of the seeds."""

    name: str
    runs: tuple[RunRecord, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """One for each run."""
        return tuple(run.seed for run in self.runs)


def group_runs(runs: Sequence[RunRecord]) -> list[Group]:
    """Put runs of the same settings together and names each group by what tells it from the others.

    Raises ConfigError where two runs have the same settings and the same seed: one of them adds nothing.
    """
    by_settings: dict[str, list[RunRecord]] = {}
    for run in runs:
        settings = {k: v for k, v in run.settings.items() if k not in _NOT_OF_THE_GROUP}
        key = json.dumps([settings, run.manifest.base_model.sha256], sort_keys=True)
        by_settings.setdefault(key, []).append(run)
    alike = [part for same in by_settings.values() for part in _part_by_data(same)]
    for same in alike:
        seeds = [run.seed for run in same]
        if len(set(seeds)) < len(seeds):
            twice = next(s for s in seeds if seeds.count(s) > 1)
            folders = " and ".join(str(run.folder) for run in same if run.seed == twice)
            raise ConfigError(
                f"{folders} are the same run: settings, data and seed {twice} are equal", hint="leave one out"
            )
    groups = [tuple(sorted(same, key=lambda run: run.seed)) for same in alike]
    return [Group(name, same) for name, same in zip(_name_groups([g[0] for g in groups]), groups, strict=True)]


def _part_by_data(same: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Parts runs of equal settings by their rows, where one split of the data gave one run other rows than another.

    Runs that drew their splits with different seeds have different rows anyway, and stay together.
    """
    found: dict[int, set[str]] = {}
    for run in same:
        found.setdefault(run.split_seed, set()).add(run.manifest.data_fingerprint)
    if all(len(fingerprints) == 1 for fingerprints in found.values()):
        return [list(same)]
    parts: dict[str, list[RunRecord]] = {}
    for run in same:
        parts.setdefault(run.manifest.data_fingerprint, []).append(run)
    return list(parts.values())


def list_common_settings(groups: Sequence[Group]) -> dict[str, Any]:
    """Return the settings that all groups share and that are set."""
    flat = [_flatten(group.runs[0]) for group in groups]
    return {
        k: v
        for k, v in flat[0].items()
        if v is not None and k not in _SEEDS and all(other.get(k) == v for other in flat[1:])
    }


def _name_groups(firsts: Sequence[RunRecord]) -> list[str]:
    """Names each group by its method; by the backbone where there are several; and by what else tells it apart."""
    flat = [_flatten(run) for run in firsts]
    kinds = [(run.manifest.method, run.manifest.base_model.sha256) for run in firsts]
    several_backbones = len({weights for _, weights in kinds}) > 1
    names = []
    for own, run, kind in zip(flat, firsts, kinds, strict=True):
        backbone = run.manifest.base_model
        alike = [f for f, other in zip(flat, kinds, strict=True) if other == kind]
        apart = [k for k in own if k not in _NOT_OF_THE_GROUP and any(f.get(k) != own[k] for f in alike)]
        parts = [f"{k.removeprefix('method.')}={_show(own[k])}" for k in apart[:_MOST_SETTINGS_IN_NAME]]
        more = " ..." if len(apart) > _MOST_SETTINGS_IN_NAME else ""
        where = f" on {backbone.id.rpartition('/')[2]}" if several_backbones else ""
        names.append(" ".join([f"{run.manifest.method}{where}", *parts]) + more)
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, 1)]


def _flatten(run: RunRecord) -> dict[str, Any]:
    """Return the settings with the method's options, defaults included, as method.OPTION."""
    flat = {k: v for k, v in run.settings.items() if k != "method"}
    options = {f"method.{k}": v for k, v in run.manifest.method_options.items()}
    return {"method": run.manifest.method} | flat | options


def _show(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_show, value))
    if isinstance(value, Mapping):
        return ",".join(f"{k}:{_show(v)}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else "open" if value is None else str(value)
