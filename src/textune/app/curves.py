"""The course of a training: its log read as it grows, few enough points to draw, and the charts."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.report.wording import name_metric

if TYPE_CHECKING:
    import altair

COLORS = ("#2f7ed8", "#e07b00", "#2a9d5c", "#c2408c", "#8a63d2", "#b08900", "#009aa6", "#d1495b")
"""Of the lines of a chart: told apart on light and on dark paper."""
_DASHES = ([1, 0], [6, 3], [2, 2])
"""Of the lines that have a color for the first, second and third time."""
_NARROWEST, _LETTER_PIXELS, _KEY_PIXELS, _LEGEND_PIXELS = 300, 6.5, 32, 24
"""Of a legend on a telephone: its width, and that of a letter and of a line's sign; the height of its lines."""
MOST_POINTS = 120
"""Of one line of a chart; more are averaged."""
_NOT_SCORES = ("kind", "step", "epoch", "loss", "train_loss")
PER_TOKEN = ("loss", "perplexity")
"""Scores that are no shares; of models that write, means over tokens."""


@dataclass
class Course:
    """What `metrics.jsonl` tells so far. steps: (step, epoch, loss) of each step; evaluations: its lines.

    warnings: step and text.
    """

    steps: list[tuple[int, float, float]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[tuple[int, str]] = field(default_factory=list)

    @property
    def last(self) -> tuple[int, float]:
        """Step and epoch of the last step."""
        return self.steps[-1][:2] if self.steps else (0, 0.0)

    @property
    def signs(self) -> list[str]:
        """Warnings of the last evaluation; those before it hold no longer."""
        last = self.evaluations[-1]["step"] if self.evaluations else 0
        return [text for step, text in self.warnings if step >= last]

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a line of the log; one that is not understood is left out."""
        kind = line.get("kind")
        try:
            if kind == "step":
                self.steps.append((*_read_place(line), float(line["loss"])))
            elif kind == "evaluation":
                step, epoch = _read_place(line)
                self.evaluations.append(dict(line) | {"step": step, "epoch": epoch})
            elif kind == "warning":
                self.warnings.append((int(line["step"]), str(line["text"])))
        except (KeyError, TypeError, ValueError, OverflowError):
            return


def _read_place(line: Mapping[str, Any]) -> tuple[int, float]:
    """Return step and epoch of a line; raise ValueError or OverflowError where they are not finite."""
    step, epoch = int(line["step"]), float(line["epoch"])
    if not (math.isfinite(step) and math.isfinite(epoch)):
        raise ValueError("not finite")
    return step, epoch


class CourseReader:
    """Reads only what was added to a log since the last time: it is asked every second or two."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, int, Course]] = {}
        self._lock = threading.Lock()

    def read(self, path: Path) -> Course:
        """Return the course in a log; an empty one if there is no log yet."""
        with self._lock:
            try:
                with path.open("rb") as stream:
                    return self._read_on(path, stream)
            except OSError:
                self._known.pop(path, None)
                return Course()

    def _read_on(self, path: Path, stream: Any) -> Course:
        import os

        facts = os.fstat(stream.fileno())
        file, offset, course = self._known.get(path, (facts.st_ino, 0, Course()))
        if file != facts.st_ino or offset > facts.st_size:  # a resumed training has written it anew
            offset, course = 0, Course()
        stream.seek(offset)
        added = stream.read()
        whole = added[: added.rfind(b"\n") + 1]
        for line in whole.splitlines():
            try:
                content = json.loads(line)
            except (ValueError, RecursionError):  # a line may be damaged, or nested without end
                continue
            if isinstance(content, dict):
                course.add(content)
        self._known[path] = (facts.st_ino, offset + len(whole), course)
        return course


def thin_out(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Return at most so many points; each is the mean of as many neighbors as fit."""
    if len(points) <= most:
        return [(float(x), float(y)) for x, y in points]
    size = -(-len(points) // most)
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def list_loss_rows(course: Course) -> list[dict[str, Any]]:
    """Return the points of the loss chart: of the training, smoothed where there are many, and of the validation."""
    training = thin_out([(epoch, loss) for _, epoch, loss in course.steps if math.isfinite(loss)])
    rows = [{"epoch": x, "value": y, "line": "training"} for x, y in training]
    return rows + [
        {"epoch": e["epoch"], "value": e["loss"], "line": "validation"} for e in course.evaluations if _is(e, "loss")
    ]


def list_score_rows(course: Course) -> list[dict[str, Any]]:
    """Return the points of the chart of the validation's scores; of scores that are always equal, only the first."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for e in course.evaluations:
        for name in e:
            if name not in _NOT_SCORES and _is(e, name):
                lines.setdefault(name, []).append((e["epoch"], e[name]))
    different = {tuple(points): name for name, points in reversed(lines.items())}
    return [
        {"epoch": epoch, "value": value, "line": name_metric(name)}
        for name, points in lines.items()
        if different[tuple(points)] == name
        for epoch, value in points
    ]


def are_shares(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the points of a chart of scores are shares, which are drawn as percent."""
    return not any(row["line"] in PER_TOKEN for row in rows)


def list_compared_rows(courses: Mapping[str, Course], score: str) -> list[dict[str, Any]]:
    """Return the points of one validation score for several runs, by the names that they are shown with."""
    return [
        {"epoch": e["epoch"], "value": e[score], "line": name}
        for name, course in courses.items()
        for e in course.evaluations
        if _is(e, score)
    ]


def list_scores(courses: Mapping[str, Course]) -> list[str]:
    """Return the names of the validation scores that any of the runs has, `loss` last."""
    found = dict.fromkeys(
        name
        for course in courses.values()
        for e in course.evaluations
        for name in e
        if name not in _NOT_SCORES and _is(e, name)
    )
    return [*found, "loss"]


def _is(evaluation: Mapping[str, Any], name: str) -> bool:
    value = evaluation.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def draw_lines(
    rows: Sequence[Mapping[str, Any]], title: str, *, percent: bool = False, height: int = 240
) -> altair.Chart:
    """Return a chart of lines over the epochs, with a legend below that does not narrow it."""
    import altair as alt

    lines = list(dict.fromkeys(str(row["line"]) for row in rows))
    few = {line: sum(row["line"] == line for row in rows) <= 40 for line in lines}
    axis = alt.Axis(format=".0%", tickCount=5) if percent else alt.Axis(tickCount=5)
    colors = alt.Scale(domain=lines, range=[COLORS[at % len(COLORS)] for at in range(len(lines))])
    longest = _KEY_PIXELS + _LETTER_PIXELS * max(map(len, lines), default=0)
    columns = max(min(int(_NARROWEST // longest), 3), 1)
    legend = alt.Legend(orient="bottom", labelLimit=_NARROWEST - _KEY_PIXELS, columns=columns)
    dashes = alt.Scale(domain=lines, range=[_DASHES[at // len(COLORS) % len(_DASHES)] for at in range(len(lines))])
    base = alt.Chart(alt.Data(values=[dict(row) for row in rows])).encode(
        x=alt.X(
            "epoch:Q", title="epoch", axis=alt.Axis(tickCount=6, format="~g"), scale=alt.Scale(nice=False, padding=8)
        ),
        y=alt.Y("value:Q", title=title, axis=axis, scale=alt.Scale(zero=False)),
        color=alt.Color("line:N", title=None, scale=colors, legend=legend),
        tooltip=[
            alt.Tooltip("line:N", title=" "),
            alt.Tooltip("epoch:Q", format=".2f"),
            alt.Tooltip("value:Q", title=title, format=".1%" if percent else ".3f"),
        ],
    )
    dotted = [line for line in lines if few[line]]
    points = base.transform_filter(alt.FieldOneOfPredicate("line", dotted)).mark_point(filled=True, size=36)
    drawn = base.mark_line(strokeWidth=2).encode(strokeDash=alt.StrokeDash("line:N", scale=dashes, legend=legend))
    below = _LEGEND_PIXELS * ((len(lines) - 1) // columns)  # a chart's height is that of its legend, too
    return (drawn + points).properties(height=height + below)
