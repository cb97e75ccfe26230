"""The page Batch."""

from __future__ import annotations

import streamlit as st


def draw() -> None:
    """Draw the page."""
    st.title("Batch")
    st.text("Classify a whole table")
