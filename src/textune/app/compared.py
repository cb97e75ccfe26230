"""Several runs side by side: their table, every paired test, and the score against what a run costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from textune.app.curves import COLORS, PER_TOKEN, draw_lines, list_compared_rows, list_scores
from textune.app.frame import wrap_page
from textune.app.plain import escape
from textune.app.session import name_run_folder, show_error
from textune.app.watching import read_course
from textune.errors import DataError, TextuneError, show_command
from textune.report.comparison import COSTS, FRONTS, Comparison, conclude, format_cost, note
from textune.report.comparison_page import format_mcnemar, format_p, list_cells, list_header, list_legend
from textune.report.wording import name_metric, points
from textune.version import __version__

if TYPE_CHECKING:
    import altair

OPTIMAL, BEATEN = "Pareto-optimal", "beaten"
_NAME_WIDTH, _NAME_HEIGHT = 0.3, 0.08
"""How much of a chart's width and height a written name takes, on a narrow page."""


def draw_comparison(folders: Sequence[Path]) -> None:
    """Draw what several runs have in common: their curves, and a comparison if they were measured on the same rows."""
    courses = {name_run_folder(folder): read_course(folder) for folder in folders}
    scores = list_scores(courses)
    if any(course.evaluations for course in courses.values()):
        st.subheader("Curves", anchor=False)
        score = st.selectbox(
            "Score on the validation rows", scores, format_func=name_metric, key="compared score", width=320
        )
        rows = list_compared_rows(courses, score)
        shares = score not in PER_TOKEN
        st.altair_chart(draw_lines(rows, name_metric(score), percent=shares, height=300), width="stretch")
        if "perplexity" in scores and not shares:
            st.caption("A mean over tokens: where base models have other tokenizers, it cannot be compared.")
    st.subheader("Comparison", anchor=False)
    try:
        comparison = _compare(tuple(map(str, folders)), tuple(_stamp(folder) for folder in folders))
    except DataError as error:  # nothing is broken: these runs cannot be told apart by the same rows
        st.warning(escape(error), icon=":material/rule:")
        return
    except TextuneError as error:
        show_error(error)
        return
    _draw_tables(comparison)
    _draw_fronts(comparison)
    st.code(show_command("compare", *folders), language="bash", wrap_lines=True)
    with st.expander("The whole comparison as a page"):
        _draw_page(comparison)


def _stamp(folder: Path) -> float:
    path = folder / "evaluation" / "metrics.json"
    return path.stat().st_mtime if path.is_file() else 0.0


@st.cache_resource(max_entries=8, show_spinner="Comparing the runs row by row")  # type: ignore[untyped-decorator]
def _compare(folders: tuple[str, ...], stamps: tuple[float, ...]) -> Comparison:
    from textune.compare.comparison import compare_runs

    return compare_runs([Path(folder) for folder in folders])


def _draw_tables(comparison: Comparison) -> None:
    st.text("\n".join(conclude(comparison)))
    for line in note(comparison):
        st.caption(escape(line))
    header = [name or f"on {comparison.rows:,} {comparison.split} rows" for name in list_header(comparison)]
    header = [f"{name} of macro F1" if name in header[:at] else name for at, name in enumerate(header)]
    cells = [list_cells(candidate) for candidate in comparison.table]
    st.dataframe({name: [row[at] for row in cells] for at, name in enumerate(header)}, hide_index=True)
    for line in list_legend(comparison):
        st.caption(escape(line))
    if comparison.pairs:
        st.dataframe(list_pairs(comparison), hide_index=True)


def list_pairs(comparison: Comparison) -> dict[str, list[str]]:
    """Return the paired tests by column."""
    pairs = comparison.pairs
    return {
        "pair": [f"{p.a} − {p.b}" for p in pairs],
        "points": [points(p.test.lead.mean) for p in pairs],
        "95% interval": [f"{points(p.test.lead.low)} to {points(p.test.lead.high)}" for p in pairs],
        "McNemar": [format_mcnemar(p) for p in pairs],
        "p": [format_p(p.test.p) for p in pairs],
        "p (Holm)": [format_p(p.adjusted) for p in pairs],
        "verdict": [p.verdict for p in pairs],
    }


