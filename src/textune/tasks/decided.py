"""Decisions beyond the most probable label: asked for by settings, found on validation rows, measured on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from textune.config import TrainingConfig
from textune.config.rules import split_rule
from textune.errors import ConfigError, suggest
from textune.evaluation.abstention import FEWEST_ROWS, find_confidence, measure_risk_coverage
from textune.evaluation.conformal import (
    COVERAGES,
    count_needed_rows,
    find_label_quantiles,
    find_quantile,
    name_coverage,
)
from textune.evaluation.decisions import (
    DEFAULT_COVERAGE,
    AbstainFigures,
    CostFigures,
    DecisionFigures,
    Decisions,
    RuleFigures,
    SetFigures,
    find_dearest,
    list_costs,
    measure_costs,
    measure_ratio,
    measure_rule,
    measure_share,
)
from textune.evaluation.text import percent, quote_names

if TYPE_CHECKING:
    from textune.data import Labels

Array = NDArray[Any]
COSTS = "costs"
MISSED, WRONG = "missed", "wrong"
_FEWEST_POSITIVE = 10
_SETTINGS = ("threshold_for", "threshold_label", "costs", "abstain_for", "set_coverage")
_CELLS_AT_ONCE = 4_000_000


class Decider(Protocol):
    """What is needed of a task here."""

    name: ClassVar[str]
    reads_sets: ClassVar[bool]

    @property
    def gives_labels(self) -> bool:
        """Whether answers are labels."""

    @property
    def decisions(self) -> Decisions:
        """How probabilities become answers."""

    def decide(self, probabilities: Array) -> NDArray[np.bool_]:
        """Return which labels each row is given: bool [rows, labels]."""

    def confidence(self, probabilities: Array) -> NDArray[np.float64]:
        """Return the probability that a row's least certain decision is right."""

    def find_sets(self, probabilities: Array, coverage: str) -> NDArray[np.bool_]:
        """Return which labels are in each row's prediction set."""


def request_decisions(task: Decider, training: TrainingConfig, labels: Labels) -> Decisions:
    """Return what the settings ask for, with nothing found yet; raise ConfigError for what makes no sense."""
    named = [name for name in _SETTINGS if getattr(training, name) is not None]
    if named and not task.gives_labels:
        raise ConfigError(
            f"{named[0]}=: the task {task.name} gives no probabilities of labels", hint=f"leave {named[0]}= out"
        )
    deciding = [name for name in ("threshold", "threshold_for", "costs") if getattr(training, name) is not None]
    if len(deciding) > 1:
        raise ConfigError(
            f"{deciding[0]}= and {deciding[1]}=: both decide which label is given", hint="keep one of them"
        )
    if training.threshold_label is not None and training.threshold_for is None:
        raise ConfigError(
            "threshold_label= only applies with threshold_for=", hint="add threshold_for=f1, or leave it out"
        )
    label = None if training.threshold_for is None else _find_threshold_label(task, training, labels)
    return Decisions(
        rule=COSTS if training.costs is not None else training.threshold_for,
        label=label,
        costs=None if training.costs is None else _build_costs(task, training, labels),
        abstain_rule=training.abstain_for,
        coverage=DEFAULT_COVERAGE if training.set_coverage is None else training.set_coverage,
    )


def _find_threshold_label(task: Decider, training: TrainingConfig, labels: Labels) -> int | None:
    """Return the label that a threshold is for; None with several labels per text, which each have their own."""
    name = training.threshold_label
    if task.reads_sets:
        if name is not None:
            raise ConfigError(
                "threshold_label=: with several labels per text every label has its threshold", hint="leave it out"
            )
        return None
    if name is None:
        if len(labels) == 2:
            return 1
        raise ConfigError(
            f"threshold_for={training.threshold_for}: with {len(labels)} labels, say which one it is for",
            hint=f"add threshold_label=, such as threshold_label={labels.names[0]}",
        )
    return _find_label(name, labels, "threshold_label")


def _find_label(name: str, labels: Labels, setting: str) -> int:
    known = {value: i for i, value in enumerate(labels.values)} | {each: i for i, each in enumerate(labels.names)}
    if name not in known:
        raise ConfigError(f"{setting}: unknown label '{name}'{suggest(name, known)}", hint=_list(labels))
    return known[name]


def _list(labels: Labels) -> str:
    return f"labels: {', '.join(labels.names[:20])}{', ...' if len(labels) > 20 else ''}"


