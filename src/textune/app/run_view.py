"""One run on the page Runs: its report, its curves, where it errs, its labels, exports, and how it is deleted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from textune.app.answers import read_kind
from textune.app.curves import are_shares, draw_lines, list_loss_rows, list_score_rows
from textune.app.frame import read_page, wrap_page
from textune.app.marks import (
    OTHER_TABLE,
    Evaluated,
    WrongRow,
    count_marks,
    mark_row,
    place_review,
    plan_training,
    read_evaluated,
    read_marks,
)
from textune.app.plain import escape, shorten
from textune.app.removal import plan_removal, remove
from textune.app.session import attempt, offer_try, show_error
from textune.app.watching import read_course
from textune.bundle import is_finished
from textune.errors import TextuneError, show_command, show_resume
from textune.report.wording import percent, span
from textune.run.listing import Entry
from textune.run.places import FRAME

REPORT, CURVES, SLICES, LABELS, EXPORT, DELETE = "Report", "Curves", "Errors", "Labels", "Export", "Delete"
_ROWS_AT_ONCE = 10
_LONGEST_TEXT = 2_000


def draw_run(entry: Entry) -> None:
    """Draw one run, sweep or comparison."""
    folder = Path(entry.folder)
    parts = list_parts(entry)
    part = st.segmented_control(
        "Part", parts, default=parts[0], key=f"part {entry.folder}", label_visibility="collapsed"
    )
    draw = {
        REPORT: _draw_report,
        CURVES: _draw_curves,
        SLICES: _draw_slices,
        LABELS: _draw_labels,
        EXPORT: _draw_export,
        DELETE: _draw_delete,
    }
    try:
        draw[part or parts[0]](folder, entry)
    except (TextuneError, OSError) as error:
        show_error(error)


def list_parts(entry: Entry) -> list[str]:
    """Return which parts there are for what lies in a folder."""
    if entry.kind == "run" and is_finished(Path(entry.folder)):
        errors = [SLICES, LABELS] if read_kind(Path(entry.folder)).gives_labels else []
        return [REPORT, CURVES, *errors, EXPORT, DELETE]
    if entry.kind in ("sweep", "comparison"):
        return [REPORT, DELETE]
    return [CURVES, DELETE] if entry.kind == "run" else [DELETE]


def _draw_report(folder: Path, entry: Entry) -> None:
    is_run = entry.kind == "run"
    path = folder / "evaluation" / "report.html" if is_run else folder / "report.html"
    if entry.state and not path.is_file():
        st.info(escape(entry.state), icon=":material/pause:")
        return
    command = show_command("report", folder, "-o", "report.html")
    page = read_page(path, f"write it to another file with: {command}" if is_run else None)
    with st.container(horizontal=True):
        st.download_button("Download the report", page, f"{entry.name}.html", "text/html", key=f"report {entry.folder}")
        if is_run:
            offer_try(entry.folder, f"try {entry.folder}")
    st.iframe(wrap_page(page, f"Report of {entry.name}"), height=1000, alt=f"Report of {entry.name}")


def _draw_curves(folder: Path, entry: Entry) -> None:
    if entry.state:
        st.info(escape(entry.state), icon=":material/pause:")
    course = read_course(folder)
    losses, scores = list_loss_rows(course), list_score_rows(course)
    if not losses and not scores:
        st.info("This run keeps no log of its training.")
        return
    left, right = st.columns(2)
    if losses:
        left.altair_chart(draw_lines(losses, "loss", height=320), width="stretch")
    if scores:
        right.altair_chart(
            draw_lines(scores, "on validation rows", percent=are_shares(scores), height=320), width="stretch"
        )
    for warning in course.signs:
        st.warning(escape(warning), icon=":material/warning:")


@st.cache_resource(max_entries=8, show_spinner="Looking for where it errs")  # type: ignore[untyped-decorator]
def _analyse(folder: str, stamp: float) -> Any:
    from textune.run.error_analysis import find_errors

    return find_errors(folder)


def _stamp(folder: Path) -> float:
    path = folder / "evaluation" / "predictions.parquet"
    return path.stat().st_mtime if path.is_file() else 0.0


def _draw_slices(folder: Path, entry: Entry) -> None:
    found = _analyse(str(folder), _stamp(folder))
    st.text(f"{found.errors:,} of {found.rows:,} rows are wrong: {found.source}")
    if found.slices.slices:
        st.markdown("**Rows with more errors than chance explains**")
        st.dataframe(
            {
                "rows where": [each.description for each in found.slices.slices],
                "rows": [each.rows for each in found.slices.slices],
                "errors": [each.errors for each in found.slices.slices],
                "error rate": [percent(each.error_rate) for each in found.slices.slices],
                "95% interval": [span(each.interval) for each in found.slices.slices],
                "lift": [f"{each.lift:.1f}x" for each in found.slices.slices],
                "p (corrected)": [f"{each.adjusted_p:.2g}" for each in found.slices.slices],
            },
            hide_index=True,
        )
    elif found.slices.looks:
        st.info("No kind of row has more errors than chance explains.")
    elif found.errors:
        st.info("There are too few rows to look for groups with more errors.")
    if found.slices.looks:
        st.caption(escape(found.slices.describe()))
    if found.confused:
        st.markdown("**Classes most often confused**")
        st.dataframe(
            {
                "class": [pair.a for pair in found.confused],
                "other class": [pair.b for pair in found.confused],
                "class given as the other": [pair.a_as_b for pair in found.confused],
                "the reverse": [pair.b_as_a for pair in found.confused],
            },
            hide_index=True,
        )


@st.cache_resource(max_entries=8, show_spinner="Reading the rows that it gets wrong")  # type: ignore[untyped-decorator]
def _read_evaluated(folder: str, stamp: float) -> Evaluated:
    return read_evaluated(Path(folder))


def _draw_labels(folder: Path, entry: Entry) -> None:
    evaluated: Evaluated = _read_evaluated(str(folder), _stamp(folder))
    rows = evaluated.wrong
    if not rows:
        st.success("There is no row whose label differs from the answer.")
        return
    review = place_review(folder)
    marks = read_marks(review)
    st.text("Where the label differs from the answer, most confident first. Is the label wrong? One click marks it.")
    pages = -(-len(rows) // _ROWS_AT_ONCE)
    page = 1 if pages == 1 else _choose_page(pages, f"page {folder}")
    for row in rows[(page - 1) * _ROWS_AT_ONCE : page * _ROWS_AT_ONCE]:
        _draw_wrong(folder, row, marks.get(row.key), evaluated.removals)
    if foreign := evaluated.list_foreign(marks):
        count = f"{len(foreign):,} {'mark is' if len(foreign) == 1 else 'marks are'}"
        st.warning(escape(f"{review}: {count} about other texts; {OTHER_TABLE}"), icon=":material/warning:")
    if marks and not foreign:
        st.success(escape(f"{count_marks(marks)} in {review}"), icon=":material/check:")
        _draw_retraining(folder, review)


def _choose_page(pages: int, key: str) -> int:
    """Draw the choice of a page. There may be fewer of them than when one was chosen."""
    if key in st.session_state:
        st.session_state[key] = min(st.session_state[key], pages)
    return int(st.number_input(f"Page, 1 to {pages:,}", 1, pages, key=key, width=160))


def _draw_retraining(folder: Path, review: Path) -> None:
    """Show the command that trains with the marks, and what it needs where a table is gone, as an upload is."""
    plan = plan_training(folder, review)
    if plan.warning is not None:
        st.warning(escape(plan.warning), icon=":material/warning:")
    for name, path in plan.missing.items():
        gone = (
            f"{name}= was a data frame in Python. Save it as a table"
            if path == FRAME
            else f"{name}={path} no longer exists: an upload is removed when its training has finished. "
            "Save the table on this machine again"
        )
        st.warning(escape(f"{gone}, and write its path in place of PATH."), icon=":material/warning:")
    st.text("Train again with them:")
    st.code(plan.command, language="bash", wrap_lines=True)


def _draw_wrong(folder: Path, row: WrongRow, mark: str | None, removals: Sequence[str]) -> None:
    """Draw a row with its buttons. removals: the words that take it out, as a review file has them."""
    review = place_review(folder)
    key = f"{review} {row.table} {row.row}"

    def draw_button(title: str, name: str, correct: str | None) -> None:
        arguments = ("runs", mark_row, review, row, correct, folder)
        st.button(title, key=f"{name} {key}", on_click=attempt, args=arguments)

    with st.container(border=True):
        text = row.text if row.text_pair is None else f"{row.text}\n{row.text_pair}"
        st.text(text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…")
        st.caption(
            escape(
                f"{row.table} row {row.row:,}: labelled '{row.label}', answer '{row.predicted}' {row.probability:.1%}"
            )
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            if mark is None:
                right = escape(shorten(f"Wrong: it is '{row.predicted or 'no label'}'", 60))
                if row.predicted:
                    draw_button(right, "mark", row.predicted)
                if removals:
                    draw_button("Take the row out", "drop", removals[0])
            else:
                what = "the row is taken out" if mark.strip() in removals else f"marked as '{shorten(mark, 40)}'"
                st.badge(escape(what), icon=":material/check:", color="green")
                draw_button("Undo", "undo", None)


def _draw_export(folder: Path, entry: Entry) -> None:
    from textune.export.api import list_forms
    from textune.process.child import explain_failure, run_child

    form = st.radio("Form", list_forms(folder), key=f"form {folder}", horizontal=True, format_func=_describe_form)
    words = ["export", str(folder), "--to", form]
    st.code(show_command("export", folder, "--to", form), language="bash", wrap_lines=True)
    if st.button("Export", key=f"export {folder}", type="primary"):
        with st.spinner("Exporting, and loading it again to check it"):
            done = run_child(words, quiet=True)
        if done.code:
            raise explain_failure("export", done)
        st.success("Exported.")
        st.code(done.output.strip(), language=None, wrap_lines=True)


def _describe_form(form: str) -> str:
    about = {
        "merged": "merged, for transformers",
        "onnx": "onnx, without torch",
        "onnx-int8": "onnx-int8, a quarter as large",
        "space": "space, a demo for Hugging Face Spaces",
    }
    return about.get(form, form)


def _draw_delete(folder: Path, entry: Entry) -> None:
    if entry.state.startswith("interrupted"):
        st.text(f"It can go on: {show_resume(folder, search=entry.kind == 'sweep')}")
    plan = plan_removal(folder)
    st.warning(escape(f"Deletes {folder}: {plan.files:,} files, {plan.size / 1e6:,.1f} MB. There is no way back."))
    with st.form(f"delete {folder}", width=480):
        typed = st.text_input("Type its name to delete it", key=f"typed {folder}", placeholder=folder.name)
        if st.form_submit_button("Delete", icon=":material/delete:"):
            remove(folder, typed.strip())
            st.session_state["runs note"] = f"{folder} was deleted"
            st.rerun()
