"""The model card: a README.md with a run's results, its training details and how to load it without textune."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from textune.evaluation.goal import Goal
from textune.evaluation.slices import SliceSearch
from textune.report.confusion_crop import sum_up_classes
from textune.report.decisions import describe_promises
from textune.report.markdown import build_table, fence
from textune.report.markdown import escape_markdown as escape_markdown
from textune.report.report_markdown import list_goal_sections
from textune.report.slices import HEADER, describe_slices, list_slice_rows
from textune.report.trust import describe_calibration, describe_trust
from textune.report.verdict import judge
from textune.report.wording import clean_text, clip, cut_warnings, number, percent, plural, show_scores, span
from textune.tasks import AnyEvaluation, build_task, find_task

LOADING = "## How to load"
"""The heading of the section that other forms of a run have otherwise."""
_MOST_CLASSES_SHOWN = 50
_MOST_LABELS_NAMED, _MOST_WEAK = 10, 5


@dataclass(frozen=True)
class CardInput:
    """Everything the model card shows, as plain data.

    base_model: its hub id, or None if it has none (never a path). library_name: "peft" or "transformers".
    comparison, split, warnings: as in `ReportInput`. reload_lines: Python that loads the run without textune.
    tags: extra hub tags, such as the method's key. language, license: the hub's codes, if known. goal: as in
    `ReportInput`.
    """

    title: str
    textune_version: str
    base_model: str | None
    library_name: str
    labels: tuple[str, ...]
    split: str
    comparison: Sequence[Mapping[str, Any]]
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    reload_lines: str
    tags: Sequence[str] = ()
    task: str = "single_label"
    language: str | None = None
    license: str | None = None
    slices: SliceSearch | None = None
    goal: Goal | None = None


def render_card(card: CardInput) -> str:
    """Return Markdown with YAML front matter; raise ValueError if the comparison has no rows."""
    verdict = judge(card.comparison, card.split, card.goal)
    sections = [
        _front_matter(card),
        f"# {escape_markdown(card.title)}",
        escape_markdown(" ".join(verdict.answer)),
        escape_markdown(" ".join([verdict.headline, *verdict.more])),
        *(f"- {escape_markdown(note)}" for note in (*verdict.notes, *cut_warnings(card.warnings))),
        *_intended_use(card),
        LOADING,
        fence(card.reload_lines, "python"),
        *list_goal_sections(card.goal, 2),
        f"## Results on {build_task(card.task).name_rows(verdict.evaluation, card.split)}",
        _comparison(card.comparison),
        f"95% intervals, in percent ({find_task(card.task).intervals_note}).",
        *_limits(card, verdict.evaluation),
        *_calibration(verdict.evaluation, card.split),
        "\n".join(f"- {escape_markdown(line)}" for line in describe_promises(verdict.evaluation)),
        *_classes(card, verdict.evaluation),
        "## Training details",
        build_table(("", ""), card.facts) if card.facts else "",
        f"Created with textune {escape_markdown(card.textune_version)}.",
    ]
    return clean_text("\n\n".join(section for section in sections if section)) + "\n"


def render_unmeasured_card(card: CardInput, headline: str) -> str:
    """Return the card of a run without an evaluation, such as an imported one."""
    shown, more = card.labels[:_MOST_CLASSES_SHOWN], len(card.labels) - _MOST_CLASSES_SHOWN
    sections = [
        _front_matter(card),
        f"# {escape_markdown(card.title)}",
        escape_markdown(headline),
        *(f"- {escape_markdown(note)}" for note in cut_warnings(card.warnings)),
        LOADING,
        fence(card.reload_lines, "python"),
        f"## {plural(len(card.labels), 'class').capitalize()}",
        build_table(("id", "label"), [(str(i), clip(label, 200)) for i, label in enumerate(shown)]),
        f"and {plural(more, 'more class')}, listed in textune.json." if more > 0 else "",
        "## Training details",
        build_table(("", ""), card.facts),
        f"Created with textune {escape_markdown(card.textune_version)}.",
    ]
    return clean_text("\n\n".join(section for section in sections if section)) + "\n"


def _front_matter(card: CardInput) -> str:
    facts: dict[str, Any] = {
        "library_name": card.library_name,
        "base_model": card.base_model,
        "pipeline_tag": find_task(card.task).pipeline,
        "language": card.language,
        "license": card.license,
        "tags": list(dict.fromkeys([find_task(card.task).pipeline, "textune", *card.tags])),
        "metrics": list(find_task(card.task).hub_metrics) if card.comparison else None,
        "model-index": _list_results(card) if card.comparison else None,
    }
    return dump_front_matter({key: _one_line(value) for key, value in facts.items() if value is not None})


def dump_front_matter(facts: Mapping[str, Any]) -> str:
    """Return YAML between two lines of dashes."""
    return f"---\n{yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True, width=10_000)}---"


def _one_line(value: Any) -> Any:
    """Join the lines of a value (or of each list item), so that none can end the front matter."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, Mapping):
        return {key: _one_line(item) for key, item in value.items()}
    return [_one_line(item) for item in value] if isinstance(value, Sequence) else value


