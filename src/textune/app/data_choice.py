"""The table to train on: chosen, previewed, checked and forecast. What is slow is done on demand and remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st

from textune.app.options import DEFAULT_FOLDER, UPLOAD_MEGABYTES
from textune.app.plain import escape, shorten
from textune.app.reading import ask_reading
from textune.app.session import describe_error
from textune.app.settings_form import Request, name_source
from textune.app.uploads import list_endings, remove_upload, store_upload
from textune.bundle import expand_home
from textune.data import ReadOptions, list_reading_settings, stream_tables
from textune.data.embedded import EMBEDDED
from textune.errors import TextuneError

_PREVIEW_ROWS, _PREVIEW_LETTERS = 5, 300
SAMPLE, PATH, UPLOAD = "Film reviews", "A file on this machine", "Upload"


@dataclass(frozen=True)
class Head:
    """The beginning of a table: its columns, and its first rows with long cells cut."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Source:
    """A chosen table. upload: the file, if it was uploaded. reading: the settings by which it becomes text, as typed.

    asked: the names of the settings that were asked for.
    """

    data: str
    upload: Path | None = None
    reading: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()


def read_head(data: str, reading: Mapping[str, str] | None = None) -> Head:
    """Read the beginning of a table; raise what reading it raises. reading: settings by which it becomes text."""
    head: Head = _read_head(name_source(data), _stamp(data), **reading or {})
    return head


def _stamp(data: str) -> tuple[float, int]:
    """Return what changes when a file does."""
    try:
        facts = expand_home(data).stat()
    except (OSError, ValueError):  # ValueError: a null character
        return (0.0, 0)
    return (facts.st_mtime, facts.st_size)


@st.cache_data(max_entries=16, ttl=600, show_spinner="Reading the table")  # type: ignore[untyped-decorator]
def _read_head(
    source: str, stamp: tuple[float, int], delimiter: str | None = None, encoding: str | None = None
) -> Head:
    chunks = stream_tables(source, ReadOptions(encoding, delimiter), chunk_rows=50)
    table = next(iter(chunks), None)
    if table is None:
        return Head((), ())
    cells = [table.arrow.column(name).slice(0, _PREVIEW_ROWS).to_pylist() for name in table.columns]
    rows = [
        tuple("" if cell is None else shorten(cell, _PREVIEW_LETTERS) for cell in row)
        for row in zip(*cells, strict=True)
    ]
    return Head(tuple(table.columns), tuple(rows))


def choose_source() -> Source | None:
    """Draw the choice of a table, and return it once there is one."""
    kind = st.radio(
        "Where is it?", [SAMPLE, PATH, UPLOAD], horizontal=True, key="source kind", label_visibility="collapsed"
    )
    if kind == SAMPLE:
        name = st.selectbox("Data set", EMBEDDED, key="embedded", help=escape("Labelled film reviews: 0 bad, 1 good."))
        return Source(f"embedded:{name}")
    if kind == PATH:
        path = st.text_input(
            "Path",
            key="path",
            placeholder="reviews.csv",
            help=escape(f"A table ({' '.join(list_endings()[::2])}), a folder with a folder per class, or hub:NAME."),
        ).strip()
        if not path or path.startswith(("hub:", "embedded:")):
            return Source(path) if path else None
        return Source(path, None, ask_reading(path, "set"), list_reading_settings(path))
    return _take_upload()


def _take_upload() -> Source | None:
    """Draw the upload; store a new file where a training can read it, and remove the one before."""
    file = st.file_uploader(
        f"A table of at most {UPLOAD_MEGABYTES} MB: {' '.join(list_endings()[::2])}",
        key="upload",
        help="It is kept in a private folder beside the runs while a training needs it, and removed afterwards.",
    )
    stored: tuple[str, str] | None = st.session_state.get("stored upload")
    if stored is not None and (file is None or stored[0] != file.file_id):
        _drop(Path(stored[1]))
        st.session_state.pop("stored upload")
        stored = None
    if file is None:
        return None
    reading = ask_reading(file.name, "set")
    if stored is None:
        path = store_upload(file.name, file.getvalue(), DEFAULT_FOLDER)
        try:
            read_head(str(path), reading)
        except BaseException:  # what cannot be read is not kept; a page that is drawn anew stores it again
            remove_upload(path, DEFAULT_FOLDER)
            raise
        stored = (file.file_id, str(path))
        st.session_state["stored upload"] = stored
    return Source(stored[1], Path(stored[1]), reading, list_reading_settings(file.name))


