"""The runs that a comparison still lacks: each an ordinary run in a process and a folder of its own."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from textune.bundle import MANIFEST, has_begun, name_run, read_manifest, run_path
from textune.config import RunConfig, build_config, write_settings
from textune.config.defaults import choose_backbone, choose_method, fill_in_model
from textune.errors import BundleError, ConfigError
from textune.process.child import explain_failure, run_child
from textune.progress import Progress
from textune.run.start import adopt_init, resolve_model, stem_of
from textune.run.tables import prepare_data

Launch = Callable[[RunConfig, Path | None], None]
"""Trains one run from its settings; or, where a folder is given, goes on with the interrupted one there."""


def list_configs(
    settings: Mapping[str, Any],
    methods: Sequence[str | None],
    backbones: Sequence[str | None],
    seeds: Sequence[int],
) -> list[RunConfig]:
    """Return the settings of every run asked for: each method on each backbone with each seed, on the same rows.

    The split is made with the first seed for all of them. The name of a run holds a hash of its settings, so that the
    same command finds it again, and another one does not. A method or backbone of None is open: it is that of the run
    of init=, or the default. Raises ConfigError or ModelError for what is not supported.
    """
    if settings.get("name") is not None:
        raise ConfigError("name=: every run of a comparison gets a name of its own", hint="runs_dir= says where")
    for what, values in (("methods", methods), ("backbones", backbones), ("seeds", seeds)):
        if len(set(values)) < len(values) or not values:
            raise ConfigError(f"{what}={','.join(map(str, values))}: each must be named once")
    given = settings.get("method")
    options = {k: v for k, v in given.items() if k != "name"} if isinstance(given, Mapping) else {}
    configs = []
    for backbone in backbones:
        for name in methods:
            own = {"method": {"name": name, **options}, "backbone": backbone}
            each = [build_config({"split_seed": seeds[0]} | dict(settings) | own | {"seed": seed}) for seed in seeds]
            resolve_model(adopt_init(each[0]))
            configs += [config.replace(name=_name(config)) for config in each]
    return configs


def _name(config: RunConfig) -> str:
    identity = json.dumps(fill_in_model(config).identity(), sort_keys=True)
    data, backbone = (name_run(stem_of(source)) for source in (config.data.data, choose_backbone(config)))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return "-".join([data[:40], backbone[:30], choose_method(config), str(config.training.seed), digest])


def train_missing(configs: Sequence[RunConfig], progress: Progress, launch: Launch | None = None) -> list[Path]:
    """Train every run that is not there yet, goes on with interrupted ones, and return all folders.

    launch: default: `train_apart`. Raises DataError before anything is trained where the data cannot be used, and
    BundleError where a finished run was trained on other data than is there now.
    """
    launch = launch or train_apart
    fingerprint = prepare_data(adopt_init(configs[0])).fingerprint
    folders = [run_path(config.runs_dir, config.name or "") for config in configs]
    finished = [_is_finished(folder) for folder in folders]
    for folder in (f for f, done in zip(folders, finished, strict=True) if done):
        if read_manifest(folder, verify=False).data_fingerprint != fingerprint:
            raise BundleError(
                f"{folder}: was trained on other rows than the data has now",
                hint="remove that folder, or give runs_dir= another one",
            )
    if done := sum(finished):
        progress.say(f"{done} of {len(configs)} runs are there already")
    for number, (config, folder) in enumerate(zip(configs, folders, strict=True), 1):
        if finished[number - 1]:
            continue
        begun = has_begun(folder)
        adopted = adopt_init(config)
        progress.say(
            f"run {number} of {len(configs)}: {choose_method(adopted)} on {stem_of(choose_backbone(adopted))}, "
            f"seed {config.training.seed}" + (", going on" if begun else "")
        )
        launch(config, folder if begun else None)
    return folders


def _is_finished(folder: Path) -> bool:
    """Return whether a run is whole: its figures enter the manifest last."""
    return (folder / MANIFEST).is_file() and bool(read_manifest(folder, verify=False).metrics)


def train_apart(config: RunConfig, interrupted: Path | None) -> None:
    """Run `textune train` or `textune resume` in a process of its own, so that its peak memory is its own.

    Ctrl-C and SIGTERM reach the run, which writes a checkpoint; raises RunInterrupted then, and TextuneError where
    the run failed, with its exit code.
    """
    with tempfile.TemporaryDirectory(prefix="textune-") as place:
        words = ["resume", str(interrupted)]
        if interrupted is None:
            path = Path(place) / "settings.yaml"
            write_settings(config, path)
            words = ["train", str(path)]
        finished = run_child(words)
    if finished.code:
        raise explain_failure(f"{choose_method(config)}, seed {config.training.seed}", finished)
