"""`textune.compare`: finished runs, or methods that are trained first, side by side."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textune.bundle import SWEEP, expand_home, find_run, holds_run, is_sweep
from textune.compare.comparison import compare_runs
from textune.compare.missing import list_configs, train_missing
from textune.config import build_config
from textune.config.aliases import resolve_aliases
from textune.config.values import coerce_value
from textune.data import choose_task
from textune.errors import ConfigError, in_shell
from textune.files import hold_place
from textune.methods.requested import split_list, take_backbones, take_methods
from textune.progress import Progress, open_progress
from textune.report.comparison import Comparison
from textune.report.comparison_page import check_output, write_comparison
from textune.tasks import find_task
from textune.version import __version__


def compare(
    *what: Any,
    output: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Comparison:
    """Compare finished runs, or train the runs that are missing and compare them.

    what: run folders or runs; or one table, with methods=["lora", "head"], seeds=3, backbones=[...] and any setting of
    `train`. output: a folder for report.html, report.md and compare.json.
    Raises ConfigError if there is nothing to compare; what training raises; BundleError for runs on other rows.
    """
    place = None if output is None else expand_home(output)
    if place is not None:
        check_output(place)
    with contextlib.nullcontext() if place is None else hold_place(place):
        comparison = compare_runs(_find_runs(what, resolve_aliases(settings), progress or open_progress()))
        if place is not None:
            write_comparison(comparison, place, __version__)
    return comparison


def _find_runs(what: Sequence[Any], settings: Mapping[str, Any], progress: Progress) -> list[Path]:
    """Return the folders of finished runs, or train those that settings ask for."""
    named = [getattr(one, "folder", one) for one in what]
    if not all(isinstance(one, str | Path) for one in named):
        raise ConfigError(
            "a comparison needs a table on the disk: its runs are trained in processes of their own",
            hint="save the table, and give its path",
        )
    folders = [find_run(one) for one in named]
    if len(folders) < 2 and not any(is_run(folder) for folder in folders):
        data = {"data": str(named[0])} if named else {}
        return train_runs(data | dict(settings), progress)
    if settings:
        raise ConfigError("finished runs take no settings", hint=f"leave out {', '.join(settings)}")
    return folders


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run, finished or not."""
    return any((folder / name).is_file() for name in ("textune.json", "plan.json"))


def train_runs(settings: Mapping[str, Any], progress: Progress) -> list[Path]:
    """Train the runs that settings ask for and that are not there yet; return their folders.

    Raises ConfigError where they ask for one run only.
    """
    settings = dict(settings)
    _refuse_what_is_no_table(settings.get("data"))
    asked = build_config({k: settings[k] for k in ("task", "prompt", "completion", "messages") if k in settings})
    task = choose_task(asked.data, asked.writing)
    if task is not None and find_task(task).writes:
        raise ConfigError(
            f"compare does not train models of task={task} yet",
            hint="train them one by one: each report compares with the base model",
        )
    methods: list[str | None] = [*take_methods(settings)]
    configured = build_config({k: v for k, v in settings.items() if k in ("method", "backbone")})
    methods = methods or [configured.method.name]
    backbones = take_backbones(settings) or [configured.model.backbone]
    seeds = parse_seeds(settings.pop("seeds", None), settings.get("seed"))
    if len(methods) * len(backbones) * len(seeds) < 2:
        several = "methods=lora,head" if in_shell() else "methods=['lora', 'head']"
        raise ConfigError("only one run: nothing to compare", hint=f"add {several} or seeds=3")
    return train_missing(list_configs(settings, methods, backbones, seeds), progress)


def _refuse_what_is_no_table(data: Any) -> None:
    """Raise ConfigError for a search, a folder of runs, and a path where nothing is: none of them can be trained on."""
    if not data or ":" in str(data):  # an address
        return
    place = expand_home(str(data))
    if not os.path.lexists(place):
        raise ConfigError(
            f"{data}: there is neither a run nor a table, so there is nothing to compare",
            hint="name finished runs, or one table with the methods or seeds to train",
        )
    if is_sweep(place / SWEEP):
        hint = f"compare its winner with other runs: {place / 'winner'}"
        raise ConfigError(f"{data}: a search, not a run", hint=hint)
    held = sorted(str(one) for one in place.iterdir() if one.is_dir() and holds_run(one)) if place.is_dir() else []
    if held:
        raise ConfigError(
            f"{data}: a folder of runs, not a run", hint=f"name two of them or more: {' '.join(held[:3])}"
        )


def parse_seeds(value: Any, first: Any) -> list[int]:
    """Return the seeds: `3` means three, starting at `first`; `1,2,3` lists them. Raise ConfigError."""
    try:
        start = coerce_value(int, 42 if first is None else first)
    except ValueError as error:
        raise ConfigError(f"seed={first}: {error}") from None
    try:
        if value is None:
            return [start]
        words = split_list(value)
        if len(words) == 1 and not isinstance(value, list) and "," not in str(value):
            if int(words[0]) < 1:
                raise ValueError
            return list(range(start, start + int(words[0])))
        return [int(word) for word in words]
    except (ValueError, TypeError):
        raise ConfigError(f"seeds={value}: must be a number of seeds (3) or a list of seeds (1,2,3)") from None
