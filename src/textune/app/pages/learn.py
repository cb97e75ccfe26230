"""The page Learn: how a text becomes tokens, what LoRA does, what each method trains, what the baselines are for."""

from __future__ import annotations

from typing import Any

import streamlit as st

from textune.app.lora_figures import MOST_CELLS, Update, draw_matrices, list_cells
from textune.app.markup import Chip, write_chips
from textune.app.plain import escape
from textune.app.session import list_run_folders, name_run_folder, show_error
from textune.app.token_steps import MOST_CHARACTERS, Steps, Token, follow_text, open_tokenizer
from textune.printable import holds_text

EXAMPLE = "I heart Generative AI"
_DEFAULT = "the default base model"
_CELL = 9
"""Pixels of a cell in a heat map."""
_TOPICS = ("Tokens", "LoRA", "Methods", "Baselines")


def draw() -> None:
    """Draw the page."""
    st.title("Learn", anchor=False)
    topic = st.segmented_control("Topic", _TOPICS, key="learn topic", default="Tokens", label_visibility="collapsed")
    draw_topic = {"LoRA": _draw_lora, "Methods": _draw_methods, "Baselines": _draw_baselines}.get(
        topic or "", _draw_tokens
    )
    draw_topic()


def _draw_tokens() -> None:
    """Follow a text from letters to the row of numbers that a model reads."""
    st.subheader("From a text to numbers", anchor=False)
    folders = [_DEFAULT, *(str(folder) for folder in list_run_folders())]
    first, second, third = st.columns([2, 1, 1], vertical_alignment="bottom")
    text = first.text_input("Text", EXAMPLE, key="learn text") or ""
    place = second.selectbox("Tokenizer of", folders, key="learn tokenizer", format_func=name_run_folder)
    length = third.number_input("max_length", 2, 64, 12, key="learn length", help="Tokens in a row for the model")
    if not holds_text(text):
        st.info("Type a text to see its tokens.", icon=":material/edit:")
        return
    if len(text) > MOST_CHARACTERS:
        st.warning(f"Only the first {MOST_CHARACTERS:,} characters are shown.")
    try:
        tokenizer, pad, name = open_tokenizer(None if place in (None, _DEFAULT) else place)
        steps = follow_text(tokenizer, text, int(length), pad)
    except Exception as error:
        show_error(error)
        return
    st.caption(escape(f"The tokenizer of {name}, with {tokenizer.get_vocab_size():,} tokens"))
    _draw_steps(steps, int(length))


def _draw_steps(steps: Steps, length: int) -> None:
    _draw_step("1", "Clean", "Capitals and accents go if the model was trained without them.")
    st.html(write_chips([Chip(steps.cleaned)] if steps.cleaned else []))
    _draw_step("2", "Split into words", "At spaces and punctuation. Some tokenizers mark the space instead.")
    st.html(write_chips([Chip(word) for word in steps.words]))
    _draw_step(
        "3",
        "Subwords and their ids",
        "A word that the vocabulary lacks becomes parts of it. Special tokens (blue) are added around the text.",
    )
    st.html(write_chips([_make_chip(token) for token in steps.tokens]))
    if steps.cut:
        about = f"The model is given {length} tokens, so {steps.cut} of the text are left out."
    else:
        about = f"The model is given {length} tokens, so {steps.padding} of padding fill the row."
    _draw_step("4", "Truncate or pad", about)
    cut = [Chip(token.text, str(token.id), "cut") for token in steps.tokens if not token.read]
    real = len(steps.row) - steps.padding
    row = [_make_chip(token) for token in steps.row[:real]]
    row += [Chip(token.text, str(token.id), "padding") for token in steps.row[real:]]
    st.html(write_chips([*row, *cut]))
    _draw_step(
        "5", "What the model reads", "Ids, and a mask that hides the padding. In a batch, rows are padded alike."
    )
    digits = max(len(str(token.id)) for token in steps.row)
    ids = "  ".join(f"{token.id:>{digits}}" for token in steps.row)
    mask = "  ".join(f"{value:>{digits}}" for value in steps.mask)
    st.code(f"input_ids       {ids}\nattention_mask  {mask}", language=None)


def _draw_step(number: str, title: str, about: str) -> None:
    st.markdown(f"**{number}. {title}**")
    st.caption(escape(about))


def _make_chip(token: Token) -> Chip:
    return Chip(token.text, str(token.id), _kind(token))


def _kind(token: Token) -> str:
    return "special" if token.special else "plain"


