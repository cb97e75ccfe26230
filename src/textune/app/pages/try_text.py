"""The page Try."""

from __future__ import annotations

import streamlit as st


def draw() -> None:
    """Draw the page."""
    st.title("Try")
    st.text("Type a text and see what a run answers")
