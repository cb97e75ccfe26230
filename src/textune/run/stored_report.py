"""A finished run's report from what its folder holds: the page anew, or as Markdown for a pull request."""

from __future__ import annotations

import shlex
from pathlib import Path

from textune.errors import BundleError, ConfigError, flag
from textune.files import write_text_atomically
from textune.report import ReportInput, render_report, render_report_markdown
from textune.run.api import Run
from textune.run.report_input import build_report_input

FORMS = {"html": render_report, "markdown": render_report_markdown}
"""What a report can be written as."""
SUFFIXES = {".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown"}


def read_report(run: Run) -> ReportInput:
    """Return what a finished run's report shows; raise BundleError if its files are damaged."""
    try:
        return build_report_input(run.folder, run.manifest, run.metrics)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{run.folder / 'evaluation' / 'metrics.json'}: is damaged ({type(error).__name__}: {error})",
            hint="restore it from a copy of the run",
        ) from error


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
        raise ConfigError(
            f"{place}: its folder does not exist", hint=f"make it: mkdir -p {shlex.quote(str(place.parent))}"
        )
    if place.exists() and not overwrite:
        raise ConfigError(f"{place}: already exists", hint=f"choose another name, or add {flag('overwrite')}")
    return place


def render_run(run: Run, form: str) -> str:
    """Return a finished run's report: its HTML page, or Markdown."""
    return FORMS[form](read_report(run))


def write_run(run: Run, path: Path, form: str) -> None:
    """Write a finished run's report, whole or not at all."""
    write_text_atomically(path, render_run(run, form))