def _draw_lora() -> None:
    """Draw a low-rank update: its size against the weight's, and its matrices as pictures."""
    st.subheader("An update of low rank", anchor=False)
    st.text(
        "LoRA freezes a weight matrix W and learns an update to it: W + BA, where B and A have few columns and rows."
    )
    first, second, third = st.columns(3)
    rank = first.slider("Rank r", 1, 64, 4, key="learn rank")
    rows = second.slider("Rows of W", 64, 4096, 768, 64, key="learn rows")
    columns = third.slider("Columns of W", 64, 4096, 768, 64, key="learn columns")
    update = Update(rows, columns, rank)
    with st.container(horizontal=True, gap="medium"):
        st.metric(f"W, {rows:,} × {columns:,}", f"{update.full:,}", width="content")
        st.metric(f"B and A, rank {rank}", f"{update.trained:,}", width="content")
        st.metric("Trained share", f"{update.share:.2%}", width="content")
    st.caption(escape(update.describe()))
    matrices = draw_matrices(update)
    names = (f"B  {rows:,} × {rank}", f"A  {rank} × {columns:,}", f"BA  {rows:,} × {columns:,}")
    for place, name, matrix in zip(st.columns([1, 2, 2]), names, matrices, strict=True):
        with place:
            st.caption(name)
            st.altair_chart(_draw_heat(matrix), width="stretch")
    shown = f"{min(rows, MOST_CELLS)} of the rows and {min(columns, MOST_CELLS)} of the columns are drawn. "
    st.caption(
        f"{shown}Each rank adds one pattern of rows and columns to BA: at rank 1 it is a single one. "
        "Before training B is zero, so the model starts as the base model; afterwards BA is added to W, "
        "and the model is as fast as before."
    )


def _draw_heat(matrix: Any) -> Any:
    """Return a heat map: blue above zero, orange below."""
    import altair as alt

    height, width = matrix.shape
    scale = alt.Scale(domain=[-1, 0, 1], range=["#d66c14", "#f5f5f5", "#1d70c7"])
    return (
        alt.Chart(alt.Data(values=list_cells(matrix)))
        .mark_rect()
        .encode(
            x=alt.X("column:O", axis=None),
            y=alt.Y("row:O", axis=None),
            color=alt.Color("value:Q", scale=scale, legend=None),
            tooltip=[alt.Tooltip("value:Q", format=".2f")],
        )
        .properties(height=_CELL * max(height, min(2 * height, 8)), width=_CELL * width)
        .configure_view(stroke=None)
    )


def _draw_methods() -> None:
    """Show what each method trains, with its options, from the registry."""
    import dataclasses

    from textune.config.defaults import DEFAULT_METHOD
    from textune.methods import methods

    st.subheader("What each method trains", anchor=False)
    st.text("Every method also trains the classifier's head. What is not trained stays as it was pretrained.")
    names = sorted(methods.names(), key=lambda name: (name != DEFAULT_METHOD, name))
    for name in names:
        cls = methods.get(name)
        title = f"**{escape(name)}** {escape(cls.summary)}"
        with st.expander(title, expanded=name == DEFAULT_METHOD):
            st.text(f"{cls.when[:1].upper()}{cls.when[1:]}.")
            kept = "It is merged into the weights afterwards" if cls.mergeable else "It stays a part of its own"
            st.text(f"{kept}. Its default learning rate is {cls.learning_rate:g}.")
            if options := [_describe_option(option) for option in dataclasses.fields(cls.options_type)]:
                st.caption(escape("\n".join(options)))
            st.link_button("Paper", cls.paper, icon=":material/open_in_new:")


def _describe_option(option: Any) -> str:
    value = "" if option.default is None else f" (default {option.default})"
    return f"method.{option.name}{value}: {option.metadata['help']}"


_BASELINES = (
    ("majority", "Always the most frequent label of the training rows.", "whether anything was learned at all."),
    ("tfidf", "Counts of words and word pairs, and a linear model on them.", "whether word counts would have done."),
    ("probe", "The frozen base model, with a linear model on its output.", "whether tuning the base model paid."),
    (
        "likelihood",
        "A model that writes, asked which label it would write after the text.",
        "whether any training was needed. Only base models that write have this one.",
    ),
    ("base", "The base model with a new head of random weights.", "where the training started."),
    ("tuned", "The run itself.", "whether all of this was worth its cost."),
)


def _draw_baselines() -> None:
    """Say what each rung of the ladder is, and what it answers."""
    from textune.tasks import default_task

    names = default_task(reads_sets=False).model_names
    st.subheader("What the baselines mean", anchor=False)
    st.text("A score says little alone. Every run is measured beside simpler answers to the same rows.")
    for key, what, answers in _BASELINES:
        with st.container(border=True):
            st.markdown(f"**{escape(names[key])}**")
            st.text(what)
            st.caption(escape(f"It tells {answers}"))
    st.text(
        "A tuned model is worth its cost if it beats the best of them by more than chance: the report gives the "
        "difference with a 95% interval, and it says so plainly if a simpler model does as well."
    )
