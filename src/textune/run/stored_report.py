"""A finished run's report from what its folder holds: the page anew, or as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.bundle import SETTINGS, Manifest
from textune.errors import BundleError, ConfigError, flag
from textune.evaluation import ConfidentError, Difference
from textune.evaluation.generation import Sample
from textune.evaluation.goal import read_goal
from textune.evaluation.slices import SliceSearch
from textune.explain.explanation import Explanation
from textune.files import read_json_lines, write_text_atomically
from textune.report import ReportInput, render_report, render_report_markdown
from textune.report.snippets import reload_by_textune
from textune.tasks import read_evaluation, task_of
from textune.version import __version__

if TYPE_CHECKING:
    from textune.run.api import Run

FORMS = {"html": render_report, "markdown": render_report_markdown}
"""What a report can be written as."""
SUFFIXES = {".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown"}


def read_report(run: Run) -> ReportInput:
    """Return what a finished run's report shows; raise BundleError if its files are damaged."""
    try:
        return build_report(run.folder, run.manifest, run.metrics)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{run.folder / 'evaluation' / 'metrics.json'}: is damaged ({type(error).__name__}: {error})",
            hint="restore it from a copy of the run",
        ) from error


def build_report(folder: Path, manifest: Manifest, stored: Mapping[str, Any]) -> ReportInput:
    """Return what a run's report shows. stored: the content of metrics.json; raises where that is damaged."""
    names, leads = task_of(manifest).model_names, stored.get("leads", {})
    rows: list[dict[str, Any]] = [
        {
            "name": model.get("name", names[key]),
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
        reload_lines=reload_by_textune(folder.name),
        slices=SliceSearch.from_dict(stored["slices"]) if "slices" in stored else None,
        best_step=stored.get("best_step"),
        explanations={int(row): Explanation.from_dict(e) for row, e in stored.get("explanations", {}).items()},
        samples=[Sample(**sample) for sample in stored.get("samples", ())],
        goal=read_goal(stored.get("goal")),
    )


def choose_form(form: str | None, path: Path | None) -> str:
    """Return html or markdown, as asked for or by the ending of the file; raise ConfigError."""
    named = form if form is not None or path is None else SUFFIXES.get(path.suffix.lower())
    if named in FORMS:
        return str(named)
    if path is not None and form is None:
        raise ConfigError(f"{path}: a report is HTML or Markdown", hint="give it a name that ends in .html or .md")
    raise ConfigError(f"a report's format is not {form!r}: must be {' or '.join(FORMS)}")


def check_report_path(path: str | Path, *, overwrite: bool) -> Path:
    """Return where a report is written; raise ConfigError if it cannot be written there."""
    place = Path(path)
    if place.is_dir():
        raise ConfigError(f"{place}: is a folder", hint="give the name of a file, such as report.md")
    if not place.parent.is_dir():
        raise ConfigError(f"{place}: its folder does not exist", hint=f"make it: mkdir -p {place.parent}")
    if place.exists() and not overwrite:
        raise ConfigError(f"{place}: already exists", hint=f"choose another name, or add {flag('overwrite')}")
    return place


def render_run(run: Run, form: str) -> str:
    """Return a finished run's report: its HTML page, or Markdown."""
    return FORMS[form](read_report(run))


def write_run(run: Run, path: Path, form: str) -> None:
    """Write a finished run's report, whole or not at all."""
    write_text_atomically(path, render_run(run, form))
