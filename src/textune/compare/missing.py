"""Training of the runs that a comparison still needs, each in a separate process and folder."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from textune.bundle import has_begun, is_measured, name_run, read_manifest, run_path
from textune.config import RunConfig, build_config, list_call_words, write_settings
from textune.config.defaults import choose_backbone, choose_method, fill_in_model
from textune.errors import BundleError, ConfigError
from textune.process.child import explain_failure, run_child
from textune.progress import Progress
from textune.run.start import adopt_init, resolve_model, stem_of
from textune.run.tables import decides_on_rows, prepare_data

Launch = Callable[[RunConfig, Path | None], None]
"""Trains one run from its settings, or resumes the interrupted run in a folder."""


_LATER = ("random_weights", "fixes")
"""Settings that are newer than the names of runs: left out while unset, so that names stay as they were."""


def list_configs(
    settings: Mapping[str, Any],
    methods: Sequence[str | None],
    backbones: Sequence[str | None],
    seeds: Sequence[int],
) -> list[RunConfig]:
    """Return the settings of every requested run: each method on each backbone with each seed, on the same rows.

    All runs are split with the first seed. A run's name contains a hash of its settings, so that only the same command
    finds it again. A method or backbone of None is open: that of the run of init=, or the default. Raises ConfigError
    or ModelError for unsupported combinations.
    """
    if settings.get("name") is not None:
        raise ConfigError("name=: the runs of a comparison are named automatically", hint="set runs_dir= instead")
    for what, values in (("methods", methods), ("backbones", backbones), ("seeds", seeds)):
        if len(set(values)) < len(values) or not values:
            raise ConfigError(f"{what}={','.join(map(str, values))}: each must be named once")
    raw_method = settings.get("method")
    options = {k: v for k, v in raw_method.items() if k != "name"} if isinstance(raw_method, Mapping) else {}
    configs = []
    for backbone in backbones:
        for name in methods:
            shared = {"split_seed": seeds[0]} | dict(settings)
            shared |= {"method": {"name": name, **options}, "backbone": backbone}
            by_seed = [build_config(shared | {"seed": seed}) for seed in seeds]
            resolve_model(adopt_init(by_seed[0]))
            configs += [config.replace(name=_build_name(config)) for config in by_seed]
    return configs


def _build_name(config: RunConfig) -> str:
    settings = fill_in_model(config).identity() | {"trust": None}  # trust is no part of a name
    settings = {name: value for name, value in settings.items() if name not in _LATER or value is not None}
    identity = json.dumps(settings, sort_keys=True)
    data, backbone = (name_run(stem_of(source)) for source in (config.data.data, choose_backbone(config)))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return "-".join([data[:40], backbone[:30], choose_method(config), str(config.training.seed), digest])


def train_missing(configs: Sequence[RunConfig], progress: Progress, launch: Launch | None = None) -> list[Path]:
    """Train missing runs, resume interrupted ones, and return all folders.

    launch: default: `train_in_child`. Raises DataError before any training if the data cannot be used, and BundleError
    if the data have changed since a run was trained.
    """
    launch = launch or train_in_child
    fingerprints = _compute_fingerprints(configs)
    folders = [run_path(config.runs_dir, config.name or "") for config in configs]
    finished = [is_measured(folder) for folder in folders]
    for folder, fingerprint, trained in zip(folders, fingerprints, finished, strict=True):
        if trained and read_manifest(folder, verify=False).data_fingerprint != fingerprint:
            raise BundleError(
                f"{folder}: the data have changed since this run was trained",
                hint="remove that folder, or set another runs_dir=",
            )
    if done := sum(finished):
        progress.say(f"{done} of {len(configs)} runs are already finished")
    for number, (config, folder) in enumerate(zip(configs, folders, strict=True), 1):
        if finished[number - 1] or is_measured(folder):  # perhaps another process has trained it by now
            continue
        resumes = has_begun(folder)
        adopted = adopt_init(config)
        progress.say(
            f"run {number} of {len(configs)}: {choose_method(adopted)} on {stem_of(choose_backbone(adopted))}, "
            f"seed {config.training.seed}" + (", resuming" if resumes else "")
        )
        launch(config, folder if resumes else None)
    return folders


def _compute_fingerprints(configs: Sequence[RunConfig]) -> list[str]:
    """Return the fingerprint of each run's rows; the table is read once for all runs that split it alike."""
    by_kind: dict[tuple[bool, bool], str] = {}
    fingerprints = []
    for config in configs:
        # The runs differ in method, backbone and seed. Only the method can change the split: some hold out more rows.
        kind = (decides_on_rows(config, sets=False), decides_on_rows(config, sets=True))
        if kind not in by_kind:
            by_kind[kind] = prepare_data(adopt_init(config)).fingerprint
        fingerprints.append(by_kind[kind])
    return fingerprints


def train_in_child(config: RunConfig, interrupted: Path | None) -> None:
    """Run `textune train` or `textune resume` in a separate process, so that its peak memory can be measured.

    On Ctrl-C or SIGTERM the run saves a checkpoint and RunInterrupted is raised. A failed run raises TextuneError with
    its exit code.
    """
    with tempfile.TemporaryDirectory(prefix="textune-") as temporary:
        words = ["resume", str(interrupted), *list_call_words(config)]
        if interrupted is None:
            path = Path(temporary) / "settings.yaml"
            write_settings(config, path)
            words = ["train", str(path), *list_call_words(config)]
        finished = run_child(words)
    if finished.code:
        raise explain_failure(f"{choose_method(config)}, seed {config.training.seed}", finished)
