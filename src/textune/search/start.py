"""The settings and rows that a search started with: if they changed, later trials could not be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from textune.config import RunConfig
from textune.run.start import refuse_changes
from textune.run.tables import PreparedData
from textune.search.settings import SweepSettings

_MAY_CHANGE = ("threads", "sweep.workers", "sweep.executor")
"""Where trials train, and how many at once."""


def describe_start(config: RunConfig, search: SweepSettings, data: PreparedData) -> dict[str, Any]:
    """Return settings, space, rows and labels as plain data."""
    settings = config.identity() | {f"sweep.{k}": v for k, v in search.to_plain().items()}
    if search.halving:
        settings["sweep.bracket"] = search.bracket  # the rungs depend on it, and with TPE it depends on the workers
    splits = {"training": data.train, "validation": data.validation}
    described = {
        "settings": {k: v for k, v in settings.items() if k not in _MAY_CHANGE},
        "data": {k: {"rows": len(e), "sha256": e.fingerprint} for k, e in splits.items() if e is not None},
        "labels": dict(enumerate(data.labels.values)),
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def refuse_changed_start(stored: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raise BundleError showing every difference."""
    for what in ("settings", "data", "labels"):
        refuse_changes(f"the {what}", stored[what], current[what], whose="the search")
