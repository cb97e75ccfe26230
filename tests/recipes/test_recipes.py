"""The recipes: every configuration is valid, says what its write-up said, and trains, saves and reloads."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recipes import run as recipes
from textune.backbones.families import families
from textune.config import build_config, load_settings
from textune.errors import ConfigError, DataError
from textune.methods import resolve
from tiny import Command, call_textune, train_tiny, write_reviews

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes"
WRITERS = ("chat-smollm", "titles-smollm")
"""Recipes that tune a model to write: test_answers.py has what is theirs."""
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name not in WRITERS)
SWEEPS = [path for path in FILES if "sweep" in load_settings(path)]
FAMILIES = {
    "distilbert-base-uncased": "distilbert", "bert-base-uncased": "bert", "bert-base-cased": "bert", "minilm": "bert",
    "meta-llama/Llama-2-7b-hf": "llama",
}  # fmt: skip
LORA = {"r": 8, "alpha": 32, "dropout": 0.1}
QUERIES = {"name": "lora", "r": 4, "alpha": 32, "dropout": 0.01, "targets": ["q_lin"]}
WRITE_UPS: dict[str, dict[str, Any]] = {
    "ag-news-lora": {"backbone": "distilbert-base-uncased", "method": "lora"},
    "imdb-bert-lora": {"backbone": "bert-base-cased", "method": "lora", "epochs": 30},
    "imdb-distilbert-lora": {"backbone": "distilbert-base-uncased", "method": QUERIES, "learning_rate": 1e-3,
                             "batch_size": 4, "epochs": 1},
    "amazon-polarity-sweep": {
        "backbone": "distilbert-base-uncased", "method": QUERIES, "epochs": 5, "max_length": 512, "text": "content",
        "sample": 2000, "validation_fraction": 0.5, "test_sample": 1000,
        "sweep": {"space": {"learning_rate": [1e-3, 5e-4, 3e-4], "batch_size": [4, 8, 16]}, "sampler": "grid",
                  "halving": False}},
    "technique-gallery/full": {"backbone": "bert-base-uncased", "method": "full"},
    "technique-gallery/lora": {"backbone": "bert-base-uncased", "method": {"name": "lora"} | LORA},
    "technique-gallery/qlora": {"backbone": "meta-llama/Llama-2-7b-hf",
                                "method": {"name": "qlora", "double_quant": True} | LORA},
    "technique-gallery/adapter": {"method": {"name": "adapter", "reduction_factor": 16, "activation": "relu"}},
    "technique-gallery/prompt": {"method": {"name": "prompt", "tokens": 8}},
    "technique-gallery/prefix": {"method": {"name": "prefix", "tokens": 8}},
    "technique-gallery/bitfit": {"method": "bitfit"},
    "technique-gallery/rates": {"method": "full", "layer_rates": "lower=5e-5,upper=1e-4"},
}  # fmt: skip
"""What each write-up did, again and independently of the files."""


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def settings_of(path: Path) -> dict[str, Any]:
    return {key: value for key, value in load_settings(path).items() if key != "sweep"}


def points_of(path: Path) -> list[dict[str, Any]]:
    """Return the settings of every point of a sweep's grid, or those of the file alone."""
    space: Mapping[str, list[Any]] = load_settings(path).get("sweep", {}).get("space", {})
    grid = itertools.product(*space.values())
    return [settings_of(path) | dict(zip(space, values, strict=True)) for values in grid]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_settings_are_valid(path: Path) -> None:
    for settings in points_of(path):
        config = build_config(settings)
        method = resolve(config.method.name, config.method.options)
        assert method.refusal(families.get(FAMILIES[config.model.backbone])) is None
        assert config.name is not None, "two recipes on the same data would share a folder"


def test_originals_say_what_the_write_ups_did() -> None:
    found = {
        name_of(path).replace("/original", ""): load_settings(path) for path in FILES if "original" in path.as_posix()
    }
    assert found.keys() == WRITE_UPS.keys()
    for name, facts in WRITE_UPS.items():
        assert {key: found[name].get(key) for key in facts} == facts, name


