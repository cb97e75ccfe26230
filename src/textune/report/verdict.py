"""The verdict in sentences: is the tuned model good, and is it clearly better than the baselines?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from textune.evaluation.goal import Goal
from textune.report.goal import judge_goal
from textune.report.leads import advise_on_probe, describe_lead, difference_between, is_clear, is_identical
from textune.report.wording import list_names, number, percent, plural, span
from textune.tasks import BASE, MAJORITY, PROBE, TFIDF, TUNED, AnyEvaluation, Task, build_task

_FEW_ROWS = 200


@dataclass(frozen=True)
class Verdict:
    """The report's first lines.

    answer: what a person reads first, in two sentences: how many rows are wrong and which, and the lead over the best
    baseline. headline: the headline metric with its interval. rivals: the same for every other model, in short.
    judgement: whether the model is clearly better than the others. more: what of it the answer does not say.
    tone: good, caution or bad. notes: caveats that the headline does not show. figure, figure_name: what stands large
    beside them, and what it is.
    A run that was tuned for something else than its headline metric has answer, tone and figure in those terms.
    """

    subject: str
    evaluation: AnyEvaluation
    answer: tuple[str, ...]
    headline: str
    rivals: tuple[str, ...]
    judgement: tuple[str, ...]
    more: tuple[str, ...]
    tone: str
    notes: tuple[str, ...]
    figure: str
    figure_name: str


def judge(comparison: Sequence[Mapping[str, Any]], split: str, goal: Goal | None = None) -> Verdict:
    """Judge the tuned model (or the last row, without one) against the other rows.

    comparison: rows with ``name``, ``evaluation`` and, if the predictions were compared row by row,
    ``difference``: a `Difference`, the tuned model's headline metric minus this row's. goal: what the run was tuned for
    if that is something else.
    Raises ValueError if there are no rows.
    """
    if not comparison:
        raise ValueError("a report needs at least one evaluated model")
    subject = next((row for row in comparison if row["name"] == TUNED), comparison[-1])
    evaluation: AnyEvaluation = subject["evaluation"]
    others = [row for row in comparison if row is not subject]
    name = subject["name"]
    headline = f"{name[:1].upper()}{name[1:]}: {_describe(evaluation, split)}."
    judgement, tone = _compare(evaluation, others)
    errors = build_task(evaluation.task).describe_errors(evaluation, split)
    answer: tuple[str, ...] = (errors, _sum_up(evaluation, others))
    more, _ = _compare(evaluation, others, told=_find_best(evaluation, others))
    figure = percent(evaluation.headline.value)
    figure_name = f"{evaluation.headline.name} on {number(evaluation.rows)} {split} rows"
    if goal is not None:
        same = [row["name"] for row in others if _is_same_model(evaluation, row)]
        rivals = tuple(other for other in goal.others if other.name not in same)
        judged = judge_goal(replace(goal, others=rivals), evaluation.rows, split)
        answer, tone, figure, figure_name = judged.answer, judged.tone, judged.figure, judged.figure_name
        headline, more = f"{errors} {headline}", judgement
    return Verdict(
        subject=name,
        evaluation=evaluation,
        answer=answer,
        headline=headline,
        rivals=tuple(f"{row['name']} {percent(row['evaluation'].headline.value)}" for row in others),
        judgement=tuple(judgement),
        more=tuple(sentence for sentence in more if sentence not in answer[-1]),
        tone=tone,
        notes=tuple(_note(evaluation, split)),
        figure=figure,
        figure_name=figure_name,
    )


def _describe(evaluation: AnyEvaluation, split: str) -> str:
    headline = evaluation.headline
    score = f"{headline.name} {percent(headline.value)} on {number(evaluation.rows)} {split} rows"
    return f"{score} (95% interval {span(headline.interval)})"


def _sum_up(evaluation: AnyEvaluation, others: Sequence[Mapping[str, Any]]) -> str:
    """Return the lead over the best of the others in a sentence."""
    if not others:
        return "No baseline was evaluated on these rows."
    best = max(others, key=lambda row: row["evaluation"].headline.value)
    lead, name = difference_between(evaluation, best), _with_article(best["name"])
    if _is_same_model(evaluation, best):
        others = [row for row in others if row is not best]
        return f"{_SAME} {_sum_up(evaluation, others)}" if others else _SAME
    rival = f"Against the best baseline, {name}," if len(others) > 1 else f"Against {name},"
    return f"{rival} {evaluation.headline.name} is {describe_lead(lead)}."


def _find_best(evaluation: AnyEvaluation, others: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the row that `_sum_up` tells the lead over, if any."""
    rivals = [row for row in others if not _is_same_model(evaluation, row)]
    return max(rivals, key=lambda row: row["evaluation"].headline.value, default=None)


