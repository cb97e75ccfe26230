"""What a run was tuned for, in words: the first sentences of its report, and a table of all models in those terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textune.evaluation import Difference
from textune.evaluation.decisions import Share
from textune.evaluation.goal import COSTS, MACRO_F1, Goal, GoalFigure
from textune.evaluation.intervals import Interval
from textune.evaluation.text import show_cost, show_name
from textune.report.leads import describe_doubt, describe_lead, is_clear
from textune.report.wording import number, percent, points, span


@dataclass(frozen=True)
class GoalVerdict:
    """answer: the first sentences. tone: good, caution or bad. figure, figure_name: what is shown large."""

    answer: tuple[str, ...]
    tone: str
    figure: str
    figure_name: str


def judge_goal(goal: Goal, rows: int, split: str) -> GoalVerdict:
    """Return the answer in the terms that the run was tuned for. rows: that all models were measured on."""
    on = f"on {number(rows)} {split} rows"
    first = f"{_begin(goal, on)}{_describe_floor(goal, split)}."
    others = goal.others
    second, tone = _compare_costs(others) if goal.rule == COSTS else _compare_shares(goal, others)
    if goal.floor is not None and not goal.reaches(goal.model):
        high = goal.model.floored.interval.high if goal.model.floored and goal.model.floored.interval else 0.0
        tone = "caution" if high >= goal.floor and tone != "bad" else "bad"
    value = "–" if goal.model.value is None else _show(goal, goal.model.value)
    return GoalVerdict((first, second), tone, value, f"{name_figure(goal)} {on}")


def name_figure(goal: Goal) -> str:
    """Return the name of what is compared, such as ``recall of 'spam'``."""
    if goal.rule == COSTS:
        return "mean cost of a row"
    if goal.rule == MACRO_F1:
        return "macro F1"
    figure = {"precision": "recall", "recall": "precision"}.get(goal.rule.partition(">=")[0], "F1")
    return _of_label(goal, figure)


def _name_floored(goal: Goal) -> str:
    return goal.rule.partition(">=")[0]


def _of_label(goal: Goal, figure: str) -> str:
    return figure if goal.label is None else f"{figure} of '{show_name(goal.label)}'"


def list_goal_table(goal: Goal) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows of the table: every model in the goal's terms, the run last."""
    name, floored = name_figure(goal), [] if goal.floor is None else [_of_label(goal, _name_floored(goal))]
    figures = [cell for figure in (name, *floored) for cell in (figure, "95% interval")]
    header = ("model", *figures, f"lead of {goal.model.name}", "95% interval")
    rows = []
    for each in (*goal.others, goal.model):
        value = "–" if each.value is None else _show(goal, each.value)
        cells = [each.name, value, "–" if each.interval is None else _show_span(goal, each.interval)]
        if floored:
            cells += _show_floored(each.floored)
        led = ("–", "–") if each.lead is None else _show_lead(goal, each.lead)
        rows.append((*cells, *led))
    return header, rows


def build_goal_table(goal: Goal | None) -> tuple[tuple[str, ...], list[tuple[str, ...]], str] | None:
    """Return header, rows and note of the table for a page; None without a goal."""
    return None if goal is None else (*list_goal_table(goal), describe_table(goal))


def describe_table(goal: Goal) -> str:
    """Return the sentence below the table."""
    if goal.rule == COSTS:
        return "Costs are those of costs=, on average over the rows; a lead below 0 is a saving."
    below = "Leads are in percentage points."
    if goal.floor is None:
        return below
    return f"Each model was tuned on held-out rows for a {_name_floored(goal)} of {percent(goal.floor)}. {below}"


def _show(goal: Goal, value: float) -> str:
    return show_cost(value) if goal.rule == COSTS else percent(value)


def _show_span(goal: Goal, interval: Interval) -> str:
    if goal.rule == COSTS:
        return f"{show_cost(interval.low)} to {show_cost(interval.high)}"
    return span(interval)


def _show_floored(share: Share | None) -> list[str]:
    if share is None or share.value is None or share.interval is None:
        return ["–", "–"]
    return [percent(share.value), span(share.interval)]


def _show_lead(goal: Goal, lead: Difference) -> tuple[str, str]:
    if goal.rule == COSTS:
        each = [show_cost(value, signed=True) for value in (lead.mean, lead.low, lead.high)]
        return each[0], f"{each[1]} to {each[2]}"
    return points(lead.mean), f"{points(lead.low)} to {points(lead.high)}"


def _begin(goal: Goal, on: str) -> str:
    model, name = goal.model, _capital(name_figure(goal))
    if model.value is None or model.interval is None:
        return f"{name} is undefined {on}"
    between = f"{on} (95% interval {_show_span(goal, model.interval)})"
    if goal.rule == COSTS:
        return f"An answer costs {show_cost(model.value)} on average {between}"
    return f"{name} is {percent(model.value)} {between}"


