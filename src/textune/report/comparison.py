"""A comparison of runs as plain data, with its conclusions in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from textune.evaluation import Difference, Interval, PairedTest
from textune.evaluation.goal import Goal
from textune.progress import format_seconds
from textune.report.contrast import Contrast
from textune.report.goal import describe_ranking
from textune.report.leads import advise_on_probe, is_clear, is_identical
from textune.report.wording import distance, list_names, number, percent, plural, span

COSTS: Mapping[str, str] = {
    "training_seconds": "training time",
    "run_seconds": "total time",
    "peak_memory_mb": "peak memory",
    "trainable_parameters": "trainable parameters",
    "weight_megabytes": "disk",
}
FRONTS = ("training_seconds", "trainable_parameters")
"""The costs with a chart: the score against each."""
_OF_MACHINE = ("training_seconds",)
"""Fronts that compare nothing where runs are of different machines."""
_LEVEL = 0.05
_ONE_SEED = "One seed cannot rank the methods."


@dataclass(frozen=True)
class Candidate:
    """Runs that differ only in their seed: means over the seeds.

    value: accuracy, or micro F1. spread: standard deviation over the seeds; None with one seed. costs: by `COSTS`.
    fronts: the costs for which it is Pareto-optimal.
    """

    name: str
    seeds: tuple[int, ...]
    value: float
    spread: float | None
    interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    costs: Mapping[str, float | None]
    fronts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Baseline(Candidate):
    """Frozen embeddings and logistic regression on one backbone, as the runs of candidates measured it.

    costs: its time, which includes the predictions; the others are None. backbone: its name where there are several.
    candidates: whose runs measured it. lead: of the best candidate over it.
    """

    backbone: str = ""
    candidates: tuple[str, ...] = ()
    lead: Difference | None = None


@dataclass(frozen=True)
class Pair:
    """Two candidates on the same rows.

    adjusted: the p-value after Holm's correction for all pairs. one_seed: at least one of the two has a single seed,
    so the verdict is about these trained models, not about the methods.
    """

    a: str
    b: str
    test: PairedTest
    adjusted: float
    one_seed: bool = False

    @property
    def ahead(self) -> str | None:
        """The better candidate if the corrected p-value and the interval agree, else None."""
        lead = self.test.lead
        if self.adjusted >= _LEVEL or lead.low <= 0 <= lead.high:
            return None
        return self.a if lead.mean > 0 else self.b

    @property
    def verdict(self) -> str:
        """The conclusion about the two."""
        if self.ahead is None:
            return "no significant difference"
        if self.one_seed:
            return f"these two trained models differ: {self.ahead} is ahead; one seed cannot rank the methods"
        return f"{self.ahead} is better"


@dataclass(frozen=True)
class RunLine:
    """One run of the comparison."""

    folder: str
    candidate: str
    seed: int
    value: float
    interval: Interval
    macro_f1: float
    costs: Mapping[str, float | None]
    test_reads: int


@dataclass(frozen=True)
class Comparison:
    """Everything a comparison shows.

    figure: the headline metric. test_reads: the sum over all runs. machines: the different hardware and engine
    settings of the runs. kept_layers: candidates that cache the output of frozen layers.
    contrast: where the first two candidates differ. goal: the candidates in the terms that all were tuned for, the best
    as `own`. one_goal: whether all were tuned for the same. seen: by candidate, how many of the test rows its training
    or validation rows contain, the most of any seed; only candidates with such rows.
    baselines: the best first; none where no run measured one.
    """

    figure: str
    split: str
    rows: int
    test_reads: int
    candidates: tuple[Candidate, ...]
    pairs: tuple[Pair, ...]
    runs: tuple[RunLine, ...]
    common: tuple[tuple[str, str], ...]
    machines: tuple[str, ...] = ()
    kept_layers: tuple[str, ...] = ()
    contrast: Contrast | None = None
    goal: Goal | None = None
    one_goal: bool = True
    seen: Mapping[str, int] = field(default_factory=dict)
    baselines: tuple[Baseline, ...] = ()

    def __repr__(self) -> str:
        best = f"{self.best.name}, {self.figure} {percent(self.best.value)}"
        return (
            f"Comparison({plural(len(self.candidates), 'candidate')} on {self.rows:,} {self.split} rows, best: {best})"
        )

    def __str__(self) -> str:
        """Return each candidate's figure, and the conclusions."""
        lines = [f"{c.name}: {self.figure} {percent(c.value)} (95% interval {span(c.interval)})" for c in self.table]
        return "\n".join([f"on {self.rows:,} {self.split} rows", *lines, *conclude(self)])

    @property
    def table(self) -> tuple[Candidate, ...]:
        """What the table of scores and costs lists: the candidates, and the baselines below them."""
        return (*self.candidates, *self.baselines)

    @property
    def best(self) -> Candidate:
        """The candidate with the highest mean."""
        return self.candidates[0]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        pairs = [asdict(pair) | {"ahead": pair.ahead, "verdict": pair.verdict} for pair in self.pairs]
        conclusions = {"conclusions": list(conclude(self)), "notes": list(note(self))}
        return asdict(self) | {"pairs": pairs} | conclusions