def _is_same_model(evaluation: AnyEvaluation, row: Mapping[str, Any]) -> bool:
    """Return whether another row is this model: a run whose method is the linear probe meets itself."""
    return row["name"] == PROBE and is_identical(difference_between(evaluation, row))


def _compare(
    evaluation: AnyEvaluation, others: Sequence[Mapping[str, Any]], told: Mapping[str, Any] | None = None
) -> tuple[list[str], str]:
    """Return the sentences of the judgement, most important first, and their tone.

    told: the row whose lead was told before, and is left out.
    """
    beaten: list[tuple[float, str]] = []
    worse: list[str] = []
    unclear: list[str] = []
    same: list[str] = []
    figure = evaluation.headline.name
    for row in others:
        lead, name = difference_between(evaluation, row), row["name"]
        claim = f"gainst {_with_article(name)}, {figure} is {describe_lead(lead)}"
        if _is_same_model(evaluation, row):
            same.append(_SAME)
        elif not is_clear(lead):
            advice = advise_on_probe(lead, row.get("seconds"), figure) if name == PROBE else _ADVICE.get(name, "")
            unclear.append(advice if row is told else f"A{claim}. {advice}".rstrip())
        elif lead.mean < 0:
            worse.append("" if row is told else f"A{claim}.")
        elif row is not told:
            beaten.append((lead.mean, claim))
    sentences = worse + unclear
    if beaten:
        first, *more = [claim for _, claim in sorted(beaten)]
        sentences.append(
            "; ".join([f"A{first}", *(f"a{claim}".replace(f" {figure} is higher", "") for claim in more)]) + "."
        )
    sentences += same
    if not others:
        return ["No baseline was evaluated on these rows."], "caution"
    return [sentence for sentence in sentences if sentence], "bad" if worse else "caution" if unclear else "good"


def _with_article(name: str) -> str:
    return f"the {name}" if name in (MAJORITY, BASE) else name


_SAME = "This model is the linear probe: logistic regression on frozen embeddings."
_ADVICE = {
    TFIDF: "TF-IDF is smaller and faster, and these rows do not show that the tuned model beats it.",
    MAJORITY: "These rows do not show that it beats always predicting the most frequent class.",
    BASE: "These rows do not show that tuning helped.",
}


def _note(evaluation: AnyEvaluation, split: str) -> list[str]:
    notes, task = [], build_task(evaluation.task)
    if split == "validation":
        notes.append(
            "Checkpoint, temperature and thresholds, as far as any were chosen, were chosen on these very rows, so the "
            "scores are slightly optimistic."
        )
    if evaluation.rows < _FEW_ROWS:
        notes.append(f"With only {plural(evaluation.rows, 'row')}, the intervals are wide.")
    notes += task.note_figures(evaluation)
    if evaluation.unknown_labels:
        notes.append(_note_unknown(evaluation.unknown_labels, task))
    missed = [f.label for f in evaluation.classes if f.support and not f.recall]
    if missed:
        notes.append(f"Never predicted correctly: {list_names(missed)}.")
    absent = [f.label for f in evaluation.classes if not f.support]
    if absent:
        notes.append(f"Not evaluated, because no {split} row has the label: {list_names(absent)}.")
    return notes


def _note_unknown(unknown: Mapping[str, int], task: Task) -> str:
    """Return how many labels the model does not know: a row has one, or, of a task that reads sets, any number."""
    total, names = sum(unknown.values()), list_names(list(unknown))
    counts = f"{'it' if total == 1 else 'each'} counts as {task.unknown_counts_as}"
    if task.reads_sets:
        are = "is one" if total == 1 else "are ones"
        return f"{plural(total, 'true label')} {are} that the model does not know ({names}); {counts}."
    has = "has a label" if total == 1 else "have labels"
    return f"{plural(total, 'row')} {has} that the model does not know ({names}); {counts}."
