"""Only the call itself trusts: no file that comes with a run or a model decides whose code runs here."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from textune.backbones import resolve_backbone
from textune.backbones.trust import is_trusted
from textune.config import build_config, load_settings, write_settings
from textune.errors import ConfigError, ModelError, TextuneError
from textune.export.merged import export_merged
from textune.files import hash_file
from textune.inference import Predictor
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.run import Run, resume
from textune.run.other_rows import evaluate
from textune.search.settings import read_sweep
from tiny import StopAt, call_textune, settings_for, train_tiny

CODE = """
import os
open(os.environ["RAN"], "a").write("x")
from transformers import DistilBertForSequenceClassification
class X(DistilBertForSequenceClassification): pass
"""


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def add_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling_x.X"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_x.py").write_text(CODE)


@pytest.fixture(autouse=True)
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the model's own code writes when it runs."""
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    return tmp_path / "ran"


@pytest.fixture(params=[pickle_weights, add_code])
def doubtful(request: pytest.FixtureRequest, backbone: Path, work: Path) -> Path:
    """A backbone that needs trust, named by a relative path."""
    shutil.copytree(backbone, work / "given" / "base")
    change: Callable[[Path], None] = request.param
    change(work / "given" / "base")
    return Path("given/base")


def find_setting(error: TextuneError) -> str:
    """Return the NAME of the trust=NAME that an error's hint tells to add."""
    found = re.search(r"trust=(\S+?)(?=$|,| if )", error.hint or "")
    assert found is not None, error
    return found[1]


def test_a_trusted_run_is_saved_and_each_later_call_trusts_anew(doubtful: Path, reviews: Path, work: Path) -> None:
    with pytest.raises(ModelError) as refused:
        train_tiny(reviews, doubtful, work / "run", epochs=1)
    assert not (work / "run").exists(), "refused before any work"
    run = train_tiny(reviews, doubtful, work / "run", epochs=1, trust=find_setting(refused.value))
    assert run.manifest.needs_trust
    assert "trust" not in load_settings(run.folder / "config.yaml")
    assert "trust" not in json.loads((run.folder / "plan.json").read_text())["settings"]
    later: list[Callable[..., Any]] = [
        lambda **trust: Predictor.load(run.folder, **trust).predict(["a good film"]),
        lambda **trust: evaluate(run.folder, reviews, **trust),
        lambda **trust: export_merged(run.folder, work / "merged", **trust),
    ]
    for call in later:
        with pytest.raises(ModelError) as refused:
            call()
        call(trust=find_setting(refused.value))
        shutil.rmtree(work / "merged", ignore_errors=True)
        call(trust="given/base")


def test_the_printed_commands_work(doubtful: Path, few_reviews: Path, work: Path) -> None:
    words = [f"{k}={v}" for k, v in settings_for(few_reviews, doubtful, Path("runs/run"), epochs=1).items()]
    refused = call_textune("train", *words, cwd=work, code=4).stderr
    found = re.search(r"trust=\S+?(?=$|\s|,)", refused)
    assert found is not None
    printed = call_textune("train", *words, found[0], cwd=work).stdout
    assert """textune predict runs/run "a text to classify" trust='given/base'""" in printed
    call_textune("predict", "runs/run", "trust=given/base", "a text to classify", cwd=work)
    refused = call_textune("export", "runs/run", cwd=work, code=4).stderr
    found = re.search(r"trust=\S+?(?=$|\s|,)", refused)
    assert found is not None
    call_textune("export", "runs/run", found[0], cwd=work)


def stop(doubtful: Path, reviews: Path, folder: Path) -> RunInterrupted:
    settings = {"trust": str(doubtful), "checkpoint_every_steps": 1}
    with pytest.raises(RunInterrupted) as stopped:
        train_tiny(reviews, doubtful, folder, StopAt(3), **settings)
    return stopped.value


