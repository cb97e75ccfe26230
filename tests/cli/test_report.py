"""`textune report`: the stored report anew, as a page or as Markdown, to the terminal or to a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from textune.cli.app import app
from textune.errors import BundleError, ConfigError, TextuneError
from textune.run import load_run
from textune.run.stored_report import read_report
from tiny import train_tiny, write_reviews


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    place = tmp_path_factory.mktemp("reported")
    reviews = write_reviews(place / "reviews.csv", rows=60)
    return train_tiny(reviews, backbone, place / "run", method="head", test_fraction=0.4).folder


def call(*words: str) -> str:
    """Return what a command prints; raise what it raises."""
    done = CliRunner().invoke(app, [*words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_the_page_is_rendered_anew_from_what_the_run_keeps(run: Path) -> None:
    stored = (run / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert call("report", str(run), "--format", "html") == stored


def test_markdown_goes_to_the_terminal_or_to_a_file(run: Path, tmp_path: Path) -> None:
    printed, path = call("report", str(run), "--format", "markdown"), tmp_path / "report.md"
    verdict = json.loads((run / "evaluation" / "metrics.json").read_text(encoding="utf-8"))["verdict"]
    assert printed.startswith("## run\n\n**") and verdict[0] in printed.replace("\\", "")
    assert call("report", str(run), "--output", str(path)) == f"report  {path}\n"
    assert path.read_text(encoding="utf-8") == printed
    page = tmp_path / "page.html"
    call("report", str(run), "-o", str(page))
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    call("report", str(run), "-o", str(page), "--overwrite", "--format", "markdown")
    assert page.read_text(encoding="utf-8") == printed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "pdf"], "format is not .pdf.: must be html or markdown"),
        (["--output", "{place}/report.pdf"], "a report is HTML or Markdown"),
        (["--output", "{place}/none/report.md"], "its folder does not exist"),
        (["--output", "{place}"], "is HTML or Markdown"),
        (["--output", "{place}", "--format", "html"], "is a folder"),
        (["--output", "{place}/there.md"], "already exists"),
        (["--format", "markdown", "--json"], "--json prints scores"),
    ],
)
def test_what_cannot_be_written_is_refused(run: Path, tmp_path: Path, words: list[str], told: str) -> None:
    (tmp_path / "there.md").write_text("mine")
    with pytest.raises(TextuneError, match=told) as caught:
        call("report", str(run), *(word.format(place=tmp_path) for word in words))
    assert isinstance(caught.value, ConfigError)
    assert [path.name for path in tmp_path.iterdir()] == ["there.md"]
    assert (tmp_path / "there.md").read_text() == "mine"


def test_runs_of_older_versions_have_a_report_too(run: Path, tmp_path: Path) -> None:
    old = shutil.copytree(run, tmp_path / "old")
    path = old / "evaluation" / "metrics.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    newer = ("leads", "best_step", "verdict", "slices", "costs", "confident_errors")
    path.write_text(json.dumps({k: v for k, v in stored.items() if k not in newer}))
    assert call("report", str(old), "--format", "markdown").startswith("## old\n\n**")
    report = read_report(load_run(old))
    assert report.slices is None and report.best_step is None and not report.confident_errors


@pytest.mark.parametrize("damage", [{"models": {"tuned": {}}}, {"slices": {"rows": 1}}, {"leads": {"tfidf": {}}}])
def test_damaged_figures_are_named(run: Path, tmp_path: Path, damage: dict[str, object]) -> None:
    broken = shutil.copytree(run, tmp_path / "broken")
    path = broken / "evaluation" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | damage))
    with pytest.raises(BundleError):
        call("report", str(broken), "--format", "markdown")