def _comparison(comparison: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for row in comparison:
        figures = row["evaluation"]
        rows.append(
            (
                row["name"],
                *(f"{percent(f.value)} ({span(f.interval)})" for f in (figures.headline, *figures.further)),
                "–" if figures.log_loss is None else f"{figures.log_loss:.3f}",
            )
        )
    one = comparison[0]["evaluation"]
    return build_table(("model", *(f.name for f in (one.headline, *one.further)), "log loss"), rows)


def _classes(card: CardInput, evaluation: AnyEvaluation) -> list[str]:
    """Return the heading and the table of the labels; nothing where the task has none."""
    classes, columns = evaluation.classes, find_task(card.task).card_columns
    if not classes:
        return []
    shown = classes[:_MOST_CLASSES_SHOWN]
    rows = [
        (
            str(i),
            clip(f.label, 80),
            precision,
            recall,
            f1,
            number(f.support),
            *(column.show(f, evaluation.rows) for column in columns),
        )
        for i, f in enumerate(shown)
        for f1, precision, recall in [show_scores(f)]
    ]
    headings = (column.heading for column in columns)
    table = build_table(("id", "label", "precision", "recall", "F1", "rows", *headings), rows)
    more = sum_up_classes(classes[_MOST_CLASSES_SHOWN:])
    rest = [f"{more}; all are listed in textune.json."] if more else []
    return [f"## {plural(len(card.labels), 'class').capitalize()}", table, *rest]


def _intended_use(card: CardInput) -> list[str]:
    """Return what the model is for, and what it was not measured on."""
    use = "The model writes an answer to a prompt." if find_task(card.task).writes else _describe_labels(card)
    texts = "prompts" if find_task(card.task).writes else "texts"
    return [
        "## Intended use",
        f"{escape_markdown(use)} It is meant for {texts} like those that it was trained on.",
        f"All figures below are from {card.split} rows of that kind. Other sources, languages or times were not "
        "measured: evaluate it on labelled rows of your own first. Do not let it decide about people by itself.",
    ]


def _describe_labels(card: CardInput) -> str:
    """Return which labels a text gets."""
    shown = ", ".join(clip(label, 60) for label in card.labels[:_MOST_LABELS_NAMED])
    more = len(card.labels) - _MOST_LABELS_NAMED
    labels = f"{shown} and {number(more)} more" if more > 0 else shown
    several = "any number of" if find_task(card.task).reads_sets else "one of"
    return f"The model gives each text {several} {plural(len(card.labels), 'label')}: {labels}."


def _limits(card: CardInput, evaluation: AnyEvaluation) -> list[str]:
    """Return the worst slices and the weakest classes; nothing where neither is known."""
    rows = [] if card.slices is None else list_slice_rows(card.slices)
    parts = []
    if card.slices is not None and rows:
        parts += [
            "### Where it errs most",
            build_table(HEADER, rows),
            escape_markdown(describe_slices(card.slices)),
        ]
    weak = sorted((f for f in evaluation.classes if f.support), key=lambda f: (f.f1, -f.support))[:_MOST_WEAK]
    if len(evaluation.classes) > 2 and weak:
        named = ", ".join(f"{clip(f.label, 60)} ({percent(f.f1)} on {plural(f.support, 'row')})" for f in weak)
        parts.append(escape_markdown(f"Classes with the lowest F1: {named}."))
    return ["## Limits found", *parts] if parts else []


def _calibration(evaluation: AnyEvaluation, split: str) -> list[str]:
    """Return whether the probabilities can be trusted; nothing without figures."""
    trust, figures = describe_trust(evaluation, split), describe_calibration(evaluation)
    if trust is None or not figures:
        return []
    return [
        "## Calibration",
        escape_markdown(" ".join(["Can the probabilities be trusted?", *trust.sentences])),
        escape_markdown(figures),
    ]


def _list_results(card: CardInput) -> list[dict[str, Any]]:
    """Return the hub's model index: the tuned model's figures."""
    evaluation = judge(card.comparison, card.split).evaluation
    metrics = [
        {"type": kind, "name": figure.name, "value": round(figure.value, 6)}
        for kind, figure in zip(
            find_task(card.task).hub_metrics, (evaluation.headline, *evaluation.further), strict=False
        )
    ]
    data = {"name": f"own {card.split} rows ({number(evaluation.rows)})", "type": "private", "split": card.split}
    name = re.sub(r"[^\w .-]+", "-", clean_text(card.title)) or "model"
    return [
        {
            "name": name,
            "results": [{"task": {"type": find_task(card.task).pipeline}, "dataset": data, "metrics": metrics}],
        }
    ]
