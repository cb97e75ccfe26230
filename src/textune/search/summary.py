"""The result of a search: its report, and sweep.json, which is written last."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.bundle import DIGEST, is_sealed, seal
from textune.errors import BundleError
from textune.evaluation.text import LOSSES
from textune.files import read_json, write_text_atomically
from textune.report import SearchInput, judge, write_search_report
from textune.run import Run
from textune.run.report_input import build_report_input
from textune.run.test_reads import count_test_reads
from textune.search.journal import COMPLETE, PRUNED
from textune.search.ledger import Ledger, Trial
from textune.tasks import read_evaluation, task_of
from textune.version import __version__

SUMMARY = "sweep.json"


@dataclass(frozen=True)
class Selection:
    """How the best trial is selected. rows: used for the selection."""

    folds: int
    rows: int
    metric: str

    def describe(self) -> str:
        """Return a short description."""
        rows = f"{self.rows:,} rows" if self.folds else f"{self.rows:,} validation rows"
        return f"{self.folds}-fold cross-validation on {rows}" if self.folds else rows


def write_summary(folder: Path, ledger: Ledger, selection: Selection, run: Run) -> dict[str, Any]:
    """Write the report, then sweep.json; return its content."""
    content = _summarize(ledger, selection, run)
    space = [d.name for d in ledger.settings.space.dimensions]
    write_search_report(
        SearchInput(
            title=folder.name,
            created=content["created"],
            textune_version=__version__,
            metric=selection.metric,
            selection=selection.describe(),
            split=content["winner"]["split"],
            names=space,
            trials=content["trials"],
            winner=content["winner"],
            importances=content["importances"],
            saving=content["saving"],
            regret=content["regret"],
            seconds=content["seconds"],
            settings_yaml=(folder / "sweep.yaml").read_text(encoding="utf-8"),
            rivals=_list_rivals(run),
            verdict=run.metrics.get("verdict", ()),
            tone=_judge_tone(run),
        ),
        folder / "report.html",
    )
    write_text_atomically(folder / SUMMARY, json.dumps(seal(content), indent=2, ensure_ascii=False) + "\n")
    return content


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the content of sweep.json; raise BundleError if it is damaged or was changed."""
    content = read_json(folder / SUMMARY, "the sweep's summary")
    if not is_sealed(content):
        raise BundleError(
            f"{folder / SUMMARY}: changed or damaged: its digest does not match its content",
            hint="restore the file from a copy of the search, or start it again",
        )
    return {name: value for name, value in content.items() if name != DIGEST}


def _list_rivals(run: Run) -> list[tuple[str, float]]:
    """Return the names of the baselines that the winner was measured beside, and their headline metrics."""
    names, models = task_of(run.manifest).model_names, run.metrics["models"]
    read = {key: read_evaluation(model) for key, model in models.items()}
    return [(names[key], evaluation.headline.value) for key, evaluation in read.items() if key != "tuned"]


def _judge_tone(run: Run) -> str:
    """Return the tone of the verdict on the winner's own page."""
    shown = build_report_input(run.folder, run.manifest, run.metrics)
    return judge(shown.comparison, shown.split, shown.goal).tone


def _summarize(ledger: Ledger, selection: Selection, run: Run) -> dict[str, Any]:
    best = ledger.check_any()
    assert best.outcome is not None
    tuned = run.metrics["models"]["tuned"]
    headline = read_evaluation(tuned).headline
    return {
        "format_version": 1,
        "textune_version": __version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "settings": ledger.settings.to_plain(),
        "selection": vars(selection) | {"split": "cross-validation" if selection.folds else "validation"},
        "trials": [_describe_trial(t) for t in ledger.trials],
        "winner": {
            "number": best.number,
            "settings": best.point,
            "scores": dict(best.outcome.scores),
            "run": run.folder.name,
            "trained_again": bool(selection.folds),
            "split": run.metrics["split"],
            "rows": tuned["rows"],
            **_list_figures(tuned),
            "intervals": tuned["intervals"],
            "headline": {"name": headline.name, "value": headline.value, **vars(headline.interval)},
            "test_reads": count_test_reads(run.folder),
        },
        "importances": ledger.importances(),
        "saving": _measure_saving(ledger, max(selection.folds, 1)),
        "regret": _bound_regret(ledger, best, selection.metric),
        "seconds": ledger.add_seconds(),
    }


def _list_figures(tuned: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures of the winner besides the first: those of answers that are labels, or of written ones."""
    if "accuracy" in tuned:
        return {"accuracy": tuned["accuracy"], "macro_f1": tuned["macro"]["f1"]}
    return {name: tuned[name] for name in ("loss", "perplexity")}


def _describe_trial(trial: Trial) -> dict[str, Any]:
    out = trial.outcome
    return {
        "number": trial.number,
        "state": trial.state,
        "settings": trial.point,
        "scores": dict(out.scores) if out else {},
        "epochs": out.epochs if out else 0.0,
        "steps": out.steps if out else 0,
        "total_steps": out.total_steps if out else 0,
        "best_step": out.best_step if out else 0,
        "seconds": out.seconds if out else 0.0,
        "rungs": list(trial.rungs),
        "attempts": trial.attempts,
        "reason": trial.reason,
        "warnings": list(out.warnings) if out else [],
    }


def _measure_saving(ledger: Ledger, folds: int) -> dict[str, float]:
    """Return the epochs trained, the epochs of all trials in full, and the seconds that halving saved.

    folds: how often each trial was trained; its epochs are those of one fold, its steps and seconds those of all.
    """
    trained = [t for t in ledger.trials if t.outcome is not None and t.outcome.steps]
    outs = [(t.state, t.outcome) for t in trained if t.outcome is not None]
    epochs_per_step = [o.epochs / o.steps for _, o in outs]
    return {
        "epochs_trained": folds * sum(o.epochs for _, o in outs),
        "epochs_in_full": folds
        * sum(
            o.total_steps * per_step if state == PRUNED else o.epochs
            for (state, o), per_step in zip(outs, epochs_per_step, strict=True)
        ),
        "seconds_trained": sum(o.seconds for _, o in outs),
        "seconds_saved": sum(o.seconds / o.steps * (o.total_steps - o.steps) for s, o in outs if s == PRUNED),
    }


def _bound_regret(ledger: Ledger, best: Trial, metric: str) -> dict[str, Any]:
    """Return what is known about how much better another trial could have been, in the selection metric.

    No completed trial was better. A trial that halving stopped might have become better; only its score so far is
    known.
    """
    stopped = [t for t in ledger.trials if t.state == PRUNED]
    sign = -1.0 if metric in LOSSES else 1.0
    figures = [sign * t.outcome.scores[metric] for t in (best, *stopped) if t.outcome is not None]
    return {
        "known": not stopped,
        "at_least": max(figures) - figures[0],
        "metric": metric,
        "stopped_early": len(stopped),
        "in_full": sum(t.state == COMPLETE for t in ledger.trials),
    }