def test_every_recipe_has_both_forms_a_page_and_a_name_of_its_own() -> None:
    names = [load_settings(path)["name"] for path in FILES]
    assert len(set(names)) == len(names)
    for name in (name for name in recipes.NAMES if name not in WRITERS):
        originals, better = (recipes.list_files(name, original) for original in (True, False))
        assert [p.stem for p in originals] == [p.stem for p in better] or len(originals) == len(better) == 1
        page = (FOLDER / name / "README.md").read_text(encoding="utf-8")
        assert f"python recipes/run.py {name}" in page
        assert "original.yaml` | " in page or "`original/`" in page


def test_pages_name_results_that_are_there() -> None:
    """A page may claim a figure only with the file that holds it; the figures in bold print stand in that file."""
    for page in FOLDER.rglob("README.md"):
        text = page.read_text(encoding="utf-8")
        for line in text.splitlines():
            for file in re.findall(r"`(results/[\w.]+)`", line):
                recorded = (ROOT / file).read_text(encoding="utf-8")
                for percent in re.findall(r"(\d+\.\d)% \(", line):
                    values = [round(float(v), 3) for v in re.findall(r'"(?:test_)?accuracy": (0\.\d+)', recorded)]
                    assert round(float(percent) / 100, 3) in values, f"{page}: {percent}% is not in {file}"
    gallery = (FOLDER / "technique-gallery" / "README.md").read_text(encoding="utf-8")
    lines = (ROOT / "results" / "methods.jsonl").read_text(encoding="utf-8").splitlines()
    recorded = {line["method"]: line["accuracy"] for line in map(json.loads, lines) if line["seed"] == 42}
    shown = {name: float(cell) for name, cell in re.findall(r"^\| `(\w+)` \|.*\| (\d+\.\d)% \(", gallery, re.M)}
    assert shown == {name: round(100 * recorded[name], 1) for name in shown}
    lowest, highest = min(shown.values()), max(shown.values())
    for page in (FOLDER / "README.md", ROOT / "slides" / "textune.md"):
        (line,) = (line for line in page.read_text(encoding="utf-8").splitlines() if "| a table |" in line)
        assert f"{lowest}% to {highest}%" in line, page
        assert len(shown) == 7 and "seven" in line and "eight" in line, page


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_runs_end_to_end(path: Path, backbones: dict[str, Path], reviews: Path, tmp_path: Path) -> None:
    """On random weights of the same architecture, made tiny: it trains, saves, reloads to the same logits, measures."""
    settings = points_of(path)[-1]
    backbone = backbones[FAMILIES[settings["backbone"]]]
    plan = recipes.plan_recipe(path, backbone=str(backbone))
    own = {key: value for key, value in plan.settings.items() if key in ("method", "layer_rates", "layer_decay",
           "learning_rate", "batch_size", "long_text")}  # fmt: skip
    small = {"epochs": 1, "max_length": 16 if "long_text" in own else 32}
    run = train_tiny(reviews, backbone, tmp_path / "run", **(own | small))
    assert run.manifest.method == resolve_name(settings["method"])
    assert set(run.metrics["models"]) == {"majority", "tfidf", "probe", "base", "tuned"}
    assert len(run.predict(["a superb film"])) == 1


def resolve_name(method: Any) -> str:
    return method if isinstance(method, str) else str(method["name"])


def test_a_rank_4_update_of_the_queries_is_6144_numbers() -> None:
    """On DistilBERT as it is, laid out without weights: 768 x 768 entries, 6 layers, a head of 592,130 numbers."""
    import torch
    import transformers

    config = build_config(settings_of(FOLDER / "imdb-distilbert-lora" / "original.yaml"))
    with torch.device("meta"):
        model = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig())
        assert model.distilbert.transformer.layer[0].attention.q_lin.weight.numel() == 589_824
        method = resolve(config.method.name, config.method.options)
        tuned = method.apply(model, families.get("distilbert"), ("pre_classifier", "classifier"))
    sizes = {name: p.numel() for name, p in tuned.named_parameters() if p.requires_grad}
    update = {name: size for name, size in sizes.items() if ".lora_" in name}
    assert sum(size for name, size in update.items() if ".layer.0." in name) == 6_144
    assert sum(update.values()) == 36_864
    assert sum(sizes.values()) == 628_994


def test_a_rank_is_an_integer() -> None:
    with pytest.raises(ConfigError, match=r"method\.r"):
        resolve("lora", {"r": "0.2"})


