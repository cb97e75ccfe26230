"""A finished run's figures as rows for a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textune.run.api import Run, load_run
from textune.tasks import read_evaluation, task_of


def list_results(run: Run) -> list[dict[str, Any]]:
    """Return the tuned model and its baselines: name, figure in 0..1 and its 95% interval."""
    names = task_of(run.manifest).model_names
    rows = []
    for key, model in run.metrics["models"].items():
        headline = read_evaluation(model).headline
        rows.append(
            {
                "model": names.get(key, key),
                "figure": headline.name,
                "value": headline.value,
                "low": headline.interval.low,
                "high": headline.interval.high,
            }
        )
    return rows


def find_verdict(run: Run) -> str:
    """Return what the report says first of a run, or nothing for one of an older version."""
    return " ".join(map(str, run.metrics.get("verdict") or ()))


def open_run(folder: Path) -> Run:
    """Open a finished run without loading its model."""
    return load_run(folder)
