"""The settings, rows and models that a search started with: if they changed, later trials could not be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from textune.backbones import Backbone, resolve_backbone
from textune.config import RunConfig
from textune.errors import TextuneError
from textune.run.prepare import Prepared, Shared
from textune.run.start import refuse_changes
from textune.run.tables import PreparedData
from textune.search.settings import SweepSettings

_MAY_CHANGE = ("threads", "sweep.workers", "sweep.executor")
"""Where trials train, and how many at once."""


def describe_start(
    config: RunConfig, search: SweepSettings, data: PreparedData, models: Mapping[str, str]
) -> dict[str, Any]:
    """Return settings, space, rows, labels and models as plain data. models: what `hash_models` returned."""
    settings = config.identity() | {f"sweep.{k}": v for k, v in search.to_plain().items()}
    if search.halving:
        settings["sweep.bracket"] = search.bracket  # the rungs depend on it, and with TPE it depends on the workers
    splits = {"training": data.train, "validation": data.validation}
    described = {
        "settings": {k: v for k, v in settings.items() if k not in _MAY_CHANGE},
        "data": {k: {"rows": len(e), "sha256": e.fingerprint} for k, e in splits.items() if e is not None},
        "labels": dict(enumerate(data.labels.values)),
        "models": dict(models),
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def hash_models(config: RunConfig, search: SweepSettings, first: Prepared, shared: Shared) -> dict[str, str]:
    """Return a hash of every base model of the search, and of the chat template. first: the first trial."""
    trust, found = config.model.trust, dict[str, Backbone]()
    for name in next((d.values for d in search.space.dimensions if d.name == "backbone"), ()):
        with suppress(TextuneError):  # it fails as a trial, too
            found[name] = shared.keep(f"backbone {name} {trust}", partial(resolve_backbone, name, trust=trust))
    found = found or {"backbone": first.backbone}
    hashes = {name: f"{model.sha256} {model.other_files_sha256}" for name, model in found.items()}
    return hashes | ({} if first.dialogues is None else {"chat_template": first.dialogues.template_sha256})


def refuse_changed_start(stored: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raise BundleError showing every difference. Searches of earlier versions have stored no models."""
    for what in ("settings", "data", "labels", "models"):
        refuse_changes(f"the {what}", stored.get(what, current[what]), current[what], whose="the search")
