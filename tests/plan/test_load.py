"""A plan beside a busy process says so, and refuses what it cannot plan before it starts anything."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from textune.config import build_config
from textune.errors import ConfigError, DataError, TextuneError
from textune.plan.api import plan
from textune.plan.load import ProcessorTimes, describe_load, measure_load, read_times
from textune.plan.rehearsal import rehearse
from textune.progress import Silent
from tiny import call_here, settings_for

PROCESSORS = "cpu  999 0 0 0\ncpu0 {busy} 100 100 {idle} 0 0 0 0 7 7\ncpu1 {busy} 0 0 {idle} 50 0 0 0 0 0\nctxt 5\n"


def test_times_are_of_the_processors_that_may_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = tmp_path / "stat"
    monkeypatch.setattr("textune.plan.load._STATISTICS", statistics)
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    assert read_times() is None
    statistics.write_text(PROCESSORS.format(busy=300, idle=500), encoding="ascii")
    for usable, total, idle in (({0}, 10.0, 5.0), ({0, 1}, 18.5, 10.5)):
        monkeypatch.setattr("os.sched_getaffinity", lambda process, usable=usable: usable, raising=False)
        times = read_times()
        assert times is not None and (times.total, times.idle) == (total, idle)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {9}, raising=False)
    assert read_times() is None


@pytest.mark.parametrize(
    ("idle", "process", "others", "busy"),
    [
        (0.0, 10.0, 0.5, True),  # another program on the other processor
        (1.0, 15.0, 0.2, True),
        (0.0, 19.0, 0.05, False),  # all ours
        (10.0, 0.0, 0.5, False),  # a processor to spare
        (0.0, 30.0, 0.0, False),  # clocks that disagree
    ],
)
def test_the_share_of_others(idle: float, process: float, others: float, busy: bool) -> None:
    load = measure_load(ProcessorTimes(100.0, 40.0, 7.0), ProcessorTimes(120.0, 40.0 + idle, 7.0 + process))
    assert load == pytest.approx({"others": others, "idle": idle / 20})
    told = describe_load(load)
    assert (told is not None) == busy
    assert told is None or (f"{others:.0%} of the processors" in told and "busy" in told)
    assert measure_load(None, None) is describe_load(None) is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="this system does not give the times")
def test_the_work_of_another_process_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinning:
        time.sleep(0.3)
        before = read_times()
        time.sleep(1.0)
        load = measure_load(before, read_times())
        spinning.kill()
    assert load is not None and load["others"] > 0.3 / len(os.sched_getaffinity(0))


def test_a_forecast_says_that_the_machine_was_busy(
    reviews: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = iter([ProcessorTimes(0.0, 0.0, 0.0), ProcessorTimes(10.0, 0.0, 4.0)])
    monkeypatch.setattr("textune.plan.rehearsal.read_times", lambda: next(ends))
    (tmp_path / "rehearsal").mkdir()
    config = build_config(settings_for(reviews, backbone, tmp_path / "run"))
    forecast = rehearse(config, tmp_path / "rehearsal", 0.5, time.time(), Silent())
    assert forecast.load == {"others": 0.6, "idle": 0.0}
    assert "busy: other programs used 60%" in forecast.notes[0]


BAD = {
    "missing file": {"data": "nowhere.csv"},
    "label column": {"label": "nothing"},
    "text column": {"text": "nothing"},
    "test file": {"test": "nowhere.csv"},
    "test column": {"test": "d.csv", "test_label": "nothing"},
    "validation file": {"validation": "nowhere.csv"},
    "too few rows": {"sample": "first:2"},
    "labels": {"labels": "a,b"},
    "group": {"group": "nothing"},
}


@pytest.mark.parametrize("methods", ["lora", "all", None])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_refused_before_anything_is_rehearsed(
    case: str, methods: str | None, work: Path, reviews: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Starting:
        killed = False

        def __init__(self, *_: Any, **__: Any) -> None:
            started.append(self)

        def poll(self) -> int | None:
            return None

        def kill(self) -> None:
            self.killed = True

        def wait(self, timeout: float | None = None) -> int:
            assert self.killed, "the rehearsal went on"
            return -9

    started: list[Starting] = []
    monkeypatch.setattr("textune.process.child.subprocess.Popen", Starting)
    (work / "d.csv").write_bytes(reviews.read_bytes())
    settings = {"data": "d.csv", "backbone": str(backbone), "max_length": 16} | BAD[case]
    if methods is not None:
        settings["methods"] = methods
    with pytest.raises((DataError, ConfigError)) as caught:
        plan(progress=Silent(), **settings)
    with pytest.raises(TextuneError) as inspected:
        from textune.run.tables import prepare_data

        prepare_data(build_config({k: v for k, v in settings.items() if k != "methods"}))
    assert str(caught.value) == str(inspected.value), "the same words as those of inspect"
    assert len(started) == 1


ROWS = [{"text": "a", "label": "b"}]


@pytest.mark.parametrize(
    ("words", "named", "setting"),
    [
        ((pd.DataFrame(ROWS),), {}, "data"),
        ((pl.DataFrame(ROWS), "text", "label"), {}, "data"),
        ((["a", "b"], ["x", "y"]), {}, "data"),
        ((ROWS,), {"text": "text"}, "data"),
        (("d.csv",), {"test": pd.DataFrame(ROWS)}, "test"),
        (("d.csv",), {"validation": pl.DataFrame(ROWS)}, "validation"),
    ],
)
def test_data_frames_are_refused_with_what_to_do(words: Any, named: Any, setting: str, work: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{setting}: a plan needs a table on the disk") as caught:
        plan(*words, **named)
    assert "to_csv" in (caught.value.hint or "")


@pytest.mark.slow
def test_what_more_costs_is_said(work: Path, reviews: Path, backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(reviews), f"backbone={backbone}", "epochs=1", "max_length=32", "threads=1", "--seconds", "0.5"]
    code, output, errors = call_here(capsys, "plan", *words)
    assert code == 0, errors
    assert output.splitlines()[-1].startswith("methods=all rehearses 12 methods, about ")
