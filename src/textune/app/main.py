"""What is drawn for each visitor and each change: the password, the navigation, the chosen page."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import streamlit as st

from textune.app.password import ask_password, is_open, keep_open
from textune.app.session import guard_page


def _draw_later(module: str) -> Callable[[], None]:
    """Return what draws a page; its module, and all that it needs, is imported when it is drawn first."""

    def draw() -> None:
        importlib.import_module(f"textune.app.pages.{module}").draw()

    return draw


PAGES = (
    (_draw_later("try_text"), "Try", ":material/edit_note:", "try"),
    (_draw_later("batch"), "Batch", ":material/table_view:", "batch"),
    (_draw_later("train"), "Train", ":material/model_training:", "train"),
    (_draw_later("runs"), "Runs", ":material/leaderboard:", "runs"),
    (_draw_later("learn"), "Learn", ":material/school:", "learn"),
)
"""What draws each page, its title, its icon and its address, in the order of the navigation."""
FIRST, _ROOT = "try", "start"
"""The page that the app begins with has the app's own address, so that a hidden one has the page's."""


def run() -> None:
    """Draw the page that the visitor chose."""
    st.set_page_config(page_title="textune", page_icon="🎛️", layout="wide")
    opened = is_open()
    pages = {
        address: st.Page(draw, title=title, icon=icon, url_path=address if address != FIRST else _ROOT)
        for draw, title, icon, address in PAGES
    }
    others = [
        st.Page(draw, title=title, url_path=address, visibility="hidden")
        for draw, title, _, address in PAGES
        if address == FIRST
    ]
    # listed also before the password is known: otherwise the address that was asked for is lost
    chosen = st.navigation([*pages.values(), *others], position="sidebar" if opened else "hidden")
    if not opened:
        ask_password()
        return
    keep_open()
    st.session_state["pages"] = pages
    with guard_page():
        chosen.run()
