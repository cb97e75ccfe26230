"""The page Runs: all runs and sweeps, one of them in detail, or several compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from textune.app.compared import draw_comparison
from textune.app.jobs import find_state, read_job
from textune.app.plain import escape
from textune.app.run_view import draw_run
from textune.app.session import draw_failure, list_entries, name_run_folder, offer_page
from textune.report.wording import format_date
from textune.run.listing import Entry

_CHOSEN, _TABLE = "chosen runs", "runs table"
_MOST_COMPARED = 12
_NAME_PIXELS = 240


def draw() -> None:
    """Draw the page."""
    st.title("Runs")
    draw_failure("runs")
    if note := st.session_state.pop("runs note", None):
        st.success(escape(note), icon=":material/check:")
    entries = list_entries()
    if not entries:
        st.info("There is no run yet.", icon=":material/inbox:")
        offer_page("Train one", "train", "train first")
        return
    folders = [entry.folder for entry in entries]
    asked = [one for one in folders if name_run_folder(one) in st.query_params.get_all("run")]
    st.session_state[_CHOSEN] = [one for one in st.session_state.get(_CHOSEN, asked) if one in folders]
    _draw_table(entries)
    chosen = st.multiselect(
        "Look at one run, or compare several",
        folders,
        key=_CHOSEN,
        format_func=name_run_folder,
        max_selections=_MOST_COMPARED,
        placeholder="choose here, or tick rows above",
    )
    st.query_params["run"] = [name_run_folder(one) for one in chosen]
    by_folder = {entry.folder: entry for entry in entries}
    if len(chosen) == 1:
        st.header(escape(name_run_folder(chosen[0])), anchor=False)
        draw_run(by_folder[chosen[0]])
    elif chosen:
        draw_comparison([Path(one) for one in chosen])


def list_columns(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """Return the table of all runs by column; scores are percentages, so that they sort as numbers."""
    return {
        "name": [name_run_folder(entry.folder) for entry in entries],
        "score": [None if entry.score is None else 100 * entry.score for entry in entries],
        "figure": [entry.figure for entry in entries],
        "rows": [entry.rows for entry in entries],
        "state": [_describe_state(entry) for entry in entries],
        "kind": [entry.kind for entry in entries],
        "method": [entry.method for entry in entries],
        "base model": [entry.backbone for entry in entries],
        "data": [entry.data for entry in entries],
        "made": [format_date(entry.created).removesuffix(" UTC") for entry in entries],
    }


def _describe_state(entry: Entry) -> str:
    """Return a word for how a run stands; the app knows of trainings that it started."""
    if not entry.state:
        return "finished"
    folder = Path(entry.folder)
    job = read_job(folder.name, folder.parent)
    return find_state(job).kind if job is not None else entry.state.partition(":")[0]


def _draw_table(entries: Sequence[Entry]) -> None:
    longest = max((len(name_run_folder(entry.folder)) for entry in entries), default=0)
    st.dataframe(
        list_columns(entries),
        key=_TABLE,
        hide_index=True,
        on_select=lambda: _take_selection([entry.folder for entry in entries]),
        selection_mode="multi-row",
        column_config={
            "name": st.column_config.TextColumn(width=min(_NAME_PIXELS, max(80, 9 * longest))),
            "score": st.column_config.NumberColumn(format="%.1f%%"),
            "rows": st.column_config.NumberColumn(format="localized"),
        },
    )


def _take_selection(folders: Sequence[str]) -> None:
    """Choose the runs whose rows were ticked."""
    ticked = st.session_state[_TABLE]["selection"]["rows"]
    st.session_state[_CHOSEN] = [folders[at] for at in ticked if at < len(folders)][:_MOST_COMPARED]
