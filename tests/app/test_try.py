"""The page Try: answers of runs to a text, examples, the base model, and two versions of a text."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest

import textune
import tiny
from textune.app import loading
from textune.app.answers import MOST_CHARACTERS, answer_text
from textune.app.base_model import open_base
from textune.app.counterfactual import Answers, apply_edits, compare_versions, list_edits
from textune.app.example_rows import list_examples, pick_examples
from textune.app.loading import open_run
from textune.app.markup import Bar, Chip, Mark, write_bars, write_chips, write_marked
from textune.app.options import AppOptions, set_options
from textune.app.run_view import list_parts
from textune.errors import BundleError
from textune.explain import explain_texts
from textune.export.api import FORMS, list_forms
from textune.progress import show_controls
from textune.run import Run
from textune.run.listing import read_entry

PLANTED = "<script>alert(1)</script> **bold** <img src=x onerror=alert(1)> :red[x] $x$ [a](javascript:b) `c`"


def draw_page() -> None:
    from textune.app.pages.try_text import draw
    from textune.app.session import guard_page

    with guard_page():
        draw()


def draw_runs() -> None:
    from textune.app.pages.runs import draw

    draw()


@pytest.fixture
def runs(finished: Run, work: Path) -> Iterator[Path]:
    """The folder of one run, beside which the app starts."""
    set_options(AppOptions())
    folder = work / "runs"
    shutil.copytree(finished.folder, folder / "first")
    yield folder
    set_options(AppOptions())


def open_page() -> AppTest:
    app = AppTest.from_function(draw_page, default_timeout=60).run()
    assert not app.exception
    return app


def list_html(app: AppTest) -> list[str]:
    return [element.proto.body for element in app.get("html")]


def list_errors(app: AppTest) -> list[str]:
    return [error.value.replace("\\", "") for error in app.error]


def type_text(app: AppTest, text: str) -> AppTest:
    app.text_area(key="try Text").set_value(text).run()
    assert not app.exception
    return app


def test_an_empty_folder_says_what_to_do(work: Path) -> None:
    app = open_page()
    assert app.subheader[0].value == "There is no run to try yet" and not app.text_area


def test_a_text_is_answered_as_by_the_run(runs: Path) -> None:
    app = open_page()
    assert "as soon as there is a text" in app.info[0].value
    type_text(app, "a good film")
    prediction = textune.load(runs / "first").classify("a good film")
    assert app.subheader[0].value in prediction.answer and not app.error
    assert all(f"{share:.1%}" in list_html(app)[0] for share in prediction.probabilities.values())


def test_several_runs_answer_beside_each_other(runs: Path) -> None:
    shutil.copytree(runs / "first", runs / "second")
    app = open_page()
    folders = [str(Path("runs") / name) for name in ("first", "second")]
    app.multiselect(key="try runs").set_value(folders).run()
    type_text(app, "a good film")
    assert len(list_html(app)) == 2 and {"first", "second"} <= {c.value for c in app.caption}
    app.multiselect(key="try runs").set_value([]).run()
    assert "at least one run" in app.info[0].value


def test_an_example_is_taken_by_a_click(runs: Path) -> None:
    app = open_page()
    row = list_examples(Path("runs/first"))[0]
    app.button(key=f"try row {row.row}").click().run()
    assert app.text_area(key="try Text").value == row.text
    assert app.subheader[0].value == row.predicted


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that writes answers, and answered two of its test rows."""
    place = tmp_path_factory.mktemp("writer")
    backbone, data = tiny.build_causal(place / "llama"), tiny.write_prompts(place / "prompts.jsonl", 24)
    options: dict[str, Any] = {"task": "generation", "answer_rows": 2, "epochs": 1, "contrast_steps": None}
    return tiny.train_tiny(data, backbone, place / "run", max_new_tokens=4, max_length=48, **options)


def test_a_model_that_writes_is_answered_with_its_text(writer: Run, work: Path) -> None:
    set_options(AppOptions())
    shutil.copytree(writer.folder, work / "runs" / "writer")
    rows = list_examples(Path("runs/writer"))
    assert len(rows) == 2 and "None" not in {row.predicted for row in rows}, (
        "rows that were not answered are no examples"
    )
    app = open_page()
    assert not app.toggle, "words and the base model are for labels"
    type_text(app, "red 3")
    (answer,) = textune.load(work / "runs" / "writer").generate(["red 3"])
    shown = [text.value for text in app.text]
    assert (answer.text if answer.text.strip() else "The model wrote an empty answer.") in shown
    assert not app.error and not app.subheader and not list_html(app)
    app.segmented_control(key="try form").set_value("Two versions").run()
    assert not app.exception and not app.error and "writes answers" in app.info[0].value and not app.text_area


