"""What commands print of figures: one unit in every rendering, counts of the rows used, and the verdict at the end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reports import make_card, make_comparison, make_report
from textune.cli.output import count_rows, find_verdict, print_evaluation, summarise_run
from textune.cli.tables import measure
from textune.config import build_config
from textune.config.schema import TrainingConfig
from textune.evaluation.text import percent
from textune.report import render_card, render_report
from textune.report.comparison_page import render_comparison, render_comparison_markdown
from textune.run import Run
from textune.run.facts import describe_data
from textune.run.tables import prepare_data
from textune.search.display import format_figure
from textune.tasks import build_task
from tiny import call_here, settings_for

SOURCE = Path(__file__).parents[2] / "src" / "textune"


def list_renderings(capsys: pytest.CaptureFixture[str], finished: Run) -> dict[str, tuple[str, float]]:
    """Return every rendering that names a macro F1, with its value."""
    report = make_report(tuned=0.87)
    evaluation = report.comparison[-1]["evaluation"]
    comparison = make_comparison()
    print_evaluation(evaluation)
    printed = capsys.readouterr().out
    task, scores = build_task("single_label"), {"accuracy": 0.8123, "macro_f1": 0.7891, "micro_f1": 0.8123, "loss": 1.0}
    several = build_task("multi_label")
    tuned = finished.metrics["models"]["tuned"]["macro"]["f1"]
    shown = {
        "page": (render_report(report), evaluation.macro.f1),
        "card": (render_card(make_card(report)), evaluation.macro.f1),
        "evaluation": (printed, evaluation.macro.f1),
        "progress": (task.build_objective(TrainingConfig()).describe(scores), 0.7891),
        "progress of several labels": (several.build_objective(TrainingConfig()).describe(scores), 0.7891),
        "sweep": (format_figure(scores, "macro_f1"), 0.7891),
        "compared page": (render_comparison(comparison, "1"), comparison.best.macro_f1),
        "compared text": (render_comparison_markdown(comparison, "1"), comparison.best.macro_f1),
        "run": (call_here(capsys, "report", str(finished.folder))[1], tuned),
    }
    from textune.cli.compare import print_comparison

    print_comparison(comparison)
    return shown | {"compared table": (capsys.readouterr().out, comparison.best.macro_f1)}


def test_macro_f1_is_in_percent_in_every_rendering(capsys: pytest.CaptureFixture[str], finished: Run) -> None:
    for name, (text, value) in list_renderings(capsys, finished).items():
        assert percent(value) in text.replace("&lt;", "<").replace("&gt;", ">"), name
        text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)  # the hub's index of a card has shares
        visible = re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]*>", " ", text, flags=re.S)
        shares = [found for found in re.findall(r"(?<![\d.])0\.\d{3,}", visible) if abs(float(found) - value) < 6e-4]
        assert not shares, (name, shares)


def test_one_function_writes_every_share() -> None:
    """No other place formats a score: neither with % nor as a fraction."""
    scores = r"(?:accuracy|f1|headline|figure|score|macro|micro|precision|recall)\w*(?:\.\w+|\[[^\]]*\])*"
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.parts[-2] in ("export",) or path.name in ("text.py",):
            continue  # int8's loss in accuracy needs two digits, and predict.py is copied into exports
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            formatted = re.search(rf"\{{[^{{}}]*{scores}[^{{}}]*:[,>\d]*\.\d[f%]\}}", line, re.I)
            if formatted and not re.search(r"loss|threshold|temperature|brier|row\.score", line, re.I):
                wrong.append(f"{path.relative_to(SOURCE)}:{number}: {line.strip()}")
    assert not wrong, "\n".join(wrong)


def test_the_verdict_ends_what_train_prints_and_is_in_json(capsys: pytest.CaptureFixture[str], finished: Run) -> None:
    code, output, _ = call_here(capsys, "report", str(finished.folder))
    verdict = " ".join(find_verdict(finished))
    assert code == 0 and " ".join(output.split()).endswith(verdict) and " test rows " in verdict
    assert summarise_run(finished)["verdict"] == verdict
    page = finished.report.read_text(encoding="utf-8")
    card = (finished.folder / "README.md").read_text(encoding="utf-8")
    for sentence in finished.metrics["verdict"]:
        assert sentence.replace("'", "&#39;").replace("+", "+") in page and sentence.split(" (")[0] in card


def test_a_run_that_keeps_no_verdict_still_says_one(finished: Run) -> None:
    import dataclasses

    old = dataclasses.replace(finished, metrics={k: v for k, v in finished.metrics.items() if k != "verdict"})
    assert find_verdict(old)[0] == find_verdict(finished)[0]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("words", [("methods",), ("methods", "lora"), ("backbones",), ("settings",), ("cache",),
                                   ("doctor",), ("--help",), ("train", "--help"), ("runs", "{runs}"),
                                   ("report", "{run}"), ("inspect", "{run}"), ("inspect", "{data}")],
                         ids=" ".join)  # fmt: skip
def test_every_command_fits_the_terminal(
    words: tuple[str, ...], columns: int, finished: Run, reviews: Path, backbone: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERMINAL_WIDTH", str(columns))
    places = {"run": finished.folder, "runs": finished.folder.parent, "data": reviews}
    typed = [word.format(**places) for word in words]
    code, output, _ = call_here(capsys, *typed, *([f"backbone={backbone}"] if "{data}" in words else []))
    assert code == 0 and output
    for line in output.splitlines():
        longest = max((measure(word) for word in line.split()), default=0)
        pasted = line.startswith("next")  # a command is never broken, nor is a path
        assert measure(line) <= columns or pasted or longest > columns / 2, line


@pytest.mark.parametrize("columns", [80, 120])
def test_a_comparison_with_long_names_fits_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from textune.cli.compare import print_comparison

    monkeypatch.setenv("COLUMNS", str(columns))
    print_comparison(make_comparison())
    lines = capsys.readouterr().out.splitlines()
    assert all(measure(line) <= columns or len(max(line.split(), key=len)) > 60 for line in lines)
    text = "\n".join(lines)
    assert "* Pareto-optimal: no other candidate is as good and trains faster" in text
    assert text.index("* Pareto-optimal") < text.index("highest accuracy")  # where the marks stand, not at the end


def test_counts_are_of_the_rows_used(reviews: Path, backbone: Path, work: Path) -> None:
    data = prepare_data(build_config(settings_for(reviews, backbone, work / "run", sample=30)))
    facts = dict(describe_data(data))
    used = sum(len(part) for part in (data.train, data.validation, data.test) if part is not None)
    assert used == data.facts.rows == 30 and sum(data.facts.label_counts.values()) == 30
    assert sum(map(int, re.findall(r"(\d+) \(", facts["labels"]))) == 30
    assert sum(int(n) for n in re.findall(r"(\d+) ", facts["rows"])) == 30


def test_the_documents_write_macro_f1_in_percent() -> None:
    """As the tool does, also in the outputs that they show."""
    root = SOURCE.parents[1]
    for path in [root / "README.md", *(root / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?:macro|micro) F1 (?:of |below |\*\*)*0\.\d", text), path
        assert not re.search(r"^.*\d% to [\d.]+% +0\.\d{3}", text, re.M), path


def test_rows_are_reported_now_and_then() -> None:
    said: list[str] = []
    advance = count_rows(said.append, "classified", every=50)
    for rows in (20, 20, 1_020, 40, 10):
        advance(rows)
    assert said == ["1,060 rows classified", "1,110 rows classified"]
    advance = count_rows(said.append, "answered")
    advance(1)
    assert said[-1] == "1 row answered"
