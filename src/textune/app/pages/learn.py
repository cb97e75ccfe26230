"""The page Learn."""

from __future__ import annotations

import streamlit as st


def draw() -> None:
    """Draw the page."""
    st.title("Learn")
    st.text("See how texts become tokens, and what each method trains")