def list_priced(comparison: Comparison, cost: str) -> list[dict[str, Any]]:
    """Return the candidates whose cost is known, for a chart."""
    return [
        {
            "name": c.name,
            "score": c.value,
            "low": c.interval.low,
            "high": c.interval.high,
            "cost": c.costs[cost],
            "shown": format_cost(cost, c.costs[cost]),
            "front": OPTIMAL if cost in c.fronts else BEATEN,
        }
        for c in comparison.candidates
        if c.costs.get(cost)
    ]


def _draw_fronts(comparison: Comparison) -> None:
    """Draw the score against each cost, with a line through what nothing beats."""
    charts = [(cost, rows) for cost in FRONTS if len(rows := list_priced(comparison, cost)) > 1]
    for place, (cost, rows) in zip(st.columns(max(len(charts), 1)), charts, strict=False):
        seconds = cost.endswith("_seconds")
        title = f"{COSTS[cost]}, seconds" if seconds else COSTS[cost]
        chart = draw_front(rows, title, comparison.figure, "~g" if seconds else "~s")
        place.altair_chart(chart, width="stretch")


def name_dots(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with the name that is `written` at each dot: none where it would cover another one.

    What nothing beats comes first, then the best. The others are named when the mouse is over them, and in the table.
    """
    across = [math.log(row["cost"]) for row in rows]
    width = max(across) - min(across) or 1.0
    height = max(row["high"] for row in rows) - min(row["low"] for row in rows) or 1.0
    written: dict[int, str] = {}
    for at in sorted(range(len(rows)), key=lambda at: (rows[at]["front"] == BEATEN, -rows[at]["score"], at)):
        covers = any(
            abs(across[at] - across[other]) < _NAME_WIDTH * width
            and abs(rows[at]["score"] - rows[other]["score"]) < _NAME_HEIGHT * height
            for other in written
        )
        if not covers:
            written[at] = rows[at]["name"]
    return [dict(row) | {"written": written.get(at, "")} for at, row in enumerate(rows)]


def draw_front(rows: Sequence[dict[str, Any]], cost: str, figure: str, form: str) -> altair.LayerChart:
    """Return a chart of the score against a cost. form: how the cost's numbers are written."""
    import altair as alt

    base = alt.Chart(alt.Data(values=name_dots(rows))).encode(
        x=alt.X(
            "cost:Q",
            title=cost,
            scale=alt.Scale(type="log", nice=False, padding=24),
            axis=alt.Axis(format=form, tickCount=6),
        ),
        tooltip=[
            alt.Tooltip("name:N", title=" "),
            alt.Tooltip("score:Q", title=figure, format=".1%"),
            alt.Tooltip("shown:N", title=cost),
        ],
    )
    score = alt.Y("score:Q", title=figure, axis=alt.Axis(format=".0%"), scale=alt.Scale(zero=False))
    front = base.transform_filter(alt.datum.front == OPTIMAL).mark_line(interpolate="step-after").encode(y=score)
    scale = alt.Scale(domain=[OPTIMAL, BEATEN], range=COLORS[:2])
    colors = alt.Color("front:N", title=None, legend=alt.Legend(orient="bottom", symbolOpacity=1), scale=scale)
    spans = base.mark_rule(opacity=0.35).encode(y=alt.Y("low:Q", title=figure), y2="high:Q", color=colors)
    dots = base.mark_point(filled=True, size=90, opacity=1).encode(y=score, color=colors)
    names = base.mark_text(dy=-12, limit=220).encode(y=score, text="written:N", color=colors)
    return (spans + front + dots + names).properties(height=300)


def _draw_page(comparison: Comparison) -> None:
    from textune.report.comparison_page import render_comparison

    page = render_comparison(comparison, __version__)
    st.iframe(wrap_page(page, "Comparison"), height=900, alt="Comparison")
    st.download_button("Download the page", page, file_name="comparison.html", mime="text/html", key="comparison page")
