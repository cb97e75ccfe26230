"""The page Batch: upload a table, choose its columns, classify it, look at the result and take it away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import streamlit as st

from textune.app.answers import is_paired
from textune.app.batch_files import (
    MOST_SHOWN,
    Checks,
    Choice,
    Form,
    Result,
    Start,
    Upload,
    check_upload,
    classify_upload,
    find_columns,
    read_start,
)
from textune.app.loading import Loaded, open_run
from textune.app.markup import Bar, write_bars
from textune.app.options import UPLOAD_MEGABYTES
from textune.app.plain import escape
from textune.app.reading import ask_reading
from textune.app.session import choose_run, offer_page, show_error
from textune.app.uploads import find_ending, list_endings
from textune.inference.files import list_writable
from textune.inference.writers import choose_ending
from textune.printable import count

T = TypeVar("T")
_MOST_BARS = 12
_FORMS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON lines", ".parquet": "Parquet", ".xlsx": "Excel"}
_MEMORIES = ("batch start", "batch checks", "batch result")


def draw() -> None:
    """Draw the page."""
    st.title("Batch", anchor=False)
    st.text("Classify all rows of a table. The file is read for that alone, and removed at once.")
    folder = choose_run("Run", "batch run")
    if folder is None:
        offer_page("Train a run", "train", key="batch to train")
        return
    upload = _ask_upload()
    if upload is None:
        return
    try:
        loaded = open_run(folder)
        file = (upload.name, len(upload.content), hash(upload.content), upload.delimiter, upload.encoding)
        start = _remember("batch start", file, lambda: read_start(upload))
    except Exception as error:
        show_error(error)
        return
    st.dataframe(
        {name: [row[at] for row in start.rows] for at, name in enumerate(start.columns)},
        hide_index=True,
        height="content",
    )
    st.caption(f"The first {len(start.rows)} rows")
    choice = _choose_columns(loaded, start)
    if choice is None:
        return
    asked = (str(folder), file, choice)
    try:
        checks = _remember("batch checks", asked, lambda: check_upload(upload, loaded.predictor, choice))
    except Exception as error:
        show_error(error)
        return
    _draw_checks(checks)
    _draw_classify(loaded, upload, choice, checks, asked)


def _ask_upload() -> Upload | None:
    """Draw the upload, and what to upload while there is nothing."""
    endings = " ".join(list_endings()[::2])
    file = st.file_uploader(
        f"A table of at most {UPLOAD_MEGABYTES} MB", key="batch file", help="Text formats may also be packed as .gz."
    )
    if file is None:
        for name in _MEMORIES:
            st.session_state.pop(name, None)
        st.info(escape(f"Upload a table with a column of texts: {endings}"), icon=":material/upload_file:")
        return None
    return Upload(file.name, file.getvalue(), **ask_reading(file.name, "batch"))


def _remember(name: str, key: object, build: Callable[[], T]) -> T:
    """Return what `build` gives, or what it gave in this session for the same key."""
    stored = st.session_state.get(name)
    if stored is None or stored[0] != key:
        st.session_state.pop(name, None)
        stored = (key, build())
        st.session_state[name] = stored
    built: T = stored[1]
    return built


def _choose_columns(loaded: Loaded, start: Start) -> Choice | None:
    """Draw the choice of columns; those of the training are chosen at first."""
    texts, second = find_columns(start, loaded.predictor)
    paired = is_paired(loaded.predictor)
    first, other = st.columns(2)
    chosen = first.multiselect("Text column", start.columns, default=texts, placeholder="Choose the column of texts")
    pair = None
    if paired:
        index = start.columns.index(second) if second is not None else None
        pair = other.selectbox("Second text", start.columns, index=index, placeholder="Choose the second column")
    if not chosen or (paired and pair is None):
        names = " and ".join(f"'{name}'" for name in loaded.predictor.manifest.columns.text)
        st.warning(
            escape(f"The run was trained on the column {names}. Choose what stands for it here."),
            icon=":material/view_column:",
        )
        return None
    return Choice(tuple(chosen), pair)


def _draw_checks(checks: Checks) -> None:
    """Show what is in the table."""
    with st.container(horizontal=True, gap="medium"):
        for name, value in checks.list_facts():
            st.metric(name, value, width="content")
    if checks.without_text:
        st.warning(f"{checks.without_text:,} rows have no text. They are kept and get no label.")
    for note in checks.notes:
        st.info(escape(note), icon=":material/info:")


def _draw_classify(loaded: Loaded, upload: Upload, choice: Choice, checks: Checks, asked: tuple[object, ...]) -> None:
    """Draw the form of the result and the button, and then the result."""
    endings = [ending for ending in list_writable() if ending in _FORMS]
    same = choose_ending(find_ending(upload.shown))
    first, second = st.columns(2, vertical_alignment="bottom")
    ending = first.selectbox(
        "Download as", endings, index=endings.index(same), format_func=_FORMS.__getitem__, key=f"batch form {same}"
    )
    each = second.toggle("Probability of every label", key="batch each")
    form = Form(ending or same, each)
    if st.button(f"Classify {count(checks.rows, 'row')}", type="primary", key="batch classify"):
        st.session_state.pop("batch result", None)
        _classify(loaded, upload, choice, form, checks.rows - checks.without_text, (*asked, form))
    stored = st.session_state.get("batch result")
    if stored is not None:
        _draw_result(stored[1], checks.notes, stale=stored[0] != (*asked, form))


def _classify(loaded: Loaded, upload: Upload, choice: Choice, form: Form, total: int, key: object) -> None:
    """Classify all rows while a bar shows how far it is; any other click stops it."""
    bar = st.progress(0.0, text="Classifying. Any change on this page stops it.")
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        bar.progress(min(done / max(total, 1), 1.0), text=f"{done:,} of {total:,} rows")

    try:
        st.session_state["batch result"] = (key, classify_upload(loaded, upload, choice, form, advance))
    except Exception as error:
        show_error(error)
    finally:
        bar.empty()


def _draw_result(result: Result, shown: Sequence[str], *, stale: bool) -> None:
    """Draw the counts, the rows with their filters, and the download.

    shown: notes that the page already shows. stale: whether the choices have changed since.
    """
    st.subheader("Result", anchor=False)
    if stale:
        st.warning("This result is that of the choices before. Classify again for the present ones.")
    st.download_button(
        f"Download {_FORMS[result.ending]}",
        result.content,
        result.name,
        mime="application/octet-stream",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
        key="batch download",
    )
    if result.escaped_cells:
        st.caption(
            f"{result.escaped_cells:,} cells that a spreadsheet would run as formulas got an apostrophe in front."
        )
    for note in result.notes:
        if note not in shown:
            st.info(escape(note), icon=":material/info:")
    total = sum(result.label_counts.values())
    ranked = sorted(result.label_counts.items(), key=lambda pair: -pair[1])
    if total:  # a model that writes gives no labels
        st.html(write_bars([Bar(label, count / total, f"{count:,}") for label, count in ranked[:_MOST_BARS]]))
    if len(ranked) > _MOST_BARS:
        st.caption(f"and {len(ranked) - _MOST_BARS:,} labels with fewer rows")
    _draw_rows(result, [label for label, count in ranked if count])


def _draw_rows(result: Result, labels: list[str]) -> None:
    shown = result.shown
    if not len(shown):
        return
    first, second, third = st.columns(3)
    wanted = first.multiselect("Labels", labels, key="batch labels", placeholder="all")
    most = 100
    if (shown.probabilities == shown.probabilities).any():
        most = second.slider("Probability at most", 0, 100, 100, format="%d%%", key="batch most")
    words = third.text_input("Text contains", key="batch words")
    rows = shown.filter(wanted, most / 100, words or "")
    of = f"the first {len(shown):,} of {result.rows:,}" if result.rows > MOST_SHOWN else f"{len(shown):,}"
    st.caption(f"{len(rows):,} of {of} rows")
    if len(rows):
        st.dataframe({name: [cells[i] for i in rows] for name, cells in shown.columns.items()}, hide_index=True)
    else:
        st.info("No row passes these filters.", icon=":material/filter_alt_off:")
