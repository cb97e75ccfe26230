"""The requested forecasts: one rehearsal after the other, each in a separate process."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from textune import cache
from textune.backbones import resolve_backbone
from textune.bundle import check_writable, expand_home, find_run, read_manifest
from textune.config import RunConfig, build_config, list_call_words, write_settings
from textune.config.aliases import resolve_aliases
from textune.config.defaults import choose_backbone, choose_method
from textune.errors import ConfigError, MissingExtraError, ModelError, TextuneError
from textune.methods import methods
from textune.methods.requested import take_backbones, take_methods
from textune.plan.forecast import Forecast
from textune.process.child import explain_failure, run_child
from textune.progress import Progress, open_progress
from textune.run.start import adopt_init, resolve_model
from textune.run.tables import prepare_data

_OF_ONE_METHOD = (ConfigError.exit_code, ModelError.exit_code, MissingExtraError.exit_code)
"""Exit codes of errors that another method may not have: a prompt, for example, leaves fewer tokens for the text."""
REHEARSAL_SECONDS = 4.5


def plan(
    data: Any = None,
    text: Any = None,
    label: Any = None,
    *,
    seconds: float = REHEARSAL_SECONDS,
    progress: Progress | None = None,
    **settings: Any,
) -> list[Forecast]:
    """Forecast time, memory and disk of runs, by rehearsing each for a few seconds; nothing stays on the disk.

    data, text, label and settings as for `train`, but no data frames. The run that `train` would make is rehearsed, in
    15 to 20 seconds on a few thousand short texts; methods=["lora", "head"], or "all", and backbones=[...] are several
    runs, each of which takes as long again. seconds: per rehearsal, besides starting, loading and saving.
    Raises what `train` would raise before its first step; a bad table is refused before anything is rehearsed.
    """
    progress = progress or open_progress()
    named = {"data": data, "text": text, "label": label}
    settings = resolve_aliases({name: value for name, value in named.items() if value is not None} | settings)
    _refuse_frames({name: settings.get(name) for name in ("data", "test", "validation")})
    if "data" in settings:
        settings["data"] = str(settings["data"])
    every = settings.get("methods") == "all"
    methods = [] if every else take_methods(settings)
    settings.pop("methods", None)
    configured = build_config({k: v for k, v in settings.items() if k in ("method", "backbone")})
    if not methods and not every and (configured.method.name is not None or not settings.get("init")):
        methods = [choose_method(configured)]
    backbones = take_backbones(settings) or [configured.model.backbone]
    configs = list_plans(settings, methods, backbones, progress)
    return plan_runs(configs, seconds, progress, skip_failing=every)


def _refuse_frames(sources: Mapping[str, Any]) -> None:
    """Raise ConfigError for data that only this process has."""
    for name, source in sources.items():
        if source is not None and not isinstance(source, str | Path):
            raise ConfigError(
                f"{name}: a plan needs a table on the disk, since it is rehearsed in another process",
                hint="save it, such as frame.to_csv('data.csv', index=False) or frame.write_csv('data.csv')",
            )


def list_plans(
    settings: Mapping[str, Any], requested: Sequence[str], backbones: Sequence[str | None], progress: Progress
) -> list[RunConfig]:
    """Return the settings of every run to forecast: each method on each backbone.

    requested: the methods; empty: all that the family supports, and the others are reported with the reason. A backbone
    of None is open: that of the run of init=, or the default. Raises ConfigError or ModelError for a requested method
    that is not supported.
    """
    raw_method = settings.get("method")
    options = {k: v for k, v in raw_method.items() if k != "name"} if isinstance(raw_method, Mapping) else {}
    if options and not requested:
        raise ConfigError("method.*: only applies to one method", hint="name it, such as methods=lora")
    if settings.get("init") and not requested:
        requested = [read_manifest(find_run(str(settings["init"])), verify=False).method]
    find = functools.cache(lambda name, trust: resolve_backbone(name, trust=trust))
    configs: list[RunConfig] = []
    refused: list[TextuneError] = []
    for backbone in backbones:
        trust = settings.get("trust")
        if not settings.get("init"):
            find(choose_backbone(build_config({"backbone": backbone})), trust)  # an error here holds for every method
        for name in requested or methods.names():
            config = build_config(dict(settings) | {"method": {"name": name, **options}, "backbone": backbone})
            try:
                adopted = adopt_init(config)
                resolve_model(adopted, find)
            except (ConfigError, ModelError, MissingExtraError) as error:
                if requested:
                    raise
                progress.say(f"{name}: {error.message}" if isinstance(error, ConfigError) else error.message)
                refused.append(error)
                continue
            configs.append(adopted)
    if not configs:
        raise refused[0]
    return configs


def plan_runs(
    configs: Sequence[RunConfig], seconds: float, progress: Progress, *, skip_failing: bool = False
) -> list[Forecast]:
    """Rehearse each run and return its forecast; nothing stays on the disk.

    seconds: the budget of one rehearsal, besides starting, loading and saving. Raises TextuneError with the run's
    message if it could not start. skip_failing: warn about methods that do not work with the model, the settings or
    the installed packages, and skip them.
    """
    forecasts: list[Forecast] = []
    failed: list[TextuneError] = []
    with ExitStack() as stack:
        cache_copy = _copy_cache(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="textune-plan-"))))
        task = stack.enter_context(progress.task("rehearsing", len(configs)))
        preparing: dict[str, float] = {}
        for config in configs:
            # On the disk of the runs, since it determines how fast checkpoints are written.
            runs = expand_home(config.runs_dir).absolute()
            check_writable(runs, "runs_dir=")
            parent = next(path for path in (runs, *runs.parents) if path.is_dir())
            # The first table is read here, too, so that a bad one is refused while the libraries are still loading.
            check = functools.partial(prepare_data, config) if config is configs[0] else None
            with tempfile.TemporaryDirectory(prefix=".textune-plan-", dir=parent) as folder:
                forecast = _rehearse_in_child(config, Path(folder), seconds, cache_copy, check)
            if isinstance(forecast, TextuneError):
                if not skip_failing or forecast.exit_code not in _OF_ONE_METHOD:
                    raise forecast
                progress.warn(forecast.message)
                failed.append(forecast)
                continue
            # Only the first rehearsal tokenizes; the others reuse its tokens, which a single run could not.
            slowest = max(preparing.get(choose_backbone(config), 0.0), forecast.seconds["prepare"])
            preparing[choose_backbone(config)] = slowest
            forecasts.append(replace(forecast, seconds={**forecast.seconds, "prepare": slowest}))
            task.advance(1, f"{forecast.method} on {forecast.backbone}")
    if not forecasts:
        raise failed[0]
    return forecasts


def _rehearse_in_child(
    config: RunConfig, folder: Path, seconds: float, cache_copy: Path, check: Callable[[], object] | None
) -> Forecast | TextuneError:
    """Return the forecast, or the error that the rehearsal ended with. check: may raise while it starts."""
    settings, run_folder = folder / "settings.yaml", folder / "run"
    write_settings(config, settings)
    run_folder.mkdir()
    options = {"--seconds": seconds, "--rehearse": run_folder, "--launched": time.time()}
    words = [str(word) for pair in options.items() for word in pair]
    finished = run_child(
        ["plan", str(settings), *list_call_words(config), *words],
        quiet=True,
        environment={"TEXTUNE_CACHE": str(cache_copy)},
        meanwhile=check,
    )
    if finished.code:
        return explain_failure(f"{choose_method(config)} on {choose_backbone(config)}", finished)
    return Forecast.from_dict(json.loads(finished.output.strip().splitlines()[-1]))


def _copy_cache(target: Path) -> Path:
    """Return a temporary copy of the user's cache, so that a rehearsal finds the same entries but adds none to it.

    Large entries (tokens, states of frozen layers) are linked.
    """
    source = cache.cache_dir()
    for path in source.glob("*.json") if source.is_dir() else ():
        shutil.copyfile(path, target / path.name)
    for entry in cache.list_entries():
        link = target / entry.path.relative_to(source)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(entry.path.resolve(), target_is_directory=True)
    return target
