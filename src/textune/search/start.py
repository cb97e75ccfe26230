"""What a search began with: on other settings or other rows its later trials could not be held against the first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from textune.config import RunConfig
from textune.run.start import refuse_changes
from textune.run.tables import PreparedData
from textune.search.settings import SweepSettings

_MAY_CHANGE = ("threads", "sweep.workers", "sweep.executor")
"""Where trials are trained, and by how many at once."""


def describe_beginning(config: RunConfig, search: SweepSettings, data: PreparedData) -> dict[str, Any]:
    """Return settings, space, rows and labels as plain data."""
    settings = config.identity() | {f"sweep.{k}": v for k, v in search.to_plain().items()}
    if search.halving:
        settings["sweep.bracket"] = search.bracket  # where rungs are depends on it, and it on many workers
    splits = {"training": data.train, "validation": data.validation}
    described = {
        "settings": {k: v for k, v in settings.items() if k not in _MAY_CHANGE},
        "data": {k: {"rows": len(e), "sha256": e.fingerprint} for k, e in splits.items() if e is not None},
        "labels": dict(enumerate(data.labels.values)),
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def refuse_another_beginning(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise BundleError that shows every difference."""
    for what in ("settings", "data", "labels"):
        refuse_changes(f"the {what}", then[what], now[what], whose="the search")
