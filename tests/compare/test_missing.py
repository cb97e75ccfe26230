"""The rows of runs that are already trained, where methods hold out different rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from textune.compare import compare_runs, list_configs, train_missing
from textune.config import RunConfig
from textune.errors import BundleError
from textune.progress import Silent
from textune.run import train_config
from textune.run.tables import PreparedData, prepare_data
from tiny import FAST


def write_many(path: Path, rows: int = 400, classes: int = 25) -> Path:
    """Write few rows for each of more classes than a run answers out of fold."""
    path.write_text("text,label\n" + "".join(f"text {i} is good,c{i % classes}\n" for i in range(rows)))
    return path


def list_both(table: Path, backbone: Path, runs_dir: Path, **more: object) -> list[RunConfig]:
    settings = FAST | {"data": str(table), "runs_dir": str(runs_dir), "epochs": None} | more
    settings = {name: value for name, value in settings.items() if value is not None}
    return list_configs(settings, ["head", "lora"], [str(backbone)], [1])


def train_here(config: RunConfig, interrupted: Path | None) -> None:
    train_config(config, progress=Silent())


def test_runs_that_hold_out_other_rows_for_decisions_are_found_again(backbone: Path, tmp_path: Path) -> None:
    """Of the same rows, a solved head trains on all and LoRA holds some out to decide when to abstain."""
    table = write_many(tmp_path / "many.csv")
    more = {"validation_fraction": None, "abstain_for": "accuracy:0.9", "learning_rate": None}
    configs = list_both(table, backbone, tmp_path / "runs", **more)
    assert len({prepare_data(config).fingerprint for config in configs}) == 2
    folders = train_missing(configs, Silent(), train_here)
    assert train_missing(configs, Silent(), lambda *_: pytest.fail("trained twice")) == folders
    assert len(compare_runs(folders).candidates) == 2
    write_many(table, rows=401)
    with pytest.raises(BundleError, match="the data have changed"):
        train_missing(configs, Silent(), train_here)


@pytest.mark.parametrize(("abstain_for", "reads"), [(None, 1), ("accuracy:0.9", 2)])
def test_a_table_is_read_once_for_runs_that_split_it_alike(
    abstain_for: str | None, reads: int, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = []

    def prepare_counted(config: RunConfig) -> PreparedData:
        prepared.append(config)
        return prepare_data(config)

    monkeypatch.setattr("textune.compare.missing.prepare_data", prepare_counted)
    configs = list_both(write_many(tmp_path / "many.csv"), backbone, tmp_path / "runs", abstain_for=abstain_for)
    train_missing(configs, Silent(), lambda *_: None)
    assert len(prepared) == reads
