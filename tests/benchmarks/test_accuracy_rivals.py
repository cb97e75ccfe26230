"""Costlier rivals of the accuracy frontier: their processes run, and the page pairs them draw by draw."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tiny import build_backbone

ROOT = Path(__file__).parents[2]
for folder in ("benchmarks", "docs"):
    if str(ROOT / folder) not in sys.path:
        sys.path.append(str(ROOT / folder))

import rivals  # noqa: E402  (from docs)

import right_rows  # noqa: E402  (from benchmarks)
import rival_side  # noqa: E402


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30))
def test_the_steps_of_a_setfit_epoch_are_those_of_its_pairs(labels: list[int]) -> None:
    pairs = list(itertools.combinations_with_replacement(labels, 2))
    alike = sum(a == b for a, b in pairs)
    assert rival_side.count_steps(labels) == math.ceil(2 * max(alike, len(pairs) - alike) / 16)


def test_trainer_with_peft_learns_in_a_process_without_textune(tmp_path: Path) -> None:
    texts = ["good film", "bad film", "good story", "bad story"] * 8
    work = {
        "texts": texts, "labels": [1, 0, 1, 0] * 8, "test": texts[:4], "seed": 1, "max_length": 16, "steps": 0,
        "backbone": str(build_backbone("bert", tmp_path / "tiny")),
    }  # fmt: skip
    task = tmp_path / "work.json"
    task.write_text(json.dumps(work), encoding="utf-8")
    words = [sys.executable, str(ROOT / "benchmarks" / "rival_side.py"), "trainer", str(task)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["steps"] == 6 and len(found["answers"]) == 4 and set(found["answers"]) <= {0, 1}
    assert "textune" not in found["versions"]


def make_cell(draw: int, right: list[int]) -> dict[str, Any]:
    bits = right_rows.pack(np.array(right, bool))
    share = sum(right) / len(right)
    return {"data": "d", "size": "8c", "draw": draw, "test_rows": len(right), "scores": {"textune": share},
            "right": {"textune": bits}}  # fmt: skip


def make_line(rival: str, draw: int, right: list[int]) -> dict[str, Any]:
    bits = right_rows.pack(np.array(right, bool))
    return {"rival": rival, "data": "d", "size": "8c", "draw": draw, "test_rows": len(right),
            "value": sum(right) / len(right), "right": bits, "steps": 9}  # fmt: skip


def test_a_rival_is_compared_on_the_draws_that_both_have(tmp_path: Path) -> None:
    path = tmp_path / "rivals.jsonl"
    lines = [make_line("setfit", 1, [1, 0] * 5), make_line("setfit", 3, [0] * 10), make_line("full", 9, [1] * 10)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    cells = [make_cell(1, [1] * 10), make_cell(2, [0] * 10), make_cell(3, [1, 0] * 5)]
    text = "\n".join(rivals.describe_rivals({("d", "8c"): cells}, {"8c": "8 per class"}, path))
    row = next(line for line in text.splitlines() if line.startswith("| SetFit"))
    assert [cell.strip() for cell in row.split("|")[1:7]] == ["SetFit", "d", "8 per class", "2", "**75.0**", "25.0"]
    assert row.split("|")[7].strip().startswith("+50.0")
    assert "| full" not in text  # no draw of it is in the frontier
    assert text.endswith("a lead of +50.0 points, the mean of 1 cell.")


def test_without_lines_there_is_no_section(tmp_path: Path) -> None:
    assert not list(rivals.describe_rivals({("d", "8c"): [make_cell(1, [1])]}, {}, tmp_path / "none.jsonl"))
