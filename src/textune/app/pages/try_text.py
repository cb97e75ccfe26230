"""The page Try: type a text and see what runs answer, why, and which words would change it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from textune.app.answers import (
    Answered,
    answer_many,
    answer_text,
    check_text,
    is_paired,
    mark_words,
    order_bars,
    read_kind,
    require_second,
)
from textune.app.counterfactual import Answers, Comparison, compare_versions
from textune.app.example_rows import ExampleRow, list_examples
from textune.app.loading import Loaded, open_run
from textune.app.markup import Mark, write_bars, write_marked
from textune.app.plain import escape, shorten
from textune.app.session import (
    TRIED,
    VERSIONS,
    choose_run,
    list_run_folders,
    name_run_folder,
    offer_page,
    show_error,
)
from textune.printable import holds_text

ONE, TWO = "One text", "Two versions"
MOST_RUNS = 4
_EXAMPLE = "a warm, funny and very well acted film"


def draw() -> None:
    """Draw the page."""
    st.title("Try", anchor=False)
    folders = [str(folder) for folder in list_run_folders()]
    if not folders:
        _draw_nothing()
        return
    st.text("Type or paste a text, and see what a run answers and why.")
    form = st.segmented_control("What to try", [ONE, TWO], key="try form", default=ONE, label_visibility="collapsed")
    if form == TWO:
        _draw_versions()
    else:
        _draw_one(folders)


def _draw_nothing() -> None:
    """Say what to do while there is no run."""
    with st.container(border=True):
        st.subheader("There is no run to try yet", anchor=False)
        st.text("A run is what a training leaves: a model, its figures and its report. Train one, which takes minutes.")
        offer_page("Train a run", "train", key="try to train")


def _draw_one(folders: list[str]) -> None:
    """Draw the answers of one or more runs to one text."""
    chosen = _choose_runs(folders)
    if not chosen:
        st.info("Choose at least one run.", icon=":material/touch_app:")
        return
    kinds = {folder: read_kind(folder) for folder in chosen}
    paired = any(kind.paired for kind in kinds.values())
    _draw_examples(chosen[0], paired)
    text, second = _ask_text(paired)
    explain, base = _ask_more(any(kind.gives_labels for kind in kinds.values()))
    opened = [(folder, _open(folder)) for folder in chosen]  # below the text, which can be typed meanwhile
    if not holds_text(text):
        st.info("The answer appears here as soon as there is a text.", icon=":material/edit:")
        return
    if problem := check_text(text) or check_text(second):
        st.error(escape(problem), icon=":material/error:")
        return
    for place, (folder, loaded) in zip(st.columns(len(opened)) if len(opened) > 1 else [st], opened, strict=True):
        if loaded is not None:
            with place.container(border=True):
                labels = kinds[folder].gives_labels
                _draw_answer(folder, loaded, text, second, explain=explain and labels, base=base and labels)


def _ask_more(gives_labels: bool) -> tuple[bool, bool]:
    """Draw the button, and what can be asked for beside a label: its words, and the base model. A writer has neither.

    gives_labels: whether any of the runs does.
    """
    first, second, third = st.columns([1, 2, 2], vertical_alignment="center")
    # leaving the text has sent it already
    first.button("Classify" if gives_labels else "Answer", type="primary", key="try classify")
    if not gives_labels:
        return False, False
    explain = second.toggle("Highlight words", key="try explain", help="Computed on demand: it takes a moment.")
    base = third.toggle(
        "Beside the base model",
        key="try base",
        help="What the model answered before tuning. The first time, the rows of the run are read again.",
    )
    return explain, base


def _choose_runs(folders: list[str]) -> list[Path]:
    """Draw the choice of runs; the newest is chosen at first."""
    if TRIED in st.session_state:
        st.session_state[TRIED] = [folder for folder in st.session_state[TRIED] if folder in folders]
    else:
        st.session_state[TRIED] = folders[:1]
    names = st.multiselect(
        "Runs", folders, key=TRIED, format_func=name_run_folder, max_selections=MOST_RUNS, placeholder="Choose runs"
    )
    return [Path(name) for name in names]


def _open(folder: Path) -> Loaded | None:
    """Return a loaded run; show why it cannot be loaded."""
    try:
        return open_run(folder)
    except Exception as error:  # one run that cannot be loaded leaves the others
        show_error(error)
        return None


def _ask_text(paired: bool) -> tuple[str, str]:
    """Draw the text, or the two of a pair."""
    names = ["First text", "Second text"] if paired else ["Text"]
    places = st.columns(len(names)) if paired else [st]
    typed = [
        place.text_area(
            name,
            key=f"try {name}",
            height=120,
            placeholder=f"For example: {_EXAMPLE}. Ctrl+Enter asks for the answer.",
        )
        for place, name in zip(places, names, strict=True)
    ]
    return typed[0] or "", (typed[1] or "") if paired else ""


def _draw_examples(folder: Path, paired: bool) -> None:
    """Draw rows of the run's own evaluation to click. paired: whether the page asks for two texts."""
    rows = list_examples(folder)
    if not rows:
        return
    with st.expander("Examples from the run's own test rows", expanded=False, icon=":material/list:"):
        for row in rows:
            mark = ":material/check:" if row.right else ":material/close:"
            answer = row.true if row.right else f"{row.true}, answered {row.predicted}"
            st.button(
                escape(f"{shorten(row.text, 90)} ({shorten(answer, 60)})"),
                key=f"try row {row.row}",
                icon=mark,
                width="stretch",
                on_click=_take_example,
                args=(row, paired),
            )


