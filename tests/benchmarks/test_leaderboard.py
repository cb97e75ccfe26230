"""The results table: cells survive a kill, the order is from cheap to dear, and the page says what was not run."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tiny import build_backbone, write_reviews

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "leaderboard.py"


def load(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a script that stands outside the package, with its neighbours, and forgets it afterwards."""
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


def make_cell(data: str, method: str, seed: int, score: float, **more: Any) -> dict[str, Any]:
    """Return a made-up cell."""
    return {
        "data": data, "method": method, "seed": seed, "split": "test", "rows": 1000, "train_rows": 900,
        "metric": "accuracy", "score": score, "interval": [score - 0.02, score + 0.02], "macro_f1": score - 0.001,
        "training_seconds": 100.0 + seed, "seconds": 130.0, "peak_memory_mb": 2000, "trainable": 338690,
        "total": 23052676, "megabytes": 1.365, "warning": None, "engine": "lean", "precision": "bf16", "threads": 2,
        "machine": "2 processors",
    } | more  # fmt: skip


def test_page_gives_means_intervals_and_what_was_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    page = load(ROOT / "docs" / "leaderboard_page.py", monkeypatch)
    cells = [make_cell("sms_spam", "lora", seed, score) for seed, score in ((1, 0.90), (2, 0.92), (3, 0.94))]
    cells.append(make_cell("sms_spam", "prompt", 1, 0.87, warning="The model is not learning yet"))
    file = tmp_path / "leaderboard.json"
    file.write_text(json.dumps({"format": 1, "cells": cells}), encoding="utf-8")

    score = page.summarise(cells[:3])
    half = math.hypot(0.02, 4.3027 * 0.02 / math.sqrt(3))  # Student's t of two degrees of freedom
    assert score.mean == pytest.approx(0.92) and score.high == pytest.approx(0.92 + half, abs=1e-5)
    assert page.summarise(cells[3:]).high == pytest.approx(0.89), "of one seed the interval is that of the rows alone"

    older = tmp_path / "older.json"
    older.write_text(json.dumps({"format": 1, "cells": [make_cell("imdb", "head", 1, 0.5)]}), encoding="utf-8")
    text, before = page.build_leaderboard_page(file, older).split("## With the defaults of an earlier version")
    assert "|  | imdb |" in before and "| `head` | 50.0% |" in before
    lines = text.splitlines()
    assert "Run so far: 4 of 210 cells." in lines
    row = next(line for line in lines if line.startswith("| `lora` | 92.0% ("))
    assert f"({0.92 - half:.1%} to {0.92 + half:.1%}) | 0.919 | 3 | 102 | 2,000 | 338,690 | 1.36 |" in row
    own = lines[lines.index("## sms_spam") : lines.index("## amazon_reviews")]
    methods = [line.split("`")[1] for line in own if line.startswith("| `")]
    assert methods[:2] == ["lora", "prompt"] and len(methods) == 10
    assert sum("| not run |" in line for line in own) == 8
    assert "1 of 1 runs warned at the end" in "".join(own)
    assert "No cell was run yet." in lines[lines.index("## amazon_reviews") :]
    glance = next(line for line in lines if line.startswith("| `lora`"))
    assert glance.count("not run") == 6


def test_page_without_results_says_that_nothing_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = load(ROOT / "docs" / "leaderboard_page.py", monkeypatch)
    text = page.build_leaderboard_page(tmp_path / "none.json", tmp_path / "none.json")
    assert "Run so far: 0 of 210 cells." in text and text.count("not run |") == 70


def test_cells_of_other_test_rows_and_of_trials_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = load(SCRIPT, monkeypatch)
    found = board.Table(tmp_path / "leaderboard.json", [make_cell("sms_spam", "lora", 1, 0.9, test_rows="abc")])
    assert not found.fits(make_cell("sms_spam", "head", 1, 0.9, test_rows="abd"))
    assert found.fits(make_cell("sms_spam", "head", 1, 0.9, test_rows="abc"))
    assert found.fits(make_cell("ag_news", "head", 1, 0.9, test_rows="abd"))
    page = load(ROOT / "docs" / "leaderboard_page.py", monkeypatch)
    cells = [make_cell("sms_spam", "lora", 1, 0.9, set={"epochs": "1"})]
    file = tmp_path / "trial.json"
    file.write_text(json.dumps({"format": 1, "cells": cells}), encoding="utf-8")
    assert "Run so far: 0 of 210 cells." in page.build_leaderboard_page(file)
    for path, extra in ((tmp_path / "leaderboard.json", ["--set", "epochs=1"]), (file, [])):
        path.write_text(json.dumps({"format": 1, "cells": [make_cell("sms_spam", "lora", 1, 0.9, set={})]
                                    if extra else cells}), encoding="utf-8")  # fmt: skip
        with pytest.raises(SystemExit, match="cells of other settings"):
            board.main(["--data", str(tmp_path), "--output", str(path), "--list", *extra])


def test_cheap_cells_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    table = load(SCRIPT, monkeypatch)
    cells = table.list_cells(list(table.DATA), list(table.METHODS), (1, 2, 3))
    assert len(cells) == len({cell.key for cell in cells}) == 210
    assert cells[0].key == ("sms_spam", "head", 1) and cells[-1].key == ("imdb", "qlora", 3)
    for data in table.DATA:
        assert [c.seed for c in cells if c.data == data and c.method == "lora"] == [1, 2, 3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like --data with tiny tables, and a tiny backbone."""
    place = tmp_path_factory.mktemp("data")
    (place / "sms_spam").mkdir()
    for name, rows in (("train", 40), ("test", 20)):
        write_reviews(place / "sms_spam" / f"{name}.csv", rows=rows)
    build_backbone("bert", place / "tiny-bert")
    return place


@pytest.mark.slow
def test_a_kill_loses_the_running_cell_only(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "leaderboard.json"
    fast = (f"backbone={folder / 'tiny-bert'}", "epochs=1", "max_length=32", "threads=1", "precision=fp32")
    command = [sys.executable, str(SCRIPT), "--data", str(folder), "--output", str(output), "--only", "sms_spam",
               "--methods", "head", "lora", "--seeds", "1", *(f"--set={word}" for word in fast)]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    running = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 600
    while not output.is_file():
        assert running.poll() is None and time.monotonic() < until, "no cell was finished"
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    before = json.loads(output.read_text(encoding="utf-8"))["cells"]
    assert [cell["method"] for cell in before] == ["head"]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = json.loads(output.read_text(encoding="utf-8"))["cells"]
    assert [cell["method"] for cell in after] == ["lora", "head"] and after[1] == before[0]
    assert done.stderr.count("sms_spam, ") == 1, "the finished cell was not run again"
    lora = after[0]
    assert lora["rows"] == 20 and lora["interval"][0] <= lora["score"] <= lora["interval"][1]
    assert lora["trainable"] > after[1]["trainable"] and lora["peak_memory_mb"] > 50 and lora["training_seconds"] > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["leaderboard.json"]

    done = subprocess.run([*command, "--seeds", "2", "--minutes", "0"], env=environment, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0 and len(json.loads(output.read_text(encoding="utf-8"))["cells"]) == 2
