"""`textune report`: the stored report anew, as a page or as Markdown, to the terminal or to a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from label_tables import as_list, write_table
from textune.cli.app import app
from textune.errors import BundleError, ConfigError, TextuneError
from textune.run import load_run
from textune.run.stored_report import read_report
from tiny import CHAT_TEMPLATE, build_causal, copy_changeable, make_rows, train_tiny, write_prompts, write_reviews


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    place = tmp_path_factory.mktemp("reported")
    reviews = write_reviews(place / "reviews.csv", rows=60)
    return train_tiny(reviews, backbone, place / "run", method="head", test_fraction=0.4).folder


def write_wrong_labels(path: Path, wrong: bool) -> Path:
    """Write 120 rows; every tenth has another label than it should, if `wrong`."""
    other = {"positive": "negative", "negative": "positive"}
    found = enumerate(make_rows(120))
    rows = [(text, other[label] if wrong and i % 10 == 0 else label) for i, (text, label) in found]
    return write_csv(path, ("text", "label"), rows)


def write_wrong_pairs(path: Path, wrong: bool) -> Path:
    """Write the same rows with a second text."""
    with write_wrong_labels(path, wrong).open(encoding="utf-8", newline="") as stream:
        rows = [(row["text"], "which film", row["label"]) for row in csv.DictReader(stream)]
    return write_csv(path, ("text", "text_pair", "label"), rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """Write a table."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def call(*words: str) -> str:
    """Return what a command prints; raise what it raises."""
    done = CliRunner().invoke(app, [*words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


@pytest.mark.parametrize("kind", ["labels", "pairs", "sets", "writes"])
def test_the_page_is_rendered_anew_from_what_the_run_keeps(
    kind: str, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "writes":
        data = write_prompts(tmp_path / "prompts.jsonl")
        causal = build_causal(tmp_path / "llama", template=CHAT_TEMPLATE)
        run = train_tiny(data, causal, tmp_path / "run", task="generation", answer_rows=6, epochs=2)
    else:
        write = {"labels": write_wrong_labels, "pairs": write_wrong_pairs}.get(kind)
        if write is None:
            train, test = (write_table(tmp_path / f"{name}.csv", as_list, rows=120) for name in ("train", "test"))
        else:
            train, test = write(tmp_path / "train.csv", False), write(tmp_path / "test.csv", True)
        run = train_tiny(train, backbone, tmp_path / "run", method="head", epochs=None, test=str(test))
    stored = (run.folder / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert call("report", str(run.folder), "--format", "html") == stored
    wanted = {"writes": "side by side"}.get(kind, "In the first 1 the words")
    assert wanted in stored
    shown = call("report", str(run.folder))  # in the terminal
    assert "exact match" in shown if kind == "writes" else "f1-score" in shown


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
    old = copy_changeable(run, tmp_path / "old")
    path = old / "evaluation" / "metrics.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    newer = ("leads", "best_step", "verdict", "slices", "costs", "confident_errors")
    path.write_text(json.dumps({k: v for k, v in stored.items() if k not in newer}))
    assert call("report", str(old), "--format", "markdown").startswith("## old\n\n**")
    report = read_report(load_run(old))
    assert report.slices is None and report.best_step is None and not report.confident_errors


@pytest.mark.parametrize("damage", [{"models": {"tuned": {}}}, {"slices": {"rows": 1}}, {"leads": {"tfidf": {}}}])
def test_damaged_figures_are_named(run: Path, tmp_path: Path, damage: dict[str, object]) -> None:
    broken = copy_changeable(run, tmp_path / "broken")
    path = broken / "evaluation" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | damage))
    with pytest.raises(BundleError):
        call("report", str(broken), "--format", "markdown")
