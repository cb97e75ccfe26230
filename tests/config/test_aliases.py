"""Other tools' names at the entrances of Python: each is read once, as on the command line."""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import textune
from textune.compare import list_configs
from textune.config import build_config
from textune.config.aliases import AliasNote, resolve_aliases
from textune.errors import ConfigError
from textune.progress import Silent
from textune.search.settings import build_sweep
from tiny import settings_for


def test_a_value_of_none_counts_as_not_given() -> None:
    none_given = {"lr": None, "random_state": None, "output_dir": None, "fp16": None, "trust_remote_code": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_aliases(none_given) == {}
        assert build_config(none_given) == build_config({})
    for flat in ({"lr": 1e-3, "learning_rate": None}, {"learning_rate": None, "lr": 1e-3}):
        with pytest.warns(AliasNote):
            assert resolve_aliases(flat) == {"learning_rate": 1e-3}
    for several in ({"method": None, "rank": 8}, {"rank": 8, "method": None}):
        with pytest.warns(AliasNote):
            assert resolve_aliases(several) == {"method": {"r": 8}}
    assert resolve_aliases({"seed": None, "method.targets": None}) == {"seed": None, "method": {"targets": None}}


def test_a_note_shows_no_table() -> None:
    import pandas as pd

    with pytest.warns(AliasNote, match="test_file= is read as test=$"):
        resolve_aliases({"test_file": pd.DataFrame({"text": ["a"]})})


def test_plans_take_other_tools_names(monkeypatch: pytest.MonkeyPatch, reviews: Path, backbone: Path) -> None:
    configs: list[Any] = []
    monkeypatch.setattr(import_module("textune.plan.api"), "plan_runs", lambda found, *_, **__: configs.extend(found))
    with pytest.warns(AliasNote, match="model= is read as backbone="):
        textune.plan(reviews, model=str(backbone), peft="lora", random_state=7, test_file=None)  # type: ignore[operator]
    assert [(c.model.backbone, c.method.name, c.training.seed) for c in configs] == [(str(backbone), "lora", 7)]
    assert configs[0].data.data == str(reviews)
    with pytest.warns(AliasNote), pytest.raises(ConfigError, match="test: a plan needs a table on the disk"):
        textune.plan(reviews, test_file=[{"text": "a"}])  # type: ignore[operator]


def test_comparisons_take_other_tools_names(monkeypatch: pytest.MonkeyPatch, reviews: Path, backbone: Path) -> None:
    seen: dict[str, Any] = {}

    def keep(*arguments: Any) -> Any:
        seen["configs"] = list_configs(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("textune.compare.api"), "list_configs", keep)
    with pytest.warns(AliasNote), pytest.raises(KeyboardInterrupt):
        textune.compare(  # type: ignore[operator]
            str(reviews), methods=["lora", "head"], model=str(backbone), random_state=7, progress=Silent()
        )
    found = [(c.method.name, c.model.backbone, c.training.seed, c.split_seed) for c in seen["configs"]]
    assert found == [(name, str(backbone), 7, 7) for name in ("lora", "head")]


@pytest.mark.parametrize(
    "searched",
    [
        {"lr": [1e-3, 5e-4], "rank": [2, 4]},
        {"sweep": {"space": {"lr": [1e-3, 5e-4], "rank": [2, 4]}}},
        {"sweep": {"lr": [1e-3, 5e-4], "lora_r": [2, 4]}},
    ],
)
def test_searches_take_other_tools_names(
    searched: dict[str, Any], monkeypatch: pytest.MonkeyPatch, reviews: Path, backbone: Path, tmp_path: Path
) -> None:
    found: dict[str, Any] = {}

    def keep(config: Any, search: Any, **_: Any) -> None:
        found.update(config=config, search=search)

    monkeypatch.setattr("textune.search.sweep.sweep_config", keep)
    flat = settings_for(reviews, backbone, tmp_path / "s", method="lora")
    del flat["learning_rate"], flat["data"]
    with pytest.warns(AliasNote):
        textune.sweep(train_file=str(reviews), **flat, **searched)
    values = {d.name: d.values for d in found["search"].space.dimensions}
    assert values == {"learning_rate": (1e-3, 5e-4), "method.r": (2, 4)}
    assert found["config"].data.data == str(reviews)


def test_a_space_that_names_a_setting_twice_is_refused(backbone: Path) -> None:
    space = {"lr": [1e-3, 5e-4], "learning_rate": [1e-3, 1e-4]}
    with pytest.warns(AliasNote), pytest.raises(ConfigError, match="learning_rate is given under two names"):
        build_sweep({"data": "x.csv", "backbone": str(backbone), "sweep": {"space": space}})


def test_numpys_booleans_are_named_like_pythons() -> None:
    config = build_config({"threshold_label": np.True_, "class_weights": {np.False_: 1, np.True_: 2}})
    assert config.training.threshold_label == "true"
    assert config.training.class_weights == (("false", 1.0), ("true", 2.0))
    assert build_config({"threshold_label": "True"}).training.threshold_label == "True"
