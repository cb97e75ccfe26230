"""Settings about decisions: floors such as ``precision>=0.95``, and tables of what errors cost. No numpy."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from textune.config.values import read_name
from textune.config.yaml_text import load_yaml
from textune.errors import suggest

Costs = tuple[tuple[str, str, float], ...]
"""(true label, predicted label, cost) of every pair that was given."""

F1, PRECISION, RECALL, ACCURACY = "f1", "precision", "recall", "accuracy"
_FORM = re.compile(r"\s*([a-z0-9_]+)\s*(?:(?:>=|=|:|≥)\s*([0-9.]+)\s*(%?))?\s*")
_LARGEST_COST = 1e9


def parse_threshold_rule(value: Any) -> str:
    """Return ``f1``, ``precision>=0.95`` or ``recall>=0.9`` from any spelling of it; raise ValueError."""
    return _parse_rule("threshold_for", value, (F1, PRECISION, RECALL), without_floor=(F1,))


def parse_abstain_rule(value: Any) -> str:
    """Return ``accuracy>=0.95`` from any spelling of it; raise ValueError."""
    return _parse_rule("abstain_for", value, (ACCURACY,))


def split_rule(rule: str) -> tuple[str, float | None]:
    """Return the figure of a parsed rule, and its floor; None for ``f1``, which is maximized."""
    figure, _, floor = rule.partition(">=")
    return figure, float(floor) if floor else None


def _parse_rule(setting: str, value: Any, figures: Sequence[str], without_floor: Sequence[str] = ()) -> str:
    found = _FORM.fullmatch(str(value).lower())
    example = f"'{setting}={figures[-1]}>=0.9'"
    if found is None or found[1] not in figures:
        near = suggest(str(value), figures) if found is None else suggest(found[1], figures)
        forms = ", ".join(figure if figure in without_floor else f"{figure}>=FLOOR" for figure in figures)
        raise ValueError(f"must be {forms}, such as {example}{near}")
    figure, number, percent = found.groups()
    if figure in without_floor:
        if number is not None:
            raise ValueError(f"{figure} is maximized, so it has no floor: write {setting}={figure}")
        return figure
    if number is None:  # an unquoted > never arrives: the shell writes the output to a file of the floor's name
        raise ValueError(f"{figure} needs a floor: {example} in quotes, or {setting}={figure}:0.9")
    try:
        floor = float(number) / (100 if percent else 1)
    except ValueError:
        raise ValueError(f"{number} is no number") from None
    if not 0 < floor <= 1:
        raise ValueError(f"the floor {number} must be above 0 and at most 1")
    return f"{figure}>={floor:g}"


def parse_costs(value: Any) -> Costs:
    """Return (true label, predicted label, cost) triples; raise ValueError.

    value: a mapping of mappings {true: {predicted: cost}}, triples, ``"ham:spam=5,spam:ham=1"``, or the name of a
    YAML, JSON or CSV file. A CSV file has one row per true label and one column per predicted one.
    """
    if isinstance(value, str):
        value = _read_costs(value)
    if isinstance(value, Mapping):
        if not all(isinstance(row, Mapping) for row in value.values()):
            raise ValueError("must map each true label to the costs of predicted labels: {ham: {spam: 5}}")
        value = [(true, predicted, cost) for true, row in value.items() for predicted, cost in row.items()]
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("must be a file, or costs such as ham:spam=5,spam:ham=1")
    if not all(isinstance(item, list | tuple) and len(item) == 3 for item in value):
        raise ValueError("each cost needs a true and a predicted label, such as ham:spam=5")
    triples = tuple(
        (read_name(true), read_name(predicted), _parse_cost(cost, true, predicted)) for true, predicted, cost in value
    )
    seen = set[tuple[str, str]]()
    for true, predicted, _ in triples:
        if (true, predicted) in seen:
            raise ValueError(f"the cost of {true!r} given as {predicted!r} appears twice")
        seen.add((true, predicted))
    return triples


def _parse_cost(value: Any, true: Any, predicted: Any) -> float:
    try:
        cost = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        cost = math.nan
    if not 0 <= cost <= _LARGEST_COST:
        raise ValueError(f"{true}:{predicted}={value}: a cost must be a number from 0 to 1e9")
    return cost


def _read_costs(value: str) -> Any:
    """Return the content of a file of costs, or of costs written in one line."""
    text, path = value.strip(), Path(value)
    reader = _READERS.get(path.suffix.lower())
    if text.startswith(("{", "[")):
        return _read_yaml(text)
    if reader is not None and "=" not in text:
        try:
            content = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise ValueError(f"{value} cannot be read: {reason.lower()}") from None
        return reader(content)
    parts = [part.rpartition("=") for part in text.split(",")]
    if not all(equals and ":" in pair for pair, equals, _ in parts):
        raise ValueError("must be a .yaml, .json or .csv file, or costs such as ham:spam=5,spam:ham=1")
    return [(*(name.strip() for name in pair.split(":", 1)), cost) for pair, _, cost in parts]


def _read_yaml(text: str) -> Any:
    try:
        return load_yaml(text, as_written=None)
    except ValueError as error:
        raise ValueError(f"is not valid YAML: {str(error).splitlines()[0]}") from None


def _read_json(text: str) -> Any:
    def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
        return found

    try:
        return json.loads(text, object_pairs_hook=refuse_twice)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not valid JSON: {error}") from None


def _read_csv(text: str) -> Any:
    try:
        header, *rows = [row for row in csv.reader(text.splitlines()) if any(row)] or [[]]
    except csv.Error as error:
        raise ValueError(f"is not valid CSV: {error}") from None
    if len(header) < 2 or not rows:
        raise ValueError("the CSV file needs a header of predicted labels, and a row per true label")
    wrong = [row for row in rows if len(row) != len(header)]
    if wrong:
        raise ValueError(f"the row of {wrong[0][0]!r} has {len(wrong[0])} cells, the header {len(header)}")
    return [(row[0], predicted, cost) for row in rows for predicted, cost in zip(header[1:], row[1:], strict=True)]


_READERS: Mapping[str, Callable[[str], Any]] = {
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".json": _read_json,
    ".csv": _read_csv,
}
