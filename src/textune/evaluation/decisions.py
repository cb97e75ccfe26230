"""How probabilities become answers, as a bundle keeps it, and how well that did on labelled rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.evaluation.abstention import RiskCoverage
from textune.evaluation.intervals import Interval, percentile_interval, rule_of_three, wilson_interval
from textune.evaluation.text import percent, show_cost, show_name

DEFAULT_COVERAGE = 0.9
_RESAMPLES = 1000


@dataclass(frozen=True)
class Decisions:
    """Rules and numbers beyond the most probable label and thresholds; a manifest keeps them as plain data.

    rule: "f1", "precision>=0.95", "recall>=0.9" or "costs"; None: the task's own rule. label, cutoff: with one label
    per text, the label that is given from this probability on. costs: float [labels, predicted labels]; with several
    labels per text [labels, 2], of a missed and of a wrongly given one. abstain_rule, abstain_below: the floor, and the
    confidence below which it takes abstaining. coverage: of sets without a stated one. quantiles: by coverage, one for
    all labels or one each. set_rows: the rows they were found on.
    """

    rule: str | None = None
    label: int | None = None
    cutoff: float | None = None
    costs: tuple[tuple[float, ...], ...] | None = None
    abstain_rule: str | None = None
    abstain_below: float | None = None
    coverage: float = DEFAULT_COVERAGE
    quantiles: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    set_rows: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Decisions:
        """Rebuild what `to_dict` returned, and decisions of newer versions but for what they added."""
        known = {f.name for f in dataclasses.fields(cls)}
        values = {key: value for key, value in stored.items() if key in known}
        if values.get("costs") is not None:
            values["costs"] = tuple(tuple(map(float, row)) for row in values["costs"])
        quantiles = values.get("quantiles", {})
        values["quantiles"] = {name: tuple(map(float, each)) for name, each in quantiles.items()}
        return cls(**values)


@dataclass(frozen=True)
class Share:
    """A share of rows with its 95% interval. rows: what it is a share of. value: None where there are none."""

    value: float | None
    interval: Interval | None
    rows: int


@dataclass(frozen=True)
class RuleFigures:
    """What a floor reached. rule: "precision>=0.95". label: the one it is about; None: all decisions of several.

    reached: the figure with the floor. other: recall beside precision, precision beside recall.
    """

    rule: str
    label: str | None
    reached: Share
    other: Share


@dataclass(frozen=True)
class CostFigures:
    """The mean cost of a row with its 95% interval, and what the answers without the costs would have cost."""

    mean: float
    interval: Interval
    without: float


@dataclass(frozen=True)
class SetFigures:
    """Prediction sets. stated: the coverage promised. covered: true labels in their sets. size: mean labels of a set.

    single: the share of sets that hold one label.
    """

    stated: float
    covered: Share
    size: float
    single: float


@dataclass(frozen=True)
class AbstainFigures:
    """What abstaining below a confidence left. kept: answered rows. accuracy: of those; rule: the floor it is for."""

    rule: str
    below: float
    kept: Share
    accuracy: Share


@dataclass(frozen=True)
class DecisionFigures:
    """How a run's decisions did on labelled rows; parts that the run does not have are None or empty."""

    risk_coverage: RiskCoverage
    sets: tuple[SetFigures, ...] = ()
    abstain: AbstainFigures | None = None
    rule: RuleFigures | None = None
    cost: CostFigures | None = None


def measure_share(hits: NDArray[Any]) -> Share:
    """Return the share of true values with Wilson's interval. hits: bool [rows]."""
    rows = len(hits)
    if not rows:
        return Share(None, None, 0)
    value = float(np.mean(hits))
    return Share(value, wilson_interval(value, rows), rows)


def measure_ratio(parts: NDArray[Any], wholes: NDArray[Any], seed: int, *, copies: int = 1) -> Share:
    """Return sum(parts) / sum(wholes), with an interval from resampled rows. Both: int [rows].

    copies: how many models' counts are summed in each row; that makes the rows no more.
    """
    total = int(wholes.sum())
    if not total:
        return Share(None, None, 0)
    value = float(parts.sum() / total)
    patterns, counts = np.unique(np.stack([parts, wholes], axis=1), axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(parts), counts / len(parts), size=_RESAMPLES)
    sums = draws @ patterns
    defined = sums[:, 1] > 0
    ratios = sums[defined, 0] / sums[defined, 1]
    plain = wilson_interval(value, total / copies)  # resamples of all right or all wrong never vary
    drawn = percentile_interval(ratios)
    return Share(value, Interval(min(drawn.low, plain.low), max(drawn.high, plain.high)), total)


def measure_rule(
    rule: str,
    label: str | None,
    true: NDArray[Any],
    predicted: NDArray[Any],
    seed: int,
    unknown: NDArray[Any] | None = None,
) -> RuleFigures:
    """Return precision and recall of decisions. true, predicted: bool [rows, labels], of the rule's labels.

    unknown: [rows], labels of each row that the model does not know, and misses.
    """
    hits = (true & predicted).sum(axis=1)
    precision = measure_ratio(hits, predicted.sum(axis=1), seed)
    recall = measure_ratio(hits, true.sum(axis=1) + (0 if unknown is None else np.asarray(unknown, np.int64)), seed)
    first, second = (recall, precision) if rule.startswith("recall") else (precision, recall)
    return RuleFigures(rule, label, first, second)


def find_dearest(costs: Sequence[Sequence[float]], *, sets: bool) -> float:
    """Return the most that a row can cost. sets: with several labels per text, each of which may be wrong."""
    table = np.asarray(costs, np.float64)
    return float(table.max(axis=1).sum() if sets else table.max())