def _describe_floor(goal: Goal, split: str) -> str:
    """Return what became of the floor; nothing where the rule has none."""
    share = goal.model.floored
    if goal.floor is None or share is None:
        return ""
    name, floor = _name_floored(goal), percent(goal.floor)
    if share.value is None or share.interval is None:
        return f"; its {name} is undefined, so the floor of {floor} cannot be checked"
    sentence = f"; its {name} is {percent(share.value)} (95% interval {span(share.interval)})"
    if goal.reaches(goal.model):
        sure = "" if share.interval.low >= goal.floor else ", but other rows may miss it"
        if split == "validation":
            sure = ", but its threshold was found on these very rows, and others may miss it"
        return f"{sentence}, which reaches the floor of {floor}{sure}"
    chance = ", perhaps by chance" if share.interval.high >= goal.floor else ""
    return f"{sentence}, which misses the floor of {floor}{chance}"


def _compare_costs(others: Sequence[GoalFigure]) -> tuple[str, str]:
    """Return the sentence on the cheapest constant answer and on the cheapest of the other models, and the tone."""
    constant, *models = others
    sentences = [f"The cheapest constant answer, {constant.name}, costs {_against(constant)}"]
    rivals = [constant]
    if models:
        best = min(models, key=lambda other: other.value or 0.0)
        sentences.append(f"of the other models, {best.name} costs least, {_against(best)}")
        rivals.append(best)
    leads = [rival.lead for rival in rivals if rival.lead is not None]
    worse = any(is_clear(lead) and lead.mean > 0 for lead in leads)
    tone = "bad" if worse else "good" if all(is_clear(lead) for lead in leads) else "caution"
    return f"{'; '.join(sentences)}.", tone


def _against(other: GoalFigure) -> str:
    """Return ``0.45: 0.33 more (95% interval 0.30 to 0.36)``."""
    lead, value = other.lead, show_cost(other.value or 0.0)
    if lead is None:
        return value
    if not lead.mean:
        return f"{value}, the same"
    more = "more" if lead.mean < 0 else "less"
    ends = (-lead.high, -lead.low) if lead.mean < 0 else (lead.low, lead.high)
    low, high = (show_cost(end) for end in ends)
    return f"{value}: {show_cost(abs(lead.mean))} {more} (95% interval {low} to {high}){describe_doubt(lead)}"


def _compare_shares(goal: Goal, others: Sequence[GoalFigure]) -> tuple[str, str]:
    """Return the sentence on the best of the models that reach the floor, and the tone."""
    named, floor = name_figure(goal), goal.floor
    usable = [other for other in others if goal.reaches(other) and other.value is not None]
    if not others:
        return "No baseline was evaluated on these rows.", "caution"
    if not usable:
        return f"No simpler model reaches the floor of {percent(floor or 0.0)} on these rows.", "good"
    best = max(usable, key=lambda other: other.value or 0.0)
    those = "" if floor is None else " that reach the floor"
    sentence = f"Of the simpler models{those}, {best.name} has the highest {named}, {percent(best.value or 0.0)}"
    if best.lead is None:
        return f"{sentence}.", "caution"
    tone = "caution" if not is_clear(best.lead) else "good" if best.lead.mean > 0 else "bad"
    return f"{sentence}: this model's is {describe_lead(best.lead)}.", tone


def describe_ranking(goal: Goal, most: int = 5) -> list[str]:
    """Return sentences on the best of several candidates, which is `model`, and on how far the next ones are behind."""
    model, named = goal.model, name_figure(goal)
    if model.value is None or model.interval is None:
        return []
    shown = f"{_show(goal, model.value)} (95% interval {_show_span(goal, model.interval)})"
    if goal.rule == COSTS:
        sentences = [f"By the costs that all were tuned for, {model.name} costs least: {shown} on average for a row."]
    else:
        those = "Of those that reach the floor" if goal.reaches(model) else "None reaches the floor; of all"
        aim = f"{_of_label(goal, _name_floored(goal))} {percent(goal.floor or 0.0)}"
        begin = "" if goal.floor is None else f"{those} ({aim}), "
        sentences = [f"{begin}{model.name} has the highest {named}: {shown}."]
    rivals = [other for other in goal.others if other.lead is not None and goal.reaches(other) == goal.reaches(model)]
    for other in rivals[:most]:
        if goal.rule == COSTS:
            sentences.append(f"{other.name} costs {_against(other)}.")
        elif other.lead is not None:
            sentences.append(f"Against {other.name}, it is {describe_lead(other.lead)}.")
    return sentences


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
