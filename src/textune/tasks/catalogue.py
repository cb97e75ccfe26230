"""The tasks by name: registered here, and found for settings, manifests and stored figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from textune.bundle import Manifest
from textune.config.schema import TASKS
from textune.errors import BundleError
from textune.evaluation.decisions import Decisions
from textune.registry import Registry
from textune.tasks.base import Task
from textune.tasks.shown import AnyEvaluation

tasks: Registry[type[Task]] = Registry("task")
T = TypeVar("T", bound=type[Task])


def register(name: str) -> Callable[[T], T]:
    """Register a task class under its name, which `task=` then takes."""

    def store(cls: T) -> T:
        cls.name = name
        tasks.register(name)(cls)
        if name not in TASKS:
            TASKS.append(name)
        return cls

    return store


def find_task(name: object) -> type[Task]:
    """Return the task class of a name; raise BundleError for one that is not known."""
    if name not in tasks.names():
        raise BundleError(f"the task '{name}' is not known to this version", hint="install a newer textune")
    return tasks.get(str(name))


def build_task(name: str, thresholds: tuple[float, ...] | None = None, fixed: float | None = None) -> Task:
    """Return the task of a manifest or of prepared data; raise BundleError for a name that is not known.

    fixed: one threshold for all labels, so that none is tuned.
    """
    return find_task(name).open(thresholds, fixed)


def task_of(manifest: Manifest) -> Task:
    """Return the task of a finished run; raise BundleError where it is not known or the labels do not suffice."""
    task = build_task(manifest.task, manifest.thresholds).with_temperature(manifest.temperature)
    task = task.with_decisions(Decisions.from_dict(manifest.decisions))
    if len(manifest.labels) < task.fewest_labels:
        raise BundleError(f"the manifest is damaged: {manifest.task} needs {task.fewest_labels} labels")
    return task


def find_by_problem_type(problem_type: object) -> type[Task] | None:
    """Return the task that transformers calls by this name, or None."""
    return next((cls for _, cls in tasks if cls.problem_type == problem_type), None)


def default_task(*, reads_sets: bool) -> type[Task]:
    """Return the first task for rows with one label each, or with sets of them."""
    return next(cls for _, cls in tasks if cls.reads_sets == reads_sets)


def read_evaluation(stored: Any) -> AnyEvaluation:
    """Rebuild what `to_dict` of any task's evaluation returned, with or without `seconds`; raise BundleError."""
    figures = {key: value for key, value in stored.items() if key != "seconds"} if isinstance(stored, dict) else stored
    name = figures.get("task") if isinstance(figures, dict) else None
    cls = default_task(reads_sets=False) if name is None else find_task(name)
    return cls.open().read_evaluation(figures)
