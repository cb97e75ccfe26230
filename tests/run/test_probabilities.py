"""Every evaluation of a run says whether its probabilities can be trusted, before and after the temperature."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import textune
from label_tables import as_list, write_table
from textune.config import build_config
from textune.evaluation import measure_calibration
from textune.inference import Predictor
from textune.run import Run
from textune.run.other_rows import read_labelled
from textune.run.predictions import labels_of
from textune.run.save import update_manifest
from tiny import call_here, copy_changeable, train_tiny

TEMPERATURE = 1.7


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, backbone: Path, finished: Run, reviews: Path) -> dict[str, Any]:
    """Runs of both tasks, whose temperature is set in the manifest, and labelled rows."""
    place = tmp_path_factory.mktemp("probabilities")
    lists = write_table(place / "lists.csv", as_list)
    several = train_tiny(lists, backbone, place / "several")
    found = {}
    for name, run, data in (("single", finished, reviews), ("several", several, lists)):
        folder = shutil.copytree(run.folder, place / f"{name}-warm")
        update_manifest(folder, temperature=TEMPERATURE)
        found[name] = (run, folder, data)
    return found


@pytest.mark.parametrize("name", ["single", "several"])
@pytest.mark.filterwarnings("ignore::textune.run.seen_rows.SeenRowsWarning")
def test_figures_before_the_temperature_are_those_of_the_real_logits(name: str, cases: dict[str, Any]) -> None:
    _, folder, data = cases[name]
    figures = textune.evaluate(folder, data).probability_figures
    predictor = Predictor.load(folder)
    examples = read_labelled(predictor.manifest, data, build_config({}))
    targets = predictor.task.encode_targets(labels_of(predictor.manifest), examples)
    logits = predictor.predict_logits(examples.texts())
    for found, scale in ((figures.before, 1.0), (figures.calibration, TEMPERATURE)):
        expected = measure_calibration(predictor.task.probabilities(logits / scale), targets)
        for key in ("calibration_error", "brier", "log_loss"):
            assert getattr(found, key) == pytest.approx(getattr(expected, key), abs=1e-6), (key, scale)
    assert figures.temperature == TEMPERATURE and figures.before != figures.calibration


@pytest.mark.parametrize("name", ["single", "several"])
def test_every_place_tells_them(name: str, cases: dict[str, Any], capsys: Any, tmp_path: Path) -> None:
    run, folder, data = cases[name]
    stored = run.metrics["models"]
    assert all({"mcc", "probability_figures"} <= figures.keys() for figures in stored.values())
    assert {key for key, figures in stored.items() if figures["probability_figures"]["temperature"] is None} == {
        key for key in stored if key != "tuned"
    }, "simpler classifiers have no temperature"
    page = (run.folder / "evaluation" / "report.html").read_text()
    assert 'id="trust"' in page and "Can the probabilities be trusted?" in page and "Reliability diagram" in page
    assert "Calibration: expected calibration error" in (run.folder / "README.md").read_text()

    code, out, err = call_here(capsys, "evaluate", str(folder), str(data), "--json", "--output", str(tmp_path / "out"))
    assert code == 0, err
    told = json.loads(out)
    assert code == 0 and told["probability_figures"]["before"]["log_loss"] > 0
    assert (
        json.loads((tmp_path / "out" / "metrics.json").read_text())["probability_figures"]
        == told["probability_figures"]
    )
    code, out, _ = call_here(capsys, "evaluate", str(folder), str(data))
    assert code == 0 and "expected calibration error: " in out and "before the temperature of 1.70: expected" in out
    code, out, _ = call_here(capsys, "report", str(run.folder))
    assert code == 0 and "Matthews correlation: " in out


def test_a_run_that_was_measured_without_them_is_still_reported(
    cases: dict[str, Any], capsys: Any, tmp_path: Path
) -> None:
    folder = copy_changeable(cases["single"][0].folder, tmp_path / "old")
    path = folder / "evaluation" / "metrics.json"
    metrics = json.loads(path.read_text())
    for figures in metrics["models"].values():
        del figures["probability_figures"], figures["mcc"]
    path.write_text(json.dumps(metrics))
    code, out, _ = call_here(capsys, "report", str(folder))
    assert code == 0 and "accuracy" in out and "calibration" not in out
