"""Runs that are measured on rows that were held out of their training table, and chosen by them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from textune.config import build_config
from textune.errors import ConfigError
from textune.progress import Silent
from textune.run.prepare import Shared, prepare
from tiny import settings_for, train_tiny, write_reviews


def test_no_row_is_its_own_neighbour_or_reviewed_twice(backbone: Path, tmp_path: Path) -> None:
    table = write_reviews(tmp_path / "reviews.csv", rows=200)
    learn = {"method": "full", "epochs": 12, "learning_rate": 3e-3, "pooling": "mean"}
    run = train_tiny(table, backbone, tmp_path / "run", test_fraction=0, validation_fraction=0.3, **learn)
    found = run.find_errors(nearest=True, review=tmp_path / "review.csv")
    assert found.split == "validation" and found.nearest
    for row, nearest in found.nearest.items():
        assert nearest and row not in [each.row for each in nearest]
    with (tmp_path / "review.csv").open(newline="") as stream:
        rows = [(line["table"], line["row"]) for line in csv.DictReader(stream)]
    assert rows and len(rows) == len(set(rows))


def test_patience_without_validation_rows_is_refused(backbone: Path, tmp_path: Path) -> None:
    table, test = (write_reviews(tmp_path / name, rows=40) for name in ("reviews.csv", "test.csv"))
    flat = settings_for(table, backbone, tmp_path / "run", test=str(test), validation_fraction=0, patience=1)
    with pytest.raises(ConfigError, match="patience=1: needs validation rows, and validation_fraction=0 holds out no"):
        prepare(build_config(flat), Silent())
    rows = [{"text": f"text {i}", "label": ("negative", "positive")[i % 2]} for i in range(8)]
    for given in (Shared({"validation": rows}), Shared()):
        named = {} if given.frames else {"validation": str(test)}
        assert prepare(build_config(flat | named), Silent(), given).data.validation is not None


def test_metric_without_validation_rows_is_told(backbone: Path, tmp_path: Path) -> None:
    table, test = (write_reviews(tmp_path / name, rows=40) for name in ("reviews.csv", "test.csv"))

    def tell(**settings: Any) -> list[str]:
        progress = Silent()
        flat = settings_for(table, backbone, tmp_path / "run", test=str(test), **settings)
        prepare(build_config(flat), progress)
        return [line for line in progress.warnings if "metric=" in line]

    (told,) = tell(metric="loss", validation_fraction=0)
    assert told.startswith("metric=loss has no effect: no rows are held out for validation")
    assert not tell(validation_fraction=0) and not tell(metric="loss", validation=str(test))


def test_what_was_found_on_these_rows_is_not_called_checked(backbone: Path, tmp_path: Path) -> None:
    table = write_reviews(tmp_path / "reviews.csv", rows=200)
    asked = {"threshold_for": "precision:0.5", "threshold_label": "negative", "epochs": None}
    run = train_tiny(
        table, backbone, tmp_path / "run", method="head", test_fraction=0, validation_fraction=0.4, **asked
    )
    page = run.report.read_text(encoding="utf-8")
    assert "its threshold was found on these very rows, and others may miss it" in page
    assert "were chosen on these very rows" in page and "The checkpoint was" not in page
    assert "which the table checks on those very rows" in page
