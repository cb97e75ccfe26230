"""The page Train."""

from __future__ import annotations

import streamlit as st


def draw() -> None:
    """Draw the page."""
    st.title("Train")
    st.text("Train a classifier, and watch it")
