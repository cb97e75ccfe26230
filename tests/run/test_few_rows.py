"""Few rows: what is refused says what to do, and whoever does it gets a run: no two hints lead in a circle."""

from __future__ import annotations

import csv
import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from textune.config import build_config
from textune.errors import DataError
from textune.run.tables import prepare_data

SETTING = re.compile(r"\b(test_fraction|validation_fraction)=([\d.]+)")
CHANGES: tuple[dict[str, Any], ...] = (
    {}, {"test": "test"}, {"test_fraction": 0}, {"validation_fraction": 0}, {"patience": 1}, {"test_fraction": 0.5},
    {"validation_fraction": 0, "test_fraction": 0}, {"validation_fraction": 0, "test": "test"},
    {"validation": "test"}, {"validation": "test", "test": "test"}, {"test": "foreign"}, {"group": "group"},
    {"group": "group", "test_fraction": 0},
)  # fmt: skip


def write_rows(folder: Path, classes: int, per_class: int, task: str) -> dict[str, Path]:
    """Write a training table, a test table, and one with a class that training lacks."""

    def label(c: int, i: int) -> str:
        return f"c{c}|c{(c + 1) % classes}" if task == "multi_label" and i % 2 else f"c{c}"

    rows = [(f"text number {c} {i}", label(c, i), f"g{i}") for c in range(classes) for i in range(per_class)]
    tables = {"train": rows, "test": [(f"{t} x", x, g) for t, x, g in rows]}
    tables["foreign"] = [*tables["test"], ("another", "elsewhere", "g")]
    for name, content in tables.items():
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("text", "label", "group"), *content])
    return {name: folder / f"{name}.csv" for name in tables}


def attempt(settings: dict[str, Any]) -> DataError | None:
    try:
        assert prepare_data(build_config(settings)).evaluation
    except DataError as error:
        return error
    return None


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_hints_lead_to_a_run(task: str, change: dict[str, Any], tmp_path: Path) -> None:
    for classes, per_class in itertools.product((2, 4, 5, 7), (1, 2, 3)):
        tables = write_rows(tmp_path, classes, per_class, task)
        settings = {"data": tables["train"], "text": "text", "label": "label", "task": task}
        settings |= {key: tables.get(str(value), value) for key, value in change.items()}
        settings = {key: str(value) for key, value in settings.items()}
        error = attempt(settings)
        if error is None:
            continue
        assert error.hint, error
        offered = SETTING.findall(error.hint)
        for key, value in offered:
            assert attempt(settings | {key: value}) is None, f"{classes} x {per_class}: {error}"
        if "test=" in error.hint or "validation=" in error.hint:
            named = {key: str(tables["test"]) for key in ("test", "validation") if f"{key}=" in error.hint}
            fractions = dict.fromkeys(SETTING.findall(str(change)), None)
            assert attempt({k: v for k, v in settings.items() if k not in fractions} | named) is None, error
        elif not offered:
            assert classes * per_class < 4 and "4 rows or more" in error.hint, f"{classes} x {per_class}: {error}"


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_rows_that_teach_nothing_are_refused(task: str, tmp_path: Path) -> None:
    tables = write_rows(tmp_path, 4, 3, task)
    text = tables["train"].read_text()
    tables["train"].write_text(re.sub(r"text number \d+ \d+", "the same", text))
    settings = {"data": str(tables["train"]), "text": "text", "label": "label", "task": task}
    error = attempt(settings)
    assert error and "have the same text" in error.message and "text=" in (error.hint or "")
    tables["train"].write_text(re.sub(r"c\d(?:\|c\d)?", "c0", text))
    error = attempt(settings)
    assert error and "only the label 'c0'" in error.message
