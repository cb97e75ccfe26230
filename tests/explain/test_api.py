"""Explanations of a run's answers: one label or several, pairs, long texts; by Python, the command line and pages."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import textune
from label_tables import as_list, write_table
from textune.errors import BundleError, ConfigError, DataError, ModelError
from textune.evaluation.decisions import Decisions
from textune.explain import Explanation, WordScore, explain_texts
from textune.explain.api import check_label
from textune.explain.explanation import cut_segments, mark_words, rank_strength
from textune.inference import Predictor
from textune.report.explanations import render_explanations
from textune.report.highlight import highlight
from textune.report.html import open_templates
from textune.run import Run
from tiny import GOOD, UNEQUAL, call_here, make_rows, mark_exported, train_tiny

TEXTS = ["a good film", "the dull story isn't fine", "fine"]


@pytest.fixture(scope="module")
def predictor(finished: Run) -> Predictor:
    return finished.load(precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]) -> Run:
    """A run with several labels per text, which reads long texts in windows."""
    place = tmp_path_factory.mktemp("several")
    table = write_table(place / "lists.csv", as_list, rows=40)
    windows = {"long_text": "window", "max_length": 12, "window_overlap": 2, "max_windows": 3}
    return train_tiny(table, backbones["roberta"], place / "run", **windows)


@pytest.fixture(scope="module")
def pairs_run(tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]) -> Run:
    """A run on pairs of texts, of a decoder that joins both by a line break."""
    place = tmp_path_factory.mktemp("pairs")
    with (place / "pairs.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("first", "second", "label"))
        for i, (text, _) in enumerate(make_rows(40)):
            writer.writerow((text, f"{GOOD[i % 8]} scene {i}", "yes" if i % 3 else "no"))
    settings = {"text": "first", "text_pair": "second", "max_length": 60}
    return train_tiny(place / "pairs.csv", backbones["gpt2"], place / "run", **settings)


def check(found: Explanation) -> None:
    """The words' scores sum to what the log-odds differ by, and each word is where it says."""
    total = sum(word.score for word in (*found.words, *found.pair_words))
    assert abs(total - (found.log_odds - found.empty_log_odds)) == pytest.approx(found.completeness_gap, abs=1e-5)
    assert found.complete and found.words
    for text, words in ((found.text, found.words), (found.pair or "", found.pair_words)):
        assert all(text[word.start : word.end] == word.text for word in words)


def test_each_text_is_explained_alone_and_for_its_label(predictor: Predictor) -> None:
    found = explain_texts(predictor, TEXTS)
    assert found == [textune.explain(predictor, text) for text in TEXTS] == explain_texts(predictor, TEXTS)
    for each, answer in zip(found, predictor.classify(TEXTS), strict=True):
        check(each)
        assert (each.label, each.notes) == (answer.label, ())
        assert each.probability == pytest.approx(answer.probability, abs=1e-6)
        assert "".join(word.text for word in each.words) == each.text.replace(" ", "")
    assert [word.text for word in found[1].words] == ["the", "dull", "story", "isn't", "fine"]
    assert explain_texts(predictor, []) == []


def test_the_other_label_of_two_has_the_opposite_scores(predictor: Predictor) -> None:
    good, bad = (textune.explain(predictor, TEXTS[1], label=label) for label in predictor.labels)
    assert good.log_odds == pytest.approx(-bad.log_odds, abs=1e-5)
    for one, other in zip(good.words, bad.words, strict=True):
        assert one.score == pytest.approx(-other.score, abs=1e-4)


def test_every_label_of_several_has_its_own_explanation_over_windows(several: Run) -> None:
    predictor = several.load(device="cpu")
    text = " ".join(UNEQUAL[2].split()[:9])
    found = [textune.explain(predictor, text, label=label) for label in predictor.labels]
    assert len({each.words for each in found}) == len(predictor.labels)
    probabilities = predictor.predict_proba(text)
    for each, probability in zip(found, probabilities, strict=True):
        check(each)
        assert each.probability == pytest.approx(float(probability), abs=1e-2)
    assert textune.explain(predictor, text).label == predictor.labels[int(probabilities.argmax())]
    (note,) = found[0].notes
    read = max(word.end for word in found[0].words)
    assert "of at least" in note and 12 < read < len(text), "more than a window is read, and less than all"