def mark_fronts(candidates: Sequence[Candidate], *, one_machine: bool = True) -> list[Candidate]:
    """Mark for each candidate the costs for which it is Pareto-optimal; times only if all are of one machine."""
    marked = []
    for candidate in candidates:
        fronts = []
        for key in FRONTS:
            cost = candidate.costs[key] if one_machine or key not in _OF_MACHINE else None
            others = [(c.value, c.costs[key]) for c in candidates if c is not candidate]
            if cost is not None and not any(_dominates(v, price, candidate.value, cost) for v, price in others):
                fronts.append(key)
        marked.append(replace(candidate, fronts=tuple(fronts)))
    return marked


def _dominates(value: float, cost: float | None, other_value: float, other_cost: float) -> bool:
    if cost is None or value < other_value or cost > other_cost:
        return False
    return value > other_value or cost < other_cost


def conclude(comparison: Comparison) -> tuple[str, ...]:
    """Return the opening sentences: the best candidate, what it beats, and what it may only match.

    What all candidates were tuned for comes first.
    """
    best, figure = comparison.best, comparison.figure
    tied = [c.name for c in comparison.candidates if c.value == best.value]
    subject = f"{best.name} has" if len(tied) == 1 else f"{list_names(tied, 8)} share"
    sentences = [] if comparison.goal is None else describe_ranking(comparison.goal)
    leads_of_goal = [] if comparison.goal is None else [other.lead for other in comparison.goal.others]
    if any(c.spread is None for c in comparison.candidates) and any(lead and is_clear(lead) for lead in leads_of_goal):
        sentences.append(_ONE_SEED)
    sentences.append(f"{subject} the highest {figure}: {percent(best.value)} (95% interval {span(best.interval)}).")
    others = [(c, _find_pair(comparison.pairs, best.name, c.name)) for c in comparison.candidates[1:]]
    beaten = [(c, pair) for c, pair in others if pair.ahead == best.name]
    undecided = [c for c, pair in others if pair.ahead is None]
    leads = {
        one: [f"{c.name} (by {distance(pair.test.lead.mean)} points)" for c, pair in beaten if pair.one_seed == one]
        for one in (False, True)
    }
    if leads[False]:
        sentences.append(f"It is significantly better than {list_names(leads[False], 8)}.")
    if leads[True]:
        which = "These two trained models differ" if len(leads[True]) == 1 else "These trained models differ"
        sentences.append(f"{which}: {best.name} is ahead of {list_names(leads[True], 8)}. {_ONE_SEED}")
    if undecided:
        names = list_names([c.name for c in undecided], 8)
        sentences.append(f"No significant difference from {names}: the order may be chance.")
        fastest = _find_fastest([best, *undecided]) if len(comparison.machines) < 2 else None
        if fastest is not None and fastest is not best:
            seconds, best_seconds = fastest.costs["training_seconds"] or 0.0, best.costs["training_seconds"] or 0.0
            times = f"{format_seconds(seconds)} against {format_seconds(best_seconds)} for {best.name}"
            sentences.append(f"Of these, {fastest.name} trains fastest: {times}.")
    return (*sentences, *_advise_on_baselines(comparison))


