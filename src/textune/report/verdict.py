"""What the figures say, in sentences: is the tuned model good, and is it clearly better than simpler ones?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textune.evaluation import Difference
from textune.progress import format_seconds
from textune.report.wording import list_names, number, percent, plural, points, span
from textune.tasks import BASE, MAJORITY, PROBE, TFIDF, TUNED, AnyEvaluation, build_task

_FEW_ROWS = 200
_CLOSE = 0.005
"""A lead in the first figure below which the cheaper model is named."""
_LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """The report's first lines.

    headline: the evaluation's first figure with its interval. rivals: the same of every other model, in few words.
    judgement: whether the model is clearly better than the others; tone: good, caution or bad.
    notes: what a reader of the accuracy alone would miss.
    """

    subject: str
    evaluation: AnyEvaluation
    headline: str
    rivals: tuple[str, ...]
    judgement: tuple[str, ...]
    tone: str
    notes: tuple[str, ...]


def judge(comparison: Sequence[Mapping[str, Any]], split: str) -> Verdict:
    """Judge the tuned model (else the last row) against the other rows.

    comparison: rows with ``name``, ``evaluation`` and, where the answers were compared row by row,
    ``difference``: a `Difference`, the tuned model's first figure minus this row's.
    Raises ValueError where there is no row.
    """
    if not comparison:
        raise ValueError("a report needs at least one evaluated model")
    subject = next((row for row in comparison if row["name"] == TUNED), comparison[-1])
    evaluation: AnyEvaluation = subject["evaluation"]
    others = [row for row in comparison if row is not subject]
    headline = f"The {subject['name']} {_say(evaluation, split)}."
    judgement, tone = _compare(evaluation, others)
    return Verdict(
        subject=subject["name"],
        evaluation=evaluation,
        headline=headline,
        rivals=tuple(f"{row['name']} {percent(row['evaluation'].headline.value)}" for row in others),
        judgement=tuple(judgement),
        tone=tone,
        notes=tuple(_note(evaluation, split)),
    )


def _say(evaluation: AnyEvaluation, split: str) -> str:
    first = evaluation.headline
    value, rows = percent(first.value), f"{number(evaluation.rows)} {split} rows"
    said = f"is right on {value} of {rows}" if first.name == "accuracy" else f"has a {first.name} of {value} on {rows}"
    return f"{said} (95% interval {span(first.interval)})"


def difference_between(evaluation: AnyEvaluation, row: Mapping[str, Any]) -> Difference:
    """Return the first figure's lead over a row: the row's paired difference, or one made from intervals.

    Without answers compared row by row the two intervals are combined as if independent, which is cautious.
    """
    paired = row.get("difference")
    if isinstance(paired, Difference):
        return paired
    mine, theirs = evaluation.headline, row["evaluation"].headline
    mean = mine.value - theirs.value
    down = math.hypot(mine.value - mine.interval.low, theirs.interval.high - theirs.value)
    up = math.hypot(mine.interval.high - mine.value, theirs.value - theirs.interval.low)
    return Difference(low=mean - down, high=mean + up, mean=mean)


def _compare(evaluation: AnyEvaluation, others: Sequence[Mapping[str, Any]]) -> tuple[list[str], str]:
    """Return the judging sentences, the weightiest first, and their tone."""
    beaten: list[str] = []
    worse: list[str] = []
    unclear: list[str] = []
    same: list[str] = []
    for row in others:
        lead, name = difference_between(evaluation, row), row["name"]
        if name == PROBE and lead.low == lead.mean == lead.high == 0:
            same.append("It is the linear probe itself: logistic regression on frozen embeddings.")
            continue
        told = f"{points(lead.mean)} points, 95% interval {points(lead.low)} to {points(lead.high)}"
        if lead.p_value is not None:
            p = format_p(lead.p_value)
            told += f", p {p}" if p.startswith("<") else f", p = {p}"
        # On few rows a bootstrap interval is too narrow, so the exact test must agree.
        significant = lead.p_value is None or lead.p_value < _LEVEL
        if lead.high < 0 and significant:
            worse.append(f"Worse than {_with_article(name)}: {told}.")
        elif lead.low > 0 and significant:
            beaten.append(f"{name} ({told})" if name in (TFIDF, PROBE) else _with_article(name))
        else:
            advice = _advise_on_probe(lead, row.get("seconds")) if name == PROBE else _ADVICE.get(name, "")
            unclear.append(f"Not clearly better than {_with_article(name)}: {told}; it may be chance. {advice}")
    sentences = [sentence.rstrip() for sentence in worse + unclear]
    if beaten:
        sentences.append(f"Clearly better than {_join(beaten)}.")
    sentences += same
    if not others:
        return ["No simpler model was measured on these rows, so the figure stands alone."], "caution"
    return sentences, "bad" if worse else "caution" if unclear else "good"


def format_p(p: float) -> str:
    """Return a p-value with two digits, or ``<0.001`` where it is smaller."""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _advise_on_probe(lead: Difference, seconds: float | None) -> str:
    """Return the sentence that names the linear probe as the cheaper choice."""
    if lead.mean >= _CLOSE:
        return ""
    trains = "" if seconds is None else f" and trains in {format_seconds(seconds)}"
    close = f"within {100 * lead.mean:.1f} points" if lead.mean > 0 else "as accurate"
    return f"The linear probe (method=head) is {close}{trains}."


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _with_article(name: str) -> str:
    return f"the {name}" if name in (MAJORITY, BASE) else name


_ADVICE = {
    TFIDF: "TF-IDF is smaller and faster; on these rows nothing shows that the tuned model beats it.",
    MAJORITY: "Always giving the most frequent answer does about as well.",
    BASE: "These rows do not show that tuning had an effect.",
}


def _note(evaluation: AnyEvaluation, split: str) -> list[str]:
    notes, task = [], build_task(evaluation.task)
    if split == "validation":
        notes.append(f"These rows also chose {task.chosen_on_validation}, so the figures flatter the model a little.")
    if evaluation.rows < _FEW_ROWS:
        notes.append(f"{plural(evaluation.rows, 'row')} can tell little: mind the width of the intervals.")
    notes += task.note_figures(evaluation)
    if evaluation.unknown_labels:
        rows = sum(evaluation.unknown_labels.values())
        notes.append(
            f"{plural(rows, 'row')} {'has a label' if rows == 1 else 'have labels'} that the model "
            f"does not know ({list_names(list(evaluation.unknown_labels))}); each counts as {task.unknown_counts_as}."
        )
    missed = [f.label for f in evaluation.classes if f.support and not f.recall]
    if missed:
        notes.append(f"Never recognised: {list_names(missed)}.")
    absent = [f.label for f in evaluation.classes if not f.support]
    if absent:
        notes.append(f"Not judged, as no {split} row has the label: {list_names(absent)}.")
    return notes
