"""The report as Markdown for a pull request: the same facts, in short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textune.evaluation.goal import Goal
from textune.report.goal import describe_table, list_goal_table
from textune.report.leads import difference_between
from textune.report.markdown import build_table, escape_markdown
from textune.report.slices import HEADER, MOST_SHOWN, describe_slices, format_slice
from textune.report.trust import describe_trust
from textune.report.verdict import Verdict, judge
from textune.report.wording import (
    clean_text,
    clip,
    cut_warnings,
    format_date,
    number,
    percent,
    points,
    show_scores,
    span,
)
from textune.tasks import build_task

if TYPE_CHECKING:
    from textune.report.html import ReportInput

_MOST_CONFUSIONS, _MOST_CLASSES, _MOST_NOTES = 5, 5, 10


def render_report_markdown(report: ReportInput) -> str:
    """Return the report as Markdown; raise ValueError if the comparison has no rows."""
    verdict = judge(report.comparison, report.split, report.goal)
    sections = [
        f"## {escape_markdown(clip(report.title, 200))}",
        f"**{escape_markdown(verdict.answer[0])}** {escape_markdown(' '.join(verdict.answer[1:]))}",
        escape_markdown(" ".join([verdict.headline, *verdict.more])),
        _list([*verdict.notes, *cut_warnings(report.warnings, _MOST_NOTES)]),
        *list_goal_sections(report.goal),
        *_compare(report, verdict),
        *_list_slices(report),
        *_list_errors(report, verdict),
        *_describe_trust(report, verdict),
        "### Run",
        build_table(("", ""), [(name, clip(value, 300)) for name, value in (*report.task_summary, *report.data_facts)]),
        escape_markdown(f"Created {format_date(report.created)} with textune {report.textune_version}."),
    ]
    return clean_text("\n\n".join(section for section in sections if section)) + "\n"


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escape_markdown(clip(line, 500))}" for line in lines)


def list_goal_sections(goal: Goal | None, level: int = 3) -> list[str]:
    """Return heading, table and note of what the run was tuned for; nothing where that is its headline metric."""
    if goal is None:
        return []
    heading = f"{'#' * level} What it was tuned for"
    header, rows = list_goal_table(goal)
    return [heading, build_table([*map(escape_markdown, header)], rows), escape_markdown(describe_table(goal))]


def _compare(report: ReportInput, verdict: Verdict) -> list[str]:
    evaluation, rows = verdict.evaluation, []
    for row in report.comparison:
        figures = row["evaluation"]
        lead = difference_between(evaluation, row)
        named = [f"{percent(f.value)} ({span(f.interval)})" for f in (figures.headline, *figures.further)]
        is_subject = row["name"] == verdict.subject
        led = "–" if is_subject else f"{points(lead.mean)} ({points(lead.low)} to {points(lead.high)})"
        loss = "–" if figures.log_loss is None else f"{figures.log_loss:.3f}"
        rows.append((row["name"], *named, loss, led))
    names = (f.name for f in (evaluation.headline, *evaluation.further))
    task = build_task(evaluation.task)
    return [
        f"### Comparison on the same {task.name_rows(evaluation, report.split)}",
        build_table(("model", *names, "log loss", f"lead of {verdict.subject}"), rows),
        f"95% intervals, in percent ({task.intervals_note}); the lead in percentage points.",
    ]


def _list_slices(report: ReportInput) -> list[str]:
    search = report.slices
    if search is None or not search.looks or not search.errors:
        return []
    heading, means = "### Where it errs most", escape_markdown(describe_slices(search))
    if not search.slices:
        return [heading, f"No group of rows has more errors than chance explains. {means}"]
    return [heading, build_table(HEADER, [format_slice(each) for each in search.slices[:MOST_SHOWN]]), means]


def _list_errors(report: ReportInput, verdict: Verdict) -> list[str]:
    """Return the most frequent confusions, the weakest classes, and how confident errors are."""
    evaluation = verdict.evaluation
    task, parts = build_task(evaluation.task), list[str]()
    confusions = task.count_confusions(evaluation)
    rows: list[tuple[str, ...]]
    if confusions:
        support = {figures.label: figures.support for figures in evaluation.classes}
        rows = [
            (clip(true, 60), clip(predicted, 60), number(count), percent(count / support[true]))
            for true, predicted, count in confusions[:_MOST_CONFUSIONS]
        ]
        parts.append(build_table(("true", "predicted", "rows", "share of class"), rows))
    weak = sorted((f for f in evaluation.classes if f.support), key=lambda f: (f.f1, -f.support))[:_MOST_CLASSES]
    if len(evaluation.classes) > 2 and weak:
        rows = [(clip(f.label, 60), *show_scores(f), number(f.support)) for f in weak]
        parts.append(build_table(("class with the lowest F1", "F1", "precision", "recall", "rows"), rows))
    if report.confident_errors:
        parts.append(_sum_up_confident([error.probability for error in report.confident_errors]))
    return ["### Errors", *parts] if parts else []


def _sum_up_confident(probabilities: Sequence[float]) -> str:
    """Return how confident the most confident errors are. probabilities: of each, one at least."""
    if len(probabilities) == 1:
        return f"The most confident error has a probability of {percent(probabilities[0])}; the report shows its text."
    return (
        f"The {number(len(probabilities))} most confident errors have a probability from {percent(min(probabilities))} "
        f"to {percent(max(probabilities))}; the report shows their texts."
    )


def _describe_trust(report: ReportInput, verdict: Verdict) -> list[str]:
    trust = describe_trust(verdict.evaluation, report.split)
    if trust is None:
        return []
    show = [
        f"{value} ({interval})" if interval else value for row in trust.calibration for value, interval in (row.after,)
    ]
    before = [row.before[0] for row in trust.calibration]
    names = [row.name for row in trust.calibration]
    rows = [(n, b, a) if trust.has_before else (n, a) for n, b, a in zip(names, before, show, strict=True)]
    header = ("figure", "before the temperature", "after") if trust.has_before else ("figure", "value")
    return [
        "### Can the probabilities be trusted?",
        escape_markdown(" ".join(trust.sentences)),
        build_table(header, rows),
    ]
