"""Prompts and answers of the recipes that tune a model to write: what is made of a row, and of each kind of source."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from recipes import answers
from recipes import run as recipes
from textune.config import build_config
from textune.errors import ConfigError, DataError
from textune.progress import Silent
from textune.run import train_config
from tiny import FAST, build_causal

FOLDER = Path(__file__).parents[2] / "recipes"


def test_replies_name_the_intent() -> None:
    pair = answers.reply_to_request({"text": " Where is it? ", "label": "card_arrival"})
    assert pair is not None and pair[0] == "Where is it?" and pair[1].count("card arrival") == 2
    assert pair == answers.reply_to_request({"text": "Where is it?", "label": "11", "label_text": "card_arrival"})
    assert answers.reply_to_request({"text": "?", "label": ""}) is None
    assert answers.reply_to_request({"text": " ", "label": "card_arrival"}) is None


def test_titles_are_short_and_contents_bounded() -> None:
    pair = answers.title_review({"content": "very good " * 200, "title": " Great\n buy "})
    assert pair is not None and pair[1] == "Great buy" and len(pair[0].split()) < 160
    assert answers.title_review({"content": "x", "title": "one " * 13}) is None
    assert answers.title_review({"content": "", "title": "x"}) is None
    film = answers.title_film_review({"text": "A dull film.<br /><br />Nobody laughed. We left."})
    assert film is not None and film[1] == "A dull film." and film[0].endswith("Nobody laughed. We left.")
    assert answers.title_film_review({"text": "One sentence."}) is None


def test_sentiments_get_their_own_replies() -> None:
    good, bad = (answers.reply_to_review({"text": "a film", "label": label}) for label in "10")
    assert good is not None and bad is not None and good[1] != bad[1]
    assert answers.reply_to_review({"text": "a film", "label": "2"}) is None


def read_pairs(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").strip().split("\n")]


def write_source(folder: Path, name: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    (folder / name).mkdir()
    for part in ("train", "test"):
        with (folder / name / f"{part}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([columns, *rows])


SOURCES: dict[str, Any] = {
    "chat-smollm": ("banking77", ("text", "label"), [("where is my card", "card_arrival"), ("why", "")]),
    "titles-smollm": ("amazon_reviews", ("title", "content"), [("Fine", "It works."), ("", "It does not.")]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_plan_writes_its_table_and_takes_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path, *SOURCES[name])
    plan = recipes.plan_recipe(FOLDER / name / "better.yaml", data=tmp_path, words=["sample=3"])
    train, test = (Path(plan.settings[key]) for key in ("data", "test"))
    assert len(read_pairs(train)) == len(read_pairs(test)) == 1 and read_pairs(train)[0].keys() == {
        "prompt",
        "completion",
    }
    assert any(str(train) in note and "1 + 1 rows" in note for note in plan.notes)
    assert plan.settings["sample"] == "3" and plan.settings["backbone"] == "smollm2-135m"
    again = recipes.plan_recipe(FOLDER / name / "better.yaml", data=tmp_path, words=[f"runs_dir={tmp_path / 'else'}"])
    assert Path(again.settings["data"]).parent == tmp_path / "else" / ".answers"


@pytest.mark.parametrize("name", SOURCES)
def test_offline_rows_stand_in_and_it_is_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = recipes.plan_recipe(FOLDER / name / "better.yaml", offline=True)
    train, test = (read_pairs(Path(plan.settings[key])) for key in ("data", "test"))
    assert len(train) >= 500 and len(test) >= 200, "as many as a person may ask for"
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in test}
    assert any("say nothing about this data" in note for note in plan.notes)
    assert plan.settings["backbone"] == "smollm2-135m"


@pytest.mark.parametrize("name", SOURCES)
def test_runs_end_to_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On random weights of the same architecture, made tiny: it trains, saves, reloads, measures and writes."""
    monkeypatch.chdir(tmp_path)
    source, columns, _ = SOURCES[name]
    cells = [
        {"text": f"where is it {i}", "label": ("card", "pin")[i % 2], "title": f"ok {i}", "content": f"it is {i}"}
        for i in range(24)
    ]
    write_source(tmp_path, source, columns, [tuple(cell[column] for column in columns) for cell in cells])
    causal = build_causal(tmp_path / "tiny-causal")
    plan = recipes.plan_recipe(FOLDER / name / "better.yaml", data=tmp_path, backbone=str(causal))
    small = {"epochs": 1, "max_length": 60, "max_new_tokens": 4, "answer_rows": 3, "sample": 20, "test_sample": 8}
    small = FAST | small | {"learning_rate": None, "contrast_steps": None}
    run = train_config(build_config(plan.settings | small), progress=Silent())
    assert set(run.metrics["models"]) == {"frequent", "nearest", "base", "tuned"}
    assert isinstance(run.predict("where is my card"), str)


def test_tables_without_a_pair_are_refused(tmp_path: Path) -> None:
    write_source(tmp_path, "banking77", ("text", "label"), [("where is my card", "")])
    with pytest.raises(DataError, match="no row of it makes"):
        recipes.plan_recipe(FOLDER / "chat-smollm" / "better.yaml", data=tmp_path)


def test_they_have_no_original() -> None:
    with pytest.raises(ConfigError, match="repeats no write-up"):
        recipes.list_files("chat-smollm", original=True)
