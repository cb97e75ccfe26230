"""docs/leaderboard.md: methods x data sets with intervals and cost, from results/leaderboard.json.

`docs/generate.py` writes it.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from methods_page import table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "leaderboard.json"
OLDER = ROOT / "results" / "leaderboard_f213f65.json"
NOT_RUN = "not run"
_Cells = dict[tuple[str, str], list[dict[str, Any]]]

_OPENING = """# The results table

This page is written by `make docs` from `results/leaderboard.json`, which
`python benchmarks/leaderboard.py --data FOLDER --output results/leaderboard.json` fills, cell by cell.

MiniLM (22.7 million weights), every setting by textune's own rules, which were found on splits of training rows,
those of some of these data sets among them, and never on test rows (with [one exception](accuracy.md) while
the probe was written). The score is accuracy, for GoEmotions micro F1.
**"not run" means just that:** the table is filled cheapest first, and grows. Few rows and simple rivals have
[a page of their own](accuracy.md).

**The intervals** (95%) hold two things: which test rows were drawn, and the seed of new weights, validation rows and
order. All seeds are measured on the same test rows, so more seeds do not make the first part smaller. To the interval
over rows (the mean over seeds) the seeds' own is added in quadrature: Student's t times the standard error of their
mean, which is wide for two or three seeds. Of one seed only the rows' part is known. Two overlapping intervals do not
show that two methods are equal: on the same rows, differences are known more closely than each score.

**Cost** is the mean over seeds: seconds of training alone, the most memory that the process held until its end, the
numbers that are trained, and the megabytes that a run adds to the backbone. Up to three runs shared two cores, so
seconds say how long at most.
"""

_OLDER = """## With the defaults of an earlier version

The same data sets and test rows with the defaults of commit f213f65 (first token, random head), means over one to three
seeds, from `results/leaderboard_f213f65.json`. They were computed in bf16.
"""


@dataclass(frozen=True)
class Score:
    """The mean over the seeds of one method on one data set, with its 95% interval; shares."""

    mean: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.1%} ({self.low:.1%} to {self.high:.1%})"


def build_leaderboard_page(path: Path = RESULTS, older: Path = OLDER) -> str:
    """Return the whole page as Markdown. older: the cells of an earlier version."""
    sys.path.append(str(ROOT / "benchmarks"))
    from leaderboard import DATA, METHODS, SEEDS

    cells = read_cells(path)
    done, whole = sum(map(len, cells.values())), len(DATA) * len(METHODS) * len(SEEDS)
    parts = [_OPENING, f"Run so far: {done} of {whole} cells.\n", "## At a glance\n"]
    parts.append(_tabulate(cells, list(DATA), list(METHODS)))
    for data in DATA:
        parts += describe_data_set(data, {m: cells[data, m] for m in METHODS})
    if before := read_cells(older):
        measured = [data for data in DATA if any(before[data, m] for m in METHODS)]
        parts += [_OLDER, _tabulate(before, measured, list(METHODS))]
    return "\n".join(parts).rstrip() + "\n"


def read_cells(path: Path) -> _Cells:
    """Return the cells of a file by data set and method."""
    cells: _Cells = defaultdict(list)
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if path.is_file() else ():
        if not cell.get("set"):  # those of a trial with other settings do not count
            cells[cell["data"], cell["method"]].append(cell)
    return cells


def _tabulate(cells: _Cells, data: Sequence[str], methods: Sequence[str]) -> str:
    return table(("", *data), [(f"`{m}`", *(_glance(cells[d, m]) for d in data)) for m in methods])


def summarise(cells: Sequence[Mapping[str, Any]]) -> Score:
    """Return the mean and the interval of one method's seeds, as the page explains it."""
    from textune.evaluation.intervals import Interval
    from textune.evaluation.paired import add_seeds

    scores = np.array([cell["score"] for cell in cells])
    mean = float(scores.mean())
    below = statistics.mean(cell["score"] - cell["interval"][0] for cell in cells)
    above = statistics.mean(cell["interval"][1] - cell["score"] for cell in cells)
    found = add_seeds(Interval(mean - below, mean + above), mean, scores, limits=(0.0, 1.0))
    return Score(mean, found.low, found.high, len(scores))


def describe_data_set(name: str, methods: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Yield one data set's table, the best method first and those that were not run last."""
    yield f"## {name}\n"
    ran = [cells for cells in methods.values() if cells]
    if not ran:
        yield "No cell was run yet.\n"
        return
    first = ran[0][0]
    engines = sorted(
        {f"{c['precision']}, {_count(c['threads'], 'thread')}, {c['machine']}" for cells in ran for c in cells}
    )
    yield (
        f"{first['train_rows']:,} training rows, {first['rows']:,} test rows, {first['metric']}. "
        f"Computed in {'; '.join(engines)}.\n"
    )
    order = sorted(methods, key=lambda m: -summarise(methods[m]).mean if methods[m] else 1.0)
    header = (first["metric"], "macro F1", "seeds", "seconds", "memory MB", "trained", "MB", "said")
    yield table(("method", *header), [(f"`{m}`", *_describe(methods[m], len(header))) for m in order])


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _glance(cells: Sequence[Mapping[str, Any]]) -> str:
    return f"{summarise(cells).mean:.1%}" if cells else NOT_RUN


def _describe(cells: Sequence[Mapping[str, Any]], columns: int) -> tuple[str, ...]:
    if not cells:
        return NOT_RUN, *[""] * (columns - 1)
    score = summarise(cells)
    mean = {key: statistics.mean(cell[key] for cell in cells)
            for key in ("macro_f1", "training_seconds", "peak_memory_mb", "megabytes")}  # fmt: skip
    warned = sum(cell["warning"] is not None for cell in cells)
    return (
        str(score), f"{mean['macro_f1']:.3f}", str(score.seeds), f"{mean['training_seconds']:,.0f}",
        f"{mean['peak_memory_mb']:,.0f}", f"{cells[0]['trainable']:,}", f"{mean['megabytes']:.2f}",
        f"{warned} of {len(cells)} runs warned at the end" if warned else "",
    )  # fmt: skip
