"""The forecast of a model that writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from textune.config import build_config
from textune.errors import ModelError
from textune.methods import methods, resolve
from textune.plan import Forecast, list_plans
from textune.plan.rehearsal import rehearse
from textune.progress import Silent
from textune.run.prepare import prepare
from tiny import StopAt, build_causal, settings_for, write_prompts


def test_methods_that_cannot_write_are_told_before_any_rehearsal(tmp_path: Path) -> None:
    settings = {"task": "generation", "backbone": str(build_causal(tmp_path / "llama"))}
    with pytest.raises(ModelError, match="method prompt does not support task=generation"):
        list_plans(settings, ["lora", "prompt"], [None], Silent())
    progress = StopAt()
    configs = list_plans(settings, [], [settings["backbone"]], progress)
    cannot = {name for name in methods.names() if resolve(name, {}).explain_no_writing()}
    assert {config.method.name for config in configs} == set(methods.names()) - cannot - {"bitfit"}
    assert sum("does not support task=generation: " in line for line in progress.said) == len(cannot) == 4


@pytest.mark.parametrize("packing", [True, False])
def test_a_model_that_writes_is_forecast(packing: bool, tmp_path: Path) -> None:
    backbone = build_causal(tmp_path / "llama")
    config = build_config(
        settings_for(
            write_prompts(tmp_path / "prompts.jsonl"), backbone, tmp_path / "run", task="generation", packing=packing,
            contrast_steps=None, answer_rows=4, name="run",
        )
    )  # fmt: skip
    folder = tmp_path / "rehearsal"
    folder.mkdir()
    forecast = rehearse(config, folder, 0.5, os.times().elapsed, Silent())
    assert isinstance(forecast, Forecast) and forecast.method == "lora"
    assert forecast.settings["rows"]["training"] == len(prepare(config, Silent()).train)
    assert forecast.seconds["steps"] > 0 and forecast.seconds["measure"] > 0 and forecast.seconds["head"] == 0
    assert 0 < forecast.trainable_parameters < forecast.total_parameters and forecast.disk_mb > 0
