"""The page of a sweep judges its winner as the winner's own page does."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps import GRID, by_rate, check, play
from textune.report import render_report
from textune.run import Run
from textune.run.report_input import build_report_input
from textune.search.summary import Selection, write_summary


@pytest.mark.parametrize(("lead", "tone"), [(-0.3, "bad"), (0.0, "caution"), (0.3, "good")])
def test_the_winner_has_one_tone(lead: float, tone: str, finished: Run, backbone: Path, tmp_path: Path) -> None:
    ledger = play(tmp_path / "sweep", check(backbone, {"space": GRID}), by_rate)
    (tmp_path / "sweep" / "sweep.yaml").write_text("data: x.csv\n", encoding="utf-8")
    interval = {"low": lead - 0.1, "high": lead + 0.1, "mean": lead}
    metrics = dict(finished.metrics) | {"leads": dict.fromkeys(finished.metrics["leads"], interval)}
    run: Any = SimpleNamespace(folder=finished.folder, manifest=finished.manifest, metrics=metrics)
    write_summary(tmp_path / "sweep", ledger, Selection(0, 20, "accuracy"), run)
    page = (tmp_path / "sweep" / "report.html").read_text(encoding="utf-8")
    own = render_report(build_report_input(run.folder, run.manifest, run.metrics))
    for text in (page, own):
        assert re.findall(r'<section class="verdict (\w+)"', text) == [tone]


def test_epochs_are_those_of_all_folds(finished: Run, backbone: Path, tmp_path: Path) -> None:
    ledger = play(tmp_path / "sweep", check(backbone, {"space": GRID}), by_rate)
    (tmp_path / "sweep" / "sweep.yaml").write_text("data: x.csv\n", encoding="utf-8")
    once, folded = (
        write_summary(tmp_path / "sweep", ledger, Selection(folds, 20, "accuracy"), finished)["saving"]
        for folds in (0, 5)
    )
    for name in ("epochs_trained", "epochs_in_full"):
        assert folded[name] == pytest.approx(5 * once[name]) and once[name] > 0