def _build_costs(task: Decider, training: TrainingConfig, labels: Labels) -> tuple[tuple[float, ...], ...]:
    """Return the table of costs: 1 for an error without one, and 0 for a right answer."""
    kinds = {MISSED: 0, WRONG: 1}
    table = np.ones((len(labels), 2)) if task.reads_sets else 1 - np.eye(len(labels))
    for true, predicted, cost in training.costs or ():
        row = _find_label(true, labels, "costs")
        if not task.reads_sets:
            table[row, _find_label(predicted, labels, "costs")] = cost
        elif predicted in kinds:
            table[row, kinds[predicted]] = cost
        else:
            raise ConfigError(
                f"costs: '{true}:{predicted}': with several labels per text an error is {MISSED} or {WRONG}",
                hint=f"write {true}:{MISSED}=5,{true}:{WRONG}=1",
            )
    if not task.reads_sets and (best := [i for i in range(len(table)) if table[i, i] > table[i].min()]):
        name = labels.names[best[0]]
        raise ConfigError(f"costs: the right answer '{name}' costs more than an error", hint=f"set {name}:{name}=0")
    return tuple(tuple(row) for row in table.tolist())


def refuse_few_rows(
    task: Decider, training: TrainingConfig, list_targets: Callable[[], Array], names: Sequence[str]
) -> None:
    """Raise ConfigError where rows that training does not see are too few for what the settings ask.

    list_targets: gives the targets of those rows, as the task encodes them; asked only where a setting needs them.
    """
    hint = "give a validation table, or hold out more rows with validation_fraction="
    decisions = task.decisions
    tuned = [name for name in ("threshold_for", "abstain_for") if getattr(training, name) is not None]
    if decisions.rule == COSTS and task.reads_sets:
        tuned.append("costs")
    if not tuned and decisions.label is None and training.set_coverage is None:
        return
    targets = list_targets()
    rows = len(targets)
    if tuned and rows < FEWEST_ROWS:
        raise ConfigError(
            f"{tuned[0]}=: is tuned on rows held out of training and needs at least {FEWEST_ROWS}; there are {rows:,}",
            hint=hint,
        )
    if decisions.label is not None and (count := int((targets == decisions.label).sum())) < _FEWEST_POSITIVE:
        raise ConfigError(
            f"threshold_for={decisions.rule}: needs at least {_FEWEST_POSITIVE} held-out rows of "
            f"'{names[decisions.label]}'; there are {count}",
            hint=hint,
        )
    if training.set_coverage is None:
        return
    needed, available = count_needed_rows(training.set_coverage), _count_true(task, targets)
    if available < needed:
        of = "labels of held-out rows" if task.reads_sets else "held-out rows"
        raise ConfigError(
            f"set_coverage={training.set_coverage:g}: needs at least {needed:,} {of}; there are {available:,}",
            hint=f"{hint}; or a lower coverage",
        )


def _count_true(task: Decider, targets: Array) -> int:
    return int((targets > 0).sum() if task.reads_sets else (targets >= 0).sum())


@dataclass(frozen=True)
class Found:
    """Decisions with everything found. notes: what is worth saying; warnings: what was not reached."""

    decisions: Decisions
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def find_decisions(task: Decider, probabilities: Array, targets: Array, unknown: Array | None = None) -> Found:
    """Return a tuned task's decisions with the confidence to abstain below, and the quantiles of sets.

    probabilities, targets: of held-out rows, of which there may be none. unknown: how many labels of each row the model
    does not know; answers to rows with any are wrong.
    """
    decisions, notes, warnings = task.decisions, list[str](), list[str]()
    if decisions.abstain_rule is not None and len(targets):
        floor = split_rule(decisions.abstain_rule)[1] or 0.0
        confidence, right = task.confidence(probabilities), _find_right(task, probabilities, targets)
        right = right if unknown is None else right & (unknown == 0)
        below = find_confidence(confidence, right, floor)
        decisions = replace(decisions, abstain_below=below)
        if below is None:
            warnings.append(f"abstain_for={decisions.abstain_rule}: no confidence reaches it on held-out rows")
        else:
            kept = float((confidence >= below).mean())
            notes.append(f"abstain below a confidence of {percent(below)}: {percent(kept)} of held-out rows answered")
    quantiles = {}
    for coverage in sorted({*COVERAGES, decisions.coverage}):
        if found := _find_quantiles(task, probabilities, targets, coverage):
            quantiles[name_coverage(coverage)] = found
    return Found(replace(decisions, quantiles=quantiles, set_rows=len(targets)), tuple(notes), tuple(warnings))


def _find_quantiles(task: Decider, probabilities: Array, targets: Array, coverage: float) -> tuple[float, ...]:
    if not len(targets) or not np.isfinite(probabilities).all():
        return ()
    if task.reads_sets:
        return find_label_quantiles(probabilities, targets > 0, coverage)
    known = np.flatnonzero(targets >= 0)
    if len(known) < count_needed_rows(coverage):
        return ()
    return (find_quantile(1 - np.asarray(probabilities, np.float64)[known, targets[known]], coverage),)