def test_offline_plans_tell_what_stands_in() -> None:
    plan = recipes.plan_recipe(FOLDER / "imdb-distilbert-lora" / "original.yaml", offline=True)
    config = build_config(plan.settings)
    assert config.model.backbone == "minilm" and config.data.data == "embedded:imdb" and config.data.test is None
    assert (config.data.sample, round(2000 * config.data.test_fraction)) == ("2000", 1000)
    assert config.method.options["targets"] == "query" and config.method.options["r"] == 4
    told = " ".join(plan.notes)
    assert all(word in told for word in ("minilm", "embedded:imdb", "q_lin")), told

    plan = recipes.plan_recipe(FOLDER / "amazon-polarity-sweep" / "better.yaml", offline=True)
    assert "say nothing" in " ".join(plan.notes)
    assert plan.settings["validation_fraction"] == "0.333333" and plan.settings["sample"] == "3000"
    assert plan.command[0] == "sweep" and "sweep" not in plan.settings


def test_offline_obeys_the_samples_that_are_given() -> None:
    file = FOLDER / "imdb-distilbert-lora" / "original.yaml"
    plan = recipes.plan_recipe(file, offline=True, words=["sample=500", "test_sample=200", "epochs=1"])
    config = build_config(plan.settings)
    assert (config.data.sample, config.training.epochs) == ("700", 1)
    assert round(700 * (config.data.test_fraction or 0)) == 200
    assert any("500 + 200 rows" in note for note in plan.notes)


def test_offline_samples_that_are_none_or_nonsense() -> None:
    file = FOLDER / "amazon-polarity-sweep" / "better.yaml"
    whole = recipes.plan_recipe(file, offline=True, words=["sample=none", "validation_fraction=none"])
    config = build_config(whole.settings)
    assert config.data.sample is None and config.data.validation_fraction is None
    assert any("all rows" in note for note in whole.notes)
    halved = recipes.plan_recipe(file, offline=True, words=["sweep.halving=false"])
    assert "sweep.halving=false" in halved.command
    for word in ("sample=10k", "test_sample=last:5", "sample=0"):
        with pytest.raises(ConfigError, match="is not understood"):
            recipes.plan_recipe(file, offline=True, words=[word])
    with pytest.raises(ConfigError, match="validation_fraction"):
        recipes.plan_recipe(file, offline=True, words=["validation_fraction=abc"])


def test_a_query_layer_that_is_not_known_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    family = SimpleNamespace(guessed=True, name="camembert", linear=("dense", "query"))
    monkeypatch.setattr("textune.backbones.resolve_backbone", lambda *_, **__: SimpleNamespace(family=family))
    with pytest.raises(ConfigError, match="not known") as caught:
        recipes.plan_recipe(FOLDER / "imdb-distilbert-lora" / "original.yaml", backbone="camembert-base")
    assert "method.targets=NAME, one of dense, query" in (caught.value.hint or "")


def test_data_that_is_not_needed_and_other_data_are_told(tmp_path: Path) -> None:
    plan = recipes.plan_recipe(FOLDER / "technique-gallery" / "better" / "lora.yaml", data=tmp_path)
    assert any("not needed" in note for note in plan.notes)
    assert recipes.STANDS.get(recipes._data_set({"data": "hub:other/set"})) is None


def test_local_data_and_missing_data(tmp_path: Path) -> None:
    file = FOLDER / "ag-news-lora" / "better.yaml"
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "ag_news" / "train.csv"))):
        recipes.plan_recipe(file, data=tmp_path)
    (tmp_path / "ag_news").mkdir()
    for name in ("train", "test"):
        write_reviews(tmp_path / "ag_news" / f"{name}.csv", rows=4)
    plan = recipes.plan_recipe(file, data=tmp_path, words=["epochs=1"])
    config = build_config(plan.settings)
    assert config.data.data == str(tmp_path / "ag_news" / "train.csv")
    assert config.data.test_text == ("title", "description") and config.training.epochs == 1


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'ag-news-lora'"):
        recipes.list_files("ag-news-lor", original=False)
    with pytest.raises(ConfigError, match="did you mean 'lora'"):
        recipes.list_files("technique-gallery", original=True, only=["lorra"])
    with pytest.raises(ConfigError, match="one recipe"):
        recipes.list_files("ag-news-lora", original=False, only=["lora"])


def call_recipe(*words: str, cwd: Path, code: int = 0) -> Command:
    return call_textune(*words, cwd=cwd, code=code, main="recipes.run:main")


