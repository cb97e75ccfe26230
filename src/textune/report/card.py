"""The model card: a README.md with a run's results, its training details and how to load it without textune."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from textune.evaluation.slices import SliceSearch
from textune.report.confusion_crop import sum_up_classes
from textune.report.slices import HEADER, describe_slices, list_slice_rows
from textune.report.trust import describe_calibration
from textune.report.verdict import judge
from textune.report.wording import clean_text, clip, cut_warnings, number, percent, plural, span
from textune.tasks import AnyEvaluation, find_task

LOADING = "## How to load"
"""The heading of the section that other forms of a run have otherwise."""
_MOST_CLASSES_SHOWN = 50


@dataclass(frozen=True)
class CardInput:
    """Everything the model card shows, as plain data.

    base_model: its hub id, or None if it has none (never a path). library_name: "peft" or "transformers".
    comparison, split, warnings: as in `ReportInput`. reload_lines: Python that loads the run without textune.
    tags: extra hub tags, such as the method's key. language, license: the hub's codes, if known.
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


def render_card(card: CardInput) -> str:
    """Return Markdown with YAML front matter; raise ValueError if the comparison has no rows."""
    verdict = judge(card.comparison, card.split)
    sections = [
        _front_matter(card),
        f"# {escape_markdown(card.title)}",
        escape_markdown(" ".join(verdict.answer)),
        escape_markdown(" ".join([verdict.headline, *(s for s in verdict.judgement if s not in verdict.answer)])),
        *(f"- {escape_markdown(note)}" for note in (*verdict.notes, *cut_warnings(card.warnings))),
        LOADING,
        fence(card.reload_lines, "python"),
        f"## Results on {number(verdict.evaluation.rows)} {card.split} rows",
        _comparison(card.comparison),
        f"95% intervals, in percent ({find_task(card.task).intervals_note}).",
        escape_markdown(describe_calibration(verdict.evaluation)),
        *_classes(card, verdict.evaluation),
        *_slices(card.slices),
        "## Training details",
        _table(("", ""), card.facts) if card.facts else "",
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
        _table(("id", "label"), [(str(i), clip(label, 200)) for i, label in enumerate(shown)]),
        f"and {plural(more, 'more class')}, listed in textune.json." if more > 0 else "",
        "## Training details",
        _table(("", ""), card.facts),
        f"Created with textune {escape_markdown(card.textune_version)}.",
    ]
    return clean_text("\n\n".join(section for section in sections if section)) + "\n"


def escape_markdown(text: str) -> str:
    """Return one line that Markdown and HTML show literally: no markup, no links, no table cell breaks."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_{}\[\]#!|~])", r"\\\1", line)
    line = re.sub(r"(?i)(:(?=//)|@|\bwww(?=\.))", _stop_link, line)
    line = re.sub(r"^([-+=])", r"\\\1", line)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)  # would start a list


def _stop_link(match: re.Match[str]) -> str:
    """Keep GitHub from turning addresses into links: ``https://``, ``a@b`` and ``www.``."""
    return match.group() + "&#8203;" if match.group().isalpha() else "\\" + match.group()


def _front_matter(card: CardInput) -> str:
    facts: dict[str, Any] = {
        "library_name": card.library_name,
        "base_model": card.base_model,
        "pipeline_tag": find_task(card.task).pipeline,
        "language": card.language,
        "license": card.license,
        "tags": list(dict.fromkeys([find_task(card.task).pipeline, "textune", *card.tags])),
        "metrics": list(find_task(card.task).hub_metrics) if card.comparison else None,
    }
    return dump_front_matter({key: _one_line(value) for key, value in facts.items() if value is not None})


def dump_front_matter(facts: Mapping[str, Any]) -> str:
    """Return YAML between two lines of dashes."""
    return f"---\n{yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True, width=10_000)}---"


def _one_line(value: Any) -> Any:
    """Join the lines of a value (or of each list item), so that none can end the front matter."""
    return " ".join(value.split()) if isinstance(value, str) else [_one_line(item) for item in value]


def fence(code: str, language: str) -> str:
    """Return a code block whose fence is longer than any run of backticks in the code."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


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
    return _table(("model", *(f.name for f in (one.headline, *one.further)), "log loss"), rows)


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
            percent(f.precision),
            percent(f.recall),
            percent(f.f1),
            number(f.support),
            *(column.show(f, evaluation.rows) for column in columns),
        )
        for i, f in enumerate(shown)
    ]
    headings = (column.heading for column in columns)
    table = _table(("id", "label", "precision", "recall", "F1", "rows", *headings), rows)
    more = sum_up_classes(classes[_MOST_CLASSES_SHOWN:])
    rest = [f"{more}; all are listed in textune.json."] if more else []
    return [f"## {plural(len(card.labels), 'class').capitalize()}", table, *rest]


def _slices(search: SliceSearch | None) -> list[str]:
    """Return the heading and the table of the worst slices; nothing without any."""
    rows = [] if search is None else list_slice_rows(search)
    if search is None or not rows:
        return []
    return ["## Where it errs most", _table(HEADER, rows), escape_markdown(describe_slices(search))]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([escape_markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
