"""The answer in the terms that a run was tuned for: on the page, in its Markdown twin and in the card."""

from __future__ import annotations

import dataclasses
import html

import numpy as np
import pytest

from reports import HOSTILE, make_card, make_report
from textune.evaluation import Difference, Interval
from textune.evaluation.abstention import measure_risk_coverage
from textune.evaluation.decisions import CostFigures, DecisionFigures, Share, describe_decisions
from textune.evaluation.goal import Goal, GoalFigure
from textune.evaluation.text import show_cost
from textune.report import render_card, render_report, render_report_markdown
from textune.report.goal import judge_goal, list_goal_table
from textune.report.markdown import escape_markdown
from textune.report.report_markdown import list_goal_sections
from textune.report.verdict import judge
from textune.tasks import PROBE, TFIDF

ALWAYS = GoalFigure("always 'ham'", 0.45, Interval(0.4, 0.5), lead=Difference(-0.37, -0.29, -0.33))


def costs(*leads: tuple[float, float, float]) -> Goal:
    """Return a goal of costs. leads: of the run over other models, as (low, mean, high)."""
    models = [GoalFigure(f"model {i}", 0.12 - m, Interval(0, 1), lead=Difference(low, high, m)) for i, (low, m, high) in
              enumerate(leads)]  # fmt: skip
    return Goal("costs", None, GoalFigure("tuned model", 0.12, Interval(0.1, 0.15)), (ALWAYS, *models))


def share(value: float | None, low: float = 0.0, high: float = 1.0) -> Share:
    return Share(None, None, 0) if value is None else Share(value, Interval(low, high), 100)


def floor(own: Share, *others: GoalFigure) -> Goal:
    return Goal("precision>=0.95", "spam", GoalFigure("tuned model", 0.9, Interval(0.85, 0.93), own), others)


@pytest.mark.parametrize(
    ("goal", "tone", "sentences"),
    [
        (
            costs((-0.05, -0.03, -0.01), (-0.2, -0.1, -0.05)),
            "good",
            (
                "An answer costs 0.12 on average on 400 test rows (95% interval 0.1 to 0.15).",
                "The cheapest constant answer, always 'ham', costs 0.45: 0.33 more (95% interval 0.29 to 0.37); of the "
                "other models, model 0 costs least, 0.15: 0.03 more (95% interval 0.01 to 0.05).",
            ),
        ),
        (costs((-0.05, -0.03, 0.01)), "caution", ("model 0 costs least", "−0.01 to 0.05), which may be chance.")),
        (costs((0.01, 0.03, 0.05)), "bad", ("costs least, 0.09: 0.03 less (95% interval 0.01 to 0.05).",)),
        (costs((0.0, 0.0, 0.0)), "caution", ("costs least, 0.12, the same.",)),
        (costs(), "good", ("always 'ham', costs 0.45: 0.33 more (95% interval 0.29 to 0.37).",)),
        (
            floor(
                share(0.97, 0.96, 0.99),
                GoalFigure("loose", 0.99, Interval(0.9, 1), share(0.7), Difference(-0.2, 0.0, -0.1)),
                GoalFigure(TFIDF, 0.8, Interval(0.7, 0.9), share(0.96), Difference(0.05, 0.15, 0.1)),
            ),
            "good",
            (
                "Recall of 'spam' is 90.0% on 400 test rows (95% interval 85.0 to 93.0); its precision is 97.0% (95% "
                "interval 96.0 to 99.0), which reaches the floor of 95.0%.",
                f"Of the simpler models that reach the floor, {TFIDF} has the highest recall of 'spam', 80.0%: this "
                "model's is higher by 10.0 points (95% interval 5.0 to 15.0).",
            ),
        ),
        (floor(share(0.96, 0.9, 0.99)), "caution", ("reaches the floor of 95.0%, but other rows may miss it",)),
        (floor(share(0.94, 0.9, 0.97)), "caution", ("misses the floor of 95.0%, perhaps by chance",)),
        (floor(share(0.8, 0.7, 0.9)), "bad", ("misses the floor of 95.0%.",)),
        (floor(share(None)), "bad", ("its precision is undefined, so the floor of 95.0% cannot be checked",)),
        (
            floor(share(0.97, 0.96, 0.99), GoalFigure("loose", 1.0, Interval(0.9, 1), share(0.7))),
            "good",
            ("No simpler model reaches the floor of 95.0% on these rows.",),
        ),
        (
            floor(
                share(0.97, 0.96, 0.99),
                GoalFigure(PROBE, 0.9, Interval(0.8, 1), share(0.96), Difference(0.0, 0.0, 0.0)),
            ),
            "caution",
            (f"{PROBE} has the highest recall of 'spam', 90.0%: this model's is the same",),
        ),
        (
            floor(
                share(0.97, 0.96, 0.99),
                GoalFigure(PROBE, 0.9, Interval(0.8, 1), share(0.97, 0.96, 0.99), Difference(0.0, 0.0, 0.0)),
                GoalFigure(TFIDF, 0.95, Interval(0.9, 1), share(0.96), Difference(-0.09, -0.01, -0.05)),
            ),
            "bad",
            (f"{TFIDF} has the highest recall of 'spam', 95.0%: this model's is lower by 5.0 points",),
        ),
    ],
)
def test_the_answer_is_in_the_terms_of_the_goal_everywhere(goal: Goal, tone: str, sentences: tuple[str, ...]) -> None:
    report = dataclasses.replace(make_report(), goal=goal)
    verdict = judge(report.comparison, "test", goal)
    answer = " ".join(verdict.answer)
    assert verdict.tone == tone
    assert all(sentence in answer for sentence in sentences), answer
    page, twin = html.unescape(render_report(report)), render_report_markdown(report)
    card = render_card(dataclasses.replace(make_card(report), goal=goal))
    for sentence in verdict.answer:
        assert sentence in page and escape_markdown(sentence) in twin and escape_markdown(sentence) in card
    assert page.index(verdict.answer[0]) < page.index("rows are misclassified") < page.index("Comparison with")
    assert f"accuracy {100 * verdict.evaluation.headline.value:.1f}%" in page, "the usual figures stay"
    for text in (page, twin, card):
        assert "What it was tuned for" in text and all(each.name in html.unescape(text) for each in goal.others)
    assert f'<div class="figure">{verdict.figure}<' in page


