"""The page and the card: escaped, self-contained, honest in their first lines."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import stat
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from reports import hostile_report, make_card, make_report, take_script_away
from textune.evaluation import (
    Difference,
    Interval,
    evaluate,
    evaluate_generation,
    evaluate_multi_label,
    paired_difference,
)
from textune.report import render_card, render_report, write_report
from textune.report.card import escape_markdown
from textune.report.charts import draw_losses, draw_scores
from textune.report.leads import IDENTICAL, describe_lead, difference_between, format_p
from textune.report.report_markdown import render_report_markdown
from textune.report.verdict import judge
from textune.report.wording import percent, points, span
from textune.tasks import MAJORITY, PROBE, TFIDF, TUNED


class Page(HTMLParser):
    """Collects tags, attributes and text; fails on tags that do not nest."""

    VOID = frozenset({"meta", "br", "line", "circle", "polyline"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self._open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_by_itself():
    html = take_script_away(render_report(make_report()))
    page = Page(html)
    assert "http" not in html and "//" not in re.sub(r"\s//\s", "", html) and "@import" not in html
    assert "url(" not in html
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    targets = [value for name, value in page.attributes if name in ("href", "src", "srcset", "action", "style")]
    assert all(target.startswith(("#", "left:", "width:", "--w:")) for target in targets)
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {t[1:] for t in targets if t.startswith("#")} <= anchors
    assert page.tags.count("svg") == 3
    assert take_script_away(render_report(make_report())) == html  # nothing but its input


def test_every_text_is_escaped():
    html = take_script_away(render_report(hostile_report()))
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in html and "&lt;script&gt;" in html
    assert not re.search("[\x00\x1b\ud800]", html)
    html.encode("utf-8")


def test_a_text_with_an_address_is_shown_and_not_linked():
    report = make_report()
    error = dataclasses.replace(report.confident_errors[0], text="see https://example.org/x", row=3)
    page = Page(render_report(dataclasses.replace(report, confident_errors=[error])))
    assert any("https://example.org/x" in text for text in page.text)
    assert not [value for _, value in page.attributes if "example" in value]


def test_few_classes_get_a_heat_map_and_many_a_list():
    few = Page(render_report(make_report(labels=[f"c{i}" for i in range(20)])))
    many = Page(render_report(make_report(labels=[f"c{i}" for i in range(21)])))
    assert "All 20 classes as a matrix" not in "".join(few.text)
    assert "All 21 classes as a matrix" in "".join(many.text)
    assert "metrics.json" in render_report(make_report(labels=[f"c{i}" for i in range(151)]))


def test_a_report_without_history_errors_or_rivals_is_drawn():
    report = make_report()
    bare = dataclasses.replace(report, comparison=report.comparison[3:], history=[], confident_errors=[])
    text = "".join(Page(render_report(bare)).text)
    assert "No baseline was evaluated" in text and "Learning curves" not in text and "confident errors" not in text
    with pytest.raises(ValueError, match="at least one"):
        render_report(dataclasses.replace(report, comparison=[]))


def test_a_figure_that_does_not_exist_is_a_dash_everywhere():
    labels = ("right", "only given", "neither", "never given")
    true = np.array([0] * 30 + [3] * 10)
    answers = np.array([0] * 25 + [1] * 5 + [0] * 10)
    evaluation = evaluate(np.eye(4)[answers] * 0.9 + 0.025, true, labels)
    report = make_report(labels=labels)
    comparison = [*report.comparison[:3], dict(report.comparison[3]) | {"evaluation": evaluation}]
    report = dataclasses.replace(report, comparison=comparison)
    scores = {  # F1, precision, recall, rows
        "right": ["76.9%", "71.4%", "83.3%", "30"],
        "only given": ["0%", "0%", "–", "0"],
        "neither": ["–", "–", "–", "0"],
        "never given": ["0%", "–", "0%", "10"],
    }
    table = re.search(r"<table>\s*<caption[^>]*>Scores per class.*?</table>", render_report(report), re.S)
    assert table is not None
    rows = re.findall(r"<tr><th scope=.row.*?</tr>", table[0], re.S)
    found = [
        [re.sub(r"<[^>]*>|\s{2,}", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)] for row in rows
    ]
    assert {cells[0]: cells[1:5] for cells in found} == scores
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in render_card(make_card(report)).splitlines()]
    card = {cells[1]: cells[2:6] for cells in lines if len(cells) == 6 and cells[1] in scores}
    assert card == {label: [precision, recall, f1, n] for label, (f1, precision, recall, n) in scores.items()}
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in render_report_markdown(report).splitlines()]
    weak = {cells[0]: cells[1:] for cells in lines if len(cells) == 5 and cells[0] in scores and "%" in cells[1]}
    assert weak == {label: cells for label, cells in scores.items() if cells[3] != "0"}


def test_the_verdict_comes_first_and_tells_the_lead():
    verdict = judge(make_report(tuned=0.9, tfidf=0.7).comparison, "test")
    assert verdict.tone == "good"
    assert re.fullmatch(
        r"Tuned model: accuracy [89]\d\.\d% on 400 test rows \(95% interval [\d.]+ to [\d.]+\)\.",
        verdict.headline,
    )
    assert re.match(r"Against TF-IDF \+ logistic regression, accuracy is higher by [\d.]+ points", verdict.judgement[0])
    assert "; against the majority class, by " in verdict.judgement[0] and "chance" not in verdict.judgement[0]
    assert re.match(r"\d+ of 400 test rows are misclassified", verdict.answer[0])
    assert re.match(r"Against the best baseline, TF-IDF \+ .*, accuracy is higher by [\d.]+ points", verdict.answer[1])
    html = render_report(make_report())
    assert html.index(verdict.headline) < html.index("Comparison with baselines")


def test_no_lead_is_told_twice():
    report = make_report(tuned=0.9, tfidf=0.7)
    comparison = [dict(row) for row in report.comparison]
    for row, mean in zip(comparison, (0.4, 0.2, 0.3), strict=False):
        row["difference"] = Difference(mean - 0.05, mean + 0.05, mean)
    verdict = judge(comparison, "test")
    assert verdict.judgement[0].startswith(f"Against {TFIDF}, accuracy is higher by 20.0 points (95% interval 15.0 ")
    assert verdict.more == (
        "Against the base model before tuning, accuracy is higher by 30.0 points (95% interval 25.0 to 35.0); against "
        "the majority class, by 40.0 points (95% interval 35.0 to 45.0).",
    )
    report = dataclasses.replace(report, comparison=comparison)
    for text in (render_card(make_card(report)), render_report_markdown(report), render_report(report)):
        assert text.count("by 20.0 points") == 1 and text.count("by 30.0 points") == 1
    comparison[1]["difference"] = Difference(-0.01, 0.03, 0.01)
    assert judge(comparison, "test").more[0].startswith("TF-IDF is smaller and faster"), "the advice stays"


def test_three_rows_do_not_call_the_majority_class_as_good():
    right, wrong = (evaluate(np.array(shares), np.array([1, 1, 1]), ("a", "b")) for shares in (
        [[0.1, 0.9]] * 3, [[0.9, 0.1]] * 3))  # fmt: skip
    rows = [{"name": MAJORITY, "evaluation": wrong, "difference": Difference(-0.1, 1.0, 1.0, 0.25)},
            {"name": TUNED, "evaluation": right}]  # fmt: skip
    text = " ".join(judge(rows, "test").judgement)
    assert "These rows do not show that it beats always predicting the most frequent class." in text
    assert "about as well" not in text


def test_the_verdict_does_not_flatter():
    unclear = judge(make_report(tuned=0.80, tfidf=0.79).comparison, "validation")
    assert unclear.tone == "caution"
    assert "may be chance" in unclear.judgement[0] and "TF-IDF is smaller" in unclear.judgement[0]
    assert "chosen on these very rows" in unclear.notes[0]
    worse = judge(make_report(tuned=0.6, tfidf=0.9).comparison, "test")
    assert worse.tone == "bad" and "accuracy is lower by" in worse.judgement[0] and "lower by" in worse.answer[1]
    idle = judge(make_report(tuned=0.5).comparison, "test")
    assert any("majority class" in sentence and "may be chance" in sentence for sentence in idle.judgement)


def test_a_paired_difference_decides_before_the_intervals():
    comparison = [dict(row) for row in make_report(tuned=0.80, tfidf=0.79).comparison]
    comparison[1]["difference"] = Difference(low=0.004, high=0.02, mean=0.012)
    verdict = judge(comparison, "test")
    assert verdict.tone == "good" and "higher by 1.2 points (95% interval 0.4 to 2.0)" in verdict.judgement[0]


@pytest.mark.parametrize(
    ("low", "mean", "high", "told", "tone"),
    [
        (0.001, 0.02, 0.04, "higher by 2.0 points (95% interval 0.1 to 4.0)", "good"),
        (
            0.0,
            0.02,
            0.04,
            "higher by 2.0 points (95% interval of the difference 0.0 to +4.0), which may be chance",
            "caution",
        ),
        (
            -0.04,
            -0.02,
            0.0,
            "lower by 2.0 points (95% interval of the difference −4.0 to 0.0), which may be chance",
            "caution",
        ),
        (
            -0.001,
            0.02,
            0.04,
            "higher by 2.0 points (95% interval of the difference −0.1 to +4.0), which may be chance",
            "caution",
        ),
        (
            -0.04,
            -0.02,
            0.001,
            "lower by 2.0 points (95% interval of the difference −4.0 to +0.1), which may be chance",
            "caution",
        ),
        (-0.04, -0.02, -0.001, "lower by 2.0 points (95% interval 0.1 to 4.0)", "bad"),
        (-0.264, -0.208, -0.152, "lower by 20.8 points (95% interval 15.2 to 26.4)", "bad"),
        (-0.02, 0.0, 0.02, "the same (95% interval of the difference −2.0 to +2.0)", "caution"),
        (0.0001, 0.0002, 0.0003, "higher by 0.02 points (95% interval 0.01 to 0.03)", "good"),
    ],
)
def test_a_lead_says_its_direction_and_whether_it_may_be_chance(low, mean, high, told, tone):
    comparison = [dict(row) for row in make_report().comparison[1::2]]
    comparison[0]["difference"] = Difference(low=low, high=high, mean=mean)
    verdict = judge(comparison, "test")
    sentence = f"Against {TFIDF}, accuracy is {told}."
    assert verdict.judgement[0].startswith(sentence) and verdict.answer[1] == sentence and verdict.tone == tone
    report = dataclasses.replace(make_report(), comparison=comparison)
    card = render_card(make_card(report))
    assert told in "".join(Page(render_report(report)).text) and escape_markdown(told) in card


def test_a_lead_from_two_intervals_takes_the_sides_that_face_each_other():
    report = make_report()
    made = [row["evaluation"] for row in (report.comparison[3], report.comparison[1])]
    tuned, other = (
        dataclasses.replace(each, accuracy=value, intervals=each.intervals | {"accuracy": interval})
        for each, value, interval in zip(made, (0.9, 0.7), (Interval(0.8, 0.92), Interval(0.69, 0.75)), strict=True)
    )
    lead = difference_between(tuned, {"evaluation": other})
    assert lead.mean == pytest.approx(0.2)
    assert (lead.mean - lead.low, lead.high - lead.mean) == pytest.approx((np.hypot(0.1, 0.05), np.hypot(0.02, 0.01)))


@pytest.mark.parametrize(
    ("sign", "p_value", "direction", "tone"),
    [(1, 0.125, "higher", "caution"), (-1, 0.125, "lower", "caution"), (1, 0.04, "higher", "good"),
     (-1, 0.04, "lower", "bad")],
)  # fmt: skip
def test_a_clear_difference_needs_the_exact_test_too(sign, p_value, direction, tone):
    comparison = [dict(row) for row in make_report().comparison[1::2]]
    low, high = sorted((sign * 0.05, sign * 0.4))
    comparison[0]["difference"] = Difference(low, high, sign * 0.2, p_value)
    verdict = judge(comparison, "test")
    assert f"{direction} by 20.0 points" in verdict.judgement[0] and verdict.tone == tone
    assert ("which the test does not confirm." in verdict.judgement[0]) == (tone == "caution")
    assert f"p = {format_p(p_value)}" in verdict.judgement[0]


def test_only_the_probe_itself_is_called_the_probe():
    comparison = [dict(row) for row in make_report().comparison]
    right = np.arange(60) >= 2
    comparison.insert(2, dict(comparison[1], name=PROBE, difference=paired_difference(right, right), seconds=2.0))
    alike = judge(comparison, "test")
    assert alike.tone == "caution" and not any("This model is" in text for text in (*alike.answer, *alike.judgement))
    for wrong, said in ((2, "has the same accuracy"), (1, "scored 1.7 points higher")):
        rival = np.arange(60) >= wrong
        comparison[2]["difference"] = paired_difference(right, rival)
        expected = f"The linear probe (method=head) {said} and trains in 2.0 s."
        assert any(expected in text for text in judge(comparison, "test").judgement)
    comparison[2]["difference"] = IDENTICAL
    itself = judge(comparison, "test")
    assert any("This model is the linear probe" in text for text in itself.judgement)
    assert not any("(method=head) is" in text for text in itself.judgement)


def test_an_interval_and_a_test_that_disagree_are_never_said_to_agree():
    """Each lead is told with one sign, or with those of both ends, and which of the two leaves a doubt."""
    for sign, (low, high), p_value in itertools.product((1, -1), ((0.333, 0.667), (-0.119, 1.0)), (0.25, 0.031, None)):
        ends = sorted((sign * low, sign * high))
        told = describe_lead(Difference(*ends, sign * 0.556, p_value))
        sure = ends[0] > 0 or ends[1] < 0, p_value is None or p_value < 0.05
        assert ("of the difference" in told) == (not all(sure)) == (", which" in told), told
        doubt = {(True, True): ")", (True, False): "the test does not confirm", (False, False): "may be chance"}
        expected = "the interval does not confirm" if p_value == 0.031 else "may be chance"
        assert told.endswith(doubt.get(sure, expected)), told


def test_four_rows_to_none_of_twenty_are_no_proof():
    comparison = [dict(row) for row in make_report().comparison[1::2]]
    comparison[0]["difference"] = paired_difference(np.ones(20, bool), np.arange(20) >= 4)
    assert "the test does not confirm" in judge(comparison, "test").judgement[0]


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([(0, 0)] * 5 + [(1, 1)] * 5, "All 10 test rows are classified correctly."),
        ([(0, 0)] * 9 + [(1, 0)], "1 of 10 test rows is misclassified: 'b' taken for 'a'."),
        ([(0, 0)] * 91 + [(1, 0)] * 6 + [(0, 1)] * 3,
         "9 of 100 test rows are misclassified, most of them 'b' taken for 'a' (6)."),
        ([(0, 0)] * 6 + [(1, 0)] * 2 + [(0, 1)] * 2,
         "4 of 10 test rows are misclassified: 2 are 'a' taken for 'b', 2 are 'b' taken for 'a'."),
        ([(0, 0)] * 9 + [(-1, 0)] * 2 + [(1, 0)],
         "3 of 12 test rows are misclassified, most of them because the model does not know their labels (2)."),
        ([(0, 0)] * 6 + [(-1, 0)] * 2 + [(1, 0), (0, 1)],
         "4 of 10 test rows are misclassified, 2 of them because the model does not know their labels; "
         "of the others 1 is 'a' taken for 'b', 1 is 'b' taken for 'a'."),
        ([(0, 0)] * 20 + [(-1, 0)] + [(1, 0)] * 3,
         "4 of 24 test rows are misclassified, 1 of them because the model does not know their labels, "
         "and most of them 'b' taken for 'a' (3)."),
    ],
)  # fmt: skip
def test_the_first_sentence_counts_what_is_wrong(pairs, told):
    true, given = (np.array(column) for column in zip(*pairs, strict=True))
    evaluation = evaluate(np.where(np.arange(2) == given[:, None], 0.9, 0.1), true, "ab")
    comparison = [{"name": TUNED, "evaluation": evaluation, "seconds": None}]
    assert judge(comparison, "test").answer[0] == told


def test_confusions_that_occur_once_are_not_called_frequent():
    true, given = np.arange(40) % 10, np.where(np.arange(40) < 4, (np.arange(40) + 1) % 10, np.arange(40) % 10)
    evaluation = evaluate(np.where(np.arange(10) == given[:, None], 0.9, 0.01), true, "abcdefghij")
    told = judge([{"name": TUNED, "evaluation": evaluation, "seconds": None}], "test").answer[0]
    assert told == "4 of 40 test rows are misclassified; no confusion occurs twice."


def test_the_first_sentence_of_several_labels_counts_rows_and_names_the_worst_label():
    true = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
    given = np.array([[1, 0], [0, 0], [1, 1], [0, 1]], bool)
    evaluation = evaluate_multi_label(np.where(given, 0.9, 0.1), true, "ab", [0.5] * 2)
    told = judge([{"name": TUNED, "evaluation": evaluation}], "test").answer[0]
    assert told == "2 of 4 test rows have a wrong or missing label, most often 'a' (1 missed, 1 wrongly given)."
    right = evaluate_multi_label(np.where(true, 0.9, 0.1), true, "ab", [0.5] * 2)
    assert judge([{"name": TUNED, "evaluation": right}], "test").answer[0] == "All labels of all 4 test rows are right."


def test_few_rows_per_label_are_noted():
    true = np.eye(4, dtype=bool)[np.arange(12) % 4]
    few = evaluate_multi_label(np.where(true, 0.9, 0.1), true, "abcd", [0.5] * 4)
    note = "With 3 rows per label on average, the interval of macro F1 is too narrow."
    assert note in judge([{"name": TUNED, "evaluation": few}], "test").notes
    more = evaluate_multi_label(np.tile(np.where(true, 0.9, 0.1), (2, 1)), np.tile(true, (2, 1)), "abcd", [0.5] * 4)
    assert not any("per label" in note for note in judge([{"name": TUNED, "evaluation": more}], "test").notes)


def test_notes_name_what_the_accuracy_hides():
    true = np.array([0] * 30 + [1] * 3 + [-1])
    evaluation = evaluate(np.tile([0.9, 0.08, 0.02], (34, 1)), true, ("a", "b", "c"), unknown=["new"])
    notes = " ".join(judge([{"name": TUNED, "evaluation": evaluation, "seconds": None}], "test").notes)
    assert "With only 34 rows, the intervals are wide." in notes and "Never predicted correctly: b." in notes
    assert "1 row has a label that the model does not know (new)" in notes
    assert "no test row has the label: c" in notes


@pytest.mark.parametrize(
    ("unknown", "sentence"),
    [
        ([("x", "y", "z")], "3 true labels are ones that the model does not know (x, y, z); each counts as missed."),
        ([("x",)], "1 true label is one that the model does not know (x); it counts as missed."),
    ],
)
def test_unknown_labels_of_a_row_with_several_are_no_rows(unknown, sentence):
    true = np.eye(4, dtype=bool)[np.arange(40) % 4]
    unknown = [*unknown, *[()] * 39]
    evaluation = evaluate_multi_label(np.where(true, 0.9, 0.1), true, "abcd", [0.5] * 4, unknown=unknown)
    assert sentence in judge([{"name": TUNED, "evaluation": evaluation}], "test").notes
    total = len(unknown[0])
    assert f"({f'{total} times' if total > 1 else 'once'})" in evaluation.report_text()


def test_writing_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_report(make_report(), path)
    assert path.read_text(encoding="utf-8") == render_report(make_report())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(make_report(tuned=0.5), path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{"kind": "step", "step": 1, "loss": 0.5}],
        [{"kind": "step", "step": 1, "loss": float("nan")}, {"kind": "step", "step": 2, "loss": None}],
        [{"kind": "step", "step": s, "loss": 0.0} for s in range(3)],
        [{"kind": "step", "step": s, "loss": 1e-9 * s} for s in range(3)],
        [{"kind": "step", "step": s, "loss": 10.0**s} for s in range(12)],
        [{"kind": "evaluation", "step": 5, "loss": 0.1, "accuracy": 1.0, "macro_f1": 1.0}],
        [{"kind": "evaluation", "step": 5, "loss": 0.1, "accuracy": 0.0, "macro_f1": 0.0}],
        [{"kind": "step", "step": s, "loss": 1.0} for s in range(100_000)],
        [{"kind": "other"}, {}],
    ],
)
def test_any_history_is_drawn_within_its_frame(history):
    for chart in (draw_losses(history), draw_scores(history)):
        if chart is None:
            continue
        Page(chart)
        coordinates = re.findall(r'points="([^"]*)"', chart)
        numbers = [float(n) for line in coordinates for pair in line.split() for n in pair.split(",")]
        assert all(0 <= n <= 460 for n in numbers)
        assert "nan" not in chart and "inf" not in chart and len(chart) < 60_000


def test_a_resumed_step_is_drawn_once():
    history = [{"kind": "evaluation", "step": s, "accuracy": 0.5, "macro_f1": 0.5} for s in (1, 2, 2, 3)]
    assert str(draw_scores(history)).count("<circle") == 6


def test_figures_round_without_lying():
    assert [span(Interval(*ends)) for ends in ((0.886, 0.923), (0.9997, 0.99999), (0.00001, 1.0), (0.0, 0.001))] == [
        "88.6 to 92.3", ">99.9 to >99.9", "<0.1 to 100.0", "0.0 to 0.1",
    ]  # fmt: skip
    assert [percent(x) for x in (0.905, 0.9999, 1.0, 0.0001, 0.0)] == [
        "90.5%",
        ">99.9%",
        "100%",
        "<0.1%",
        "0%",
    ]
    assert [points(x) for x in (0.075, -0.004, -0.0001)] == ["+7.5", "−0.4", "0.0"]


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_cards_front_matter_is_yaml():
    card = render_card(make_card(make_report(warnings=["a warning"])))
    assert card.startswith("---\n")
    front = front_matter(card)
    (index,) = front.pop("model-index")
    assert index["name"] == "reviews" and [m["type"] for m in index["results"][0]["metrics"]] == ["accuracy", "f1"]
    assert front == {
        "library_name": "peft", "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "pipeline_tag": "text-classification", "tags": ["text-classification", "textune", "lora"],
        "metrics": ["accuracy", "f1"],
    }  # fmt: skip
    for part in ("# reviews", "- a warning", "```python\nimport textune", "| tuned model |", "| 1 | good |"):
        assert part in card
    without = front_matter(render_card(make_card(make_report(), base_model=None, license="apache-2.0")))
    assert "base_model" not in without and without["license"] == "apache-2.0"


@pytest.mark.parametrize("kind", ["single", "several labels", "hostile", "1,000 classes"])
def test_the_hub_reads_the_card(kind, tmp_path):
    """The library that publishes a card reads it, with every figure of its model index."""
    from huggingface_hub import ModelCard

    true = np.eye(4, dtype=bool)[np.arange(40) % 4]
    several = evaluate_multi_label(np.where(true, 0.9, 0.1), true, "abcd", [0.5] * 4)
    reports = {
        "single": make_report,
        "several labels": lambda: make_report(comparison=[{"name": TUNED, "evaluation": several, "seconds": 1.0}]),
        "hostile": hostile_report,
        "1,000 classes": lambda: make_report(labels=[f"class {i}" for i in range(1000)]),
    }
    report = reports[kind]()
    task = "multi_label" if kind == "several labels" else "single_label"
    (tmp_path / "README.md").write_text(render_card(make_card(report, task=task)), encoding="utf-8")
    card = ModelCard.load(tmp_path / "README.md", ignore_metadata_errors=False)
    found = card.data.eval_results
    evaluation = report.comparison[-1]["evaluation"]
    assert found[0].metric_value == round(evaluation.headline.value, 6)
    assert {result.task_type for result in found} == {"text-classification"} and found[0].dataset_split == "test"
    assert card.data.library_name == "peft" and card.data.pipeline_tag == "text-classification"
    for heading in ("## Intended use", "## How to load", "## Results on", "## Calibration", "## Training details"):
        assert f"\n{heading}" in card.text
    assert ("## Limits found" in card.text) == (kind != "single")  # two classes without slices have none
    levels = [len(mark) for mark in re.findall(r"^(#+) ", re.sub(r"```.*?```", "", card.text, flags=re.S), re.M)]
    assert levels[0] == 1 and levels.count(1) == 1


def test_the_card_escapes_what_others_wrote():
    report = hostile_report()
    card = render_card(make_card(report, base_model="evil: [x]\n---\n# injected"))
    assert front_matter(card)["base_model"].startswith("evil: [x]")
    body = card.split("````python")[0] + card.split("````\n")[-1]
    assert "<script" not in body and "<img" not in body
    assert not re.search("[\x00\x1b\ud800]", card)
    table = [line for line in card.splitlines() if line.startswith("| 0 |")]
    assert len(table) == 1 and len(re.findall(r"(?<!\\)\|", table[0])) == 7
    many = render_card(make_card(make_report(labels=[f"c{i}" for i in range(60)])))
    assert "and 10 more classes" in many


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("18.6% (15.6 to 21.7)", "18.6% (15.6 to 21.7)"),
        ("a|b\nc", "a\\|b c"),
        ("1. first", "1\\. first"),
        ("- item", "\\- item"),
        ("[x](y)", "\\[x\\](y)"),
        ("https://a.b", "https\\://a.b"),
        ("me@a.b", "me\\@a.b"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
    ],
)
def test_markdown_is_shown_as_it_is(text, shown):
    assert escape_markdown(text) == shown


def test_a_card_says_what_a_model_that_writes_does():
    answers = ["red", "blue", "green"]
    evaluation = evaluate_generation(answers, ["red", "blue", "grey"], np.zeros(3, bool))
    report = make_report(comparison=[{"name": TUNED, "evaluation": evaluation, "seconds": 1.0}])
    card = render_card(make_card(report, labels=("answer",), task="generation"))
    assert "The model writes an answer to a prompt. It is meant for prompts like those" in card
    assert "label: answer" not in card
    assert "The model gives each text one of 2 labels: bad, good." in render_card(make_card(make_report()))
