"""Floors and costs: every spelling of one rule is the same, and anything else is refused with an example."""

from __future__ import annotations

from pathlib import Path

import pytest

from textune.config import build_config, parse_settings
from textune.config.rules import parse_abstain_rule, parse_costs, parse_threshold_rule, split_rule
from textune.errors import ConfigError

TABLE = (("ham", "spam", 5.0), ("spam", "ham", 1.0))


@pytest.mark.parametrize(
    "text",
    ["precision>=0.95", "precision>=.95", "precision:0.95", "precision=0.95", "Precision >= 95%", "precision≥0.950"],
)
def test_every_spelling_is_one_rule(text):
    assert parse_threshold_rule(text) == "precision>=0.95"
    assert split_rule("precision>=0.95") == ("precision", 0.95) and split_rule(parse_threshold_rule("F1"))[1] is None
    assert build_config(parse_settings([f"threshold_for={text}"])).training.threshold_for == "precision>=0.95"
    assert parse_abstain_rule("accuracy:0.95") == "accuracy>=0.95"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("precision", "needs a floor: 'threshold_for=.*in quotes, or threshold_for=precision:0.9"),
        ("f1>=0.9", "maximized"),
        ("recal:0.9", "did you mean .?recall"),
        ("accuracy:0.9", "must be f1, precision>=FLOOR, recall>=FLOOR"),
        ("recall:1.2", "at most 1"),
        ("recall:0", "above 0"),
        ("recall:1.2.3", "no number"),
        ("recall<0.9", "must be"),
        (["recall"], "must be"),
    ],
)
def test_other_rules_are_refused(text, words):
    with pytest.raises(ConfigError, match=f"threshold_for=.*{words}"):
        build_config({"threshold_for": text})


def test_every_form_of_costs_is_one_table(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("ham: {spam: 5}\nspam: {ham: 1}\n")
    (tmp_path / "c.json").write_text('{"ham": {"spam": 5}, "spam": {"ham": 1}}')
    (tmp_path / "c.csv").write_text("true,ham,spam\nham,0,5\nspam,1,0\n")
    forms = [
        "ham:spam=5,spam:ham=1",
        " ham : spam = 5, spam:ham=1 ",
        "{ham: {spam: 5}, spam: {ham: 1}}",
        {"ham": {"spam": 5}, "spam": {"ham": 1}},
        [["ham", "spam", 5], ["spam", "ham", 1]],
        str(tmp_path / "c.yaml"),
        str(tmp_path / "c.json"),
    ]
    assert {parse_costs(form) for form in forms} == {TABLE}
    assert {triple for triple in parse_costs(str(tmp_path / "c.csv")) if triple[2]} == set(TABLE)
    (tmp_path / "words.yaml").write_text("no: {yes: 5}\n")
    assert parse_costs(str(tmp_path / "words.yaml")) == (("no", "yes", 5.0),)
    config = build_config({"costs": str(tmp_path / "c.yaml")})
    assert build_config(config.to_dict()) == config and config.training.costs == TABLE  # the run needs no file later


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("ham=5", "such as ham:spam=5"),
        ("", "such as ham:spam=5"),
        ("ham:spam=-1", "from 0"),
        ("ham:spam=much", "from 0"),
        ("ham:spam=nan", "from 0"),
        ({"ham": 5}, "must map each true label"),
        ([["ham", 5]], "a true and a predicted label"),
        ("ham:spam=1,ham:spam=2", "appears twice"),
        ("missing.yaml", "cannot be read: no such file"),
        ("{ham: [", "not valid YAML"),
        (7, "must be a file"),
    ],
)
def test_other_costs_are_refused(value, words):
    if value == "":
        assert build_config({"costs": value}).training.costs is None  # an open setting
        return
    with pytest.raises(ConfigError, match=f"costs=.*{words}"):
        build_config({"costs": value})
