"""What is drawn for each visitor and each change: the password, the navigation, the chosen page."""

from __future__ import annotations

import streamlit as st

from textune.app.pages import batch, learn, runs, train, try_text
from textune.app.session import ask_password, guard_page

PAGES = (
    (try_text.draw, "Try", ":material/edit_note:", "try"),
    (batch.draw, "Batch", ":material/table_view:", "batch"),
    (train.draw, "Train", ":material/model_training:", "train"),
    (runs.draw, "Runs", ":material/leaderboard:", "runs"),
    (learn.draw, "Learn", ":material/school:", "learn"),
)
"""What draws each page, its title, its icon and its address, in the order of the navigation."""


def run() -> None:
    """Draw the page that the visitor chose."""
    st.set_page_config(page_title="textune", page_icon="🎛️", layout="wide")
    if not ask_password():
        return
    pages = {
        address: st.Page(draw, title=title, icon=icon, url_path=address, default=address == "try")
        for draw, title, icon, address in PAGES
    }
    st.session_state["pages"] = pages
    with guard_page():
        st.navigation(list(pages.values())).run()