@pytest.mark.slow
def test_command_runs_a_recipe_and_says_what_is_missing(
    backbones: dict[str, Path], reviews: Path, tmp_path: Path
) -> None:
    (tmp_path / "imdb").mkdir()
    import polars

    for name in ("train", "test"):
        polars.read_csv(reviews).write_parquet(tmp_path / "imdb" / f"{name}.parquet")
    fast = ("epochs=1", "max_length=16", "batch_size=8", "sample=20", "test_sample=20", "threads=1")
    backbone = str(backbones["distilbert"])
    done = call_recipe("imdb-distilbert-lora", "--original", "--data", str(tmp_path), "--backbone", backbone, *fast,
                       cwd=tmp_path)  # fmt: skip
    assert "note: data:" in done.stdout and "$ textune train" in done.stdout and "base model before" in done.stdout
    assert (tmp_path / "runs" / "imdb-distilbert-lora-original" / "textune.json").is_file()

    failed = subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), "imdb-bert-lora", "--original"], cwd=tmp_path, text=True,
        capture_output=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert failed.returncode == 4
    assert "hub cannot be reached" in failed.stderr and "--backbone FOLDER" in failed.stderr
    assert "--offline" in failed.stderr and "Traceback" not in failed.stderr


@pytest.mark.slow
def test_gallery_ends_with_one_table(
    backbones: dict[str, Path], reviews: Path, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The gallery runs in this process, and each technique in one of its own."""

    def call(*words: str, code: int = 0) -> Any:
        capfd.readouterr()
        assert recipes.main(words) == code
        return capfd.readouterr()

    fast = (f"data={reviews}", "labels=none", "sample=none", "epochs=1", "threads=1")
    done = call(
        "technique-gallery", "bitfit", "prompt", "--backbone", str(backbones["bert"]), *fast, "max_length=60",
        code=1,
    )  # fmt: skip  # of 64 positions the prompt takes 8
    table = [line for line in done.out.splitlines() if line.startswith(("technique", "bitfit", "prompt"))]
    assert len(table) == 3 and "not run" not in table[1] and "MB" in table[1] and "not run" in table[2], done.out
    assert "at most 56 tokens" in done.err
    again = call("technique-gallery", "bitfit", "--backbone", str(backbones["bert"]), *fast, "max_length=60")
    assert "already finished" in again.err, again.err
    line = next(line for line in again.out.splitlines() if line.startswith("bitfit"))
    assert line.split() == table[1].split(), "the same figures, read and not made again"
    other = call("technique-gallery", "bitfit", "--backbone", str(backbones["bert"]), *fast, "max_length=32",
                 code=1)  # fmt: skip
    assert "--overwrite" in other.err, "other settings are another run"
    gallery = ("technique-gallery", "bitfit", "--backbone", str(backbones["bert"]))
    default = call(*gallery, *fast, code=1)
    assert "--overwrite" in default.err, "a trial of one epoch is not the recipe's run"
    for _ in range(2):  # nor is what was never trained taken for what was asked first
        (work / "runs" / ".gallery-bitfit.asked.json").unlink(missing_ok=True)
        unknown = call(*gallery, *fast, code=1)
        assert "--overwrite" in unknown.err
        assert not (work / "runs" / ".gallery-bitfit.asked.json").exists()


@pytest.mark.slow
def test_sweep_tries_every_setting(backbones: dict[str, Path], tmp_path: Path) -> None:
    import polars

    (tmp_path / "amazon_reviews").mkdir()
    for name, rows in (("train", 40), ("test", 20)):
        table = polars.read_csv(write_reviews(tmp_path / "rows.csv", rows=rows)).rename({"text": "content"})
        table.with_columns(polars.lit("a title").alias("title")).write_csv(tmp_path / "amazon_reviews" / f"{name}.csv")
    fast = ("sample=40", "test_sample=20", "epochs=1", "max_length=16", "threads=1", "precision=fp32")
    done = call_recipe("amazon-polarity-sweep", "--original", "--data", str(tmp_path), "--backbone",
                       str(backbones["distilbert"]), *fast, cwd=tmp_path)  # fmt: skip
    assert "9 of 9 trials finished" in done.stderr
    assert (tmp_path / "runs" / "amazon-polarity-sweep-original" / "winner" / "textune.json").is_file()
