"""The settings of a search: `sweep:` in the YAML next to ordinary settings. All problems are reported together."""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from textune.backbones import resolve_backbone
from textune.bundle import SWEEP
from textune.config import RunConfig, build_config, known_settings, list_stored, load_settings, load_yaml, option
from textune.config.aliases import resolve_space
from textune.config.defaults import choose_method, fill_in_model
from textune.config.values import coerce_option, coerce_value, show_value
from textune.errors import ConfigError, TextuneError, in_shell, suggest
from textune.files import write_text_atomically
from textune.methods import resolve
from textune.run.places import fix_places
from textune.run.start import resolve_model
from textune.search.space import NOT_SEARCHED, Space, parse_space, settings_at, split_several

_DEFAULT_TRIALS = 20
_MOST_PROBLEMS = 12
FEW_ROWS = 500
"""Below this many training rows a search cross-validates by default. A tenth of 500 rows cannot tell 90% from 94%: one
standard error is 4 points. Cross-validation uses all rows, with a third of the error, and trials are short."""
DEFAULT_FOLDS = 5
MOST_POINTS, _MOST_POINTS_CHECKED = 100_000, 2_000


@dataclass(frozen=True)
class Halving:
    """Successive halving: one in `reduction` trials continues; none is stopped before `min_epochs`."""

    reduction: int = option(3, "one in this many trials continues", low=2, high=100)
    min_epochs: float = option(1.0, "epochs before a trial can be stopped", low=0.01, high=10_000)


@dataclass(frozen=True)
class SweepSettings:
    """The settings under `sweep:`. trials: how many; 0: all of a grid."""

    space: Space
    sampler: str = option(
        "",
        "how trials are drawn; default: grid if the space lists all values, else tpe",
        choices=("grid", "random", "tpe"),
    )
    trials: int = option(0, "number of trials; default: all of a grid, else at most 20", low=1, high=100_000)
    halving: Halving | None = option(None, "true, or {reduction: 3, min_epochs: 1}: stop worse trials early")
    metric: str | None = option(
        None,
        "validation metric that trials are compared by; default: the run's metric",
        choices=("accuracy", "macro_f1", "micro_f1", "loss"),
    )
    workers: int = option(1, "processes that train in parallel", low=1, high=1024)
    folds: int | None = option(
        None,
        "number of cross-validation folds; 0: use the validation rows; default: 5 "
        "below 500 training rows if neither validation nor validation_fraction is set",
        low=0,
        high=50,
    )
    executor: str = option(
        "local", "where trials train: on this machine, or on a Ray cluster", choices=("local", "ray")
    )
    seed: int = option(42, "seed for drawing trials", low=0, high=2**31)

    def to_plain(self) -> dict[str, Any]:
        """Return the settings as plain data for YAML."""
        space = {d.name: d.to_plain() for d in self.space.dimensions}
        plain = {k: v for k, v in vars(self).items() if k not in ("space", "halving")}
        return {"space": space} | plain | {"halving": vars(self.halving) if self.halving else False}

    @property
    def bracket(self) -> int:
        """The number of trials that are drawn and halved together.

        TPE learns between brackets. Brackets have a fixed size, so that the same seed gives the same trials whichever
        worker finishes first.
        """
        if self.sampler != "tpe":
            return self.trials
        return max(self.halving.reduction**2, self.workers) if self.halving else self.workers


def known_sweep_settings() -> dict[str, Any]:
    """Return name -> dataclass field of the settings under `sweep:`, except the space."""
    return {name: f for name, f in SweepSettings.__dataclass_fields__.items() if name != "space"}


