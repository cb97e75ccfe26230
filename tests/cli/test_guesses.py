"""What people type who come from other tools: it works, or the first line of the answer names the right form."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from textune.bundle import lock_run
from textune.cli.commands import SHOWN
from textune.cli.words import EXTRA_SETTINGS, Flag, translate_words
from textune.config import build_config, known_settings, load_settings
from textune.config.aliases import ALIASES
from textune.errors import ConfigError
from textune.methods import methods
from textune.run import Run
from textune.run.save import update_manifest
from tiny import FAST, call_here


@pytest.fixture(autouse=True)
def _warnings_as_before() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        yield


@pytest.fixture
def place(work: Path, reviews: Path, backbone: Path, finished: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with d.csv, test.csv, a backbone `base` and a finished run `runs/demo`."""
    shutil.copy(reviews, work / "d.csv")
    shutil.copy(reviews, work / "test.csv")
    (work / "base").symlink_to(backbone, target_is_directory=True)
    shutil.copytree(finished.folder, work / "runs" / "demo")
    monkeypatch.setenv("TEXTUNE_CACHE", str(work / "cache"))
    return work


FAST_WORDS = [f"{key}={value}" for key, value in FAST.items() if key not in ("epochs", "batch_size", "max_length")]

ANSWERS = [
    ("train d.csv epochs 3", 2, "error: 'epochs 3': write epochs=3 or --epochs 3"),
    ("train d.csv test.csv", 2, "error: 'test.csv': say what a second table is for: test=test.csv"),
    ("train d.csv --epoks 3", 2, "error: unknown option --epoks; did you mean '--epochs'?"),
    ("train d.csv --epochs", 2, "error: --epochs: needs a value"),
    ("train d.csv class_weights=balance", 2, "error: class_weights='balance': "),
    ("train d.csv test_size=200", 2, "error: test_size=200: must be a share of the rows: test_fraction=0.2"),
    ("train d.csv lr=1 learning_rate=2", 2, "error: lr= and learning_rate= both set learning_rate"),
    ("train d.csv fp16=true", 2, "error: unknown setting 'fp16': use precision=bf16"),
    ("train d.csv output=runs/demo", 5, "note: output= is read as runs_dir=runs name=demo"),
    ("fit d.csv", 2, "error: no command 'fit': use textune train DATA"),
    ("merge runs/demo", 2, "error: no command 'merge': use textune export RUN --to merged"),
    ("eval runs/demo test.csv", 2, "error: no command 'eval': use textune evaluate RUN DATA"),
    ("serve runs/demo", 2, "error: no command 'serve': use textune predict RUN -"),
    ("d.csv", 2, "error: 'd.csv' is no command"),
    ("trian d.csv", 2, "error: no command 'trian'; did you mean 'train'?"),
    ("export runs/demo onxx", 2, "error: --to onxx: unknown form"),
    ("export runs/demo out", 2, "error: out: no form of an export"),
    ("export runs/demo merged out", 2, "error: out: no form of an export"),
    ("export runs/demo merged --format onnx", 2, "error: two forms: merged and --to onnx"),
    ("methods lra", 2, "error: unknown method 'lra'; did you mean 'lora'?"),
    ("settings epoks", 2, "error: no setting 'epoks'; did you mean 'epochs'?"),
    ("predict --text fine", 2, "error: no run: name its folder"),
    ("sweep d.csv epochs=2", 2, "error: nothing to try: add learning_rate=1e-3,5e-4"),
    ("compare d.csv methods=lora", 2, "error: only one run: nothing to compare"),
    ("version", 0, "0."),
    ("-V", 0, "0."),
    ("help", 0, "Usage: textune [OPTIONS] COMMAND"),
    ("help train", 0, "Usage: textune train"),
    ("runs", 0, "name"),
    ("list", 0, "name"),
    ("settings", 0, "setting"),
    ("settings rate", 0, "setting"),
    ("methods lora", 0, "lora"),
    ("tokens hello --backbone base", 0, "token"),
    ("inspect --data d.csv --backbone base", 0, "rows"),
    ("cache --clear", 0, "0.0 MB freed"),
]
"""Command, exit code, beginning of the first line printed."""


