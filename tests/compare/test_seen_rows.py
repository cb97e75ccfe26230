"""A candidate that has seen some of the compared test rows does not win without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from textune.compare import compare_runs, read_run
from textune.errors import BundleError
from textune.report.comparison import note
from textune.report.comparison_page import write_comparison
from textune.run.save import update_manifest
from tiny import call_here, copy_changeable, make_rows, train_tiny

TOLD = "Some of the 30 test rows also appear in the training or validation rows: 20 for lora. These scores are too"


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("\n".join(["text,label", *(f"{text},{label}" for text, label in rows)]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> list[Path]:
    """The head alone on other rows than the test rows, and LoRA on a table that holds 20 of those as well."""
    place, rows = tmp_path_factory.mktemp("seen"), make_rows(110)
    test = write_rows(place / "test.csv", rows[80:])
    clean, leaked = write_rows(place / "clean.csv", rows[:80]), write_rows(place / "leaked.csv", rows[:100])
    return [
        train_tiny(table, backbone, place / method, method=method, test=str(test), epochs=1).folder
        for method, table in (("head", clean), ("lora", leaked))
    ]


def test_seen_test_rows_are_noted_wherever_a_comparison_is_shown(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compare_runs(runs)
    assert found.seen == {"lora": 20}
    assert sum(line.startswith(TOLD) for line in note(found)) == 1
    write_comparison(found, tmp_path / "out", "1.0")
    for name in ("report.html", "report.md", "compare.json"):
        assert TOLD in (tmp_path / "out" / name).read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))["seen"] == {"lora": 20}
    code, out, _ = call_here(capsys, "compare", *map(str, runs))
    assert code == 0 and TOLD in " ".join(out.split())


def test_the_seed_that_saw_most_counts_and_older_runs_say_nothing(runs: list[Path], tmp_path: Path) -> None:
    other = copy_changeable(runs[1], tmp_path / "other")
    update_manifest(other, seed=7)
    file = other / "evaluation" / "metrics.json"
    metrics = json.loads(file.read_text(encoding="utf-8"))
    metrics["seen_rows"]["training_near"] += 3
    file.write_text(json.dumps(metrics), encoding="utf-8")
    assert compare_runs([*runs, other]).seen == {"lora": 23}
    del metrics["seen_rows"]
    file.write_text(json.dumps(metrics), encoding="utf-8")
    assert read_run(other).seen == 0
    assert compare_runs([runs[0], other]).seen == {}
    file.write_text(json.dumps(metrics | {"seen_rows": {"rows": 30}}), encoding="utf-8")
    with pytest.raises(BundleError, match="damaged"):
        read_run(other)
