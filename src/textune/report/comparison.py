"""A comparison of runs as plain data, and what it says in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from textune.evaluation import Interval, PairedTest
from textune.progress import format_seconds
from textune.report.wording import list_names, number, percent, plural, span

COSTS: Mapping[str, str] = {
    "training_seconds": "training",
    "run_seconds": "whole run",
    "peak_memory_mb": "peak memory",
    "trainable_parameters": "trained parameters",
    "weight_megabytes": "on disk",
}
FRONTS = ("training_seconds", "trainable_parameters")
"""The costs that accuracy is pictured against."""
_LEVEL = 0.05
_ONE_SEED = "One seed says nothing about the methods."


@dataclass(frozen=True)
class Candidate:
    """Runs that differ by their seed alone: means over the seeds.

    value: accuracy, or micro F1. spread: standard deviation over the seeds; None with one seed. costs: by `COSTS`.
    fronts: the costs for which nothing here is as good and cheaper.
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
class Pair:
    """Two candidates on the same rows.

    adjusted: the p-value after Holm's correction for all pairs. one_seed: one of the two has a single seed, so the
    verdict is about these trained models and not about the methods.
    """

    a: str
    b: str
    test: PairedTest
    adjusted: float
    one_seed: bool = False

    @property
    def ahead(self) -> str | None:
        """The better one, where both the corrected p-value and the interval say so; else None."""
        lead = self.test.lead
        if self.adjusted >= _LEVEL or lead.low <= 0 <= lead.high:
            return None
        return self.a if lead.mean > 0 else self.b

    @property
    def verdict(self) -> str:
        """What may be said of the two."""
        if self.ahead is None:
            return "no difference shown"
        if self.one_seed:
            return f"these two trained models differ: {self.ahead} is ahead; one seed says nothing about the methods"
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
    """Everything that a comparison shows. figure: what stands first; test_reads: of all runs together.

    machines: each way in which runs were computed. kept_layers: candidates that keep what frozen layers give.
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

    @property
    def best(self) -> Candidate:
        """The one with the highest mean."""
        return self.candidates[0]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON keeps."""
        pairs = [asdict(pair) | {"ahead": pair.ahead, "verdict": pair.verdict} for pair in self.pairs]
        conclusions = {"conclusions": list(conclude(self)), "notes": list(note(self))}
        return asdict(self) | {"pairs": pairs} | conclusions