@pytest.mark.parametrize(("typed", "code", "first"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_answer(typed: str, code: int, first: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, output, errors = call_here(capsys, *typed.split())
    lines = (errors.splitlines() if code else []) + output.strip().splitlines()
    assert (found, lines[0][: len(first)]) == (code, first), errors + output


TRAININGS = {
    "--data d.csv --epochs 1 --batch-size 8 --max-length=32": {"epochs": 1.0, "batch_size": 8, "max_length": 32},
    "d.csv --learning-rate 1e-3 --epochs 1 --sample 40": {"learning_rate": 1e-3, "sample": "40"},
    "d.csv lr=1e-3 num_epochs=1 batch=8 max_seq_length=32": {"learning_rate": 1e-3, "epochs": 1.0, "batch_size": 8},
    "d.csv text_column=text label_column=label epochs=1 r=4": {"text": ["text"], "label": ["label"]},
    "d.csv epochs=1 test_size=0.4 overwrite=true": {"test_fraction": 0.4},
    "d.csv epochs=1 --no-prefix-cache --overwrite": {"prefix_cache": False},
}


@pytest.mark.parametrize("typed", TRAININGS)
def test_a_training_takes_flags_and_other_tools_names(
    typed: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [w for w in FAST_WORDS if w.partition("=")[0] not in TRAININGS[typed]]
    for _ in range(2 if "overwrite" in typed else 1):
        code, _, errors = call_here(capsys, "train", *typed.split(), "model=base", "--output", "runs/it", *words)
        assert code == 0, errors
    stored = build_config(load_settings(place / "runs" / "it" / "config.yaml")).to_dict()
    assert {name: stored[name] for name in TRAININGS[typed]} == TRAININGS[typed]
    assert stored["backbone"].endswith("base") and (stored["method"] or {}).get("r") in (
        (4, "4") if " r=4" in typed else (None,)
    )
    assert errors.count("note: model= is read as backbone=base") == 1


def test_predictions_by_flags(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output, errors = call_here(
        capsys, "predict", "--model", "runs/demo", "--text", "d.csv", "backbone=base", "--json"
    )
    assert code == 0 and [p["text"] for p in json.loads(output)["predictions"]] == ["d.csv"], errors
    code, output, errors = call_here(
        capsys, "predict", "runs/demo", "--file", "d.csv", "--backbone", "base", "-o", "out.csv"
    )
    assert code == 0 and (place / "out.csv").is_file(), errors
    code, output, errors = call_here(capsys, "predict", "runs/demo", "--json", "--backbone=base", "--", "--text")
    assert code == 0 and json.loads(output)["predictions"][0]["text"] == "--text", errors


def test_runs_are_listed_with_their_scores(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "runs" / "half").mkdir()
    (place / "runs" / "half" / "plan.json").write_text("{}")
    (place / "runs" / "broken").mkdir()
    (place / "runs" / "broken" / "textune.json").write_text("{")
    (place / "runs" / "other").mkdir()
    code, output, _ = call_here(capsys, "runs", "--json")
    entries = {entry["name"]: entry for entry in json.loads(output)["runs"]}
    assert code == 0 and set(entries) == {"demo", "half", "broken"}
    code, output, _ = call_here(capsys, "inspect", "runs/half")
    assert code == 0 and "interrupted: textune resume runs/half" in output
    (place / "versus").mkdir()
    (place / "versus" / "compare.json").write_text("{}")
    assert call_here(capsys, "inspect", "versus")[1].splitlines()[0].split() == ["kind", "comparison"]
    assert entries["demo"]["kind"] == "run" and 0 <= entries["demo"]["score"] <= 1 and entries["demo"]["created"]
    assert "textune resume runs/half" in entries["half"]["state"] and "unreadable" in entries["broken"]["state"]


def test_every_alias_names_a_setting_and_is_no_setting_itself() -> None:
    options = {f"method.{name}" for _, m in methods for name in m.options_type.__dataclass_fields__}
    assert set(ALIASES.values()) <= {*known_settings(), *options}
    assert not set(ALIASES) & set(known_settings())
    assert set(SHOWN) <= set(known_settings()) and len(SHOWN) == 20
    from textune.search.settings import known_sweep_settings

    assert set(EXTRA_SETTINGS["sweep"]) | {"workers", "executor"} == set(known_sweep_settings()) - set(known_settings())


@pytest.mark.parametrize("name", sorted(known_settings()))
def test_every_setting_is_a_flag(name: str) -> None:
    flags = [Flag(("--overwrite",), takes_value=False), Flag(("--output", "-o"), takes_value=True)]
    flag = f"--{name.replace('_', '-')}"
    for words in ([flag, "3"], [f"{flag}=3"], [f"{name}=3"]):
        if isinstance(build_config({}).to_dict().get(name), bool) and len(words) == 2:
            words = [flag]
        translated = translate_words(words, flags, settings=[*known_settings()])
        assert translated in ([f"{name}=3"], [f"{name}=true"])


def test_words_after_dashes_and_values_of_flags_stay() -> None:
    flags = [Flag(("--output", "-o"), takes_value=True), Flag(("--json",), takes_value=False)]
    translate = lambda *words, **k: translate_words(words, flags, settings=["epochs", "seed"], **k)  # noqa: E731
    assert translate("-o", "--epochs", "x") == ["-o", "--epochs", "x"]
    assert translate("--", "--epochs", "json=true") == ["--", "--epochs", "json=true"]
    assert translate("json=true", "output=a") == ["--json", "--output=a"]
    assert translate("json=no", "--seed", "-1") == ["seed=-1"]
    assert translate("json=true", convert=False) == ["json=true"]
    assert translate("-ox.csv", "-", convert=False) == ["-ox.csv", "-"]
    for word in ("--great film", "--awful", "--eval-file=x y", "- not good", "-5 stars", "-oh no, terrible", "-1"):
        with pytest.raises(ConfigError) as caught:
            translate(word, convert=False)
        assert str(caught.value).endswith(f"if it is a text, put -- before it: -- {shlex.quote(word)}")
        assert "did you mean" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"(?s)unknown option --epoks; did you mean '--epochs'.*put -- before it"):
        translate("--epoks", convert=False)
    with pytest.raises(ConfigError, match="json=maybe: must be true or false"):
        translate("json=maybe")
    with pytest.raises(ConfigError, match="--seed: needs a value"):
        translate("--seed", "--epochs", "3")


def test_a_run_at_work_is_not_called_interrupted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half, measured = place / "runs" / "at-work", place / "runs" / "measured-later"
    half.mkdir()
    (half / "plan.json").write_text("{}")
    shutil.copytree(place / "runs" / "demo", measured)
    update_manifest(measured, metrics={})
    assert call_here(capsys, "runs", "--json")[1].count("running") == 0
    (measured / "checkpoints").mkdir()

    def list_states() -> dict[str, str]:
        listed = json.loads(call_here(capsys, "runs", "--json")[1])["runs"]
        return {entry["name"]: entry["state"].partition(":")[0] for entry in listed}

    assert list_states().items() >= {"at-work": "interrupted", "measured-later": "interrupted", "demo": ""}.items()
    with lock_run(half), lock_run(measured):
        assert list_states().items() >= {"at-work": "running", "measured-later": "running", "demo": ""}.items()
        assert "running: a process works on it" in call_here(capsys, "inspect", str(half))[1]
    assert list_states()["at-work"] == "interrupted"