def _advise_on_baselines(comparison: Comparison) -> list[str]:
    """Return a sentence on the best baseline that is as good as the best candidate, if any is."""
    for baseline in comparison.baselines:
        lead = baseline.lead
        if lead is None or is_identical(lead) or (is_clear(lead) and lead.mean > 0):
            continue
        seconds, best = baseline.costs["training_seconds"], comparison.best.name
        advice = advise_on_probe(lead, seconds, comparison.figure, backbone=baseline.backbone, model=best)
        if advice:
            return [advice]
    return []


def _find_pair(pairs: Sequence[Pair], one: str, other: str) -> Pair:
    return next(pair for pair in pairs if {pair.a, pair.b} == {one, other})


def _find_fastest(candidates: Sequence[Candidate]) -> Candidate | None:
    timed = [(c.costs["training_seconds"], c) for c in candidates]
    if any(seconds is None for seconds, _ in timed):
        return None
    return min(timed, key=lambda pair: pair[0] or 0.0)[1]


def note(comparison: Comparison) -> tuple[str, ...]:
    """Return the caveats that the table does not show."""
    runs, split = plural(len(comparison.runs), "run"), comparison.split
    if split == "test":
        notes = [
            f"The test rows were read at least {plural(comparison.test_reads, 'time')} by these {runs}. Picking a "
            "model from this table means selecting on the test set: its score is then too optimistic, and more so "
            "with more candidates. Select on validation rows, or evaluate the winner on fresh rows."
        ]
    else:
        notes = ["The checkpoints were selected on these validation rows, so all scores are slightly optimistic."]
    if comparison.seen:
        counts = [f"{number(rows)} for {name}" for name, rows in comparison.seen.items()]
        notes.append(
            f"Some of the {number(comparison.rows)} test rows also appear in the training or validation rows: "
            f"{list_names(counts)}. These scores are too optimistic."
        )
    if not comparison.one_goal:
        notes.append(
            "The runs were tuned for different things (costs=, threshold_for= or neither), so their "
            f"{comparison.figure} alone does not say which is better."
        )
    single = [c.name for c in comparison.candidates if len(c.seeds) == 1]
    if single:
        notes.append(
            f"One seed only: {list_names(single)}. The variation between seeds is unknown, and no interval here "
            "includes it."
        )
    unmeasured = [c.name for c in comparison.candidates if c.costs["training_seconds"] is None]
    if unmeasured:
        notes.append(f"The costs of {list_names(unmeasured)} were not recorded as numbers; they are shown as –.")
    resumed = [c.name for c in comparison.candidates if c.costs["run_seconds"] is None and c.name not in unmeasured]
    if resumed:
        notes.append(
            f"{list_names(resumed)}: the total time is unknown, because a run was resumed or is the winner of a search."
        )
    if len(comparison.machines) > 1:
        notes.append(
            f"The runs used different hardware or engine settings ({'; '.join(comparison.machines)}), so their times "
            "and memory are not comparable."
        )
    if comparison.kept_layers:
        notes.append(
            f"{list_names(list(comparison.kept_layers))}: the output of the frozen layers is cached. A run that "
            "reused it did not spend time computing it."
        )
    if comparison.rows < 500:
        notes.append(f"{number(comparison.rows)} rows can only show large differences.")
    return tuple(notes)


def shorten_count(count: float) -> str:
    """Write 22_713_216 as ``22.7M``."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:g}"


def format_cost(key: str, value: float | None) -> str:
    """Write a cost with its unit."""
    if value is None:
        return "–"
    if key.endswith("_seconds"):
        return format_seconds(value)
    if key == "trainable_parameters":
        return shorten_count(value)
    return f"{value:,.0f} MB" if value >= 10 else f"{value:.2f} MB"