def mark_fronts(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Mark each candidate for the costs at which no other is as good and cheaper, or better and as cheap."""
    marked = []
    for own in candidates:
        fronts = []
        for key in FRONTS:
            cost = own.costs[key]
            rivals = [(c.value, c.costs[key]) for c in candidates if c is not own]
            if cost is not None and not any(_beats(value, price, own.value, cost) for value, price in rivals):
                fronts.append(key)
        marked.append(replace(own, fronts=tuple(fronts)))
    return marked


def _beats(value: float, price: float | None, own_value: float, own_price: float) -> bool:
    if price is None or value < own_value or price > own_price:
        return False
    return value > own_value or price < own_price


def conclude(comparison: Comparison) -> tuple[str, ...]:
    """Return the sentences that open the report: the highest, what it is shown to beat, and what is as good so far."""
    best, figure = comparison.best, comparison.figure
    equal = [c.name for c in comparison.candidates if c.value == best.value]
    who = f"{best.name} has" if len(equal) == 1 else f"{list_names(equal, 8)} share"
    said = [f"{who} the highest {figure}: {percent(best.value)} (95% interval {span(best.interval)})."]
    others = [(c, _find_pair(comparison.pairs, best.name, c.name)) for c in comparison.candidates[1:]]
    beaten = [(c, pair) for c, pair in others if pair.ahead == best.name]
    open_ = [c for c, pair in others if pair.ahead is None]
    led = {
        one: [f"{c.name} (by {_distance(pair.test.lead.mean)} points)" for c, pair in beaten if pair.one_seed == one]
        for one in (False, True)
    }
    if led[False]:
        said.append(f"It is better than {list_names(led[False], 8)}: more than chance explains.")
    if led[True]:
        which = "These two trained models differ" if len(led[True]) == 1 else "These trained models differ"
        said.append(f"{which}: {best.name} is ahead of {list_names(led[True], 8)}. {_ONE_SEED}")
    if open_:
        names = list_names([c.name for c in open_], 8)
        said.append(f"No difference shown to {names}: on these rows the order may be chance.")
        if (cheapest := _find_cheapest([best, *open_])) is not None and cheapest is not best:
            mine, theirs = cheapest.costs["training_seconds"] or 0.0, best.costs["training_seconds"] or 0.0
            times = f"{format_seconds(mine)} against {format_seconds(theirs)} for {best.name}"
            said.append(f"Of these, {cheapest.name} trains fastest: {times}.")
    return tuple(said)


def _distance(lead: float) -> str:
    """Write a lead in points without its sign, with as many digits as it takes not to be 0."""
    size = 100 * abs(lead)
    return f"{size:.1f}" if size >= 0.05 else f"{size:.2g}"


def _find_pair(pairs: Sequence[Pair], one: str, other: str) -> Pair:
    return next(pair for pair in pairs if {pair.a, pair.b} == {one, other})


def _find_cheapest(candidates: Sequence[Candidate]) -> Candidate | None:
    timed = [(c.costs["training_seconds"], c) for c in candidates]
    if any(seconds is None for seconds, _ in timed):
        return None
    return min(timed, key=lambda pair: pair[0] or 0.0)[1]


def note(comparison: Comparison) -> tuple[str, ...]:
    """Return what a reader of the table alone would miss."""
    runs, split = plural(len(comparison.runs), "run"), comparison.split
    if split == "test":
        notes = [
            f"The test rows were read at least {plural(comparison.test_reads, 'time')} by these {runs}. Whoever "
            "picks a model by this table chooses on the test set: its figure is then too good, the more so the more "
            "candidates there are. Choose on validation rows, or measure the winner on rows that nobody has read."
        ]
    else:
        notes = ["These are validation rows, which also chose the checkpoints: the figures flatter all a little."]
    single = [c.name for c in comparison.candidates if len(c.seeds) == 1]
    if single:
        notes.append(
            f"One seed only: {list_names(single)}. How far another seed would move them is not known, and no interval "
            "here contains it."
        )
    unmeasured = [c.name for c in comparison.candidates if c.costs["training_seconds"] is None]
    if unmeasured:
        notes.append(f"The costs of {list_names(unmeasured)} were not kept as numbers; they stand as –.")
    resumed = [c.name for c in comparison.candidates if c.costs["run_seconds"] is None and c.name not in unmeasured]
    if resumed:
        notes.append(
            f"Of {list_names(resumed)} a run was resumed, or is the winner of a search: what the whole of it took is "
            "not known."
        )
    if len(comparison.machines) > 1:
        notes.append(
            f"The runs were not computed alike ({'; '.join(comparison.machines)}): their seconds and memory do not "
            "compare."
        )
    if comparison.kept_layers:
        notes.append(
            f"{list_names(list(comparison.kept_layers))}: what the frozen layers give is kept in the cache, and a run "
            "that found it there did not pay for it."
        )
    if comparison.rows < 500:
        notes.append(f"{number(comparison.rows)} rows can tell only large differences apart.")
    return tuple(notes)


def shorten_count(count: float) -> str:
    """Write 22_713_216 as ``22.7M``."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:g}"


def format_cost(key: str, value: float | None) -> str:
    """Write a cost for people, with its unit."""
    if value is None:
        return "–"
    if key.endswith("_seconds"):
        return format_seconds(value)
    if key == "trainable_parameters":
        return shorten_count(value)
    return f"{value:,.0f} MB" if value >= 10 else f"{value:.2f} MB"
