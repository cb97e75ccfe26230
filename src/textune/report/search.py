"""One self-contained HTML page about a search: the winner, every trial, and three charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.evaluation.intervals import Interval
from textune.evaluation.text import LOSSES
from textune.report.html import finish_page, open_templates, write_page
from textune.report.search_charts import draw_coordinates, draw_importances, draw_scores_by_trial
from textune.report.wording import list_settings, name_metric, percent, plural, show_setting

_MOST_TRIALS_SHOWN = 200


@dataclass(frozen=True)
class SearchInput:
    """Everything the page shows, as plain data.

    metric: ranks the trials, on the rows of `selection`. split: what the winner was evaluated on afterwards.
    names: the searched settings. trials: as in sweep.json: number, state, settings, scores, epochs, steps,
    total_steps, seconds, attempts, reason. winner, saving, regret: as in sweep.json. importances: setting -> share.
    rivals: name and headline metric of the baselines on the winner's rows. verdict: the winner's, in sentences.
    tone: of the winner's verdict: good, caution or bad; empty if it is not known.
    """

    title: str
    created: str
    textune_version: str
    metric: str
    selection: str
    split: str
    names: Sequence[str]
    trials: Sequence[Mapping[str, Any]]
    winner: Mapping[str, Any]
    importances: Mapping[str, float]
    saving: Mapping[str, float]
    regret: Mapping[str, Any]
    seconds: float
    settings_yaml: str
    rivals: Sequence[tuple[str, float]] = ()
    verdict: Sequence[str] = ()
    tone: str = ""


def render_search_report(report: SearchInput) -> str:
    """Return the page."""
    name, best, headline = name_metric(report.metric), report.winner["number"], report.winner["headline"]
    ranked = sorted(report.trials, key=lambda t: _order(t, report.metric, best))
    page = (
        open_templates()
        .get_template("search.html.j2")
        .render(
            report=report,
            metric=name,
            interval=Interval(headline["low"], headline["high"]),
            losses=LOSSES,
            ranked=ranked[:_MOST_TRIALS_SHOWN],
            more_trials=_sum_up(ranked[_MOST_TRIALS_SHOWN:], report.metric),
            all_settings=list_settings(report.settings_yaml),
            show=show_value,
            figure=lambda scores: "–" if not scores else _format_score(scores[report.metric], report.metric),
            coordinates=draw_coordinates(report.trials, report.names, report.metric, best),
            history=draw_scores_by_trial(report.trials, report.metric),
            importances=draw_importances(report.importances),
        )
    )
    return finish_page(page)


def write_search_report(report: SearchInput, path: str | Path) -> None:
    """Write the page as UTF-8, atomically."""
    write_page(render_search_report(report), Path(path))


def _sum_up(trials: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Return how many trials the table leaves out, with their mean score; nothing for none."""
    if not trials:
        return ""
    scores = [float(trial["scores"][metric]) for trial in trials if trial["scores"]]
    mean = f": mean {name_metric(metric)} {_format_score(sum(scores) / len(scores), metric)}" if scores else ""
    return f"and {plural(len(trials), 'more trial')}{mean}; sweep.json has them all"


def show_value(value: Any) -> str:
    """Write a setting's value."""
    if isinstance(value, float):
        return show_setting(float(f"{value:.3g}"))
    return show_setting(value)


def _format_score(value: float, metric: str) -> str:
    return f"{value:.4f}" if metric in LOSSES else percent(value)


def _order(trial: Mapping[str, Any], metric: str, best: int) -> tuple[Any, ...]:
    """Sort key: the winner, then completed, stopped and failed trials, each best first."""
    rank = {"complete": 0, "pruned": 1}.get(trial["state"], 2)
    value = trial["scores"].get(metric, 0.0)
    return trial["number"] != best, rank, value if metric in LOSSES else -value, trial["number"]
