"""The page Runs."""

from __future__ import annotations

import streamlit as st


def draw() -> None:
    """Draw the page."""
    st.title("Runs")
    st.text("See, compare and clean up runs")
