"""The forecasts that are asked for, one rehearsal after the other, each in a process of its own."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from textune import cache
from textune.backbones import resolve_backbone
from textune.bundle import check_writable, read_manifest
from textune.config import RunConfig, build_config, write_settings
from textune.config.defaults import choose_backbone, choose_method
from textune.errors import ConfigError, MissingExtraError, ModelError, TextuneError
from textune.methods import methods
from textune.plan.forecast import Forecast
from textune.process.child import explain_failure, run_child
from textune.progress import Progress
from textune.run.start import adopt_init, resolve_model

_OF_ONE_METHOD = (ConfigError.exit_code, ModelError.exit_code, MissingExtraError.exit_code)
"""How a rehearsal ends where another method may do better: a prompt, say, leaves the text fewer tokens."""


def list_plans(
    settings: Mapping[str, Any], chosen: Sequence[str], backbones: Sequence[str | None], progress: Progress
) -> list[RunConfig]:
    """Return the settings of every run to forecast: each method on each backbone.

    chosen: the methods; none: all that a family supports, and the others are reported with the reason. A backbone of
    None is open: it is that of the run of init=, or the default. Raises ConfigError or ModelError for a method that was
    named and is not supported.
    """
    given = settings.get("method")
    options = {k: v for k, v in given.items() if k != "name"} if isinstance(given, Mapping) else {}
    if options and not chosen:
        raise ConfigError("method.*: belongs to one method", hint="name it: methods=lora")
    if settings.get("init") and not chosen:
        chosen = [read_manifest(str(settings["init"]), verify=False).method]
    find = functools.cache(lambda name, trust: resolve_backbone(name, trust=trust))
    configs: list[RunConfig] = []
    refused: list[TextuneError] = []
    for backbone in backbones:
        trust = settings.get("trust")
        if not settings.get("init"):
            find(choose_backbone(build_config({"backbone": backbone})), trust)  # raises, whatever the method
        for name in chosen or methods.names():
            config = build_config(dict(settings) | {"method": {"name": name, **options}, "backbone": backbone})
            try:
                adopted = adopt_init(config)
                resolve_model(adopted, find)
            except (ConfigError, ModelError, MissingExtraError) as error:
                if chosen:
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
    """Rehearse each run and return its forecast; nothing of it stays on the disk.

    seconds: that one rehearsal may take beyond what starting, loading and saving take. Raises TextuneError where a
    run could not begin, with its own message; skip_failing: where a method cannot do with the model, the settings or
    what is installed, it is told and left out.
    """
    forecasts: list[Forecast] = []
    failed: list[TextuneError] = []
    with ExitStack() as stack:
        cached = _copy_cache(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="textune-plan-"))))
        task = stack.enter_context(progress.task("rehearsing", len(configs)))
        prepared: dict[str, float] = {}
        for config in configs:
            # on the disk of the runs: how fast a checkpoint is written depends on it
            runs = Path(config.runs_dir).absolute()
            check_writable(runs, "runs_dir=")
            parent = next(path for path in (runs, *runs.parents) if path.is_dir())
            try:
                with tempfile.TemporaryDirectory(prefix=".textune-plan-", dir=parent) as place:
                    forecast = _rehearse_apart(config, Path(place), seconds, cached)
            except TextuneError as error:
                if not skip_failing or error.exit_code not in _OF_ONE_METHOD:
                    raise
                progress.warn(error.message)
                failed.append(error)
                continue
            # only the first run tokenises: the others found its tokens, and a run by itself would not
            slowest = max(prepared.get(choose_backbone(config), 0.0), forecast.seconds["prepare"])
            prepared[choose_backbone(config)] = slowest
            forecasts.append(replace(forecast, seconds={**forecast.seconds, "prepare": slowest}))
            task.advance(1, f"{forecast.method} on {forecast.backbone}")
    if not forecasts:
        raise failed[0]
    return forecasts


def _rehearse_apart(config: RunConfig, place: Path, seconds: float, cached: Path) -> Forecast:
    settings, folder = place / "settings.yaml", place / "run"
    write_settings(config, settings)
    folder.mkdir()
    told = {"--seconds": seconds, "--rehearse": folder, "--launched": time.time()}
    words = [str(word) for pair in told.items() for word in pair]
    finished = run_child(["plan", str(settings), *words], quiet=True, environment={"TEXTUNE_CACHE": str(cached)})
    if finished.code:
        raise explain_failure(f"{choose_method(config)} on {choose_backbone(config)}", finished)
    return Forecast.from_dict(json.loads(finished.output.strip().splitlines()[-1]))


def _copy_cache(place: Path) -> Path:
    """Make a cache that knows what the person's own knows, and that takes what is new without a trace.

    What is there already, tokens and what frozen layers gave, is linked, so that a rehearsal finds it as the run will.
    """
    own = cache.cache_dir()
    for path in own.glob("*.json") if own.is_dir() else ():
        shutil.copyfile(path, place / path.name)
    for entry in cache.list_entries():
        linked = place / entry.path.relative_to(own)
        linked.parent.mkdir(exist_ok=True)
        linked.symlink_to(entry.path.resolve(), target_is_directory=True)
    return place
