"""Settings: every problem at once, with the word that was meant; and what is written is read back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textune.config import (
    RunConfig,
    TrainingConfig,
    WritingConfig,
    build_config,
    known_settings,
    load_settings,
    load_yaml,
    merge_settings,
    parse_labels,
    parse_settings,
    write_names,
    write_settings,
)
from textune.config.aliases import AliasNote
from textune.config.defaults import (
    choose_epochs,
    choose_max_length,
    choose_test_rows,
    choose_training,
    choose_validation_rows,
)
from textune.errors import ConfigError

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
PLAIN = TEXT.filter(lambda t: t.lower() not in ("auto", "none", "null"))


def test_all_problems_stand_in_one_error() -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(
            {"learning_rat": 1e-3, "epochs": "many", "batch_size": 0, "schedule": "liner", "seed": 1.5,
             "tensorboard": "perhaps", "labels": "a,a", "name": 3, "max_length": -1, "dropout": "nan"}
        )  # fmt: skip
    told = caught.value.message
    for part in (
        "10 invalid settings", "unknown setting 'learning_rat'; did you mean 'learning_rate'?",
        "epochs='many': must be a number", "batch_size=0: must be between 1 and 65536",
        "schedule='liner': must be one of linear, cosine, constant; did you mean 'linear'?",
        "seed=1.5: must be a whole number", "tensorboard='perhaps': must be true or false",
        "labels='a,a': label value 'a' appears twice", "name=3: must be text", "max_length=-1",
        "dropout='nan': must be a finite number",
    ):  # fmt: skip
        assert part in told
    assert "textune settings" in (caught.value.hint or "")


def test_words_of_the_command_line_become_settings() -> None:
    flat = parse_settings(["learning-rate=1e-3", "text=title,content", "method=lora", "method.r=16", "joiner= = "])
    assert flat == {"learning_rate": "1e-3", "text": "title,content", "method": {"name": "lora", "r": "16"},
                    "joiner": " = "}  # fmt: skip
    config = build_config(flat)
    assert config.training.learning_rate == 1e-3 and config.data.text == ("title", "content")
    assert (config.method.name, dict(config.method.options)) == ("lora", {"r": "16"})
    with pytest.raises(ConfigError) as caught:
        parse_settings(["epochs", "=3", "a=b"])
    assert "'epochs'" in caught.value.message and "'=3'" in caught.value.message


@pytest.mark.parametrize(
    ("name", "given_value", "expected"),
    [
        ("epochs", "2.5", 2.5), ("epochs", "auto", None), ("epochs", None, None), ("batch_size", "16", 16),
        ("batch_size", 16.0, 16), ("tensorboard", "yes", True), ("tensorboard", False, False),
        ("patience", "none", None), ("seed", "7", 7), ("learning_rate", 1, 1.0), ("schedule", "cosine", "cosine"),
    ],
)  # fmt: skip
def test_values_are_turned_into_their_types(name: str, given_value: Any, expected: Any) -> None:
    found = getattr(build_config({name: given_value}).training, name)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", None), ("seed", True), ("epochs", True), ("epochs", float("inf")), ("batch_size", [1]), ("text", {}),
     ("text", []), ("data", ["a"]), ("method", 3), ("method", {"name": 3})],
)  # fmt: skip
def test_values_of_another_type_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        build_config({name: value})


@pytest.mark.parametrize(
    ("value", "pairs"),
    [
        ("0=negative,1=positive", (("0", "negative"), ("1", "positive"))), ("no, yes", (("no", "no"), ("yes", "yes"))),
        (["a", "b"], (("a", "a"), ("b", "b"))), ([["1", "one"], ["2", "two"]], (("1", "one"), ("2", "two"))),
        ({0: "bad", 1: "good"}, (("0", "bad"), ("1", "good"))), ([False, True], (("false", "false"), ("true", "true"))),
        ('["a, b", "c"]', (("a, b", "a, b"), ("c", "c"))), ("001=x,1=y", (("001", "x"), ("1", "y"))),
    ],
)  # fmt: skip
def test_labels_are_parsed(value: Any, pairs: Any) -> None:
    assert parse_labels(value) == pairs


@pytest.mark.parametrize(
    ("value", "reason"),
    [("a", "at least two"), ("a,a", "value 'a' appears twice"), ("0=x,1=x", "name 'x' appears twice"),
     ("a,,b", "value is empty"), ("a=,b", "name is empty")],
)  # fmt: skip
def test_labels_that_cannot_be_told_apart_are_refused(value: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_labels(value)


RULES = {
    "threshold_for": ("f1", "precision:0.95", "recall>=0.9", "precision>=90%"),
    "abstain_for": ("accuracy:0.95", "accuracy>=99%"),
    "threshold_label": ("spam", "1"),
}


def _values_of(f: dataclasses.Field[Any]) -> st.SearchStrategy[Any]:
    low, high, choices = f.metadata["low"], f.metadata["high"], f.metadata["choices"]
    kind = str(f.type)
    if f.name == "class_weights":
        weight = st.floats(0.01, 100)
        pairs = st.dictionaries(PLAIN, weight, min_size=1, max_size=3)
        return st.just("balanced") | st.lists(weight, min_size=1, max_size=3) | pairs
    if f.name in RULES:
        return st.sampled_from(RULES[f.name])
    if f.name == "costs":
        return st.lists(st.tuples(PLAIN, PLAIN, st.floats(0, 100)), min_size=1, max_size=3, unique_by=lambda c: c[:2])
    if choices:
        return st.sampled_from(choices)
    if "bool" in kind:
        return st.booleans()
    if kind.startswith("RatePairs"):
        return st.lists(st.tuples(PLAIN, st.floats(0, 10)), min_size=1, max_size=3)
    if "int" in kind:
        return st.integers(int(low), int(high))
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


TRAINING = st.fixed_dictionaries({}, optional={f.name: _values_of(f) for f in dataclasses.fields(TrainingConfig)})
OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "data": PLAIN, "label": PLAIN, "text": st.lists(PLAIN, min_size=1, max_size=3), "joiner": TEXT, "name": TEXT,
        "labels": st.lists(st.tuples(PLAIN, PLAIN), min_size=2, max_size=4, unique_by=(lambda p: p[0], lambda p: p[1])),
        "method": st.dictionaries(PLAIN.filter(lambda k: k != "name"), st.integers() | st.booleans() | PLAIN).map(
            lambda options: {"name": "lora"} | options
        ),
    },
)  # fmt: skip


@given(training=TRAINING, others=OTHERS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
def test_yaml_gives_the_same_configuration_back(
    training: dict[str, Any], others: dict[str, Any], tmp_path: Path
) -> None:
    config = build_config(training | others)
    write_settings(config, tmp_path / "config.yaml")
    again = build_config(load_settings(tmp_path / "config.yaml"))
    assert again == config and again.identity() == config.identity()
    assert build_config(config.to_dict()) == config


def test_fingerprint_is_of_what_is_trained() -> None:
    config = build_config({"data": "a.csv"})
    assert config.replace(name="other", runs_dir="elsewhere", tensorboard=True).identity() == config.identity()
    assert config.replace(seed=43).identity() != config.identity()
    assert config.replace(method={"name": "lora", "r": 4}).identity() != config.identity()


@pytest.mark.parametrize("content", ["- a\n- b\n", "just text", "a: [", "a: &x [*x]\nb: \x00", "", "[" * 5_000])
def test_yaml_that_is_no_settings_is_told(content: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_settings(path)
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_settings(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("seed: 1\nepochs: 0\nseed: 2\n", "line 3: 'seed' is given twice, first in line 1"),
        ("data: a.csv\nmethod: {r: 4, name: lora, r: 8}\n", "line 2: 'r' is given twice"),
        ("labels: &a [x, *a]\n", "contains itself"),
        ("text: a\0b\n", "special characters are not allowed"),
        ("\n".join(["text:", "- &a0 [x]", *(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))]),
         "aliases make more than 100,000 values"),
    ],
)  # fmt: skip
def test_yaml_with_keys_given_twice_or_aliases_that_multiply_is_refused(
    content: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "settings.yaml").write_text(content)
    with pytest.raises(ConfigError, match=reason):
        load_settings(tmp_path / "settings.yaml")
    with pytest.raises(ValueError, match=reason):
        load_yaml(content)


def test_names_in_yaml_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "labels: [no, Yes, 007, 2024-01-01]\ntext: 1\nlabel: [true, 0x1]\ngroup: off\n"
        "class_weights: {false: 1, true: 2.5}\ncosts: {no: {yes: 5}}\nthreshold_label: True\nname: 2024-01-01\n"
        "tensorboard: yes\nseed: 3\n"
    )
    flat = load_settings(path)
    assert flat["labels"] == ["no", "Yes", "007", "2024-01-01"] and flat["seed"] == 3 and flat["name"] == "2024-01-01"
    config = build_config(flat)
    assert config.data.text == ("1",) and config.data.label == ("true", "0x1") and config.data.group == "off"
    assert config.training.class_weights == (("false", 1.0), ("true", 2.5)) and config.training.tensorboard
    assert config.training.costs == (("no", "yes", 5.0),) and config.training.threshold_label == "True"
    path.write_text("class_names: [on, off]\n")
    with pytest.warns(AliasNote):
        assert build_config(load_settings(path)).data.labels == (("on", "on"), ("off", "off"))
    for content in ("text: [text, null]", "labels: [a, null]", "text: [[a]]", "class_weights: {null: 1, a: 2}"):
        path.write_text(content)
        with pytest.raises(ConfigError, match="must be names, not"):
            build_config(load_settings(path))


def test_names_in_python_need_not_be_text() -> None:
    config = build_config({"text": 0, "label": [True], "threshold_label": True, "group": 1.5, "runs_dir": Path("runs")})
    assert config.data.text == ("0",) and config.data.label == ("true",) and config.runs_dir == "runs"
    assert config.training.threshold_label == "true" and config.data.group == "1.5"
    config = build_config({"class_weights": {False: 1, True: 2}, "costs": {False: {True: 3}}})
    assert config.training.class_weights == (("false", 1.0), ("true", 2.0))
    assert config.training.costs == (("false", "true", 3.0),)


@pytest.mark.parametrize("names", [["a", "b"], ["Review, full"], ["a", " b"], ["[x]"], ['["x"]'], ["x,", 'say "y"']])
def test_column_names_come_through_one_word_of_a_command(names: list[str]) -> None:
    word = write_names(names)
    assert build_config(parse_settings([f"text={word}"])).data.text == tuple(names)
    assert write_names(["a", "b"]) == "a,b" and write_names(["Review, full"]) == '["Review, full"]'


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"name: !!python/object/apply:pathlib.Path.touch [!!python/name:pathlib.Path '{tmp_path}/ran']")
    with pytest.raises(ConfigError):
        load_settings(path)
    assert not (tmp_path / "ran").exists()


def test_settings_are_laid_over_others() -> None:
    base = {"epochs": 3, "method": {"name": "lora", "r": 4, "alpha": 8}}
    assert merge_settings(base, {"method": {"r": 16}, "seed": 1}) == {
        "epochs": 3, "seed": 1, "method": {"name": "lora", "r": 16, "alpha": 8}
    }  # fmt: skip
    assert merge_settings(base, {"method": "full"})["method"] == {"name": "full"}
    named = {"name": "lora", "r": 2}
    assert merge_settings({"method": "lora"}, {"method": named})["method"] == named
    assert merge_settings({"method": {"r": 2}}, {"method": "lora"})["method"] == named
    assert merge_settings({}, {"method": "full"})["method"] == {"name": "full"}


def test_every_setting_has_a_help_text() -> None:
    assert all(known_settings().values())
    of_writing = {field.name for field in dataclasses.fields(WritingConfig)}
    assert set(RunConfig().to_dict()) == set(known_settings()) - of_writing, "stored only where a model writes"
    config = build_config({"prompt": "a", "max_new_tokens": 5, "temperature": 0.5})
    assert build_config(config.to_dict()) == config and config.to_dict()["max_new_tokens"] == 5


@pytest.mark.parametrize(("rows", "validation", "test"), [(20, 4, 4), (100, 20, 20), (2_000, 200, 400),
                                                          (100_000, 2_000, 10_000)])  # fmt: skip
def test_rows_held_out(rows: int, validation: int, test: int) -> None:
    assert (choose_validation_rows(rows), choose_test_rows(rows)) == (validation, test)


def test_open_settings_are_decided_and_given_ones_are_kept() -> None:
    config, decisions = choose_max_length(build_config({}), 64)
    assert config.tokens.max_length == 64 and decisions[0].setting == "max_length"
    assert choose_max_length(build_config({"max_length": 16}), 64)[1] == []
    config, decisions = choose_training(build_config({"epochs": 7}), rows=5_000, classes=2, method_rate=1e-3)
    assert config.training.epochs == 7 and config.training.learning_rate == 1e-3
    assert config.training.head_learning_rate == 3e-4 and None not in (config.training.batch_size,)
    named = {d.setting for d in decisions}
    assert named >= {"batch_size", "learning_rate", "head_learning_rate", "dropout", "head_init"}
    assert all(d.reason for d in decisions)


def test_settings_and_options_of_methods_are_read_alike() -> None:
    from textune.methods import resolve

    for word in ("auto", "None", "null", "", None):
        assert build_config({"engine": "lean", "learning_rate": word}).training.learning_rate is None
        assert resolve("lora", {"targets": word}).options.targets is None
    for wrong, message in (
        ("many", "must be a whole number"),
        (0, "must be between 1 and"),
        (None, "must have a value"),
    ):
        with pytest.raises(ConfigError, match=message):
            resolve("lora", {"r": wrong})
    with pytest.raises(ConfigError, match="must be a whole number"):
        build_config({"batch_size": "many"})
    with pytest.raises(ConfigError, match="must have a value"):
        build_config({"seed": None})


NAMES_OF_DATA = ("text", "text_pair", "label", "test_text", "test_text_pair", "test_label", "group", "threshold_label",
                 "prompt", "completion", "messages")  # fmt: skip


@pytest.mark.parametrize("name", NAMES_OF_DATA)
@pytest.mark.parametrize("word", ["none", "None", "null", "auto", "AUTO"])
def test_labels_and_columns_may_be_called_like_an_open_setting(name: str, word: str, tmp_path: Path) -> None:
    several = isinstance(build_config({name: "a"}).to_dict()[name], list)
    config = build_config({name: word})
    assert config.to_dict()[name] == ([word] if several else word)
    write_settings(config, tmp_path / "config.yaml")
    assert build_config(load_settings(tmp_path / "config.yaml")) == config
    assert all(build_config({name: left_open}) == build_config({}) for left_open in ("", None))


def test_every_setting_that_names_labels_or_columns_is_known() -> None:
    naming = {name for name, help_text in known_settings().items() if "column" in help_text.split(";")[0]}
    assert naming - {"delimiter", "joiner"} <= set(NAMES_OF_DATA)


def test_what_does_not_fit_a_backbone_is_refused_alike_everywhere(tmp_path: Path) -> None:
    from textune.compare import list_configs
    from textune.errors import ModelError, TextuneError
    from textune.plan import list_plans
    from textune.progress import Silent
    from textune.run.prepare import prepare
    from textune.run.start import resolve_model
    from textune.search.settings import build_sweep
    from tiny import build_backbone

    folder = str(build_backbone("llama", tmp_path / "tiny-llama"))
    sweep = {"sweep": {"space": {"learning_rate": [1e-3, 1e-4]}}}
    for wrong, kind in (({"method": "bitfit"}, ModelError), ({"method": "lora", "max_length": 9_999}, ConfigError)):
        flat = {"data": "nowhere.csv", "backbone": folder, **wrong}
        method = str(wrong["method"])
        messages = []
        for check in (
            lambda flat=flat: resolve_model(build_config(flat)),
            lambda flat=flat: prepare(build_config(flat), Silent()),
            lambda flat=flat, method=method: list_configs(flat, [method], [folder], [1]),
            lambda flat=flat, method=method: list_plans(flat, [method], [folder], Silent()),
            lambda flat=flat: build_sweep(flat | sweep),
        ):
            with pytest.raises(TextuneError) as caught:
                check()
            messages.append(caught.value.message)
        assert len(set(messages)) == 1
        with pytest.raises(kind):
            resolve_model(build_config(flat))


@pytest.mark.parametrize(
    ("per_class", "classes", "epochs"), [(8, 77, 2), (12, 77, 3), (16, 77, 4), (63, 77, 4), (2, 77, 8), (8, 2, 10)]
)
def test_few_rows_of_many_classes_only_refine_a_solved_head(per_class: int, classes: int, epochs: int) -> None:
    settings = build_config({"contrast_steps": 0})
    config, _ = choose_training(settings, rows=per_class * classes, classes=classes, method_rate=1e-3)
    assert config.training.epochs == epochs
    settings = build_config({"contrast_steps": 0, "head_init": "random"})
    config, _ = choose_training(settings, rows=per_class * classes, classes=classes, method_rate=1e-3)
    batch_size = config.training.batch_size or 0
    assert config.training.epochs == choose_epochs(per_class * classes, classes, batch_size)