@pytest.mark.parametrize(
    "rule",
    [Decisions("costs", costs=((0.0, 1.0), (1000.0, 0.0))), Decisions("f1", label=1, cutoff=0.0)],
    ids=["costs", "threshold"],
)
def test_the_answer_is_explained_where_it_is_not_the_most_probable_label(rule: Decisions, finished: Run) -> None:
    predictor = finished.load(precision="fp32", device="cpu")
    texts = [text for text, _ in make_rows(6)]
    likely = predictor.predict(texts)
    predictor.task = predictor.task.with_decisions(rule)
    assert predictor.predict(texts) == [predictor.labels[1]] * len(texts) != likely
    found = explain_texts(predictor, texts)
    assert {each.label for each in found} == {predictor.labels[1]}
    for each, answer in zip(found, predictor.classify(texts), strict=True):
        check(each)
        assert each.probability == pytest.approx(answer.probability, abs=1e-6)


def test_both_texts_of_a_pair_are_explained(pairs_run: Run) -> None:
    found = textune.explain(pairs_run, ["the film was good"], pairs=["a fine scene"])[0]
    check(found)
    assert [word.text for word in found.words] == ["the", "film", "was", "good"]
    assert [word.text for word in found.pair_words] == ["a", "fine", "scene"]
    assert found.pair == "a fine scene" and str(found).count("\n") == 2
    with pytest.raises(DataError, match="second texts are missing"):
        textune.explain(pairs_run, "alone")


def test_what_cannot_be_explained_says_what_to_do(predictor: Predictor, finished: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"label 'positiv'.*did you mean 'positive'"):
        explain_texts(predictor, TEXTS, "positiv")
    with pytest.raises(ConfigError, match="label '1': the model does not know it"):
        textune.explain(predictor, "good", 1)  # type: ignore[call-overload]
    with pytest.raises(DataError, match="text 2 is empty"):
        explain_texts(predictor, ["good", "  "])
    with pytest.raises(ConfigError, match="loaded already"):
        textune.explain(predictor, "good", device="cpu")
    exported = tmp_path / "exported"
    shutil.copytree(finished.folder, exported)
    mark_exported(exported)
    with pytest.raises(BundleError, match=r"is an ONNX export(.|\n)*give the run that it was exported from"):
        textune.explain(str(exported), "good")


def test_a_label_may_be_the_number_that_it_is_written_as(predictor: Predictor) -> None:
    numbered = copy.copy(predictor)
    numbered.labels = ("0", "1")
    assert check_label(numbered, 1) == "1" and check_label(numbered, None) is None


