"""Run by Streamlit for each visitor and each change."""

from textune.app.main import run

run()
