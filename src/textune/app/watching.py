"""A training as it goes: its state, its curves, Stop and Resume, drawn from the disk so that every page agrees."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from textune.app.curves import Course, CourseReader, are_shares, draw_lines, list_loss_rows, list_score_rows
from textune.app.jobs import (
    FAILED,
    FINISHED,
    STOPPED,
    STOPPING,
    TRAINING,
    Job,
    State,
    find_state,
    forget_job,
    list_jobs,
    read_progress,
    read_tail,
    resume_job,
    stop_job,
)
from textune.app.options import DEFAULT_FOLDER
from textune.app.plain import escape
from textune.app.results import find_verdict, list_results, open_run
from textune.app.session import attempt, draw_failure, guard_page, offer_page, offer_try, show_error
from textune.app.uploads import clean_uploads
from textune.errors import TextuneError

REFRESH_SECONDS = 2.0
_LOG_LINES = 40
_BADGES = {
    TRAINING: ("training", "blue", ":material/model_training:"),
    STOPPING: ("stopping", "orange", ":material/hourglass:"),
    FINISHED: ("finished", "green", ":material/check:"),
    STOPPED: ("stopped", "orange", ":material/pause:"),
    FAILED: ("failed", "red", ":material/error:"),
}


@st.cache_resource  # type: ignore[untyped-decorator]
def _reader() -> CourseReader:
    return CourseReader()


def read_course(run: Path) -> Course:
    """Return the course of a run's training so far."""
    reader: CourseReader = _reader()
    return reader.read(run / "metrics.jsonl")


def draw_trainings() -> bool:
    """Draw the training that is watched, and the choice among several; return whether there is any."""
    jobs = list_jobs(DEFAULT_FOLDER)
    if not jobs:
        return False
    states = {job.name: find_state(job) for job in jobs}
    names = sorted(states, key=lambda name: not states[name].live)
    if st.session_state.get("watched") not in names:
        asked = st.query_params.get("run", "")
        st.session_state["watched"] = asked if asked in names else names[0]
    with st.container(border=True):
        if len(names) > 1:
            st.selectbox("Training", names, key="watched", format_func=lambda name: f"{name} ({states[name].kind})")
        name = str(st.session_state["watched"])
        st.query_params["run"] = name
        live = states[name].live
        st.fragment(_draw_training, run_every=REFRESH_SECONDS if live else None)(name, live)
    return True


def _draw_training(name: str, live: bool) -> None:
    """Draw one training. live: whether it was at work when the whole page was drawn."""
    with guard_page():  # the page's own guard does not hold when this part is drawn again
        _draw_whole(name, live)


def _draw_whole(name: str, live: bool) -> None:
    job = next((job for job in list_jobs(DEFAULT_FOLDER) if job.name == name), None)
    state = None if job is None else find_state(job)
    if job is None or state is None or state.live != live:
        st.rerun()
        return
    course = read_course(job.run)
    _draw_head(job, state, course)
    if state.message:
        st.error(escape(state.message), icon=":material/error:")
    if course.steps or course.evaluations:
        _draw_curves(course)
    for warning in course.signs:
        st.warning(escape(warning), icon=":material/warning:")
    if state.kind == FINISHED:
        _draw_result(job)
    _draw_buttons(job, state)
    with st.expander("What it printed"):
        st.code("\n".join(read_tail(job.log).splitlines()[-_LOG_LINES:]) or "nothing yet", language=None)
    with st.expander("Its command"):
        st.code(job.command, language="bash", wrap_lines=True)
        if job.upload is not None and not Path(job.upload).exists():
            st.caption("Its table was an upload, which has been removed. To train on it again, upload it again.")


def _draw_head(job: Job, state: State, course: Course) -> None:
    label, color, icon = _BADGES[state.kind]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(escape(job.name), width="content")
        st.badge(label, color=color, icon=icon)
    step, epoch = course.last
    if not state.live:
        return
    progress = read_progress(job, step, epoch)
    if state.kind == STOPPING:
        text = "finishing its step and writing a checkpoint"
    elif progress.share is None or progress.share >= 1.0:
        text = progress.stage
    else:
        text = f"step {step:,}, epoch {epoch:.1f}" + (f", {progress.left}" if progress.left else "")
    st.progress(progress.share or 0.0, text=escape(text))


def _draw_curves(course: Course) -> None:
    losses, scores = list_loss_rows(course), list_score_rows(course)
    left, right = st.columns(2)
    if losses:
        left.altair_chart(draw_lines(losses, "loss"), width="stretch")
    if scores:
        right.altair_chart(draw_lines(scores, "on validation rows", percent=are_shares(scores)), width="stretch")


def _draw_result(job: Job) -> None:
    clean_uploads(DEFAULT_FOLDER)
    try:
        run = open_run(job.run)
    except TextuneError as error:
        show_error(error)
        return
    if verdict := find_verdict(run):
        st.text(verdict)
    rows = list_results(run)
    st.dataframe(
        {
            "model": [row["model"] for row in rows],
            rows[0]["figure"]: [100 * row["value"] for row in rows],
            "95% interval": [f"{100 * row['low']:.1f}% to {100 * row['high']:.1f}%" for row in rows],
        },
        hide_index=True,
        column_config={rows[0]["figure"]: st.column_config.NumberColumn(format="%.1f%%")},
    )


def _draw_buttons(job: Job, state: State) -> None:
    with st.container(horizontal=True):
        if state.live:
            label, key = ("Stop", "stop") if state.kind == TRAINING else ("Stop at once", "stop at once")
            about = (
                "Finishes the step, writes a checkpoint and keeps the best one; Resume goes on from there."
                if state.kind == TRAINING
                else "Ends it now: it goes on from the checkpoint before."
            )
            # A key of its own: the second click of two on Stop is then none on what has taken its place.
            st.button(
                label, key=key, icon=":material/stop:", help=about, on_click=attempt, args=("training", stop_job, job)
            )
        if state.resumable:
            st.button(
                "Resume",
                key="resume",
                icon=":material/play_arrow:",
                on_click=attempt,
                args=("training", resume_job, job),
                type="primary",
            )
        if state.kind == FINISHED:
            offer_page("See it on the page Runs", "runs", "see run", **{"chosen runs": [str(job.run)]})
            offer_try(job.run, "try run")
        if not state.live:
            st.button(
                "Clear from this page",
                key="forget",
                help="The run stays where it is.",
                on_click=attempt,
                args=("training", forget_job, job.name, job.runs_dir),
            )
    draw_failure("training")
