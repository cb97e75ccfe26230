"""How a file becomes text, where that is not detected: asked for before its first row is read, alike on every page."""

from __future__ import annotations

import streamlit as st

from textune.app.settings_form import choose_values, list_fields
from textune.data import list_reading_settings

_HELP = {
    "delimiter": "The character between columns, or tab.",
    "encoding": "Such as utf-8, latin-1 or utf-16.",
}


def ask_reading(name: str, keys: str) -> dict[str, str]:
    """Draw the settings by which a file becomes text, and return those that were filled in.

    name: of the file. keys: what the keys of the widgets begin with.
    """
    fields = list_fields(list_reading_settings(name))
    if not fields:
        return {}
    typed: dict[str, str] = {}
    filled_in = any(st.session_state.get(f"{keys} {field.name}") for field in fields)  # perhaps for the file before
    with st.expander("How the file is read", expanded=filled_in, icon=":material/tune:"):
        for place, field in zip(st.columns(2), fields, strict=False):
            typed[field.name] = place.text_input(
                field.name.capitalize(),
                key=f"{keys} {field.name}",
                placeholder="detected",
                help=_HELP[field.name],
            )
    return choose_values({name: value or "" for name, value in typed.items()}, fields)