def test_a_classifier_beside_a_model_that_writes_keeps_its_parts(writer: Run, runs: Path) -> None:
    shutil.copytree(writer.folder, runs / "writer")
    app = open_page()
    app.multiselect(key="try runs").set_value(["runs/first", "runs/writer"]).run()
    type_text(app, "a good film")
    app.toggle(key="try explain").set_value(True).run()
    assert not app.exception and not app.error and len(app.subheader) == 1 and len(list_html(app)) == 2


def test_the_parts_of_a_run_that_writes_have_no_labels(writer: Run, finished: Run) -> None:
    parts = []
    for run in (writer, finished):
        entry = read_entry(run.folder)
        assert entry is not None
        parts.append(set(list_parts(entry)))
    assert parts[1] - parts[0] == {"Errors", "Labels"} and parts[0] < parts[1]


def test_a_form_is_offered_if_the_run_can_be_exported_to_it(writer: Run, finished: Run, work: Path) -> None:
    assert list_forms(finished.folder) == FORMS
    for form in FORMS:
        if form not in list_forms(writer.folder):
            with pytest.raises(BundleError, match="cannot be exported"):
                textune.export(writer.folder, work / form, to=form)
    shutil.copytree(writer.folder, work / "runs" / "writer")
    app = AppTest.from_function(draw_runs, default_timeout=60).run()
    app.multiselect[0].set_value(["runs/writer"])
    app.session_state["part runs/writer"] = "Export"
    app.run()
    assert not app.exception and not app.error and len(app.radio[0].options) == 1


def test_words_are_highlighted_on_demand(runs: Path) -> None:
    app = open_page()
    type_text(app, "a good film")
    assert len(list_html(app)) == 1
    app.toggle(key="try explain").set_value(True).run()
    assert not app.exception and not app.error
    assert "good" in list_html(app)[1] and "border-bottom" in list_html(app)[1]


def test_the_base_model_answers_as_in_the_report(runs: Path) -> None:
    app = open_page()
    type_text(app, "a good film")
    app.toggle(key="try base").set_value(True).run()
    assert not app.exception and not app.error, [e.value for e in app.error]
    assert len(list_html(app)) == 3, "tuned, before tuning, linear probe"
    rows = list_examples(Path("runs/first"), 100)
    base = open_base(Path("runs/first"))
    answers = [[answered.answer for _, answered in base.answer(row.text)] for row in rows]
    stored = json.loads(Path("runs/first/evaluation/metrics.json").read_text("utf-8"))["models"]
    wanted = {name: figures["accuracy"] for name, figures in stored.items()}
    for at, name in enumerate(("base", "probe")):
        right = sum(given[at] == row.true for given, row in zip(answers, rows, strict=True))
        assert right / len(rows) == pytest.approx(wanted[name]), name


@pytest.mark.parametrize("text", [PLANTED, "x" * MOST_CHARACTERS, "\x00\x1b[31m", "\u202e abc", "=1+1"])
def test_any_text_is_answered_or_refused_in_words(text: str, runs: Path) -> None:
    app = open_page()
    type_text(app, text)
    assert app.subheader or app.error
    assert all("bug" not in error.value for error in app.error), [e.value for e in app.error]
    assert not any("<script" in body or "<img" in body for body in list_html(app))


def test_a_text_that_is_too_long_is_refused(runs: Path) -> None:
    app = open_page()
    type_text(app, "x" * (MOST_CHARACTERS + 1))
    assert "20,001 characters" in list_errors(app)[0] and not app.subheader


def test_a_broken_run_is_an_error_on_its_place(runs: Path) -> None:
    shutil.copytree(runs / "first", runs / "broken")
    (runs / "broken" / "adapter_model.safetensors").write_bytes(b"nothing")
    app = open_page()
    folders = [str(Path("runs") / name) for name in ("first", "broken")]
    app.multiselect(key="try runs").set_value(folders).run()
    type_text(app, "a good film")
    assert len(app.error) == 1 and "changed or damaged" in list_errors(app)[0]
    assert len(list_html(app)) == 1


def test_two_versions_show_which_words_flip_the_answer(runs: Path) -> None:
    app = open_page()
    app.segmented_control(key="try form").set_value("Two versions").run()
    assert "Each change" in app.info[0].value
    app.text_area(key="try before").set_value("the film was good and the music fine")
    app.text_area(key="try after").set_value("a film was bad and the music fine").run()
    assert not app.exception and not app.error
    table = app.dataframe[0].value
    assert list(table["first version"]) == ["the", "good"] and list(table["second version"]) == ["a", "bad"]
    predictor = textune.load(runs / "first")
    alone = [
        predictor.predict(text)
        for text in ("a film was good and the music fine", "the film was bad and the music fine")
    ]
    assert list(table["answer with this edit alone"]) == alone


