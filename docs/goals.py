"""The goals of docs/accuracy.md: which are met, by how much, and why not."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from leads import Lead, measure_lead, unpack
from methods_page import TRIALS, read_lines, table
from numpy.typing import NDArray

Cells = Sequence[Mapping[str, Any]]
Groups = Mapping[tuple[str, str], Cells]

SIZE_NAMES = {"8c": "8 per class", "64c": "64 per class", "1000": "1,000", "all": "all"}
FIRST_RUNS = Path(__file__).parents[1] / "results" / "first_runs.jsonl"
_FEW_ROWS_RUN = "banking77, 8 rows per class"

_GOALS: dict[tuple[str, str], tuple[float, float | None]] = {
    ("banking77", "8c"): (84.0, 82.0),
    ("banking77", "64c"): (92.5, 91.5),
    ("banking77", "all"): (93.8, 92.9),
    ("ag_news", "8c"): (80.0, 76.0),
    ("ag_news", "64c"): (88.0, None),
    ("amazon_reviews", "1000"): (90.5, 89.5),
    ("sms_spam", "all"): (99.2, None),
}
"""Accuracy in percent: the goal, and the floor under it."""
_REASONS = {
    (
        "banking77",
        "64c",
    ): "frozen features come within half a point of it, and no other rate gave more on held-out training rows",
    (
        "banking77",
        "all",
    ): "on held-out training rows the best of eight settings was 0.6 points above the rules, with "
    "one seed; full fine-tuning reaches the goal on the one draw that was run (below)",
    (
        "ag_news",
        "64c",
    ): "contrastive steps bring 1.6 points over frozen features, and tuning after them brought nothing more",
    ("amazon_reviews", "1000"): "goal and floor were measured on other rows, and there the goal is reached; on these, "
    "the older defaults are at the same accuracy (both below)",
}
CHEAP_RIVALS = {"embeddings": "embeddings + LR", "tfidf": "TF-IDF + LR"}
_LARGEST_ERROR, _LEAST_LEAD, _WORST_PROBE, _WORST_PROMPT, _MOST_SECONDS = 3.0, 1.5, -0.5, -5.0, 30.0


def describe_goals(groups: Groups) -> Iterator[str]:
    """Yield what the defaults are to reach, and how far they got in the cells that were run."""
    if not groups:
        return
    yield "\n## Goals\n"
    for name, verdict in _judge(groups):
        yield f"- **{name}**: {verdict}"
    yield ""
    rows = []
    for (data, size), (goal, floor) in _GOALS.items():
        group = groups.get((data, size), ())
        reached = average(group, "textune")
        met = "not run" if not group else "met" if float(reached) >= goal else "missed" if floor is None else (
            "missed, floor reached" if float(reached) >= floor else "missed, below the floor"
        )  # fmt: skip
        if met.startswith("missed"):
            met += f": {_REASONS[data, size]}"
        shown = "–" if floor is None else f"{floor:.1f}"
        rows.append((data, SIZE_NAMES[size], f"{goal:.1f}", shown, reached, str(len(group)), met))
    yield table(("data", "rows", "goal", "floor", "reached", "draws", ""), rows)


def _judge(groups: Groups) -> Iterator[tuple[str, str]]:
    """Yield the goals that are about more than one cell, and what became of each."""
    leads = {rival: {key: find_lead(group, rival) for key, group in groups.items()} for rival in CHEAP_RIVALS}
    behind = [key for found in leads.values() for key, lead in found.items() if lead and lead.is_behind]
    least = "; ".join(
        f"the least lead over {CHEAP_RIVALS[rival]} is {lead} ({_name(key)})"
        for rival, found in leads.items()
        for key, lead in [min(_drop_none(found).items(), key=lambda item: item[1].mean)]
    )
    yield (
        "Never behind",
        "in no cell more than half a point below a cheap rival with an interval wholly below 0. "
        f"{_say(behind)}: {least}. GoEmotions has no intervals: micro F1 is no mean over rows.",
    )
    best = statistics.mean(statistics.mean(map(_lead_over_best, group)) for group in groups.values())
    yield (
        "Ahead on the mean",
        f"by {_LEAST_LEAD} points over the better of the two rivals. {_say(best < _LEAST_LEAD)}: {best:.1f} points "
        f"over {len(groups)} cells.",
    )
    errors = {
        key: 100 * statistics.mean(cell["ece"] for cell in group)
        for key, group in groups.items()
        if key[1] == "all" and all("ece" in cell for cell in group)
    }
    worst = max(errors, key=lambda key: errors[key])
    yield (
        "Calibrated",
        f"an expected calibration error of at most {_LARGEST_ERROR:.0f} points where all rows are used. "
        f"{_say([key for key, error in errors.items() if error > _LARGEST_ERROR])} on the mean of the draws: the "
        f"largest is {errors[worst]:.1f} ({worst[0]}).",
    )
    probes = {
        key: _lead_of_means(group, "probe", "embeddings")
        for key, group in groups.items()
        if leads["embeddings"][key] is not None
    }
    below = [key for key, lead in probes.items() if lead < _WORST_PROBE]
    lowest = min(probes, key=lambda key: probes[key])
    yield (
        "A probe as good as scikit-learn's",
        f"`method=head` never more than half a point below embeddings + LR. {_say(below)}: the lowest is "
        f"{probes[lowest]:+.1f} ({_name(lowest)}), the mean {statistics.mean(probes.values()):+.1f}. The probe's "
        "features are standardized, the rival's normalized by length; neither is better everywhere.",
    )
    yield "Prompts", _judge_prompts()
    yield "Few rows in seconds", _judge_seconds()


def _judge_prompts() -> str:
    found: dict[str, list[float]] = {}
    for run in read_lines(TRIALS):
        found.setdefault(run["method"], []).append(100 * run["accuracy"])
    gaps = {name: statistics.mean(found[name]) - statistics.mean(found["prefix"]) for name in ("prompt", "p_tuning")}
    shown = " and ".join(f"`{name}` {gap:+.1f}" for name, gap in gaps.items())
    missed = [name for name, gap in gaps.items() if gap < _WORST_PROMPT]
    return (
        "`prompt` and `p_tuning` within 5 points of `prefix` on the demo's rows. "
        f"{_say(bool(missed))}: {shown} ([methods](methods.md#what-each-reached))."
    )


def _judge_seconds() -> str:
    lines = [json.loads(line) for line in FIRST_RUNS.read_text(encoding="utf-8").splitlines()]
    seconds = [line["seconds"] for line in lines if line["run"] == _FEW_ROWS_RUN]
    return (
        f"8 rows per class of Banking77 in {_MOST_SECONDS:.0f} seconds, with an empty cache and all reports. "
        f"{_say(max(seconds) > _MOST_SECONDS)}: {' and '.join(f'{s:.1f}' for s in seconds)} s on two cores "
        "([whole commands](results.md))."
    )


def _say(missed: bool | Sequence[tuple[str, str]]) -> str:
    """Return whether a goal is met. missed: whether it is not, or the cells where it is not."""
    if isinstance(missed, bool):
        return "Missed" if missed else "Met"
    return f"Missed in {'; '.join(map(_name, missed))}" if missed else "Met"


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]}, {SIZE_NAMES[key[1]]}"


def _drop_none(found: Mapping[tuple[str, str], Lead | None]) -> dict[tuple[str, str], Lead]:
    return {key: lead for key, lead in found.items() if lead is not None}


def find_lead(group: Cells, rival: str) -> Lead | None:
    """Return textune's lead over a rival; None where a cell does not say which rows were right."""
    pairs = [
        (_read_right(cell, "textune"), _read_right(cell, rival)) for cell in group if rival in cell.get("right", ())
    ]
    return measure_lead(pairs) if pairs and len(pairs) == len(group) else None


def average(group: Cells, model: str) -> str:
    """Return a model's mean score over the draws in percent, or a dash."""
    found = [100 * cell["scores"][model] for cell in group if model in cell["scores"]]
    return f"{statistics.mean(found):.1f}" if found else "–"


def _lead_of_means(group: Cells, mine: str, theirs: str) -> float:
    return 100 * statistics.mean(float(cell["scores"][mine]) - float(cell["scores"][theirs]) for cell in group)


def _lead_over_best(cell: Mapping[str, Any]) -> float:
    scores = cell["scores"]
    return 100 * float(scores["textune"] - max(scores[key] for key in ("embeddings", "tfidf") if key in scores))


def _read_right(cell: Mapping[str, Any], model: str) -> NDArray[np.bool_]:
    return unpack(cell["right"][model], cell["test_rows"])
