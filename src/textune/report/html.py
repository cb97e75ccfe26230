"""One self-contained HTML page about a run: one script of its own, no external resources, every text escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from textune.evaluation import ConfidentError
from textune.evaluation.goal import Goal
from textune.evaluation.slices import SliceSearch
from textune.explain import Explanation
from textune.files import write_text_atomically
from textune.progress import format_seconds
from textune.report.charts import describe_coincidence, draw_losses, draw_scores, has_validation_loss
from textune.report.confusion_crop import Crop, crop_confusion, sum_up_classes
from textune.report.goal import build_goal_table
from textune.report.highlight import highlight
from textune.report.leads import difference_between, format_p
from textune.report.trust import describe_trust
from textune.report.verdict import judge
from textune.report.wording import (
    clean_text,
    clip,
    cut_warnings,
    format_date,
    list_settings,
    name_setting,
    number,
    percent,
    plural,
    points,
    shorten,
    show_scores,
    span,
)
from textune.tasks import AnyEvaluation, build_task

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_CLASSES_IN_HEAT_MAP = 20
_MOST_CLASSES_IN_MATRIX = 50
"""With more, the classes with the most errors stand in a matrix of `MOST_CLASSES_IN_HEAT_MAP`."""
_WORST_CLASSES_SHOWN = 10
_MOST_CLASSES_IN_TABLE = 100
_MOST_LABELS_LISTED = 40
_MOST_ERRORS_SHOWN = 20


@dataclass(frozen=True)
class ReportInput:
    """Everything the report shows, as plain data.

    task_summary, data_facts: (name, value) pairs. split: "test" or "validation".
    comparison: rows of ``name``, ``evaluation`` (all of one task), ``seconds`` (float or None: training and
        prediction) and, if known, ``difference`` (Difference: the tuned model's headline metric minus this
        row's). The verdict knows the names `TUNED`, `BASE`, `PROBE`, `TFIDF` and `MAJORITY`.
    history: the lines of metrics.jsonl. reload_lines: Python that loads the run. slices: where it errs most, if known.
    best_step: of the checkpoint that was kept, if known. explanations: of confident errors, by row number.
    samples: prompts with the expected answer and those of the base model and the tuned one.
    goal: what the run was tuned for, if that is not its headline metric.
    """

    title: str
    created: str
    textune_version: str
    task_summary: Sequence[tuple[str, str]]
    labels: tuple[str, ...]
    split: str
    comparison: Sequence[Mapping[str, Any]]
    history: Sequence[Mapping[str, Any]]
    confident_errors: Sequence[ConfidentError]
    data_facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    settings_yaml: str
    reload_lines: str
    slices: SliceSearch | None = None
    best_step: int | None = None
    explanations: Mapping[int, Explanation] = field(default_factory=dict)
    samples: Sequence[Any] = ()
    goal: Goal | None = None


def render_report(report: ReportInput) -> str:
    """Return the page; raise ValueError if the comparison has no rows."""
    verdict = judge(report.comparison, report.split, report.goal)
    evaluation = verdict.evaluation
    task = build_task(evaluation.task)
    floor = _axis_floor([row["evaluation"] for row in report.comparison])
    names = [f.name for f in (evaluation.headline, *evaluation.further)]
    ranked = sorted(evaluation.classes, key=lambda figures: (not figures.support, figures.f1, -figures.support))
    confusions = task.count_confusions(evaluation)
    page = (
        open_templates()
        .get_template("report.html.j2")
        .render(
            report=report,
            verdict=verdict,
            evaluation=evaluation,
            floor=floor,
            position=lambda share: f"{100 * (share - floor) / (1 - floor):.2f}",
            goal=build_goal_table(report.goal),
            difference=lambda row: difference_between(evaluation, row),
            losses=draw_losses(report.history, report.best_step),
            validated=has_validation_loss(report.history),
            scores=draw_scores(report.history, names, report.best_step),
            coincidence=describe_coincidence(report.history, names),
            more_judgement=verdict.more,
            has_slices=report.slices is not None and report.slices.looks and report.slices.errors,
            task=task,
            trust=describe_trust(evaluation, report.split),
            warnings=cut_warnings(report.warnings),
            errors=report.confident_errors[:_MOST_ERRORS_SHOWN],
            explained={row: highlight(explanation) for row, explanation in report.explanations.items()},
            heat_map=len(evaluation.classes) <= MOST_CLASSES_IN_HEAT_MAP,
            crop=None if confusions is None else _crop(evaluation),
            confusions=confusions,
            support={figures.label: figures.support for figures in evaluation.classes},
            ranked=ranked,
            worst=_WORST_CLASSES_SHOWN,
            shown_classes=_MOST_CLASSES_IN_TABLE,
            shown_labels=_MOST_LABELS_LISTED,
            other_classes=sum_up_classes(ranked[_MOST_CLASSES_IN_TABLE:]),
            all_settings=list_settings(report.settings_yaml),
        )
    )
    return finish_page(page)


def finish_page(page: str) -> str:
    """Return a rendered page without forbidden characters, in which the keyboard reaches every box that scrolls.

    A box without a name is named by the heading above it.
    """
    heading = "Table"

    def name(match: re.Match[str]) -> str:
        nonlocal heading
        if match[1] is not None:
            heading = re.sub("<[^>]*>", "", match[1]).replace('"', "&quot;")
            return match[0]
        return f'<div class="scroll" role="region" aria-label="{heading}" tabindex="0">'

    return clean_text(re.sub(r'<h[1-6][^>]*>(.*?)</h[1-6]>|<div class="scroll">', name, page, flags=re.S))


def _read_script() -> dict[str, Any]:
    """Return the script that sorts tables, and a policy that lets a browser run it alone and load nothing."""
    script = (Path(__file__).parent / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    return {"sort_script": Markup(script), "policy": Markup(f"{rules}; form-action 'none'")}


def write_report(report: ReportInput, path: str | Path) -> None:
    """Write the page atomically."""
    write_page(render_report(report), path)


def write_page(text: str, path: str | Path) -> None:
    """Write a page as UTF-8, whole or not at all."""
    write_text_atomically(Path(path), text)


@cache
def open_templates() -> Environment:
    """Return the Jinja environment of this folder: everything is escaped, and undefined names are errors."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: tuple[Any, ...] = (percent, span, points, number, plural, shorten, clip, format_seconds)
    filters += (format_date, name_setting, format_p, show_scores)
    environment.filters |= {function.__name__: function for function in filters}
    environment.globals |= _read_script()
    return environment


def _crop(evaluation: Any) -> Crop:
    labels = [figures.label for figures in evaluation.classes]
    most = MOST_CLASSES_IN_HEAT_MAP
    return crop_confusion(labels, evaluation.confusion, whole=_MOST_CLASSES_IN_MATRIX, most=most)


def _axis_floor(evaluations: Sequence[AnyEvaluation]) -> float:
    """Return where the headline metric's axis starts: the tenth below every interval, so that differences show."""
    lowest = min(evaluation.headline.interval.low for evaluation in evaluations)
    return max(0, int(10 * lowest - 0.5)) / 10
