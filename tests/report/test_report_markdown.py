"""The report as Markdown: the page's facts, and no text that breaks it."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reports import HOSTILE, hostile_report, make_comparison, make_report
from textune.evaluation import Interval, evaluate_multi_label
from textune.evaluation.slices import Slice, SliceSearch
from textune.report import ReportInput, judge, render_report, render_report_markdown
from textune.report.comparison_page import render_comparison, render_comparison_markdown
from textune.report.contrast import Contrast, ContrastRow, Side, describe_groups
from textune.report.wording import percent
from textune.tasks import TUNED

PARSER = MarkdownIt("commonmark").enable("table")
NASTY = "| a | b\n# heading\n\n- item `code` [x](http://x.y) ![i](j) <b>bold</b> &amp; ~~s~~ www.x.org 1. \\"


def make_slices(description: str = "domain is 'kitchen'") -> SliceSearch:
    found = Slice("column", description, 40, 20, Interval(0.35, 0.65), 5.0, 16.0, 1e-9, 1e-7, ("other",), (1, 2))
    return SliceSearch(400, 40, (found,), {"column": 4}, 10)


def make_sets() -> ReportInput:
    true = np.eye(4, dtype=bool)[np.arange(40) % 4]
    evaluation = evaluate_multi_label(np.where(true, 0.9, 0.1), true, "abcd", [0.5] * 4)
    comparison = [{"name": TUNED, "evaluation": evaluation, "seconds": 1.0}]
    return make_report(labels=("a", "b", "c", "d"), comparison=comparison)


REPORTS = {
    "two classes": lambda: make_report(slices=make_slices()),
    "30 classes": lambda: make_report(labels=[f"class {i}" for i in range(30)]),
    "several labels": make_sets,
    "hostile": hostile_report,
    "nasty": lambda: nasty(NASTY),
}


def nasty(text: str) -> ReportInput:
    """Return a report in which all that others wrote is one text."""
    report = make_report(labels=(f"{text}1", f"{text}2", f"{text}3"), slices=make_slices(text))
    pairs = [(text, text)]
    return dataclasses.replace(
        report, title=text, created=text, textune_version=text, task_summary=pairs, data_facts=pairs, warnings=[text]
    )


def structure(markdown: str) -> list[str]:
    """Return the blocks of a page, without what they say."""
    return [token.type for token in PARSER.parse(markdown)]


def check_plain(markdown: str) -> None:
    """Assert that nothing in a page is markup but what the report writes itself."""
    tokens = PARSER.parse(markdown)
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}
    assert not kinds & {
        "html_block",
        "html_inline",
        "link_open",
        "image",
        "code_block",
        "fence",
        "blockquote_open",
        "hr",
    }
    widths: list[int] = []
    for token in tokens:
        if token.type == "tr_open":
            widths.append(0)
        elif token.type in ("th_open", "td_open"):
            widths[-1] += 1
        elif token.type == "table_close":
            assert len(set(widths)) == 1 and widths[0] >= 2
            widths = []


@pytest.mark.parametrize("kind", REPORTS)
def test_nothing_breaks_the_markdown(kind: str) -> None:
    check_plain(render_report_markdown(REPORTS[kind]()))


@settings(max_examples=25, deadline=None)
@given(text=st.text(st.characters(codec=None), min_size=1, max_size=60))
def test_any_text_stays_text(text: str) -> None:
    markdown = render_report_markdown(nasty(text))
    check_plain(markdown)
    assert structure(markdown) == structure(render_report_markdown(nasty("plain")))
    markdown.encode("utf-8")


@pytest.mark.parametrize("kind", ["two classes", "30 classes", "several labels"])
def test_it_has_the_facts_of_the_page(kind: str) -> None:
    report = REPORTS[kind]()
    page, markdown = render_report(report), render_report_markdown(report)
    verdict = judge(report.comparison, report.split)
    lines = [line for line in markdown.splitlines() if line]
    for sentence in verdict.answer:
        assert sentence in lines[1].replace("\\", "")
    assert "<h2 id=" in page and len(markdown) < len(page) / 3
    for row in report.comparison:
        assert f"{row['name'].replace('+', '+')} | {percent(row['evaluation'].headline.value)}" in markdown
    figures = verdict.evaluation.probability_figures.calibration
    assert percent(figures.calibration_error) in markdown and f"{figures.brier:.3f}" in markdown
    assert ("### Where it errs most" in markdown) == (report.slices is not None)
    if report.slices is not None:
        assert "| domain is 'kitchen' | 40 | 50.0% | 35.0 to 65.0 | 16.0 |" in markdown
    assert re.search(r"The \d+ most confident errors have a probability from", markdown)
    assert report.confident_errors[0].text not in markdown


def test_a_comparison_shows_what_only_one_gets_right_and_escapes_it() -> None:
    slices = make_slices(HOSTILE).slices
    sides = [Side(name, 3, (ContrastRow(7, HOSTILE, HOSTILE, HOSTILE),), slices) for name in ("one", HOSTILE)]
    contrast = Contrast(sides[0], sides[1], (1, 2), 30, 4, 12)
    comparison = dataclasses.replace(make_comparison(), contrast=contrast)
    markdown, page = render_comparison_markdown(comparison, "1"), render_comparison(comparison, "1")
    check_plain(markdown)
    for told in (markdown, page):
        assert "Of 40 rows, both get 30 right and 4 wrong; only one gets 3 right" in told
        assert "Groups among the 6 rows that only one of the two gets right" in told
    assert "<script>alert" not in page and page.count("&lt;script&gt;") > 6


def test_one_confident_error_is_singular() -> None:
    report = make_report()
    report = dataclasses.replace(report, confident_errors=report.confident_errors[:1])
    markdown, shown = render_report_markdown(report), percent(report.confident_errors[0].probability)
    assert f"The most confident error has a probability of {shown}; the report shows its text." in markdown
    assert "1 most" not in markdown


def test_one_group_is_singular() -> None:
    side = Side("one", 3, (), ())
    assert "1 group was tested" in describe_groups(Contrast(side, side, (1, 2), 30, 4, 1))
    assert "2 groups were tested" in describe_groups(Contrast(side, side, (1, 2), 30, 4, 2))
