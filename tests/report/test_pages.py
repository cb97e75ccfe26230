"""Every page: usable by keyboard, screen reader and phone, readable in light and dark, and of bounded size."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import textune.report
from reports import LONG, hostile_report, make_card, make_comparison, make_evaluation, make_report, take_script_away
from textune.evaluation import evaluate_multi_label
from textune.report import SearchInput, render_card, render_report
from textune.report.charts import draw_losses, draw_scores
from textune.report.comparison_page import render_comparison, render_comparison_markdown
from textune.report.html import finish_page
from textune.report.search import render_search_report
from textune.report.wording import format_date, list_settings, name_metric, show_setting
from textune.tasks import TUNED

SHEETS = {path.name: path.read_text(encoding="utf-8") for path in Path(textune.report.__file__).parent.glob("*.css")}
SETTINGS = "learning_rate: 0.0005\nmethod:\n  name: lora\n  r: 16\nvalidation: null\nprefix_cache: true\nlabels: null\n"


def make_search(trials: int = 4) -> SearchInput:
    listed = [
        {"number": i, "state": "complete", "settings": {"learning_rate": 0.0005 + i / 1e5, "method.r": 8},
         "scores": {"accuracy": 0.8 + i / 1e5, "macro_f1": 0.7, "loss": 0.3}, "epochs": 3.0, "steps": 30,
         "total_steps": 30, "seconds": 4.0, "attempts": 1, "reason": ""}
        for i in range(trials)
    ]  # fmt: skip
    winner = {"number": 0, "settings": {"learning_rate": 0.0005}, "scores": listed[0]["scores"], "run": "winner",
              "trained_again": False, "split": "test", "rows": 100, "test_reads": 1,
              "headline": {"name": "accuracy", "value": 0.8, "low": 0.7, "high": 0.9}}  # fmt: skip
    return SearchInput(
        title="search", created="2026-11-28T15:27:01Z", textune_version="0.2.0", metric="accuracy",
        selection="100 validation rows", split="test", names=["learning_rate", "method.r"], trials=listed,
        winner=winner, importances={"learning_rate": 0.9, "method.r": 0.1},
        saving={"epochs_trained": 9.0, "epochs_in_full": 12.0, "seconds_trained": 9.0, "seconds_saved": 3.0},
        regret={"stopped_early": 0, "at_least": 0.0, "metric": "accuracy"}, seconds=12.0, settings_yaml=SETTINGS,
        rivals=[("majority class", 0.5), ("TF-IDF + logistic regression", 0.71)], verdict=["20 of 100 are wrong."],
    )  # fmt: skip


def make_sets_report():
    true = np.eye(4, dtype=bool)[np.arange(40) % 4]
    evaluation = evaluate_multi_label(np.where(true, 0.9, 0.1), true, "abcd", [0.5] * 4)
    return dataclasses.replace(make_report(labels=("a", "b", "c", "d")),
                               comparison=[{"name": TUNED, "evaluation": evaluation, "seconds": 1.0}])  # fmt: skip


def name_labels(count: int) -> list[str]:
    return [f"class number {i}" for i in range(count)]


PAGES: dict[str, Callable[[], str]] = {
    "two classes": lambda: render_report(make_report(best_step=20, settings_yaml=SETTINGS, warnings=["one", "two"])),
    "12 classes": lambda: render_report(make_report(labels=name_labels(12))),
    "30 classes": lambda: render_report(make_report(labels=name_labels(30))),
    "1,000 classes": lambda: render_report(make_report(labels=name_labels(1000))),
    "several labels": lambda: render_report(make_sets_report()),
    "hostile": lambda: render_report(hostile_report()),
    "long names": lambda: render_report(make_report(labels=(LONG, LONG + "2"))),
    "comparison": lambda: render_comparison(make_comparison(), "0.2.0"),
    "large comparison": lambda: render_comparison(make_comparison(40), "0.2.0"),
    "search": lambda: render_search_report(make_search()),
    "large search": lambda: render_search_report(make_search(2000)),
}


@pytest.fixture(scope="module", params=list(PAGES))
def page(request: pytest.FixtureRequest) -> str:
    return take_script_away(PAGES[request.param]())


class Elements(HTMLParser):
    """Collects (tag, attributes, tags it stands in, attributes of those)."""

    VOID = frozenset({"meta", "br", "line", "circle", "polyline", "rect"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str], list[tuple[str, dict[str, str]]]]] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.found.append((tag, attributes, list(self._open)))
        if tag not in self.VOID:
            self._open.append((tag, attributes))

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, {name: value or "" for name, value in attrs}, list(self._open)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            self._open.pop()


def test_every_table_has_a_box_that_the_keyboard_scrolls_and_a_name(page: str) -> None:
    elements = Elements(page).found
    assert any(tag == "table" for tag, *_ in elements)
    for tag, _, above in elements:
        if tag == "table":
            box = next(a for t, a in reversed(above) if t == "div")
            assert box["class"] == "scroll" and box["tabindex"] == "0" and box["role"] == "region"
            assert box["aria-label"].strip()
    assert page.count("<table") == page.count("<caption")
    assert not [a for tag, a, _ in elements if tag == "th" and "scope" not in a]
    assert all(a.get("tabindex") == "0" for tag, a, _ in elements if tag == "pre")


def test_headings_are_in_order_and_links_lead_somewhere(page: str) -> None:
    elements = Elements(page).found
    levels = [int(tag[1]) for tag, *_ in elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    ids = [a["id"] for _, a, _ in elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [a["href"] for tag, a, _ in elements if tag == "a"]
    assert targets[0] == "#main" and {t[1:] for t in targets if t.startswith("#")} <= set(ids)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, *_ in elements}


def test_pages_have_landmarks_and_a_way_past_the_navigation(page: str) -> None:
    elements = Elements(page).found
    tags = [tag for tag, _, above in elements if "svg" not in {t for t, _ in above}]
    for landmark in ("header", "main", "footer", "h1", "title"):
        assert tags.count(landmark) == 1, landmark
    assert all("aria-label" in a for tag, a, _ in elements if tag == "nav")
    assert all("aria-label" in a or "aria-labelledby" in a for tag, a, _ in elements if tag == "section")
    assert next(a for tag, a, _ in elements if tag == "html")["lang"] == "en"
    assert next(a["class"] for tag, a, _ in elements if tag == "a") == "skip"
    for tag, _, above in elements:  # whatever is read belongs to a landmark
        if tag in ("h2", "table", "svg", "p"):
            assert {"main", "header", "footer"} & {t for t, _ in above}, tag


def test_rows_are_named_by_a_header_cell(page: str) -> None:
    elements = Elements(page).found
    headed = {id(above[-1][1]) for tag, a, above in elements if tag == "th" and a["scope"] == "row"}
    rows = {id(above[-1][1]) for tag, _, above in elements if tag == "td"}
    assert rows and rows <= headed


def test_every_drawing_is_told_in_words(page: str) -> None:
    drawings = [a for tag, a, _ in Elements(page).found if tag == "svg"]
    assert all(a["role"] == "img" and len(a["aria-label"]) > 10 for a in drawings)


def test_nothing_is_wider_than_a_phone_outside_of_a_box() -> None:
    for name, sheet in SHEETS.items():
        for selector, rules in re.findall(r"([^{}]+)\{([^{}]*)\}", sheet):
            for width, unit in re.findall(r"(?<![-\w])(?:min-)?width: *([\d.]+)(px|rem|em)", rules):
                pixels = float(width) * (1 if unit == "px" else 16)
                assert pixels <= 360 or selector.strip().startswith(".scroll"), (name, selector)
    assert "local" in SHEETS["report.css"] and "scroll no-repeat" in SHEETS["report.css"]  # the shadows of a box


def read_palettes() -> list[dict[str, str]]:
    """Return the colours of light, dark and print, each with those that it takes from light."""
    blocks = re.findall(r":root \{(.*?)\}", SHEETS["report.css"], re.S)
    read = [dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in blocks]
    return [read[0] | each for each in read]


def luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def parse_colour(text: str) -> tuple[float, ...]:
    if not text.startswith("#"):
        return tuple(map(float, text.split()))
    digits = text[1:] if len(text) == 7 else "".join(2 * c for c in text[1:])
    return tuple(int(digits[i : i + 2], 16) for i in (0, 2, 4))


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_can_be_told_from_their_ground_in_light_dark_and_print() -> None:
    palettes = read_palettes()
    assert len(palettes) == 3
    for palette in palettes:
        grounds = [parse_colour(palette[name]) for name in ("paper", "panel")]
        for name in ("ink", "muted", "first", "second", "good", "caution", "bad"):
            assert min(contrast(parse_colour(palette[name]), ground) for ground in grounds) >= 4.5, name
        for name in ("heat-right", "heat-wrong"):  # a cell of the matrix is at most half covered
            full = zip(parse_colour(palette[name]), parse_colour(palette["paper"]), strict=True)
            assert contrast(parse_colour(palette["ink"]), tuple((a + b) / 2 for a, b in full)) >= 4.5, name


@pytest.mark.parametrize("classes", [2, 20, 21, 50, 51, 151, 1000, 3000])
def test_a_page_is_of_bounded_size_whatever_the_classes(classes: int) -> None:
    labels = [f"{i} {LONG}" for i in range(classes)]
    rng = np.random.default_rng(0)
    rows = 6000
    evaluation, *_ = make_evaluation(labels, 0.5, rows=rows)
    report = make_report()
    history = [{"kind": "step", "step": s, "loss": 1.0} for s in range(20_000)]
    history += [{"kind": "evaluation", "step": s, "loss": 1.0, "accuracy": 0.5, "macro_f1": 0.5} for s in range(2000)]
    report = dataclasses.replace(
        report, labels=tuple(labels), comparison=[{"name": TUNED, "evaluation": evaluation, "seconds": 1.0}],
        history=history, warnings=[f"warning {i} {'x' * 100}" for i in range(1000)],
        confident_errors=[dataclasses.replace(report.confident_errors[0], row=i, text="y" * int(rng.integers(5000)))
                          for i in range(rows)],
    )  # fmt: skip
    html, card = render_report(report), render_card(make_card(report))
    assert len(html.encode()) < 350_000 and len(card.encode()) < 40_000
    if classes > 100:
        assert re.search(rf"and {classes - 100:,} more classes: mean F1 [\d.]+%, [\d,]+ rows", html)
        assert re.search(rf"and {classes - 50:,} more classes: mean F1 [\d.]+%, [\d,]+ rows", card)
    assert "and 950 more warnings" in html


def test_the_worst_classes_come_first_in_a_long_table() -> None:
    labels = name_labels(200)
    evaluation, *_ = make_evaluation(labels, 0.8, rows=4000)
    report = dataclasses.replace(make_report(labels=labels),
                                 comparison=[{"name": TUNED, "evaluation": evaluation, "seconds": 1.0}])  # fmt: skip
    worst = min(evaluation.classes, key=lambda figures: (figures.f1, -figures.support))
    table = render_report(report).split('id="classes"')[1]
    assert re.search(r'<th scope="row"[^>]*>(.*?)</th>', table)[1] == worst.label


def test_large_comparisons_and_searches_are_bounded_too() -> None:
    assert len(PAGES["large comparison"]().encode()) < 500_000
    large = PAGES["large search"]()
    assert len(large.encode()) < 900_000 and "and 1,800 more trials: mean accuracy" in large


def test_the_chosen_checkpoint_is_marked_in_both_curves() -> None:
    html = render_report(make_report(best_step=20))
    assert html.count(">chosen: 20</text>") == 2 and "keeps the weights of step 20" in html
    assert html.count("chosen: step 20") == 2  # in the words of the drawings
    start = render_report(make_report(best_step=0))
    assert ">chosen:" not in start and "from before the first step" in start
    assert ">chosen:" not in render_report(make_report())


def test_curves_that_coincide_are_told_apart() -> None:
    history = [{"kind": "evaluation", "step": s, "accuracy": s / 50, "macro_f1": s / 50 - 0.001} for s in (10, 20, 30)]
    html = render_report(make_report(history=history))
    assert "accuracy and macro F1 differ by less than 0.5 points." in html
    chart = str(draw_scores(history))
    names = re.findall(r'<text class="end (\w+)" x="[\d.]+" y="([\d.]+)">([^<]+)</text>', chart)
    assert [(style, name) for style, _, name in names] == [("first", "accuracy"), ("second", "macro F1")]
    assert abs(float(names[0][1]) - float(names[1][1])) >= 14  # the names do not lie on each other
    assert re.search(r"polyline\.second \{[^}]*stroke-dasharray", SHEETS["report.css"])
    apart = [line | {"macro_f1": line["accuracy"] / 2} for line in history]
    assert "differ by less" not in render_report(make_report(history=apart))
    losses = str(draw_losses(make_report().history))
    assert ">training</text>" in losses and ">validation</text>" in losses


def test_dates_and_settings_are_in_a_persons_form() -> None:
    html = render_report(make_report(created="2026-11-28T16:27:01+01:00", settings_yaml=SETTINGS))
    assert "2026-11-28 15:27 UTC" in html
    for part in ("<dt>learning rate</dt><dd>0.0005</dd>", "<dt>method</dt><dd>lora, r 16</dd>",
                 "<dt>prefix cache</dt><dd>yes</dd>", "<dt>not set</dt><dd>validation, labels</dd>"):  # fmt: skip
        assert part in html
    search = PAGES["search"]()
    assert "2026-11-28 15:27 UTC" in search and "learning rate 0.0005" in search
    for page in (html, search):
        assert not re.search(r"None|\{'|\['|learning_rate", re.sub("<[^>]*>", " ", page))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (True, "yes"), (False, "no"), (0.0005, "0.0005"), (1e-05, "0.00001"), (3.0, "3"), (0.1, "0.1"),
        (["q", "v"], "q, v"), ([], "–"), ({"name": "lora", "r": 8, "alpha": None}, "lora, r 8"), ("auto", "auto"),
        (float("nan"), "nan"), (2_000_000.0, "2000000"), (12, "12"), ({"lora_plus": 1.0}, "lora plus 1"), ({}, "–"),
    ],
)  # fmt: skip
def test_a_setting_is_never_raw(value: object, shown: str) -> None:
    assert show_setting(value) == shown


def test_a_date_without_a_zone_and_text_that_is_no_date_stay() -> None:
    assert format_date("2026-11-28T15:27:01Z") == "2026-11-28 15:27 UTC"
    assert format_date("2026-01-02 03:04") == "2026-01-02 03:04" and format_date("yesterday") == "yesterday"
    assert list_settings("- a list") is None and list_settings("a: [") is None


def test_baselines_stand_beside_a_sweeps_headline() -> None:
    head = PAGES["search"]().split("<nav")[0]
    assert "majority class 50.0%" in head and "TF-IDF + logistic regression 71.0%" in head
    assert "20 of 100 are wrong." in head


def test_marks_are_explained_where_they_stand() -> None:
    comparison = make_comparison()
    for page in (render_comparison(comparison, "0.2.0"), render_comparison_markdown(comparison, "0.2.0")):
        after = page.replace("\\*", "*").split(" *", 1)[1]
        assert re.search(r"\* Pareto-optimal: no other candidate is as good and trains faster", after)
        assert "† Pareto-optimal: no other candidate is as good with fewer trainable parameters" in after
    bare = dataclasses.replace(comparison, candidates=tuple(dataclasses.replace(c, fronts=())
                                                            for c in comparison.candidates))  # fmt: skip
    assert "Pareto-optimal:" not in render_comparison_markdown(bare, "0.2.0")


def test_a_warning_is_shown_once() -> None:
    html = render_report(
        make_report(warnings=["The model is overfitting: x.", "other", "The model is overfitting: x."])
    )
    assert html.count("The model is overfitting") == 1


def test_a_box_without_a_name_is_named_by_its_heading() -> None:
    page = finish_page('<h2 id="x">What <b>is</b> "it"?</h2><div class="scroll"><table></table></div>')
    assert '<div class="scroll" role="region" aria-label="What is &quot;it&quot;?" tabindex="0">' in page


@pytest.mark.parametrize(("tone", "style"), [("bad", "verdict bad"), ("good", "verdict good"), ("", "verdict")])
def test_a_search_has_the_tone_of_its_winner(tone: str, style: str) -> None:
    page = render_search_report(dataclasses.replace(make_search(), tone=tone))
    assert f'<section class="{style}" aria-label="Winner">' in page


def test_a_search_names_its_metric_as_all_else_does() -> None:
    scores = {"accuracy": 0.8, "micro_f1": 0.8, "loss": 0.3}
    search = make_search(300)
    trials = [dict(trial, scores=scores) for trial in search.trials]
    winner = dict(search.winner, scores=scores)
    page = render_search_report(dataclasses.replace(search, metric="micro_f1", trials=trials, winner=winner))
    assert "Micro F1 by trial" in page and "the best micro F1" in page and "mean micro F1" in page
    assert "icro f1" not in page and name_metric("rouge_l") == "ROUGE-L"


@pytest.mark.parametrize(("stopped", "begins"), [(0.0, "It has"), (0.0833, "Of the trials that were trained in full")])
def test_the_winner_is_not_called_best_where_a_stopped_trial_was_better(stopped: float, begins: str) -> None:
    regret = {"known": False, "at_least": stopped, "metric": "accuracy", "stopped_early": 1, "in_full": 3}
    page = render_search_report(dataclasses.replace(make_search(), regret=regret))
    assert f"<p>{begins}" in page and ("It has the best" in page) == (not stopped)
    assert "95% interval 70.0 to 90.0" in page