def _take_example(row: ExampleRow, paired: bool) -> None:
    """Put an example where texts are typed. paired: whether one of the chosen runs asks for a second text."""
    st.session_state["try First text" if paired else "try Text"] = row.text
    if row.second is not None:
        st.session_state["try Second text"] = row.second


def _draw_answer(folder: Path, loaded: Loaded, text: str, second: str, *, explain: bool, base: bool) -> None:
    """Draw what one run answers, and what was asked for beside it."""
    st.caption(escape(name_run_folder(folder)))
    try:
        with loaded.hold() as predictor:
            other = require_second(predictor, second)
            answered = answer_text(predictor, text, other)
    except Exception as error:
        show_error(error)
        return
    if base:
        _draw_beside(folder, answered, text, other)
    else:
        _draw_bars(answered)
    if explain:
        _draw_words(loaded, text, other)


def _draw_bars(answered: Answered) -> None:
    if answered.written:
        st.text(answered.answer if holds_text(answered.answer) else "The model wrote an empty answer.")
    else:
        st.subheader(escape(answered.answer), anchor=False)
        st.html(write_bars(answered.bars))
    if answered.more:
        st.caption(f"and {answered.more:,} labels of smaller probability")
    if answered.note:
        st.caption(escape(answered.note))


def _draw_words(loaded: Loaded, text: str, second: str | None) -> None:
    """Draw which words speak for the answer, and which against it."""
    from textune.explain import explain_texts

    try:
        with st.spinner("Weighing the words"), loaded.hold() as predictor:
            (found,) = explain_texts(predictor, [text], pairs=None if second is None else [second])
    except Exception as error:
        show_error(error)
        return
    st.caption(escape(f"Why {shorten(found.label)}: blue and underlined words speak for it, orange and dotted against"))
    st.html(write_marked(found.text, mark_words(found.words, found.largest)))
    if found.pair is not None:
        st.html(write_marked(found.pair, mark_words(found.pair_words, found.largest)))
    for note in found.notes:
        st.caption(escape(note))


def _draw_beside(folder: Path, answered: Answered, text: str, second: str | None) -> None:
    """Draw the tuned model's answer beside those of the base model as it was before tuning."""
    from textune.app.base_model import open_base

    places = st.columns(3, vertical_alignment="bottom")  # one name takes two lines
    with places[0]:
        st.caption("tuned model")
        _draw_bars(answered)
    with places[1]:
        try:
            with st.spinner("Asking the base model"):
                answers = open_base(folder).answer(text, second)
        except Exception as error:
            show_error(error)
            return
    for place, (name, other) in zip(places[1:], answers, strict=False):
        with place:
            st.caption(escape(name))
            _draw_bars(order_bars(other, answered))


def _draw_versions() -> None:
    """Draw two versions of a text, and which of the words that differ change the answer."""
    folder = choose_run("Run", VERSIONS)
    loaded = None if folder is None else _open(folder)
    if loaded is None:
        return
    if not loaded.predictor.task.gives_labels:
        st.info("This run writes answers. Versions are compared for runs that give labels.", icon=":material/info:")
        return
    if is_paired(loaded.predictor):
        st.info("This run reads pairs of texts. Versions are compared for runs that read one.", icon=":material/info:")
        return
    left, right = st.columns(2)
    before = left.text_area("First version", key="try before", height=120) or ""
    after = right.text_area("Second version", key="try after", height=120) or ""
    st.button("Compare", type="primary", key="try compare")
    if not (holds_text(before) and holds_text(after)):
        st.info(
            "Type a text, and the same text with some words changed. Each change is then tried alone.",
            icon=":material/compare_arrows:",
        )
        return
    if problem := check_text(before) or check_text(after):
        st.error(escape(problem), icon=":material/error:")
        return

    def answer(texts: Sequence[str]) -> Answers:  # others need not wait while the versions are compared
        with loaded.hold() as predictor:
            return answer_many(predictor, texts)

    found = compare_versions(answer, before, after)
    with loaded.hold() as predictor:
        answers = [answer_text(predictor, text) for text in (before, after)]
    for place, answered in zip(st.columns(2), answers, strict=True):
        with place.container(border=True):
            _draw_bars(answered)
    _draw_edits(found, before, after)


def _draw_edits(found: Comparison, before: str, after: str) -> None:
    """Draw the two versions with their differences, and the effect of each."""
    st.subheader(escape(found.describe()), anchor=False)
    if not found.effects:
        return
    change = [effect.alone[1] - found.before[1] for effect in found.effects]
    largest = max((abs(value) for value in change if value == value), default=0.0) or 1.0
    scores = [0.0 if value != value else value / largest for value in change]
    edits = [effect.edit for effect in found.effects]
    left, right = st.columns(2)
    with left:
        st.html(write_marked(before, [Mark(e.start, e.end, s) for e, s in zip(edits, scores, strict=True)]))
    with right:
        st.html(write_marked(after, [Mark(e.new_start, e.new_end, s) for e, s in zip(edits, scores, strict=True)]))
    label = shorten(found.label, 40)
    st.caption(escape(f"Orange: the edit alone makes '{label}' less probable. Blue: more probable."))
    st.dataframe(
        {
            "first version": [shorten(edit.old) or "(nothing)" for edit in edits],
            "second version": [shorten(edit.new) or "(nothing)" for edit in edits],
            "answer with this edit alone": [effect.alone[0] for effect in found.effects],
            f"probability of {label}": [f"{effect.alone[1]:.1%}" for effect in found.effects],
            "answer with this and all before": [effect.up_to[0] for effect in found.effects],
            "changes the answer": [
                "alone" if e.flips else "with those before" if e.turns else "" for e in found.effects
            ],
        },
        hide_index=True,
    )