def test_figures_and_words_are_those_of_the_answer(backbone: Path, work: Path) -> None:
    data = tiny.write_reviews(work / "reviews.csv", 80)
    costs = "positive:negative=1000,negative:positive=1"
    run = tiny.train_tiny(data, backbone, work / "runs" / "it", costs=costs)
    predictor = textune.load(run)
    texts = [text for text, _ in tiny.make_rows(20)]
    text = texts[int(predictor.predict_proba(texts)[:, predictor.labels.index("positive")].argmin())]
    shares = dict(zip(predictor.labels, predictor.predict_proba(text), strict=True))
    assert predictor.predict(text) == "positive" and shares["positive"] < 0.45
    app = open_page()
    type_text(app, text)
    assert app.subheader[0].value == "positive"
    app.toggle(key="try explain").set_value(True).run()
    assert not app.error and any("Why positive" in each.value for each in app.caption)
    app.segmented_control(key="try form").set_value("Two versions").run()
    app.text_area(key="try before").set_value(text)
    app.text_area(key="try after").set_value(f"quite {text}").run()
    assert not app.exception and not app.error
    share = predictor.predict_proba(f"quite {text}")[predictor.labels.index("positive")]
    assert list(app.dataframe[0].value["probability of positive"]) == [f"{share:.1%}"]


# ---- the logic --------------------------------------------------------------------------------------------------


def answer_by(word: str) -> Any:
    def answer(texts: Any) -> Any:
        yes = np.array([word in text.split() for text in texts], float)
        answers = ["yes" if each else "no" for each in yes]
        return Answers(answers, np.stack([1 - yes, yes], 1), ("no", "yes"), yes.astype(np.int64))

    return answer


def test_the_edit_that_flips_is_found() -> None:
    found = compare_versions(answer_by("good"), "a good film with music", "the bad film with songs")
    assert [effect.flips for effect in found.effects] == [True, False]
    assert found.flipped and "1 of 2 edits" in found.describe()
    assert found.before == ("yes", 1.0) and found.after == ("no", 0.0)
    same = compare_versions(answer_by("good"), "a good film", "a good film")
    assert not same.effects and "same text" in same.describe()


def test_the_probability_is_that_of_the_answer() -> None:
    def answer(texts: Any) -> Any:  # as costs have it: 'spam' from 20% on
        spam = np.array([0.3 if "free" in text else 0.1 for text in texts])
        given = (spam >= 0.2).astype(np.int64)
        return Answers(np.array(["ham", "spam"])[given], np.stack([1 - spam, spam], 1), ("ham", "spam"), given)

    found = compare_versions(answer, "free money", "good money")
    assert (found.label, found.before, found.after) == ("spam", ("spam", 0.3), ("ham", 0.1))
    assert found.effects[0].alone == ("ham", 0.1)


def test_an_edit_that_leaves_nothing_is_no_text() -> None:
    found = compare_versions(answer_by("good"), "good", "x")
    assert found.effects[0].flips
    whole = compare_versions(answer_by("good"), "good .", "x y z")
    assert whole.effects[-1].up_to[0] == "no"


WORDS = strategies.lists(
    strategies.sampled_from(["good", "bad", "a", " ", "\n", ",", "don't", "é", "<b>"]), max_size=40
)


@settings(max_examples=40)
@given(WORDS, WORDS)
def test_edits_lead_from_one_version_to_the_other(one: list[str], other: list[str]) -> None:
    before, after = " ".join(one), "".join(other)
    for most in (1, 3, 24):
        edits = list_edits(before, after, most)
        assert len(edits) <= most and apply_edits(before, edits) == after
        assert all(before[e.start : e.end] == e.old and after[e.new_start : e.new_end] == e.new for e in edits)


@settings(max_examples=40)
@given(strategies.text(max_size=60), strategies.lists(strategies.tuples(*[strategies.integers(0, 70)] * 2), max_size=5))
def test_markup_shows_texts_as_they_are(text: str, spans: list[tuple[int, int]]) -> None:
    marks = [Mark(min(span), max(span), 0.5, text) for span in spans]
    for page, shown in (
        (write_marked(text, marks), show_controls(text)),
        (write_bars([Bar(text, 0.5, "50%")]), f"{show_controls(text)}50%"),
        (write_chips([Chip(text, text, "cut")]), show_controls(text) * 2),
    ):
        tags = re.findall(r"<[^>]*>", page)
        assert {re.match(r"</?(\w+)", tag)[1] for tag in tags} <= {"div", "span", "br"}  # type: ignore[index]
        assert html.unescape(re.sub(r"<[^>]*>", "", page)) == shown


def test_planted_markup_stays_text() -> None:
    for page in (
        write_bars([Bar(PLANTED, 2.0, PLANTED)]),
        write_marked(PLANTED, [Mark(0, 9, -1, PLANTED)]),
        write_chips([Chip(PLANTED, PLANTED, kind) for kind in ("plain", "special", "cut", "padding")]),
    ):
        assert "<script" not in page and "<img" not in page and '"javascript' not in page