def measure_costs(each: NDArray[np.float64], without: NDArray[np.float64], seed: int, *, dearest: float) -> CostFigures:
    """Return the mean cost. each: float64 [rows], as decided; without: as decided without the costs.

    dearest: what an answer can cost. Resamples never show costs that no row has: the rule of three says how many rows
    may still cost nothing, or as much as the dearest answer.
    """
    values, counts = np.unique(each, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(each), counts / len(each), size=_RESAMPLES)
    drawn, mean, share = percentile_interval(draws @ values / len(each)), float(each.mean()), rule_of_three(len(each))
    unseen = Interval(mean - float(values[0]) * share, mean + max(dearest - float(values[-1]), 0.0) * share)
    interval = Interval(min(drawn.low, unseen.low), max(drawn.high, unseen.high))
    return CostFigures(mean, interval, float(without.mean()))


def store_decisions(content: dict[str, Any], figures: DecisionFigures | None) -> dict[str, Any]:
    """Return an evaluation's content with these figures as plain data for JSON."""
    content = {name: value for name, value in content.items() if name != "decision_figures"}
    return content if figures is None else content | {"decision_figures": asdict(figures)}


def read_decision_figures(stored: Mapping[str, Any]) -> DecisionFigures | None:
    """Rebuild the figures of an evaluation's content; None where it was stored without them.

    Raises KeyError, TypeError, AttributeError or ValueError where they are not what `store_decisions` returned.
    """
    figures = stored.get("decision_figures")
    if figures is None:
        return None
    curve, rule, cost, abstain = (figures[name] for name in ("risk_coverage", "rule", "cost", "abstain"))
    points = {name: tuple(curve[name]) for name in ("coverage", "risk", "confidence")}
    return DecisionFigures(
        RiskCoverage(**(curve | points)),
        tuple(SetFigures(**(each | {"covered": read_share(each["covered"])})) for each in figures["sets"]),
        None
        if abstain is None
        else AbstainFigures(**(abstain | {name: read_share(abstain[name]) for name in ("kept", "accuracy")})),
        None if rule is None else RuleFigures(**(rule | {n: read_share(rule[n]) for n in ("reached", "other")})),
        None if cost is None else CostFigures(**(cost | {"interval": Interval(**cost["interval"])})),
    )


def read_share(stored: Mapping[str, Any]) -> Share:
    """Rebuild a share of plain data; raise KeyError or TypeError."""
    interval = stored["interval"]
    return Share(**(dict(stored) | {"interval": None if interval is None else Interval(**interval)}))


def describe_decisions(figures: DecisionFigures | None) -> list[str]:
    """Return the figures as sentences without their full stop; nothing where there are none."""
    if figures is None:
        return []
    lines = []
    if (rule := figures.rule) is not None:
        name, _, floor = rule.rule.partition(">=")
        about = "" if rule.label is None else f" of '{show_name(rule.label)}'"
        first, second = ("recall", "precision") if name == "recall" else ("precision", "recall")
        aim = f"floor {percent(float(floor))}" if floor else "tuned for F1"
        lines.append(f"{first}{about}: {_show(rule.reached, aim)}, {second} {_show(rule.other)}")
    if (cost := figures.cost) is not None:
        between = f"95% interval {show_cost(cost.interval.low)} to {show_cost(cost.interval.high)}"
        without = f"decided without costs {show_cost(cost.without)}"
        lines.append(f"mean cost per row: {show_cost(cost.mean)} ({between}); {without}")
    if (abstain := figures.abstain) is not None:
        kept, aim = _show(abstain.kept), f"floor {percent(float(abstain.rule.partition('>=')[2]))}"
        lines.append(
            f"abstaining below a confidence of {percent(abstain.below)} answers {kept} of the rows, with an accuracy "
            f"of {_show(abstain.accuracy, aim)}"
        )
    for each in figures.sets:
        lines.append(
            f"sets of {percent(each.stated)} coverage hold the true label in {_show(each.covered)}, with "
            f"{each.size:.2f} labels on average; {percent(each.single)} hold one label"
        )
    curve = figures.risk_coverage
    lines.append(
        f"area under the risk-coverage curve: {curve.area:.4f} (error with every row answered {percent(curve.error)})"
    )
    return lines


def _show(share: Share, more: str = "") -> str:
    """Return a share with its interval. more: what else belongs in the brackets."""
    if share.value is None or share.interval is None:
        return "undefined (no such rows)"
    between = f"95% interval {percent(share.interval.low)} to {percent(share.interval.high)}"
    return f"{percent(share.value)} ({between}{f'; {more}' if more else ''})"


def list_costs(
    costs: Sequence[Sequence[float]],
    true: NDArray[Any],
    predicted: NDArray[Any],
    unknown: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Return the cost of each row's answer: float64 [rows].

    costs: [labels, labels] with true and predicted int64 [rows]; or [labels, 2] with both bool [rows, labels].
    unknown: with several labels per text, how many labels of each row the model does not know; each costs as much as
    the dearest missed label.
    """
    table = np.asarray(costs, np.float64)
    if true.ndim == 1:
        known = true >= 0  # a label that the model does not know costs as much as the dearest error
        return np.asarray(np.where(known, table[np.maximum(true, 0), predicted], table.max()), np.float64)
    missed, wrong = true & ~predicted, predicted & ~true
    beyond = 0.0 if unknown is None else np.asarray(unknown, np.float64) * table[:, 0].max()
    return np.asarray(missed @ table[:, 0] + wrong @ table[:, 1] + beyond, np.float64)
