"""Abstaining and prediction sets as a caller asks for them, and one text's answer with both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.errors import ConfigError, flag
from textune.evaluation.conformal import count_needed_rows, name_coverage
from textune.tasks import AnyPrediction, Task

ABSTAINED = "(abstained)"
"""Shown instead of the label of a row that the model abstains from."""


@dataclass(frozen=True)
class Choices:
    """What is asked for beside the labels. abstain: the confidence below which there is none. coverage: of sets."""

    abstain: float | None = None
    coverage: str | None = None


@dataclass(frozen=True)
class Decided:
    """One text's prediction. abstained: None where abstaining was not asked for. label_set: None where no set was."""

    prediction: AnyPrediction
    abstained: bool | None = None
    label_set: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: the label, or the labels, of an abstained row are null."""
        content = dict(vars(self.prediction))
        if self.abstained:
            content |= {name: None for name in ("label", "labels") if name in content}
        if self.abstained is not None:
            content["abstained"] = self.abstained
        return content if self.label_set is None else content | {"set": list(self.label_set)}


def read_choices(
    task: Task, abstain: float | str | bool | None = None, sets: float | str | bool | None = None
) -> Choices:
    """Return what is asked for. True: the run's own value. Raises ConfigError where the run has none."""
    abstain, sets = (bool(value) if isinstance(value, np.bool_) else value for value in (abstain, sets))
    asked = [name for name, value in (("abstain", abstain), ("sets", sets)) if value is not None and value is not False]
    if asked and not task.gives_labels:
        raise ConfigError(f"{flag(asked[0], '')}: the task {task.name} gives no probabilities of labels")
    return Choices(_read_abstain(task, abstain), _read_coverage(task, sets))


def _read_abstain(task: Task, value: float | str | bool | None) -> float | None:
    if value is None or value is False:
        return None
    if value is not True:
        return read_share("abstain", value)
    below = task.decisions.abstain_below
    if below is not None:
        return below
    rule = task.decisions.abstain_rule
    why = f"no confidence reached {rule} on held-out rows" if rule else "it was trained without abstain_for="
    if rule and not task.decisions.set_rows:
        why = "no rows were held out to find one on"
    raise ConfigError(
        f"{flag('abstain', '')}: the run has no confidence to abstain below: {why}",
        hint=f"give a probability: {flag('abstain', '0.9')}; or train with abstain_for=accuracy:0.95",
    )


def _read_coverage(task: Task, value: float | str | bool | None) -> str | None:
    if value is None or value is False:
        return None
    kept = task.decisions.quantiles
    share = task.decisions.coverage if value is True else read_share("sets", value)
    name = name_coverage(share)
    if name in kept:
        return name
    if kept:
        raise ConfigError(
            f"{flag('sets', name)}: the run has no quantile for this coverage; it has {', '.join(kept)}",
            hint=f"use one of these, or train with set_coverage={name}",
        )
    needed = f"{count_needed_rows(share):,}" if share < 1 else "more"
    raise ConfigError(
        f"{flag('sets', '')}: the run has no quantiles: sets of {share:g} coverage need {needed} labelled rows that "
        f"training did not see, and it had {task.decisions.set_rows:,}",
        hint="train with more validation rows: validation= or validation_fraction=",
    )


def read_share(name: str, value: Any) -> float:
    """Return a number between 0 and 1; raise ConfigError for anything else."""
    try:
        if isinstance(value, bool):
            raise TypeError
        share = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{flag(name, str(value))}: must be a number between 0 and 1") from None
    if not 0 <= share <= 1:
        raise ConfigError(f"{flag(name, str(value))}: must be between 0 and 1", hint=f"such as {flag(name, '0.9')}")
    return share


def find_abstained(task: Task, probabilities: NDArray[Any], choices: Choices) -> NDArray[np.bool_] | None:
    """Return which rows are abstained from: bool [rows]; None where that was not asked for."""
    if choices.abstain is None:
        return None
    return np.asarray(task.confidence(probabilities) < choices.abstain)


def list_sets(
    task: Task, probabilities: NDArray[Any], labels: Sequence[str], choices: Choices
) -> list[tuple[str, ...]] | None:
    """Return each row's prediction set, most probable label first; None where none was asked for."""
    if choices.coverage is None:
        return None
    sets = []
    for inside, scores in zip(task.find_sets(probabilities, choices.coverage), probabilities, strict=True):
        chosen = np.flatnonzero(inside)
        sets.append(tuple(labels[i] for i in chosen[np.argsort(-scores[chosen], kind="stable")]))
    return sets


def decide_rows(task: Task, probabilities: NDArray[Any], labels: Sequence[str], choices: Choices) -> list[Decided]:
    """Return each row's prediction with what was asked for."""
    predictions = task.classify(probabilities, labels)
    abstained, sets = find_abstained(task, probabilities, choices), list_sets(task, probabilities, labels, choices)
    return [
        Decided(
            prediction,
            None if abstained is None else bool(abstained[row]),
            None if sets is None else sets[row],
        )
        for row, prediction in enumerate(predictions)
    ]