def test_examples_are_right_and_wrong_ones() -> None:
    stored = {
        "row": list(range(10)), "text": [f"text {i}" for i in range(10)], "label": ["a"] * 10,
        "predicted_label": ["a"] * 8 + ["b"] * 2,
    }  # fmt: skip
    rows = pick_examples(stored, 6)
    assert len(rows) == 6 and sum(row.right for row in rows) == 4
    assert len(pick_examples(stored, 100)) == 10
    assert pick_examples({name: [] for name in stored}, 6) == ()
    several = {"row": [1, 2], "text": ["x", "y"], "label": [["10", "2"], ["2"]], "predicted_label": [["2", "10"], []]}
    assert [row.right for row in pick_examples(several, 6)] == [True, False], "the order of labels says nothing"


def test_a_model_is_loaded_once_and_again_when_it_changes(runs: Path) -> None:
    folder = Path("runs/first")
    first = open_run(folder)
    assert open_run(folder) is first and open_run(runs / "first") is first
    stamp = (folder / "textune.json").stat()
    os.utime(folder / "textune.json", ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert open_run(folder) is not first
    for i in range(loading.MOST_MODELS + 2):
        shutil.copytree(folder, runs / f"copy{i}")
        open_run(runs / f"copy{i}")
    assert open_run(folder) is not first


def test_a_long_text_says_what_is_left_out(finished: Run) -> None:
    predictor = textune.load(finished)
    assert "the rest is left out" in answer_text(predictor, "good " * 400).note
    assert not answer_text(predictor, "good").note


def test_several_labels_and_pairs(tmp_path: Path, backbone: Path) -> None:
    rows = tiny.make_rows(30)
    lines = [f"{text},{text},{label if i % 3 else 'positive|negative'}\n" for i, (text, label) in enumerate(rows)]
    (tmp_path / "tags.csv").write_text("text,second,label\n" + "".join(lines), encoding="utf-8")
    options = {"task": "multi_label", "text_pair": "second", "epochs": 1}
    run = tiny.train_tiny(tmp_path / "tags.csv", backbone, tmp_path / "run", **options)
    predictor = textune.load(run, backbone=str(backbone))
    answered = answer_text(predictor, "good", "bad")
    assert answered.answer == (", ".join(predictor.predict("good", "bad")) or "no label")
    assert len(answered.bars) == 2
    set_options(AppOptions(runs=(run.folder,)))
    app = open_page()
    app.text_area(key="try First text").set_value("good").run()
    assert "second text" in app.error[0].value
    app.text_area(key="try Second text").set_value("bad").run()
    assert not app.error and list_html(app)
    example = next(button for button in app.button if (button.key or "").startswith("try row"))
    example.click().run()
    assert [app.text_area(key=f"try {name} text").value for name in ("First", "Second")] != ["good", "bad"]
    app.text_area(key="try First text").set_value("good")
    app.text_area(key="try Second text").set_value("bad").run()
    app.toggle(key="try explain").set_value(True).run()
    (found,) = explain_texts(predictor, ["good"], pairs=["bad"])
    strengths = [max(abs(word.score) for word in words) / found.largest for words in (found.words, found.pair_words)]
    assert max(strengths) == 1 and min(strengths) < 0.95
    shown = [max(map(float, re.findall(r"border-bottom:[^;]*,([0-9.]+)\)", page))) for page in list_html(app)[-2:]]
    assert shown == pytest.approx(strengths, abs=1e-3), "both texts have one scale"
    set_options(AppOptions())


def test_versions_of_several_labels_follow_the_most_probable_by_its_name(backbone: Path, work: Path) -> None:
    lines = [
        f"{text},{label if i % 3 else 'positive|negative'}\n" for i, (text, label) in enumerate(tiny.make_rows(30))
    ]
    (work / "tags.csv").write_text("text,label\n" + "".join(lines), encoding="utf-8")
    options = {"task": "multi_label", "epochs": 1, "threshold": 0.001}
    run = tiny.train_tiny(work / "tags.csv", backbone, work / "runs" / "it", **options)
    predictor = textune.load(run)
    shares = predictor.predict_proba("the film was good")
    label = predictor.labels[int(shares.argmax())]
    set_options(AppOptions())
    app = open_page()
    app.segmented_control(key="try form").set_value("Two versions").run()
    app.text_area(key="try before").set_value("the film was good")
    app.text_area(key="try after").set_value("a film was good").run()
    assert not app.exception and not app.error
    assert app.subheader[0].value.replace("\\", "") in ("positive, negative", "negative, positive")
    assert f"probability of {label}" in app.dataframe[0].value.columns
