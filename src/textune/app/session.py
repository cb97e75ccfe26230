"""What the pages share: the options of the command, the runs to choose from, and how errors look."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from textune.app.options import DEFAULT_FOLDER, get_options
from textune.app.options import AppOptions as AppOptions
from textune.app.options import set_options as set_options
from textune.app.plain import escape
from textune.bundle import MANIFEST, find_run
from textune.errors import TextuneError

if TYPE_CHECKING:
    from textune.run.listing import Entry

TRIED, VERSIONS = "try runs", "try versions run"
"""The choices of runs on the page Try, by the keys of their widgets."""


def list_entries() -> list[Entry]:
    """Return all runs, sweeps and comparisons: those of the command's arguments, then those in `runs`, newest first."""
    from textune.run.listing import list_runs, read_entry  # which brings much that the first page can do without

    found: dict[Path, Entry] = {}
    for argument in get_options().runs:
        folder = find_run(argument)
        entry = read_entry(folder) if folder.is_dir() else None
        for one in [entry] if entry is not None else list_runs(folder):
            found.setdefault(Path(one.folder).resolve(), one)
    if DEFAULT_FOLDER.is_dir():
        for one in list_runs(DEFAULT_FOLDER):
            found.setdefault(Path(one.folder).resolve(), one)
    return list(found.values())


def list_run_folders() -> list[Path]:
    """Return the folders of finished runs, exports and sweeps' winners, which can classify."""
    folders = [Path(entry.folder) for entry in list_entries()]
    candidates = [place for folder in folders for place in (folder, folder / "winner")]
    return [folder for folder in candidates if (folder / MANIFEST).is_file()]


def choose_run(label: str, key: str) -> Path | None:
    """Draw a choice of a finished run and return its folder; None, with what to do, if there is none.

    label: of the page's own, since screen readers read it as it is, with marks that would keep Markdown away.
    """
    folders = list_run_folders()
    if not folders:
        st.info("There is no finished run yet. Train one on the page Train, or start the app with the folder of a run.")
        return None
    names = {str(folder): folder for folder in folders}
    if st.session_state.get(key) not in names:
        st.session_state.pop(key, None)
    chosen = st.selectbox(label, list(names), key=key, format_func=name_run_folder)
    return names.get(chosen) if chosen else None


def name_run_folder(folder: str | Path) -> str:
    """Return the name by which a run is shown: without the folder `runs`, in which most are."""
    path = Path(folder)
    return str(path.relative_to(DEFAULT_FOLDER)) if path.is_relative_to(DEFAULT_FOLDER) else str(path)


def list_pages() -> dict[str, Any]:
    """Return the pages by their addresses; empty where a page is drawn by itself."""
    pages: dict[str, Any] = st.session_state.get("pages", {})
    return pages


def offer_page(label: str, address: str, key: str, **state: Any) -> None:
    """Draw a button that leads to another page. state: what is chosen there, by the keys of its widgets."""
    page = list_pages().get(address)
    if page is None:
        return

    def choose() -> None:
        st.session_state.update(state)

    if st.button(label, key=key, on_click=choose):
        st.switch_page(page)


def offer_try(folder: str | Path, key: str) -> None:
    """Draw a button that leads to the page Try with a run chosen there, in both of its forms."""
    offer_page("Try it", "try", key, **{TRIED: [str(folder)], VERSIONS: str(folder)})


def show_error(error: BaseException) -> None:
    """Show an error as plain text: textune's own message and hint, the system's reason, or that this is a bug."""
    st.error(escape(describe_error(error)), icon=":material/error:")


def describe_error(error: BaseException) -> str:
    """Return an error's message: what is wrong and where, and what to do."""
    if isinstance(error, TextuneError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory\nuse less data, or a smaller model"
    if isinstance(error, OSError) and error.errno is not None:
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{place}{(error.strerror or str(error)).lower()}"
    reason = (str(error).splitlines() or [""])[0]
    return f"this is a bug in textune: {type(error).__name__}: {reason}\ntextune app --debug shows the traceback"


@contextlib.contextmanager
def guard_page() -> Iterator[None]:
    """Show what a page raises as an error on the page; Streamlit's own stops and reruns pass."""
    try:
        yield
    except Exception as error:
        if get_options().debug and not isinstance(error, TextuneError):
            raise
        show_error(error)


def attempt(page: str, act: Callable[..., Any], *arguments: Any) -> bool:
    """Do what a button is for and return whether it was done; `draw_failure` of the same page shows what went wrong.

    Streamlit runs callbacks before the page is drawn, where `guard_page` does not hold.
    """
    try:
        act(*arguments)
    except Exception as error:
        if get_options().debug and not isinstance(error, TextuneError):
            raise
        st.session_state[f"{page} error"] = describe_error(error)
        return False
    return True


def draw_failure(page: str) -> None:
    """Show once what went wrong in the callback of a button."""
    if error := st.session_state.pop(f"{page} error", None):
        st.error(escape(error), icon=":material/error:")
