"""What rules decide for each method of a search: they may differ, so that one trial does not stand for all."""

from __future__ import annotations

from typing import Any

from textune.config import RunConfig, build_config
from textune.config.defaults import TO_USE_THEM, explain_unused, list_unused
from textune.errors import ConfigError, TextuneError
from textune.progress import Progress, Silent
from textune.run.prepare import Prepared, Sample, prepare
from textune.search.settings import SweepSettings
from textune.search.space import Point, settings_at
from textune.search.trial import Bench


def find_longest(config: RunConfig, search: SweepSettings, first: Prepared, bench: Bench) -> float:
    """Return the most epochs that a trial trains for: by these the rungs of halving are placed.

    first: the first trial, which stands for all where one method is searched and epochs are not.
    """
    if searched := [value for d in search.space.dimensions if d.name == "epochs" for value in d.examples]:
        return max(value or first.config.training.epochs or 0.0 for value in searched)
    epochs = [first.config.training.epochs or 0.0]
    if search.halving:
        epochs += [other.config.training.epochs or 0.0 for other in _prepare_others(config, search, bench)]
    return max(epochs)


def refuse_unused(config: RunConfig, search: SweepSettings, first: Prepared, bench: Bench, progress: Progress) -> None:
    """Warn of searched settings that no step of any trial uses; raise ConfigError if there are no others.

    Trials that differ in nothing else are equally good, and the first of them would be called the winner.
    """
    searched = [d.name for d in search.space.dimensions]
    if not {"epochs", "contrast_steps", "head_init"}.isdisjoint(searched):
        return  # they decide for each trial whether it takes steps
    names = [name for name in searched if name in list_unused(config, first.config)]
    for other in _prepare_others(config, search, bench) if names else ():
        names = [name for name in names if name in list_unused(config, other.config)]
    if not names:
        return
    told = explain_unused(names, first.config)
    if len(names) == len(searched):
        raise ConfigError(f"nothing to try: {told}", hint=TO_USE_THEM)
    progress.warn(f"{told} ({TO_USE_THEM})")


def _prepare_others(config: RunConfig, search: SweepSettings, bench: Bench) -> list[Prepared]:
    """Return the first trial of each method but the first; a method that fails here fails as a trial, too."""
    firsts: dict[Any, Point] = {}
    for point in search.space.list_tried(every=False):
        firsts.setdefault(point.get("method"), point)
    fold, others = ((0, search.folds) if search.folds else None), []
    for point in [*firsts.values()][1:]:
        try:
            tried = build_config(settings_at(config.to_dict(), point))
            others.append(prepare(tried, Silent(), bench, Sample(fold, hold_test=True)))
        except TextuneError:
            continue
    return others
