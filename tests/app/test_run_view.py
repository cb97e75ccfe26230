"""One run on the page Runs, and the names on the page Train: what is missing, damaged, too small or taken."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from textune.app import run_view
from textune.app.data_choice import read_head
from textune.app.options import AppOptions, set_options
from textune.cli.app import app as command_line
from textune.errors import ConfigError
from textune.evaluation.slices import SliceSearch
from textune.run import Run, load_run


@pytest.fixture(autouse=True)
def _options() -> Iterator[None]:
    set_options(AppOptions())
    yield
    set_options(AppOptions())


@pytest.fixture
def run(finished: Run, work: Path) -> Path:
    """A finished run in the folder `runs`."""
    shutil.copytree(finished.folder, work / "runs" / "it")
    return Path("runs/it")


def _draw(page: str) -> None:
    import importlib

    from textune.app.session import guard_page

    with guard_page():
        importlib.import_module(f"textune.app.pages.{page}").draw()


def open_part(part: str, *names: str) -> AppTest:
    """Return the page Runs with a part of a run, or with several runs."""
    app = AppTest.from_function(_draw, args=("runs",), default_timeout=120).run()
    app.multiselect[0].set_value([f"runs/{name}" for name in names])
    app.session_state[f"part runs/{names[0]}"] = part
    app.run()
    assert not app.exception
    return app


def read(app: AppTest, kind: str) -> str:
    return "\n".join(element.value.replace("\\", "") for element in getattr(app, kind))


def test_a_missing_report_is_named_and_its_command_writes_it(run: Path) -> None:
    report = run / "evaluation" / "report.html"
    report.unlink()
    told = read(open_part("Report", "it"), "error")
    assert str(report) in told
    _, *words = shlex.split(told[told.index("textune report") :])
    assert not CliRunner().invoke(command_line, words).exit_code
    assert Path("report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_no_path_is_given_for_a_report_that_is_missing(run: Path) -> None:
    path = str(run / "evaluation" / "report.html")
    for words in (["report", str(run)], ["report", str(run), "--json"]):
        assert path in CliRunner().invoke(command_line, words).stdout
    assert path in str(load_run(run))
    Path(path).unlink()
    for words in (["report", str(run)], ["report", str(run), "--json"]):
        done = CliRunner().invoke(command_line, words)
        assert not done.exit_code and path not in done.stdout
    assert path not in str(load_run(run))


@pytest.mark.parametrize(
    ("errors", "examined", "told"),
    [(3, {}, "too few rows"), (3, {"word": 4}, "No kind of row has more errors"), (0, {}, "")],
)
def test_errors_say_what_could_be_looked_for(
    errors: int, examined: dict[str, int], told: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = SliceSearch(20, errors, (), examined, 10)
    found = SimpleNamespace(errors=errors, rows=20, source="test rows", slices=search, confused=())
    monkeypatch.setattr(run_view, "_analyse", lambda *_: found)
    app = open_part("Errors", "it")
    assert not app.error and len(app.info) == bool(told) and told in read(app, "info")
    assert ("condition" in read(app, "caption")) == bool(examined)


HOSTILE = {
    "huge step": '{"kind": "step", "step": 1e999, "epoch": 1, "loss": 1}',
    "huge epoch": '{"kind": "step", "step": 1, "epoch": 1e999, "loss": 1}',
    "endless digits": '{"kind": "step", "step": 1, "epoch": 1%s, "loss": 1}' % ("0" * 400),
    "huge evaluation": '{"kind": "evaluation", "step": -1e999, "epoch": 1, "loss": 1}',
    "huge score": '{"kind": "evaluation", "step": 1, "epoch": 1, "loss": 1%s, "accuracy": 1e999}' % ("0" * 400),
    "step as text": '{"kind": "evaluation", "step": "1", "epoch": "1", "loss": 1, "accuracy": 1}',
    "huge warning": '{"kind": "warning", "step": 1e999, "text": "x"}',
    "deep": '{"kind": ' + "[" * 100_000,
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_log_leaves_the_page_and_other_runs(line: str, run: Path) -> None:
    shutil.copytree(run, "runs/bad")
    log = Path("runs/bad/metrics.jsonl")
    log.write_text(f"{line}\n{log.read_text(encoding='utf-8')}{line}\n", encoding="utf-8")
    for names in (["bad"], ["it", "bad"]):
        app = open_part("Curves", *names)
        assert "bug" not in read(app, "error") and (len(names) > 1 or not app.error), "a copy is the same run"


def test_a_page_that_is_no_more_gives_the_last_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [run_view.WrongRow("test", at, "a", "b", 0.9, f"text {at}") for at in range(35)]
    evaluated: Any = SimpleNamespace(wrong=rows, removals=(), list_foreign=lambda marks: [])
    monkeypatch.setattr(run_view, "_read_evaluated", lambda *_: evaluated)
    app = open_part("Labels", "it")
    app.number_input[0].set_value(4).run()
    assert "text 34" in read(app, "text")
    del rows[15:]
    app.run()
    assert not app.exception and not app.error and app.number_input[0].value == 2 and "text 14" in read(app, "text")


def test_a_name_that_is_taken_is_told_with_what_the_form_offers(run: Path) -> None:
    app = AppTest.from_function(_draw, args=("train",), default_timeout=120).run()
    app.text_input(key="run name").set_value("it").run()
    told = read(app, "error")
    assert "already exists" in told and "another name" in told and "overwrite" not in told


@pytest.mark.parametrize("path", ["~nosuchuser/x.csv", "~nosuchuser/x.csv#sheet", "a\0b.csv", "a\0b.csv#sheet"])
def test_a_path_that_leads_nowhere_is_told(path: str, work: Path) -> None:
    app = AppTest.from_function(_draw, args=("train",), default_timeout=120).run()
    app.radio[0].set_value("A file on this machine").run()
    app.text_input(key="path").set_value(path).run()
    assert not app.exception and app.error and "bug" not in read(app, "error")
    with pytest.raises(ConfigError, match="no such file"):
        read_head("~nosuchuser/x.csv")
