"""What a folder of runs holds: finished and interrupted runs, sweeps and comparisons, newest first."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from textune.bundle import MANIFEST, PLAN, SETTINGS, SWEEP, expand_home, is_busy, read_manifest
from textune.config import load_settings
from textune.errors import DataError, TextuneError, show_command
from textune.tasks import task_of

_SWEEP_RESULT, _COMPARISON = "sweep.json", "compare.json"


@dataclass(frozen=True)
class Entry:
    """A run, sweep or comparison. figure: the name of its score, in 0..1. created: UTC. state: empty if finished."""

    name: str
    folder: str
    kind: str
    method: str = ""
    backbone: str = ""
    data: str = ""
    figure: str = ""
    score: float | None = None
    rows: int | None = None
    created: str = ""
    state: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def list_runs(folder: str | Path) -> list[Entry]:
    """Return what lies directly in a folder, newest first; raise DataError if there is no such folder."""
    folder = expand_home(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", hint="runs go to runs/ unless runs_dir= says otherwise")
    entries = [entry for path in folder.iterdir() if path.is_dir() and (entry := read_entry(path)) is not None]
    return sorted(entries, key=lambda entry: (entry.created, entry.name), reverse=True)


def read_entry(path: Path) -> Entry | None:
    """Return what a folder is, or None if it is not textune's."""
    try:
        if (path / MANIFEST).is_file():
            return _read_run(path)
        if (path / SWEEP).is_file():
            return _read_sweep(path)
        if (path / _COMPARISON).is_file():
            return Entry(path.name, str(path), "comparison", created=_changed(path / _COMPARISON))
        if (path / PLAN).is_file() or (path / SETTINGS).is_file():
            state = _describe_unfinished(path)
            return Entry(path.name, str(path), "run", **_read_settings(path), created=_changed(path), state=state)
    except (TextuneError, OSError, KeyError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return Entry(path.name, str(path), "run", created=_changed(path), state=f"unreadable: {reason}")
    return None


def _describe_unfinished(path: Path) -> str:
    """Return whether a run is at work, or how it goes on."""
    return "running: a process works on it" if is_busy(path) else f"interrupted: {show_command('resume', path)}"


def _read_run(path: Path) -> Entry:
    manifest = read_manifest(path, verify=False)
    figure, key = task_of(manifest).figure
    score = manifest.metrics.get(key)
    unmeasured = not manifest.metrics and (path / "checkpoints").is_dir()  # they go when a run has been measured
    return Entry(
        path.name,
        str(path),
        "export" if manifest.exported else "run",
        manifest.method,
        manifest.base_model.id.rpartition("/")[2],
        str(_read_settings(path).get("data", "")),
        figure if score is not None else "",
        score,
        manifest.metrics.get("rows"),
        manifest.created,
        _describe_unfinished(path) if unmeasured else "",
    )


def _read_sweep(path: Path) -> Entry:
    settings: dict[str, Any] = _read_settings(path, SWEEP)
    if not (path / _SWEEP_RESULT).is_file():
        state = _describe_unfinished(path)
        return Entry(path.name, str(path), "sweep", **settings, created=_changed(path), state=state)
    content = json.loads((path / _SWEEP_RESULT).read_text(encoding="utf-8"))
    winner = _read_run(path / str(content["winner"]["run"]))
    return Entry(
        path.name,
        str(path),
        "sweep",
        winner.method,
        winner.backbone,
        settings.get("data", ""),
        winner.figure,
        winner.score,
        winner.rows,
        str(content["created"]),
    )


def _read_settings(path: Path, name: str = SETTINGS) -> dict[str, Any]:
    """Return method, backbone and data as they were set."""
    if not (path / name).is_file():
        return {}
    flat = load_settings(path / name)
    method = flat.get("method")
    named = method.get("name", "") if isinstance(method, Mapping) else method or ""
    return {
        "method": str(named),
        "backbone": str(flat.get("backbone") or "").rpartition("/")[2],
        "data": Path(str(flat.get("data", ""))).name,
    }


def _changed(path: Path) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(path.stat().st_mtime))
