"""The chart of score against cost: names that can be read, however many runs there are."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("streamlit")

from textune.app import compared
from textune.app.compared import BEATEN, OPTIMAL, draw_front, name_dots

DOTS = st.tuples(st.floats(1e-3, 1e9), st.floats(0, 1), st.booleans())


def make_rows(dots: list[tuple[float, float, bool]]) -> list[dict[str, Any]]:
    return [
        {"name": f"run {at}", "score": score, "low": score - 0.1, "high": score + 0.1, "cost": cost, "shown": "",
         "front": OPTIMAL if front else BEATEN}
        for at, (cost, score, front) in enumerate(dots)
    ]  # fmt: skip


@given(st.lists(DOTS, min_size=1, max_size=12))
def test_no_name_covers_another(dots: list[tuple[float, float, bool]]) -> None:
    rows = name_dots(make_rows(dots))
    named = [row for row in rows if row["written"]]
    assert named and all(row["written"] == row["name"] for row in named)
    assert any(row["front"] == OPTIMAL for row in named) or not any(front for _, _, front in dots)
    across = [math.log(row["cost"]) for row in rows]
    width = max(across) - min(across) or 1.0
    height = max(row["high"] for row in rows) - min(row["low"] for row in rows)
    for at, one in enumerate(named):
        for other in named[at + 1 :]:
            beside = abs(math.log(one["cost"] / other["cost"])) >= compared._NAME_WIDTH * width - 1e-9
            assert beside or abs(one["score"] - other["score"]) >= compared._NAME_HEIGHT * height - 1e-9


def test_runs_far_apart_are_all_named_and_drawn() -> None:
    rows = make_rows([(1, 0.5, True), (100, 0.7, True), (10_000, 0.6, False)])
    assert [row["written"] for row in name_dots(rows)] == ["run 0", "run 1", "run 2"]
    pytest.importorskip("altair")
    chart = draw_front(rows, "training time, seconds", "accuracy", "~g").to_dict()
    assert all("color" in layer["encoding"] for layer in chart["layer"] if layer["mark"]["type"] != "line")