def describe_rare(rule: str, names: Sequence[str]) -> str:
    """Return the warning for labels with too few rows for a separate threshold that miss the floor."""
    return (
        f"threshold_for={rule}: too few held-out rows of {quote_names(names)} for a separate threshold; "
        "with the common threshold the floor is missed"
    )


def describe_missed(rule: str, names: Sequence[str]) -> str:
    """Return the warning for labels whose floor no threshold reaches."""
    figure = rule.partition(">=")[0]
    return (
        f"threshold_for={rule}: no threshold reaches it on held-out rows for {quote_names(names)}; "
        f"the threshold of the highest {figure} is used"
    )


def _find_right(task: Decider, probabilities: Array, targets: Array) -> NDArray[np.bool_]:
    """Return which rows' answers are right in all their labels."""
    predicted = task.decide(probabilities)
    if task.reads_sets:
        return np.asarray((predicted == (targets > 0)).all(axis=1))
    return np.asarray(predicted[np.arange(len(predicted)), np.maximum(targets, 0)] & (targets >= 0))


def measure_decisions(
    task: Decider, probabilities: Array, targets: Array, labels: Sequence[str], unknown: Array, seed: int
) -> DecisionFigures | None:
    """Return how a run's decisions do on labelled rows; None without rows or with probabilities that are not finite.

    unknown: [rows], how many labels of each row the model does not know: answers to rows with any are wrong.
    """
    if not len(targets) or not np.isfinite(probabilities).all():
        return None
    decisions = task.decisions
    confidence = task.confidence(probabilities)
    right = _find_right(task, probabilities, targets) & ~np.asarray(unknown, bool)
    abstain = None
    if decisions.abstain_below is not None and decisions.abstain_rule is not None:
        kept = confidence >= decisions.abstain_below
        abstain = AbstainFigures(
            decisions.abstain_rule, decisions.abstain_below, measure_share(kept), measure_share(right[kept])
        )
    return DecisionFigures(
        measure_risk_coverage(confidence, right),
        tuple(_measure_sets(task, probabilities, targets, name, unknown, seed) for name in decisions.quantiles),
        abstain,
        _measure_rule(task, probabilities, targets, labels, unknown, seed),
        _measure_cost(task, probabilities, targets, unknown, seed),
    )


def _measure_sets(
    task: Decider, probabilities: Array, targets: Array, coverage: str, unknown: Array, seed: int
) -> SetFigures:
    rows = len(targets)
    hits, wholes, sizes = (np.zeros(rows, np.int64) for _ in range(3))
    step = max(1, _CELLS_AT_ONCE // probabilities.shape[1])
    for part in (slice(start, start + step) for start in range(0, rows, step)):
        inside, true = task.find_sets(probabilities[part], coverage), targets[part]
        sizes[part] = inside.sum(axis=1)
        if task.reads_sets:
            hits[part], wholes[part] = (inside & (true > 0)).sum(axis=1), (true > 0).sum(axis=1) + unknown[part]
        else:
            hits[part] = inside[np.arange(len(true)), np.maximum(true, 0)] & (true >= 0)
    covered = measure_ratio(hits, wholes, seed) if task.reads_sets else measure_share(hits > 0)
    return SetFigures(float(coverage), covered, float(sizes.mean()), float((sizes == 1).mean()))


def _measure_rule(
    task: Decider, probabilities: Array, targets: Array, labels: Sequence[str], unknown: Array, seed: int
) -> RuleFigures | None:
    decisions = task.decisions
    if decisions.rule is None or decisions.rule == COSTS:
        return None
    predicted = task.decide(probabilities)
    if decisions.label is None:
        return measure_rule(decisions.rule, None, targets > 0, predicted, seed, unknown)
    true = (targets == decisions.label)[:, None]
    return measure_rule(decisions.rule, labels[decisions.label], true, predicted[:, [decisions.label]], seed)


def _measure_cost(task: Decider, probabilities: Array, targets: Array, unknown: Array, seed: int) -> CostFigures | None:
    costs = task.decisions.costs
    if costs is None:
        return None
    predicted = task.decide(probabilities)
    if task.reads_sets:
        true, plain = targets > 0, np.asarray(probabilities >= 0.5)
    else:
        true, predicted, plain = targets, predicted.argmax(axis=1), probabilities.argmax(axis=1)
    dearest = find_dearest(costs, sets=task.reads_sets)
    each, without = (list_costs(costs, true, given, unknown) for given in (predicted, plain))
    return measure_costs(each, without, seed, dearest=dearest)
