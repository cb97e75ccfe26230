"""Method and backbone, left open or named: open means None, and what was named is obeyed or refused, never ignored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import textune
from textune.compare import list_configs, train_missing
from textune.config import RunConfig, build_config, defaults, load_settings, write_settings
from textune.config.defaults import choose_backbone, choose_method, fill_in_model
from textune.errors import ConfigError, ModelError
from textune.inference import Predictor
from textune.plan import list_plans
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.run import Run, resume, train_config, train_only
from textune.run.prepare import prepare
from textune.run.start import adopt_init, choose_folder
from textune.search.settings import build_sweep, read_sweep, write_sweep
from textune.sklearn import TextClassifier
from tiny import FAST, StopAt, call_textune, make_rows, mark_exported, settings_for, train_tiny

OTHER_WEIGHTS = "backbone=minilm: its weights are not those of the run, which is built on tiny-"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, reviews: Path, backbone: Path) -> Path:
    """A run of neither the default method nor the default backbone."""
    return train_tiny(reviews, backbone, tmp_path_factory.mktemp("base") / "run", epochs=1, method="bitfit").folder


def test_open_is_none_until_the_rules_fill_it_in(tmp_path: Path) -> None:
    for flat in ({}, {"method": None, "backbone": None}, {"method": {"name": None}, "backbone": "none"}):
        config = build_config(flat)
        assert config == RunConfig() and config.method.name is None and config.model.backbone is None
        write_settings(config, tmp_path / "open.yaml")
        assert {"method", "backbone"}.isdisjoint(load_settings(tmp_path / "open.yaml"))
    options = build_config({"method": {"r": 4}})
    assert build_config(options.to_dict()) == options and options.method.name is None
    filled = fill_in_model(options).to_dict()
    assert filled["method"] == {"name": "lora", "r": 4} and filled["backbone"] == "minilm"
    named = build_config({"method": "head", "backbone": "nobody/nothing"})
    assert fill_in_model(named) == named and choose_method(named) == "head"
    assert choose_backbone(named) == "nobody/nothing"


def test_settings_that_no_step_uses_are_told(reviews: Path, backbone: Path) -> None:
    def tell(**settings: Any) -> list[str]:
        progress = Silent()
        prepare(build_config({"data": str(reviews), "backbone": str(backbone), "device": "cpu"} | settings), progress)
        return [line for line in progress.warnings if "no training step uses" in line]

    (told,) = tell(batch_size=4, schedule="cosine", learning_rate=1e-3)
    assert "uses batch_size, schedule: by rule epochs is 0, because the head is solved after the contrastive" in told
    (told,) = tell(method="head", learning_rate=1e-3)
    assert "uses learning_rate: by rule epochs is 0, because the head is solved and nothing else" in told
    assert not tell() and not tell(batch_size=4, epochs=1) and not tell(batch_size=4, contrast_steps=0)
    assert not tell(method="head", epochs=0, learning_rate=1e-3), "who sets no epochs knows"


def test_names_and_hashes_of_open_runs_are_those_of_explicit_ones(work: Path) -> None:
    rows = {"data": "reviews.csv", "seed": 42}
    left_open = build_config(rows)
    explicit = build_config(rows | {"method": "lora", "backbone": "minilm"})
    assert adopt_init(left_open) == explicit == adopt_init(explicit)
    assert choose_folder(left_open, overwrite=False).name == "reviews-minilm-lora-42"
    (config,) = list_configs(rows, [None], [None], [42])
    (same,) = list_configs(rows, ["lora"], ["minilm"], [42])
    assert config.name == same.name == "reviews-minilm-lora-42-e1f18736", "as in earlier releases"
    assert config.model.backbone is None and same.model.backbone == "minilm"


def test_training_on_from_a_run_reads_texts_as_it_does(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    """A head that was trained on one vector of a text means nothing for another."""
    small = {"method": "bitfit", "epochs": 1, "pooling": "mean"}
    first = train_tiny(reviews, backbone, tmp_path / "first", **small)
    still = {"init": str(first.folder), "learning_rate": 1e-12, "head_learning_rate": 1e-12}
    again = train_tiny(reviews, backbone, tmp_path / "again", **still | {"epochs": 1})
    assert again.manifest.pooling == "mean"
    with pytest.raises(ConfigError, match="the head of the run of init= reads mean"):
        adopt_init(build_config({"data": str(reviews), "init": str(first.folder), "pooling": "first"}))


def test_training_on_from_a_run_takes_what_is_open(base: Path, reviews: Path, backbone: Path) -> None:
    left_open = adopt_init(build_config({"data": str(reviews), "init": str(base)}))
    assert left_open.method.name == "bitfit" and Path(left_open.model.backbone or "") == backbone.resolve()
    assert adopt_init(left_open) == left_open
    given = {"data": str(reviews), "init": str(base), "backbone": str(backbone), "method": "bitfit"}
    explicit = adopt_init(build_config(given))
    assert (explicit.method, explicit.model.backbone) == (left_open.method, str(backbone))


@pytest.mark.parametrize(
    ("named", "message"),
    [({"backbone": "minilm"}, OTHER_WEIGHTS), ({"method": "lora"}, "goes on with the method of its run, bitfit")],
)
def test_training_on_from_a_run_refuses_another_model(
    base: Path, reviews: Path, tmp_path: Path, named: dict[str, str], message: str
) -> None:
    settings = FAST | {"data": str(reviews), "init": str(base), "runs_dir": str(tmp_path / "runs")} | named
    for start in (adopt_init, train_config, lambda config: train_only(config, Silent(), {})):
        with pytest.raises(ConfigError, match=message):
            start(build_config(settings))
    assert not (tmp_path / "runs").exists()
    methods, backbones = [named.get("method")], [named.get("backbone")]
    with pytest.raises(ConfigError, match=message):
        list_configs(settings, methods, backbones, [1, 2])
    with pytest.raises(ConfigError, match=message):
        list_plans(settings, [m for m in methods if m], backbones, Silent())


def test_an_open_run_resumes_with_what_was_chosen(
    few_reviews: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "DEFAULT_BACKBONE", str(backbone))
    monkeypatch.setattr(defaults, "DEFAULT_METHOD", "bitfit")
    settings = settings_for(few_reviews, backbone, tmp_path / "run", epochs=1)
    del settings["backbone"]
    with pytest.raises(RunInterrupted):
        train_config(build_config(settings), progress=StopAt(1))
    written = load_settings(tmp_path / "run" / "config.yaml")
    assert written["method"]["name"] == "bitfit" and written["backbone"] == str(backbone)
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["settings"]["method"] == written["method"] and plan["settings"]["backbone"] == str(backbone)
    monkeypatch.undo()
    assert resume(tmp_path / "run", progress=Silent()).manifest.method == "bitfit"


def test_a_search_fills_in_its_base(tmp_path: Path, reviews: Path, backbone: Path) -> None:
    space = {"sweep": {"space": {"method.r": [4, 8]}}}
    config, search = build_sweep({"data": str(reviews)} | space)
    assert (config.method.name, config.model.backbone) == ("lora", "minilm")
    assert build_sweep({"data": str(reviews), "method": "lora", "backbone": "minilm"} | space) == (config, search)
    write_sweep(tmp_path, config, search)
    assert load_settings(tmp_path / "sweep.yaml")["backbone"] == "minilm" and read_sweep(tmp_path) == (config, search)
    named, _ = build_sweep({"data": str(reviews), "backbone": str(backbone), "method": "vera"} | space)
    assert (named.method.name, named.model.backbone) == ("vera", str(backbone))
    over, _ = build_sweep({"data": str(reviews), "sweep": {"space": {"backbone": ["none", str(backbone)]}}})
    assert over.model.backbone == "minilm"


def test_a_comparison_that_is_open_goes_on_from_the_run(base: Path, reviews: Path, tmp_path: Path) -> None:
    settings = FAST | {"data": str(reviews), "init": str(base), "runs_dir": str(tmp_path)}
    configs = list_configs(settings, [None], [None], [1, 2])
    assert {c.method.name for c in configs} == {None} and {c.model.backbone for c in configs} == {None}
    progress = StopAt()
    train_missing(configs, progress, launch=lambda config, _: None)
    assert f"run 1 of 2: bitfit on {Path(adopt_init(configs[0]).model.backbone or '').name}, seed 1" in progress.said


def test_commands_know_what_was_named(base: Path, reviews: Path, work: Path) -> None:
    words = [str(reviews), f"init={base}", "runs_dir=runs"]
    for command in (["compare", *words, "seeds=2"], ["plan", *words], ["train", *words]):
        refused = call_textune(*command, "backbone=minilm", cwd=work, code=2)
        assert OTHER_WEIGHTS in refused.stderr and "leave backbone= out" in refused.stderr
        refused = call_textune(*command, "method=lora", cwd=work, code=2)
        assert "goes on with the method of its run, bitfit; leave method= out" in refused.stderr
    assert "lora" in call_textune("train", "--settings", cwd=work).stdout
    assert not (work / "runs").exists()


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_finished_runs_refuse_another_backbone(command: str, base: Path, reviews: Path, backbone: Path, work: Path
    ) -> None:  # fmt: skip
    run = shutil.copytree(base, work / "run")
    what = "a good film" if command == "predict" else str(reviews)
    refused = call_textune(command, str(run), what, "backbone=minilm", cwd=work, code=2)
    assert OTHER_WEIGHTS in refused.stderr
    answers = [
        json.loads(call_textune(command, str(run), what, *words, "--json", cwd=work).stdout)
        for words in ([], [f"backbone={backbone}"], ["backbone=none"])
    ]
    assert answers[0] == answers[1] == answers[2]


def test_evaluation_from_python_obeys_backbone(base: Path, reviews: Path, backbone: Path, tmp_path: Path) -> None:
    run = shutil.copytree(base, tmp_path / "run")
    left_open = textune.evaluate(run, str(reviews)).to_dict()
    assert textune.evaluate(run, str(reviews), backbone=str(backbone)).to_dict() == left_open
    with pytest.raises(ConfigError, match=OTHER_WEIGHTS):
        textune.evaluate(run, str(reviews), backbone="minilm")
    with pytest.raises(ModelError, match="no such folder"):
        Predictor.load(run, backbone=str(tmp_path / "nowhere"))


def test_an_export_has_no_backbone_to_name(finished: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.folder, tmp_path / "onnx")
    mark_exported(folder)
    with pytest.raises(ConfigError, match=r"backbone=minilm: .* is an export, which holds its whole model"):
        Predictor.load(folder, backbone="minilm")


@pytest.mark.parametrize("option", [{"trust": "someone/model"}, {"merge": False}, {"merge": True}, {"engine": "lean"}])
def test_an_export_refuses_what_it_would_ignore(option: dict[str, Any], finished: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.folder, tmp_path / "onnx")
    mark_exported(folder)
    ((name, value),) = option.items()
    with pytest.raises(ConfigError, match=rf"{name}={value}: .* is an export, which holds its whole model") as caught:
        Predictor.load(folder, **option)
    assert caught.value.hint == f"leave {name}= out"


def test_estimator_leaves_method_and_backbone_open(base: Path, tmp_path: Path) -> None:
    assert TextClassifier().get_params()["method"] is TextClassifier().get_params()["backbone"] is None
    texts, labels = zip(*make_rows(20), strict=True)
    settings = {"init": str(base), "threads": 1, "device": "cpu", "precision": "fp32"}
    fitted = TextClassifier(epochs=1, batch_size=8, settings=settings).fit(texts, labels)
    fitted.save(tmp_path / "kept")
    assert Predictor.load(tmp_path / "kept").manifest.method == "bitfit"
    with pytest.raises(ConfigError, match="goes on with the method of its run, bitfit"):
        TextClassifier(method="lora", settings=settings).fit(texts, labels)
    with pytest.raises(ConfigError, match=OTHER_WEIGHTS):
        TextClassifier(backbone="minilm", settings=settings).fit(texts, labels)