def split_settings(flat: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Separate ordinary settings from `sweep`; words like sweep.trials=20 override it.

    Values to try may stand where they are guessed to: trials=20 beside the settings, several values of a setting
    (learning_rate=1e-3,5e-4) where no space is given, and a setting directly under `sweep:`.
    """
    only_here = known_sweep_settings().keys() - known_settings().keys()
    flat = {f"sweep.{k}" if k in only_here else k: v for k, v in flat.items()}
    base = {k: v for k, v in flat.items() if k != "sweep" and not k.startswith("sweep.")}
    raw_sweep = flat.get("sweep")
    words = {k.removeprefix("sweep."): v for k, v in flat.items() if k.startswith("sweep.")}
    if not isinstance(raw_sweep or {}, Mapping):
        return base, raw_sweep
    overrides = {k: _read_word(k, v) if isinstance(v, str) else v for k, v in words.items()}
    raw = _gather_space(dict(raw_sweep or {}) | overrides)
    if "space" not in raw:
        base, several = split_several(base)
        raw |= {"space": several} if several else {}
    return base, raw or raw_sweep


def _gather_space(raw: dict[str, Any]) -> dict[str, Any]:
    """Return `sweep:` with the settings that stand directly under it moved into its space, under their own names."""
    raw = resolve_space(raw)
    if isinstance(raw.get("space"), Mapping):
        raw["space"] = resolve_space(raw["space"])
    searched = {k: v for k, v in raw.items() if k not in known_sweep_settings() and k != "space" and _is_searched(k)}
    space = raw.get("space") or {}
    if not searched or not isinstance(space, Mapping):
        return raw
    return {k: v for k, v in raw.items() if k not in searched} | {"space": {**space, **searched}}


def _is_searched(name: str) -> bool:
    return name.startswith("method.") or (name in known_settings() and name not in NOT_SEARCHED)


def _read_word(name: str, value: str) -> Any:
    try:
        return load_yaml(value)
    except ValueError:
        raise ConfigError(
            f"sweep.{name}={value}: is not valid YAML", hint="such as 'sweep.space={learning_rate: [1e-3, 5e-4]}'"
        ) from None


def build_sweep(flat: Mapping[str, Any]) -> tuple[RunConfig, SweepSettings]:
    """Build and check both parts and every combination; raise one ConfigError that lists every problem."""
    base, raw_sweep = split_settings(flat)
    problems: list[str] = []
    try:
        config = fill_in_model(build_config(base))
        resolve(choose_method(config), config.method.options)
    except ConfigError as error:
        problems.append(error.message)
        config = fill_in_model(RunConfig())
    if not isinstance(raw_sweep, Mapping):
        problems.append(
            "nothing to try: add learning_rate=1e-3,5e-4, or in YAML sweep: {space: {learning_rate: [1e-3, 5e-4]}}"
            if in_shell()
            else "nothing to try: add several values, such as learning_rate=[1e-3, 5e-4]"
        )
        raw_sweep = {"space": {"learning_rate": [1e-3]}}
    if config.model.init is not None:
        problems.append(
            "init=: a search starts from the pretrained model; train with the winner's settings and init= later"
        )
    settings, sweep_problems = _parse(raw_sweep, config)
    problems += sweep_problems
    if not problems:
        problems += _find_combination_problems(config, settings)
    if problems:
        count = f"{len(problems)} settings are wrong:\n  " if len(problems) > 1 else ""
        shown = problems[:_MOST_PROBLEMS]
        shown += [f"and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
        raise ConfigError(count + "\n  ".join(shown), hint="nothing was trained; docs/howto.md shows a whole sweep")
    return config, settings


def _parse(raw: Mapping[str, Any], config: RunConfig) -> tuple[SweepSettings, list[str]]:
    known = known_sweep_settings()
    names = ("space", *known)
    problems = [f"sweep: unknown setting '{k}'{suggest(str(k), names)}" for k in raw if k not in names]
    space, space_problems = parse_space(raw.get("space"), config)
    problems += space_problems
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(SweepSettings)
    for name, f in known.items():
        if raw.get(name) is None:
            continue
        try:
            if name == "halving":
                values[name] = _parse_halving(raw[name])
            else:
                values[name] = coerce_option(f.metadata, hints[name], raw[name])
        except ValueError as error:
            problems.append(f"sweep: {name}={show_value(raw[name])}: {error}")
    if values.get("folds") == 1:
        problems.append("sweep: folds=1: must be 0 (use the validation rows), or 2 or more")
    if values.get("folds") and config.data.validation is not None:
        problems.append(f"sweep: folds={values['folds']}: cannot be combined with validation=; leave one out")
    sampler = values.get("sampler") or ("grid" if space.is_grid else "tpe")
    if sampler == "grid" and not space.is_grid:
        ranges = ", ".join(d.name for d in space.dimensions if d.low is not None)
        problems.append(f"sweep: sampler=grid: list the values of {ranges}, or use random or tpe")
    values |= {"sampler": sampler, "metric": values.get("metric") or config.training.metric}
    trials = values.get("trials", 0)
    if sampler == "grid" and space.is_grid and space.count_points() > MOST_POINTS:
        problems.append(f"sweep: the grid has {space.count_points():,} points; set sampler: random or tpe, and trials")
    elif space.dimensions and space.count_points() <= MOST_POINTS:
        points = len(space.list_points())
        if trials > points:  # the rest would repeat trials, bit for bit
            problems.append(f"sweep: trials={trials}: the {'grid' if space.is_grid else 'space'} has {points} points")
        trials = trials or (points if sampler == "grid" else min(points, _DEFAULT_TRIALS))
    return SweepSettings(space, **(values | {"trials": trials or _DEFAULT_TRIALS})), problems


def _parse_halving(raw: Any) -> Halving | None:
    if not isinstance(raw, Mapping):
        return Halving(reduction=3, min_epochs=1.0) if coerce_value(bool, raw) else None
    fields = Halving.__dataclass_fields__
    if unknown := [k for k in raw if k not in fields]:
        raise ValueError(f"unknown key '{unknown[0]}'{suggest(str(unknown[0]), fields)}")
    hints = typing.get_type_hints(Halving)
    return Halving(**{k: coerce_option(fields[k].metadata, hints[k], v) for k, v in raw.items()})


def _find_combination_problems(config: RunConfig, settings: SweepSettings) -> list[str]:
    """Check every point's settings and every method on every backbone; return each problem once."""
    every = settings.sampler == "grid" and settings.space.count_points() <= _MOST_POINTS_CHECKED
    problems: dict[str, None] = {}
    find = functools.cache(lambda name, trust: resolve_backbone(name, trust=trust))
    base = config.to_dict()
    for point in settings.space.list_tried(every=every):
        try:
            resolve_model(build_config(settings_at(base, point)), find)
        except TextuneError as error:
            problems[error.message] = None
    return list(problems)


def write_sweep(folder: Path, config: RunConfig, settings: SweepSettings) -> None:
    """Write sweep.yaml: ordinary and sweep settings, with every decision made."""
    flat = list_stored(config) | {"sweep": settings.to_plain()}
    write_text_atomically(folder / SWEEP, yaml.safe_dump(flat, sort_keys=False, allow_unicode=True))


def read_sweep(folder: Path, changes: Mapping[str, Any] | None = None) -> tuple[RunConfig, SweepSettings]:
    """Read what `write_sweep` wrote. changes: settings that take their place: where files are now, and trust."""
    return build_sweep(load_settings(folder / SWEEP) | dict(changes or {}))


def read_base(folder: Path, changes: Mapping[str, Any]) -> RunConfig:
    """Return the settings that all trials share, as stored, without a look at what they name. changes: as above."""
    return build_config(split_settings(load_settings(folder / SWEEP) | dict(changes))[0])


def read_started(folder: Path, config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """Return a search's settings with those that are given now as they were when it started."""
    stored = load_settings(folder / SWEEP)
    return config.replace(**{name: stored.get(name) for name in changes})


def fix_backbones(settings: SweepSettings) -> SweepSettings:
    """Return the settings with every backbone that is a folder named by its absolute path."""
    fixed = []
    for dimension in settings.space.dimensions:
        values = dimension.values
        if dimension.name == "backbone":
            values = tuple(fix_places(RunConfig().replace(backbone=name)).model.backbone for name in values)
        fixed.append(replace(dimension, values=values))
    return replace(settings, space=replace(settings.space, dimensions=tuple(fixed)))
