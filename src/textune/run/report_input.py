"""What a run's report shows, from what the run keeps: so a page that is drawn again is the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textune.bundle import SETTINGS, Manifest
from textune.evaluation import ConfidentError, Difference
from textune.evaluation.generation import Sample
from textune.evaluation.goal import read_goal
from textune.evaluation.slices import SliceSearch
from textune.explain.explanation import Explanation
from textune.files import read_json_lines
from textune.report import ReportInput
from textune.report.snippets import reload_by_textune
from textune.tasks import read_evaluation, task_of
from textune.version import __version__


def build_report_input(folder: Path, manifest: Manifest, stored: Mapping[str, Any]) -> ReportInput:
    """Return what a run's report shows. stored: the content of metrics.json; raises where that is damaged."""
    names, leads = {**task_of(manifest).model_names, **stored.get("names", {})}, stored.get("leads", {})
    rows: list[dict[str, Any]] = [
        {
            "name": names[key],
            "evaluation": read_evaluation(model),
            "seconds": model["seconds"],
            "difference": Difference(**leads[key]) if key in leads else None,
        }
        for key, model in stored["models"].items()
    ]
    fields = ConfidentError.__dataclass_fields__
    errors = [{k: v for k, v in error.items() if k in fields} for error in stored.get("confident_errors", ())]
    return ReportInput(
        title=folder.resolve().name,
        created=manifest.created,
        textune_version=manifest.versions.get("textune", __version__),
        task_summary=list(stored["summary"].items()),
        labels=manifest.labels,
        split=stored["split"],
        comparison=rows,
        history=read_json_lines(folder / "metrics.jsonl"),
        confident_errors=[ConfidentError(**error) for error in errors],
        data_facts=list(stored.get("data", {}).items()),
        warnings=stored["warnings"],
        settings_yaml=(folder / SETTINGS).read_text(encoding="utf-8"),
        reload_lines=reload_by_textune(manifest, folder.resolve().name),
        slices=SliceSearch.from_dict(stored["slices"]) if "slices" in stored else None,
        best_step=stored.get("best_step"),
        explanations={int(row): Explanation.from_dict(e) for row, e in stored.get("explanations", {}).items()},
        samples=[Sample(**sample) for sample in stored.get("samples", ())],
        goal=read_goal(stored.get("goal")),
    )
