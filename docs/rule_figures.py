"""The part of docs/accuracy.md on trials of one setting at a time, from results/rules.jsonl."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goals import SIZE_NAMES
from methods_page import table

RESULTS = Path(__file__).parents[1] / "results" / "rules.jsonl"

_OPENING = """
## Trials of one setting

On training rows alone: some to learn from, others (1,000; 1,500 of AG News and Amazon reviews; 2,000 of Banking77 where
all are learned from) to judge by, LoRA and every other setting by the rules (`results/rules.jsonl`; `python
benchmarks/rule_trials.py --data FOLDER --output results/rules.jsonl --name NAME --sizes SIZES --seeds 1 2 3
--only DATA` and what stands with each table). Accuracy in percent, the mean over the seeds that have every value tried
there. Below each table: the difference from the rules' value over all pairs of data set, size and seed, with its
standard error over the pairs. The head's rate is at most 0.0003, so it falls with LoRA's only where that is 0.00025.
"""


@dataclass(frozen=True)
class Question:
    """Trials of one setting. names: of the trials. rule: the value that the rules choose. fixed: set in all of them."""

    names: tuple[str, ...]
    setting: str
    values: tuple[float | str, ...]
    rule: float | str
    title: str
    command: str
    fixed: Mapping[str, str] = field(default_factory=dict)


_RATES = (2.5e-4, 5e-4, 1e-3)
_RATE_GRID = """--set eval_every_steps=100000 --grid '{"learning_rate": [5e-4, 1e-3, 2.5e-4]}'"""
QUESTIONS = (
    Question(
        ("rates_few",), "learning_rate", _RATES, 5e-4,
        "Rate, few rows: of contrastive steps, with many classes of training from the solved head", _RATE_GRID,
    ),
    Question(("rates_1000",), "learning_rate", _RATES, 5e-4, "Rate, 1,000 rows", _RATE_GRID),
    Question(("rates_all", "many_all"), "learning_rate", _RATES, 5e-4, "Rate, all rows", _RATE_GRID),
    Question(
        ("warmup_1000", "rates_1000"), "warmup_fraction", (0.0, 0.1, 0.3), 0.1, "Warm-up, share of the steps",
        """--set eval_every_steps=100000 --grid '{"warmup_fraction": [0.0, 0.3]}'""",
    ),
    Question(
        ("contrast_many",), "contrast_steps", (0, 60), 0, "Contrastive steps with many classes",
        """--set eval_every_steps=100000 --grid '{"contrast_steps": [60, 0]}'""",
    ),
    Question(
        ("pooling_head",), "pooling", ("first", "mean"), "mean", "Pooling under the solved head alone",
        """--set method=head --grid '{"pooling": ["first", "mean"]}'""", {"method": "head"},
    ),
)  # fmt: skip


def describe_trials(path: Path = RESULTS) -> Iterator[str]:
    """Yield the section: a table for each setting that has trials."""
    trials = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    parts = [part for question in QUESTIONS for part in _describe(question, trials)]
    if parts:
        yield _OPENING
        yield from parts


def _describe(question: Question, trials: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    found: dict[tuple[str, str], dict[int, dict[float | str, float]]] = {}
    for trial in trials:
        value = _read_value(question, trial)
        if value in question.values and "last" in trial:
            seeds = found.setdefault((trial["data"], trial["size"]), {})
            seeds.setdefault(trial["seed"], {})[value] = 100 * trial["last"]["accuracy"]
    pairs = {value: list[float]() for value in question.values}
    means: dict[tuple[str, str, str], dict[float | str, float]] = {}
    for (data, size), seeds in found.items():
        tried = {value for scores in seeds.values() for value in scores}
        whole = [scores for scores in seeds.values() if tried == scores.keys()]
        if not whole or len(tried) < 2 or question.rule not in tried:
            continue
        row = (data, _name_size(size), str(len(whole)))
        means[row] = {value: statistics.mean(scores[value] for scores in whole) for value in tried}
        for value in tried:
            pairs[value] += [scores[value] - scores[question.rule] for scores in whole]
    values = [value for value in question.values if pairs[value]]
    if not values:
        return
    rows = [
        (*row, *(f"{row_means[value]:.1f}" if value in row_means else "–" for value in values))
        for row, row_means in means.items()
    ]
    yield f"### {question.title}\n"
    heads = [f"**{_show(value)}**" if value == question.rule else _show(value) for value in values]
    yield table(("data", "rows", "seeds", *heads), rows)
    told = [f"{_show(value)}: {_write_difference(pairs[value])}" for value in values if value != question.rule]
    yield f"Against {_show(question.rule)}, the rules' value: {'; '.join(told)}.\n"
    names = ", ".join(f"`{name}`" for name in question.names)
    yield f"Trials {names}: `{question.command}`\n"


def _name_size(size: str) -> str:
    """Return "all", a number of rows, or of rows per class."""
    return SIZE_NAMES.get(size) or (f"{int(size):,}" if size.isdigit() else size.replace("c", " per class"))


def _read_value(question: Question, trial: Mapping[str, Any]) -> float | str | None:
    """Return the value that a trial is of; None if it belongs to another question.

    A trial of another setting counts where it has that setting, and this one, by the rules.
    """
    if trial["name"] not in question.names:
        return None
    by_rule = {other.setting: other.rule for other in QUESTIONS} | dict(question.fixed)
    settings = {key: value for key, value in trial["settings"].items() if key != "eval_every_steps"}
    value = settings.pop(question.setting, question.rule)
    if any(by_rule.get(key) != other for key, other in settings.items()):
        return None
    return value if isinstance(value, str) else float(value)


def _write_difference(differences: Sequence[float]) -> str:
    """Return a mean difference in points with its standard error and the number of pairs."""
    mean, pairs = statistics.mean(differences), len(differences)
    error = f", standard error {statistics.stdev(differences) / math.sqrt(pairs):.2f}" if pairs > 1 else ""
    return f"{mean:+.2f} points ({pairs} pair{'s' if pairs > 1 else ''}{error})"


def _show(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