def test_every_model_has_a_row_in_the_table() -> None:
    header, rows = list_goal_table(floor(share(0.97), GoalFigure("silent", 0.0, Interval(0, 0.1), share(None))))
    assert header[:4] == ("model", "recall of 'spam'", "95% interval", "precision of 'spam'")
    assert [len(row) for row in rows] == [len(header)] * 2 and rows[0][3:] == ("–", "–", "–", "–")
    assert rows[-1][:2] == ("tuned model", "90.0%")
    header, rows = list_goal_table(costs((-0.05, -0.03, -0.01)))
    assert rows[1] == ("model 0", "0.15", "0 to 1", "−0.03", "−0.05 to −0.01")


def test_without_a_goal_accuracy_stays_on_top() -> None:
    report = make_report()
    verdict = judge(report.comparison, "test")
    assert verdict.figure.endswith("%") and verdict.figure_name == "accuracy on 400 test rows"
    assert "tuned for" not in render_report(report) + render_report_markdown(report) + render_card(make_card(report))


def test_labels_of_a_goal_are_escaped() -> None:
    goal = dataclasses.replace(floor(share(0.97), dataclasses.replace(ALWAYS, name=HOSTILE)), label=HOSTILE)
    report = dataclasses.replace(make_report(), goal=goal)
    page = render_report(report)
    assert "<script>alert" not in page and "onerror=alert(1)>" not in page


@pytest.mark.parametrize("label", ["a|b", "<unknown>", "*b*", "`c`"])
def test_a_label_in_the_header_of_a_markdown_table_is_text(label: str) -> None:
    goal = dataclasses.replace(floor(share(0.97), ALWAYS), label=label)
    header, line, *_ = list_goal_sections(goal)[1].splitlines()
    assert escape_markdown(label) in header
    assert header.replace("\\|", "").count("|") == line.count("|")


@pytest.mark.parametrize("size", [0.00123, 0.5, 12.0, 1234.5])
def test_costs_of_any_size_are_readable(size: float) -> None:
    own = GoalFigure("tuned model", size, Interval(size / 2, size * 2))
    other = GoalFigure("always 'a'", 3 * size, Interval(size, 4 * size), lead=Difference(-3 * size, -size, -2 * size))
    judged = judge_goal(Goal("costs", None, own, (other,)), 400, "test")
    assert "e-" not in "".join(judged.answer) and "e+" not in "".join(judged.answer) and judged.tone == "good"
    assert np.isclose(float(judged.figure.replace(",", "")), size, rtol=0.01)


@pytest.mark.parametrize(
    ("cost", "shown", "signed"),
    [
        (0.1234, "0.123", "+0.123"),
        (999.4, "999", "+999"),
        (999.7, "1,000", "+1,000"),
        (1500.0, "1,500", "+1,500"),
        (-1500.0, "−1,500", "−1,500"),
        (-0.03, "−0.03", "−0.03"),
        (0.0, "0", "0"),
    ],
)
def test_a_cost_is_written_alike_everywhere(cost: float, shown: str, signed: str) -> None:
    assert show_cost(cost) == shown and show_cost(cost, signed=True) == signed
    own = GoalFigure("tuned model", cost, Interval(cost, cost))
    other = GoalFigure("other", 0.0, Interval(0, 0), lead=Difference(cost, cost, cost))
    _, rows = list_goal_table(Goal("costs", None, own, (ALWAYS, other)))
    assert rows[1][3:] == (signed, f"{signed} to {signed}")
    assert rows[2][1:3] == (shown, f"{shown} to {shown}")
    curve = measure_risk_coverage(np.linspace(1, 0, 10), np.ones(10, bool))
    figures = DecisionFigures(curve, cost=CostFigures(cost, Interval(cost, cost), cost))
    told = describe_decisions(figures)[0]
    assert told == f"mean cost per row: {shown} (95% interval {shown} to {shown}); decided without costs {shown}"