def test_a_model_without_gradients_is_refused_in_a_sentence(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise NotImplementedError("derivative for aten::something is not implemented")

    monkeypatch.setattr("textune.engine.reference.ReferenceEngine.forward", fail)
    with pytest.raises(ModelError, match="cannot be explained: NotImplementedError: derivative for aten::something"):
        explain_texts(predictor, ["good"])


MADE = Explanation(
    text="<b>good</b> not & bad",
    label="<i>'x'",
    probability=0.75,
    words=(WordScore(3, 7, "good", 2.0), WordScore(12, 15, "not", 0.1), WordScore(18, 21, "bad", -1.0)),
    completeness_gap=0.0,
    log_odds=1.1,
    empty_log_odds=0.0,
    steps=16,
    pair="<script>",
    notes=("<u>note</u>",),
)


def test_an_explanation_prints_its_text_with_signs() -> None:
    assert str(MADE) == "<i>'x' 75.0%\n<b>[+++good]</b> not & [--bad]\n<script>\nnote: <u>note</u>"
    assert [word.text for word in MADE.supporting()] == ["good"] and [word.text for word in MADE.opposing()] == ["bad"]
    assert [rank_strength(score, 1.0) for score in (1, 0.5, 0.3, 0.1, 0, -0.1, -0.3, -0.5, -1)] == [
        3, 2, 1, 0, 0, 0, -1, -2, -3,
    ]  # fmt: skip
    assert rank_strength(0.0, 0.0) == 0
    assert [WordScore(0, 3, text, 1.0).shown for text in ("don't", "...", "a\nb", "好")] == [
        "don't",
        '"..."',
        "a b",
        "好",
    ]


class Page(HTMLParser):
    """Collects the tags of a page, and the text of its paragraphs of words."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.words = ""
        self._inside = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attributes if tag != "a")
        self._inside = self._inside or ("class", "words") in attributes

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "p"

    def handle_data(self, data: str) -> None:
        self.words += data if self._inside else ""


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60), st.data())
@settings(max_examples=30, deadline=None)
def test_no_text_or_label_becomes_html_and_none_is_lost(text: str, data: st.DataObject) -> None:
    text = text + data.draw(
        st.sampled_from(["", "<script>alert(1)</script>", "</p><img src=x onerror=y>", "{{ 7*7 }}"])
    )
    end = data.draw(st.integers(1, len(text)))
    words = (WordScore(0, end, text[:end], data.draw(st.sampled_from([1.0, -1.0]))),)
    found = Explanation(text, text, 0.5, words, 0.0, 0.0, 0.0, 16, notes=(text,))
    assert "".join(part.text for part in cut_segments(text, words, 1.0)) == text
    assert mark_words(text, words, 1.0).endswith(text[end:])
    page = Page()
    page.feed(render_explanations([found], text))
    assert page.words == text
    assert "script" not in page.tags and "img" not in page.tags and page.tags.count("mark") == 3


def test_the_command_prints_signs_without_colour_and_says_the_same_as_json(capsys: Any, finished: Run) -> None:
    code, plain, _ = call_here(capsys, "explain", str(finished.folder), *TEXTS[:2])
    assert code == 0 and "\x1b" not in plain
    code, printed, _ = call_here(capsys, "explain", str(finished.folder), *TEXTS[:2], "--json")
    found = json.loads(printed)["explanations"]
    assert code == 0 and [each["text"] for each in found] == TEXTS[:2]
    for each, expected in zip(found, textune.explain(finished, TEXTS[:2]), strict=True):
        assert each == json.loads(json.dumps(expected.to_dict()))
        assert f"{expected.label} {expected.probability:.1%}" in plain and expected.marked() in plain


def test_a_terminal_gets_colours_and_no_escapes_of_the_text(
    capsys: Any, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    code, coloured, _ = call_here(capsys, "explain", str(finished.folder), "a good \x1b[5m film")
    monkeypatch.delenv("FORCE_COLOR")
    _, plain, _ = call_here(capsys, "explain", str(finished.folder), "a good \x1b[5m film")
    assert code == 0 and "\x1b[" in coloured and "\x1b[5m" not in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain
    assert "\\x1b" in plain


def test_a_file_is_explained_up_to_a_number_of_rows(capsys: Any, finished: Run, reviews: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ("explain", str(finished.folder), str(reviews), "--rows", "2", "--label", "negative")
    code, printed, said = call_here(capsys, *words, "--output", str(page))
    assert code == 0 and printed.count("(with every word masked") == 2 and f"page     {page}" in printed
    assert "only the first 2 texts were explained" in said
    assert page.read_text(encoding="utf-8").count("<article") == 2
    code, _, said = call_here(capsys, *words, "--output", str(page))
    assert code == 2 and "already exists" in said
    assert call_here(capsys, *words, "--output", str(page), "--overwrite")[0] == 0
    code, _, said = call_here(capsys, *words, "--output", str(tmp_path / "page.csv"))
    assert code == 2 and "use .html" in said


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("good", "--label", "negativ"), 2, "did you mean 'negative'?"),
        (("", "good"), 3, "text 1 is empty"),
        (("good", "--rows", "0"), 2, "--rows"),
        (("nothing.csv",), 3, "no such file"),
        (("epochs=3",), 2, "not a setting of explain"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(capsys: Any, finished: Run, words: Any, code: int, message: str) -> None:
    found, printed, said = call_here(capsys, "explain", str(finished.folder), *words)
    assert (found, printed) == (code, "") and message in said


class Typed(io.TextIOWrapper):
    """Standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_lines_without_text_are_left_out(capsys: Any, finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zero-width space is no text, as in a file; the JSON stays whole."""
    lines = ["a good film", "\u200b", " ", "dull"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    code, printed, said = call_here(capsys, "explain", str(finished.folder), "-", "--json")
    assert code == 0, said
    assert [each["text"] for each in json.loads(printed)["explanations"]] == ["a good film", "dull"]


def test_lines_typed_at_a_terminal_have_no_limit(capsys: Any, finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(f"film {i}\n" for i in range(4)).encode()
    words = ("explain", str(finished.folder), "--rows", "2", "--json")
    for kind, expected in ((Typed, 4), (io.TextIOWrapper, 2)):
        monkeypatch.setattr(sys, "stdin", kind(io.BytesIO(lines)))
        code, printed, said = call_here(capsys, *words)
        assert code == 0 and len(json.loads(printed)["explanations"]) == expected
        assert ("only the first 2 texts were explained" in said) == (expected == 2)
        assert ("Ctrl-D quits" in said) == (expected == 4)


def test_only_the_text_that_goes_on_has_dots() -> None:
    words = (WordScore(0, 4, "long", 1.0),)
    found = Explanation("long " * 8, "a", 0.5, words, 0.0, 0.0, 0.0, 16, pair="short one", pair_words=())
    shown = highlight(found, 20)
    assert shown.cut == (True, False)
    environment = open_templates()
    page = environment.from_string('{% from "marked.html.j2" import marked %}{{ marked(shown) }}').render(shown=shown)
    first, second = re.findall(r'<p dir="auto" class="words">(.*?)</p>', page)
    assert first.endswith(" …") and second == "short one"
