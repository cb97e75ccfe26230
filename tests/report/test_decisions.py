"""The report's part on abstaining and prediction sets: axes that fit, labels that are escaped, and the card's lines."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from textune.evaluation import softmax
from textune.evaluation.abstention import measure_risk_coverage
from textune.evaluation.decisions import Decisions
from textune.report.decisions import describe_choices, describe_promises, draw_risk_coverage
from textune.report.html import open_templates
from textune.report.trust import describe_trust
from textune.tasks import build_task

HOSTILE = "<script>alert('x')</script>"


def make(decisions: Decisions, rows: int = 300) -> Any:
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(rows, 3))
    targets = (logits + random.gumbel(size=logits.shape)).argmax(1)
    task = build_task("single_label").with_temperature(1.0).with_decisions(decisions)
    return task.evaluate(softmax(logits), targets, (HOSTILE, "b", "c"), seed=0, unknown=[])


ALL = Decisions("recall>=0.9", 0, 0.2, None, "accuracy>=0.8", 0.7, 0.9, {"0.9": (0.8,)}, 100)


@pytest.mark.parametrize("wrong", [0, 1, 2, 9, 30, 70, 100])
def test_the_axis_ends_just_above_the_curve(wrong: int) -> None:
    curve = measure_risk_coverage(np.linspace(1, 0, 200), np.arange(200) >= 2 * wrong)
    drawing = draw_risk_coverage(replace(curve, risk=(wrong / 100,) * len(curve.risk)))
    marks = [float(mark) for mark in re.findall(r'text-anchor="end">([\d.]+)%<', drawing)]
    assert marks == pytest.approx([marks[-1] * i / 4 for i in range(5)]) and marks[-1] >= max(wrong, 1)
    assert marks[-1] <= max(2.5 * wrong, 1)
    heights = [float(y) for _, y in re.findall(r"([\d.]+),([\d.]+)", drawing.split("points=")[1])]
    assert min(heights) >= 10 and max(heights) <= 248


def test_the_section_says_what_was_reached_and_escapes_labels() -> None:
    evaluation = make(ALL)
    page = open_templates().get_template("trust.html.j2").render(trust=describe_trust(evaluation, "test"))
    assert "<script" not in page and "Recall of &#39;&lt;script" in page and "floor 90.0%)" in page
    assert "Abstaining below a confidence of 70.0% answers" in page and "90.0%</th>" in page
    assert len(describe_promises(evaluation)) == 3 and "very rows" not in page
    tuned_here = open_templates().get_template("trust.html.j2").render(trust=describe_trust(evaluation, "validation"))
    assert "which the table checks on those very rows" in tuned_here
    plain = make(Decisions())
    choices = describe_choices(plain)
    assert choices is not None and choices.sentences == () == choices.sets and choices.answered[-1][0] == "100%"
    assert "no prediction sets" in open_templates().get_template("trust.html.j2").render(
        trust=describe_trust(plain, "test")
    )


def test_figures_without_decisions_have_no_section() -> None:
    old = replace(make(Decisions()), decision_figures=None)
    assert describe_choices(old) is None and describe_promises(old) == []
    assert "abstain" not in open_templates().get_template("trust.html.j2").render(trust=describe_trust(old, "test"))
