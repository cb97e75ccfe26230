"""The log of a training, read as it grows, and few points of it drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("altair")

from textune.app.curves import (
    MOST_POINTS,
    Course,
    CourseReader,
    are_shares,
    draw_lines,
    list_compared_rows,
    list_loss_rows,
    list_score_rows,
    list_scores,
    thin_out,
)
from textune.progress import Silent
from textune.training.log import TrainingLog
from textune.training.signs import Signs

STEP = {"kind": "step", "step": 1, "epoch": 0.5, "loss": 0.7}
EVALUATION = {"kind": "evaluation", "step": 1, "epoch": 0.5, "loss": 0.6, "accuracy": 0.8, "macro_f1": 0.7}


def write(path: Path, *lines: Any, mode: str = "a", end: str = "\n") -> None:
    with path.open(mode) as stream:
        stream.write("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + end)


def test_only_whole_lines_are_read_and_each_once(tmp_path: Path) -> None:
    path, reader = tmp_path / "metrics.jsonl", CourseReader()
    assert reader.read(path).last == (0, 0.0)
    write(path, STEP, '{"kind": "step", "st', end="")
    assert reader.read(path).last == (1, 0.5)
    write(path, 'ep": 2, "epoch": 1.0, "loss": 0.5}')
    assert reader.read(path).last == (2, 1.0) and len(reader.read(path).steps) == 2


def test_a_log_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    path, reader = tmp_path / "metrics.jsonl", CourseReader()
    write(path, STEP, STEP | {"step": 2}, EVALUATION)
    assert len(reader.read(path).steps) == 2
    write(tmp_path / "new", STEP)
    (tmp_path / "new").replace(path)
    assert len(reader.read(path).steps) == 1 and not reader.read(path).evaluations


@pytest.mark.parametrize(
    "line",
    ["", "x", "[]", "3", '{"kind": "step"}', '{"kind": "step", "step": "x"}', '{"kind": "evaluation"}', '{"kind": 3}',
     '{"kind": "step", "step": 1, "epoch": null}'],
)  # fmt: skip
def test_a_damaged_line_is_left_out(line: str, tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", line, STEP)
    assert len(CourseReader().read(tmp_path / "metrics.jsonl").steps) == 1


def test_warnings_are_those_of_the_last_evaluation(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, tensorboard=False, active=True)
    signs, reader = Signs(Silent(), log), CourseReader()
    for step, texts in ((1, ["it does not learn"]), (2, ["it still does not learn", "it overfits"]), (3, [])):
        for text in texts:
            signs.warn("kind", step, text)
        log.write(EVALUATION | {"step": step})
        assert reader.read(tmp_path / "metrics.jsonl").signs == texts


def test_many_lines_are_told_apart_and_leave_room() -> None:
    rows = [{"epoch": 1.0, "value": 0.5, "line": f"run {at}"} for at in range(12)]
    chart = draw_lines(rows, "accuracy").to_dict()
    encoding = chart["layer"][0]["encoding"]
    looks = zip(encoding["color"]["scale"]["range"], map(tuple, encoding["strokeDash"]["scale"]["range"]), strict=True)
    assert len(set(looks)) == 12
    few = draw_lines(rows[:2], "accuracy").to_dict()
    assert chart["height"] - few["height"] >= 3 * 20, "three more lines of the legend"
    long = draw_lines([row | {"line": f"a name of many letters {at}"} for at, row in enumerate(rows)], "accuracy")
    assert long.to_dict()["layer"][0]["encoding"]["color"]["legend"]["columns"] == 1, "a narrow page shows them all"


def test_rows_of_the_charts() -> None:
    course = Course()
    for line in (STEP, EVALUATION, EVALUATION | {"accuracy": float("nan"), "loss": None}):
        course.add(line)
    assert [(row["line"], row["value"]) for row in list_loss_rows(course)] == [("training", 0.7), ("validation", 0.6)]
    assert {row["line"] for row in list_score_rows(course)} == {"accuracy", "macro F1"}
    course.evaluations[0]["micro_f1"] = course.evaluations[0]["accuracy"]  # as it is with one label per text
    assert {row["line"] for row in list_score_rows(Course(evaluations=course.evaluations[:1]))} == {
        "accuracy",
        "macro F1",
    }
    assert are_shares(list_score_rows(course)) and are_shares([])
    written = Course(evaluations=[{"kind": "evaluation", "epoch": 1.0, "loss": 5.0, "perplexity": 148.4}])
    assert [row["value"] for row in list_score_rows(written)] == [148.4] and not are_shares(list_score_rows(written))
    assert list_scores({"a": course, "b": Course()}) == ["accuracy", "macro_f1", "micro_f1", "loss"]
    assert list_compared_rows({"a": course}, "accuracy") == [{"epoch": 0.5, "value": 0.8, "line": "a"}]


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=60), st.integers(1, 20))
def test_thinned_points_keep_range_and_order(points: list[tuple[float, float]], most: int) -> None:
    points = sorted(points)
    thin = thin_out(points, most)
    assert 1 <= len(thin) <= most and thin == sorted(thin, key=lambda point: point[0])
    values = [y for _, y in points]
    assert all(min(values) - 1e-9 <= y <= max(values) + 1e-9 for _, y in thin)


def test_a_huge_log_gives_few_points() -> None:
    course = Course([(step, step / 100, 0.5) for step in range(100_000)])
    assert len(list_loss_rows(course)) <= MOST_POINTS
