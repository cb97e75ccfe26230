"""The form asks for what the registry has, and what it shows is what runs: command, file and settings are the same."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from textune.app.settings_form import (
    AUTOMATIC,
    COLUMNS,
    FIRST,
    Request,
    choose_values,
    list_fields,
    list_method_fields,
    list_other_fields,
)
from textune.cli.output import gather_settings
from textune.config import build_config, known_settings, load_given_settings
from textune.errors import ConfigError
from textune.methods import methods

VALUES = (
    {},
    {"method": "lora", "method.r": "4", "method.dora": "true", "epochs": "2"},
    {"text": "text", "label": "label", "learning_rate": "1e-3", "name": "it", "joiner": " - "},
    {"labels": "0=bad,1=good", "class_weights": "balanced", "layer_rates": "lower=5e-5,upper=1e-4"},
)


def test_every_setting_is_asked_for_once() -> None:
    asked = [field.name for fields in list_other_fields().values() for field in fields]
    asked += [field.name for field in list_fields((*FIRST, *COLUMNS))]
    elsewhere = {"data", "method", "name", "runs_dir", "trust"}
    assert sorted(asked) == sorted(set(asked)) and set(asked) | elsewhere >= known_settings().keys()
    assert "trust" not in asked, "which code runs here is decided on the command line"


@pytest.mark.parametrize("name", methods.names())
def test_every_option_of_every_method_is_asked_for_with_its_help(name: str) -> None:
    fields = {field.name: field for field in list_method_fields(name)}
    options = dataclasses.fields(methods.get(name).options_type)
    assert fields.keys() == {f"method.{f.name}" for f in options}
    assert all(fields[f"method.{f.name}"].help == f.metadata["help"] for f in options)


@pytest.mark.parametrize("name", methods.names())
def test_defaults_typed_again_change_nothing(name: str) -> None:
    fields = [*list_method_fields(name), *list_fields(FIRST)]
    assert choose_values({field.name: field.default for field in fields}, fields) == {}
    assert choose_values({"epochs": " 3 ", "seed": ""}, fields) == {"epochs": "3"}
    assert AUTOMATIC in {field.default for field in fields}


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("place", ["reviews.csv", "-a b's.csv", "x=y.csv"])
def test_command_file_and_settings_are_the_same(values: dict[str, str], place: str, work: Path) -> None:
    Path(place).write_text("text,label\na,b\n")
    request = Request(place, values)
    textune, train, data, *words = shlex.split(request.show_command())
    assert (textune, train) == ("textune", "train") and [train, data, *words] == request.list_words()
    Path("it.yaml").write_text(request.show_yaml(), encoding="utf-8")
    from_file, from_words = load_given_settings("it.yaml", {}), gather_settings(words, data)
    assert build_config(from_words) == request.build()
    assert build_config(from_file).identity() == request.build().identity() or "method.r" in values
    assert build_config(from_file).method.name == request.build().method.name


@pytest.mark.parametrize(
    ("data", "message"),
    [("", "no data yet"), ("nowhere.csv", "no such file"), ("settings.yaml", "holds settings, not a table")],
)
def test_what_is_no_table_is_told(data: str, message: str, work: Path) -> None:
    Path("settings.yaml").write_text("epochs: 1\n")
    with pytest.raises(ConfigError, match=message):
        Request(data, {}).build()


def test_all_wrong_settings_are_told_at_once(work: Path) -> None:
    with pytest.raises(ConfigError, match=r"2 invalid settings"):
        Request("embedded:imdb", {"epochs": "many", "seed": "x"}).build()
    with pytest.raises(ConfigError, match=r"must be a whole number"):
        Request("embedded:imdb", {"method": "lora", "method.r": "x"}).show_yaml()
