"""Settings that are large, written oddly or contradict each other: read as they are meant, or refused."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textune.compare.api import take_backbones
from textune.config import build_config, load_settings, write_settings
from textune.config.aliases import resolve_aliases
from textune.config.values import coerce_value
from textune.config.yaml_text import load_yaml
from textune.errors import ConfigError
from textune.methods.requested import take_methods


def test_a_large_cost_table_is_read_back_and_checked_at_once(tmp_path: Path) -> None:
    names = [f"label {i}" for i in range(170)]
    table = {true: {given: 0 if true == given else 2 for given in names} for true in names}
    began = time.process_time()
    config = build_config({"costs": table})
    assert time.process_time() - began < 2
    write_settings(config, tmp_path / "config.yaml")
    assert build_config(load_settings(tmp_path / "config.yaml")).training.costs == config.training.costs


def test_aliases_that_make_billions_of_values_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(ValueError, match="aliases make more than"):
        load_yaml("\n".join(lines))


@pytest.mark.parametrize(
    ("word", "value"), [("042", 42), ("010", 10), ("0100", 100), ("7", 7), ("0", 0), ("1:30", None), ("0x1F", 31)]
)
def test_numbers_of_a_file_are_those_of_the_command_line(tmp_path: Path, word: str, value: int | None) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"seed: {word}\n")
    if value is None:
        with pytest.raises(ConfigError, match=r"seed.*whole number"):
            build_config(load_settings(path))
    else:
        assert build_config(load_settings(path)).training.seed == value


@pytest.mark.parametrize("value", [8.7, np.float32(8.7), np.float64(8.7), Decimal("8.7"), float("nan"), True])
def test_a_fraction_is_no_whole_number_whatever_its_type(value: Any) -> None:
    with pytest.raises(ValueError, match="must be a whole number"):
        coerce_value(int, value)


@pytest.mark.parametrize("value", [8, 8.0, np.int64(8), np.float32(8), Decimal(8), "8"])
def test_a_whole_number_is_one_whatever_its_type(value: Any) -> None:
    assert coerce_value(int, value) == 8


@pytest.mark.parametrize("turned", [False, True])
def test_an_alias_and_an_option_of_the_method_contradict_in_any_order(turned: bool) -> None:
    given = [("lora_r", 16), ("method", {"name": "lora", "r": 8})]
    with pytest.raises(ConfigError, match=r"both set method\.r"):
        resolve_aliases(dict(reversed(given) if turned else given))


@pytest.mark.parametrize(
    ("content", "suffix", "reason"),
    [
        ("[" * 3_000, ".yaml", "nested too deeply"),
        (f"true,a\nb,{'1' * 200_000}\n", ".csv", "is not valid CSV|a cost must be a number"),
        ('{"ham": {"spam": 5, "spam": 1}}', ".json", "'spam' is given twice"),
        ("true,a,a\nb,1,2\n", ".csv", "appears twice"),
    ],
)
def test_tables_of_costs_that_cannot_be_meant_are_refused(
    tmp_path: Path, content: str, suffix: str, reason: str
) -> None:
    path = tmp_path / f"costs{suffix}"
    path.write_text(content)
    with pytest.raises(ConfigError, match=reason):
        build_config({"costs": str(path)})


def test_costs_of_many_classes_are_checked_for_pairs_given_twice() -> None:
    triples = [[f"a{i}", f"b{i}", 1] for i in range(12_000)]
    with pytest.raises(ConfigError, match="appears twice"):
        build_config({"costs": [*triples, ["a5", "b5", 2]]})


@pytest.mark.parametrize("method", ["ia3", {"name": "ia3"}, ["ia3", "lora"]])
def test_two_names_for_what_is_tried_are_refused(method: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be combined"):
        take_methods({"methods": "head", "method": method})
    with pytest.raises(ConfigError, match="cannot be combined"):
        take_backbones({"backbones": "a,b", "backbone": "c"})
    assert take_methods({"methods": "lora,,lora,head", "method": {"r": 4}}) == ["lora", "head"]