def _drop(path: Path) -> None:
    from textune.app.uploads import is_needed

    if not is_needed(path, DEFAULT_FOLDER):
        remove_upload(path, DEFAULT_FOLDER)


def draw_preview(head: Head) -> None:
    """Show the first rows."""
    st.dataframe(
        {name: [row[at] for row in head.rows] for at, name in enumerate(head.columns)},
        hide_index=True,
        height="content",
    )


def draw_checks(request: Request) -> None:
    """Draw the buttons for the checks and the forecast, and what they found."""
    first, second, _ = st.columns([1, 1, 2])
    key = " ".join(request.list_words())
    if first.button("Check the data", key="check", width="stretch", help="What textune inspect finds"):
        with st.spinner("Reading, splitting and tokenizing the rows"):
            st.session_state["checks"] = (key, _check(request))
    if second.button("Forecast", key="forecast", width="stretch", help="Rehearses the run for 15 to 20 seconds"):
        with st.spinner("Rehearsing the run, which takes 15 to 20 seconds"):
            st.session_state["forecast of"] = (key, _forecast(request))
    for name, title in (("checks", "Checks"), ("forecast of", "Forecast")):
        done = st.session_state.get(name)
        if done is not None:
            _draw_found(title, done[1], stale=done[0] != key)


@dataclass(frozen=True)
class Found:
    """What a check found. facts: names and values. error: why there are none."""

    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    error: str = ""


def _check(request: Request) -> Found:
    from textune.run.inspection import inspect_data

    try:
        found = inspect_data(request.build())
    except (TextuneError, OSError, MemoryError) as error:
        return Found(error=describe_error(error))
    return Found(found.facts, found.prepared.notes, found.prepared.warnings)


def _forecast(request: Request) -> Found:
    from textune.config import parse_settings
    from textune.plan.api import plan
    from textune.progress import Silent, format_seconds

    try:
        words = request.list_words()
        (forecast,) = plan(words[1], progress=Silent(), **parse_settings(words[2:]))
    except (TextuneError, OSError) as error:
        return Found(error=describe_error(error))
    facts = [
        ("time", f"{format_seconds(forecast.run_seconds)}, training {format_seconds(forecast.training_seconds)}"),
        ("memory", f"{forecast.peak_memory_mb:,.0f} MB at most"),
        ("disk", f"{forecast.disk_mb:,.1f} MB, while training {forecast.disk_while_training_mb:,.1f} MB"),
        ("trained parameters", f"{forecast.trainable_parameters:,} of {forecast.total_parameters:,}"),
        ("steps", f"{forecast.settings['steps']:,} of {forecast.settings['batch_size']} rows"),
    ]
    return Found(facts, forecast.notes)


def _draw_found(title: str, found: Found, *, stale: bool) -> None:
    """Show what a check found; stale: the settings have changed since."""
    with st.container(border=True):
        st.markdown(f"**{title}**" + (" of the settings before" if stale else ""))
        if found.error:
            st.error(escape(found.error), icon=":material/error:")
        if found.facts:
            width = max(len(name) for name, _ in found.facts)
            st.code(
                "\n".join(f"{name:<{width}}  {value}" for name, value in found.facts), language=None, wrap_lines=True
            )
        for warning in found.warnings:
            st.warning(escape(warning), icon=":material/warning:")
        if found.notes:
            with st.expander(f"{len(found.notes)} notes"):
                st.text("\n".join(found.notes))
