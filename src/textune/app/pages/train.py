"""The page Train: choose data and settings, see what will run, start it and watch it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from textune.app.data_choice import Source, choose_source, draw_checks, draw_preview, read_head
from textune.app.jobs import start_job
from textune.app.options import DEFAULT_FOLDER
from textune.app.plain import escape
from textune.app.session import attempt, draw_failure, show_error
from textune.app.settings_form import (
    FIRST,
    Field,
    Request,
    choose_values,
    list_fields,
    list_method_fields,
    list_other_fields,
)
from textune.app.watching import draw_trainings
from textune.config import write_names
from textune.config.defaults import DEFAULT_METHOD
from textune.errors import BundleError, TextuneError, flag
from textune.methods import methods
from textune.run.start import choose_folder


def draw() -> None:
    """Draw the page."""
    st.title("Train")
    draw_failure("start")
    if draw_trainings():
        if st.toggle("Train another", key="train another"):
            _draw_form()
    else:
        st.text("Turn labelled texts into a classifier, and see whether it beats the simple baselines.")
        _draw_form()


def _draw_form() -> None:
    st.subheader("Data", anchor=False)
    try:
        source = choose_source()
        head = None if source is None else read_head(source.data, source.reading)
    except (TextuneError, OSError, MemoryError) as error:
        show_error(error)
        return
    if source is None or head is None:
        st.info("Choose a table with a column of texts and a column of labels.", icon=":material/table:")
        return
    draw_preview(head)
    values = dict(source.reading) | _draw_columns(head.columns)
    st.subheader("Method and settings", anchor=False)
    values |= _draw_method()
    values |= _draw_settings(source)
    _draw_start(source, values)


def _draw_columns(columns: Sequence[str]) -> dict[str, str]:
    """Draw the choice of columns; what is left open is found by name and content."""
    chosen: dict[str, str] = {}
    for place, name, label in zip(st.columns(2), ("text", "label"), ("Text column", "Label column"), strict=True):
        (field,) = list_fields([name])
        names = place.multiselect(
            label, columns, key=f"set {name}", placeholder="found by its name and content", help=escape(field.help)
        )
        if names:
            chosen[name] = write_names(names)
    return chosen


def _draw_method() -> dict[str, str]:
    """Draw the choice of a method with its options, all from the registry."""
    names = methods.names()
    name = st.selectbox("Method", names, index=names.index(DEFAULT_METHOD), key="method", format_func=_describe_method)
    method = methods.get(name)
    st.caption(escape(f"Use it: {method.when}. Learning rate {method.learning_rate:g} by default. {method.paper}"))
    fields = list_method_fields(name)
    if not fields:
        return {"method": name}
    with st.expander(escape(f"Options of {name}")):
        typed = _draw_fields(fields)
    return {"method": name} | choose_values(typed, fields)


def _describe_method(name: str) -> str:
    return f"{name}: {methods.get(name).summary}"


def _draw_settings(source: Source) -> dict[str, str]:
    first = list_fields(FIRST)
    values = choose_values(_draw_fields(first), first)
    with st.expander("All other settings"):
        for part, fields in list_other_fields(source.asked).items():
            st.markdown(f"**{part}**")
            values |= choose_values(_draw_fields(fields), fields)
    return values


def _draw_fields(fields: Sequence[Field]) -> dict[str, str]:
    """Draw a widget for each field and return what stands in them."""
    typed: dict[str, str] = {}
    for at in range(0, len(fields), 3):  # row by row, so that narrow screens and the Tab key keep their order
        for place, field in zip(st.columns(3), fields[at : at + 3], strict=False):
            typed[field.name] = _draw_field(place, field)
    return typed


def _draw_field(place: Any, field: Field) -> str:
    label, key, about = field.name.removeprefix("method."), f"set {field.name}", escape(field.help)
    if field.switch:
        return str(place.checkbox(label, value=field.default == "true", key=key, help=about)).lower()
    if field.choices:
        choices = list(dict.fromkeys([field.default, *field.choices]))
        return str(place.selectbox(label, choices, key=key, help=about))
    return str(place.text_input(label, key=key, placeholder=field.default, help=about))


def _draw_start(source: Source, values: dict[str, str]) -> None:
    """Draw the name, the checks, the command and the button that starts it."""
    try:
        free = choose_folder(Request(source.data, values).build(), overwrite=False).name
        name = st.text_input(
            "Name of the run", key="run name", placeholder=free, help="A folder of this name is made in runs/."
        ).strip()
        request = Request(source.data, values | {"name": name or free})
        shown = request.show_yaml()
        _refuse_taken(request)
    except (TextuneError, OSError) as error:
        show_error(error)
        return
    draw_checks(request)
    st.subheader("What will run", anchor=False)
    st.code(request.show_command(), language="bash", wrap_lines=True)
    with st.expander("The same as a file: textune train FILE"):
        st.code(shown, language="yaml")
        st.download_button("Download", shown, file_name=f"{request.values['name']}.yaml", key="yaml")
    st.button(
        "Start training",
        key="start",
        type="primary",
        icon=":material/play_arrow:",
        on_click=attempt,
        args=("start", _start, request, source.upload),
    )
    st.caption(f"It runs in {escape(Path.cwd())} and goes on when this page is closed; only Stop ends it.")


def _refuse_taken(request: Request) -> None:
    """Raise BundleError where a name is taken, with what this page offers: nothing here overwrites a run."""
    try:
        choose_folder(request.build(), overwrite=False)
    except BundleError as error:
        if flag("overwrite") in (error.hint or ""):
            error.hint = "type another name, or delete that one on the page Runs"
        raise


def _start(request: Request, upload: Path | None) -> None:
    """Start the training and watch it."""
    job = start_job(request.values["name"], DEFAULT_FOLDER, request.list_words(), upload)
    st.session_state["watched"] = job.name
    st.session_state["run name"], st.session_state["train another"] = "", False