def test_resume_never_takes_trust_from_the_folder(doubtful: Path, reviews: Path, work: Path, ran: Path) -> None:
    stopped = stop(doubtful, reviews, work / "run")
    assert f"textune resume {work / 'run'} trust={doubtful}" in (stopped.hint or "")
    ran.unlink(missing_ok=True)
    settings = load_settings(work / "run" / "config.yaml") | {"trust": str(doubtful)}
    (work / "run" / "config.yaml").write_text(yaml.safe_dump(settings))
    path = work / "run" / "plan.json"
    plan = json.loads(path.read_text())
    told = plan | {"settings": plan["settings"] | {"trust": str(doubtful)}, "trust": str(doubtful)}
    path.write_text(json.dumps(told))
    with pytest.raises(ModelError) as refused:
        resume(work / "run", progress=Silent())
    assert not ran.exists()
    path.write_text(json.dumps(plan))
    assert resume(work / "run", progress=Silent(), trust=find_setting(refused.value)).manifest.metrics


def test_no_file_sets_trust(work: Path, finished: Run) -> None:
    folder = shutil.copytree(finished.folder, work / "run")
    settings = load_settings(folder / "config.yaml")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | {"trust": "x"}))
    assert load_settings(folder / "config.yaml") == settings
    assert "trust" not in settings
    (work / "sweep.yaml").write_text(
        yaml.safe_dump(settings | {"trust": "x", "sweep": {"space": {"learning_rate": [1e-3, 1e-4]}}})
    )
    assert read_sweep(work)[0].model.trust is None
    write_settings(build_config({"trust": "x", "data": "d"}), work / "written.yaml")
    assert "trust" not in (work / "written.yaml").read_text()


def test_a_file_of_settings_that_is_named_on_the_command_line_does_not_trust(work: Path) -> None:
    from textune.cli.output import gather_settings

    (work / "given.yaml").write_text("data: reviews.csv\ntrust: given/base\n")
    with pytest.raises(ConfigError, match=r"given.yaml: trust: only counts on the command line") as refused:
        gather_settings([], "given.yaml")
    assert "add trust=given/base to the command" in (refused.value.hint or "")
    assert gather_settings(["trust=other"], "given.yaml")["trust"] == "other"


def test_a_folder_is_trusted_under_each_of_its_names(work: Path) -> None:
    (work / "given" / "base").mkdir(parents=True)
    (work / "other").mkdir()
    (work / "link").symlink_to(work / "given" / "base")
    names = ["given/base", "given/base/", "./given/base", str(work / "given/base"), "given/../given/base", "link"]
    assert all(is_trusted(name, trust) for name in names for trust in names)
    assert not any(is_trusted(name, trust) for name in names for trust in (None, "true", "base", "other", "given", ""))
    assert is_trusted("owner/name", "owner/name")
    assert not is_trusted("owner/name", "owner/name2")


def test_code_of_another_repository_is_refused(doubtful: Path) -> None:
    config = json.loads((doubtful / "config.json").read_text())
    config["auto_map"] = {"AutoModel": ["owner/name--modeling.X", None]}
    (doubtful / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="another repository, owner/name"):
        resolve_backbone(str(doubtful), trust=str(doubtful))


def test_the_hash_of_pickled_weights_is_that_of_their_file(backbone: Path, work: Path) -> None:
    shutil.copytree(backbone, work / "base")
    pickle_weights(work / "base")
    (work / "base" / "notes.safetensors").write_bytes(b"")  # not what is loaded
    found = resolve_backbone("base", trust="base")
    assert found.sha256 == hash_file(work / "base" / "pytorch_model.bin")
    (work / "base" / "pytorch_model.bin").rename(work / "base" / "tf_model.h5")
    (work / "base" / "notes.safetensors").unlink()
    with pytest.raises(ModelError, match=r"tf_model.h5.*does not read"):
        resolve_backbone("base", trust="base")
