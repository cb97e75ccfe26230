"""Killed, stopped, damaged, changed: a model that writes keeps the promises that classifiers keep."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import textune
from textune.bundle import read_manifest
from textune.errors import BundleError
from textune.methods.lora import Lora
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.run import Run, resume
from textune.training import checkpoint
from tiny import (
    CHAT_TEMPLATE,
    StopAt,
    as_words,
    build_causal,
    call_textune,
    hash_weights,
    settings_for,
    train_tiny,
    write_prompts,
)

SETTINGS: dict[str, Any] = {
    "task": "generation", "method": "lora", "answer_rows": 2, "contrast_steps": None, "epochs": 1, "batch_size": 4,
    "dropout": 0.1, "checkpoint_every_steps": 1, "max_new_tokens": 4, "max_length": 48,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def llama(place: Path) -> Path:
    return build_causal(place / "llama", template=CHAT_TEMPLATE)


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    return write_prompts(place / "prompts.jsonl", 30)


@pytest.fixture(scope="module")
def whole(place: Path, llama: Path, data: Path) -> Run:
    """The run that nothing happened to."""
    return train_tiny(data, llama, place / "whole", **SETTINGS)


@pytest.fixture(scope="module")
def stopped_once(place: Path, llama: Path, data: Path) -> Path:
    with pytest.raises(RunInterrupted):
        train_tiny(data, llama, place / "stopped", StopAt(3, signal.SIGINT), **SETTINGS)
    return place / "stopped"


@pytest.fixture
def stopped(tmp_path: Path, stopped_once: Path) -> Path:
    """A copy of a run that Ctrl-C stopped after step 3."""
    return shutil.copytree(stopped_once, tmp_path / "run")


def assert_same(folder: Path, whole: Run) -> None:
    """The weights are those of the whole run, and so is everything measured with them."""
    assert hash_weights(folder) == hash_weights(whole.folder)
    found = json.loads((folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    for name, figures in whole.metrics["models"].items():
        assert {k: v for k, v in found["models"][name].items() if k != "seconds"} == {
            k: v for k, v in figures.items() if k != "seconds"
        }
    assert found["samples"] == whole.metrics["samples"]
    assert not list(folder.rglob("*partial*"))


DEATHS = [
    ("textune.training.trainer:Trainer.take_step", 3),
    ("textune.training.checkpoint:save_file", 4),
    ("textune.training.checkpoint:flush", 9),
    ("textune.run.save:check_reload", 1),
    ("textune.run.save:write_manifest", 1),
    ("textune.inference.generation:Generator._continue", 1),
    ("textune.run.evaluate:render_card", 1),
]
"""Functions at whose n-th call the process is killed; the last but one writes the answers that are measured."""


@pytest.mark.parametrize(("function", "number"), DEATHS, ids=[f.rpartition(":")[2] for f, _ in DEATHS])
def test_killed_at_any_point_ends_in_the_same_run(
    function: str, number: int, whole: Run, llama: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = as_words({k: v for k, v in settings_for(data, llama, folder, **SETTINGS).items() if v is not None})
    call_textune("train", *words, cwd=tmp_path, code=-signal.SIGKILL, die_in=(function, number))
    left = sorted((folder / "checkpoints").glob("step-*"))
    assert left and all(checkpoint.find_damage(path) is None for path in left)
    resume(folder, progress=Silent())
    assert_same(folder, whole)


def test_stopped_and_moved_it_goes_on(stopped: Path, whole: Run, tmp_path: Path) -> None:
    moved = stopped.rename(tmp_path / "renamed")
    with pytest.raises(BundleError, match="not a finished run"):
        textune.load(moved)
    resume(moved, progress=Silent())
    assert_same(moved, whole)


@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(harm: str, stopped: Path, whole: Run) -> None:
    newest = sorted((stopped / "checkpoints").glob("step-*"))[-1]
    path = newest / "trainable.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content) if harm == "flip" else bytes(content[: len(content) // 2]))
    progress = StopAt()
    resume(stopped, progress=progress)
    assert any(str(newest) in warning for warning in progress.warnings)
    assert any("resuming at step 2" in line for line in progress.said)
    assert_same(stopped, whole)


def change_template(stopped: Path, backbone: Path, data: Path) -> None:
    path = stopped / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"chat_template": "plain"}))


def change_tokenizer(stopped: Path, backbone: Path, data: Path) -> None:
    path = backbone / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"chat_template": CHAT_TEMPLATE + "{# new #}"}), encoding="utf-8")


def change_template_file(stopped: Path, backbone: Path, data: Path) -> None:
    data.with_name("template.jinja").write_text(CHAT_TEMPLATE.replace("\n", " "))


def change_answers(stopped: Path, backbone: Path, data: Path) -> None:
    data.write_text(data.read_text(encoding="utf-8").replace('"completion": "blue"', '"completion": "grey"'))


CHANGES: dict[str, tuple[Callable[..., None], str]] = {
    "template": (change_template, "chat_template: None when the run began, 'plain' now"),
    "tokenizer": (change_tokenizer, "cannot go on: model or device changed"),
    "template file": (change_template_file, "cannot go on: model or device changed\n  chat_template: "),
    "answers": (change_answers, "cannot go on: the data changed"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_changed_in_between_is_refused(kind: str, llama: Path, data: Path, tmp_path: Path) -> None:
    backbone = shutil.copytree(llama, tmp_path / "llama")
    rows = Path(shutil.copyfile(data, tmp_path / "rows.jsonl"))
    (tmp_path / "template.jinja").write_text(CHAT_TEMPLATE)
    more = {"chat_template": str(tmp_path / "template.jinja")} if kind == "template file" else {}
    with pytest.raises(RunInterrupted):
        train_tiny(rows, backbone, tmp_path / "run", StopAt(2), **SETTINGS | more)
    change, message = CHANGES[kind]
    change(tmp_path / "run", backbone, rows)
    with pytest.raises(BundleError) as caught:
        resume(tmp_path / "run", progress=Silent())
    assert message in caught.value.message
    assert list((tmp_path / "run" / "checkpoints").glob("step-*")), "the work is kept"


def test_a_full_disk_keeps_the_older_checkpoint(
    whole: Run, llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = checkpoint.save_file, iter(range(1_000))

    def fail_late(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args, **kwargs)

    monkeypatch.setattr(checkpoint, "save_file", fail_late)
    with pytest.raises(BundleError, match="the disk is full") as caught:
        train_tiny(data, llama, tmp_path / "run", **SETTINGS)
    assert f"textune resume {tmp_path / 'run'}" in (caught.value.hint or "")
    monkeypatch.undo()
    resume(tmp_path / "run", progress=Silent())
    assert_same(tmp_path / "run", whole)


def test_a_failed_reload_leaves_no_bundle(
    llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Lora.load_weights

    def load_badly(self: Lora, model: Any, folder: Path) -> None:
        original(self, model, folder)
        next(p for n, p in model.named_parameters() if "lora_B" in n).data.add_(0.1)

    monkeypatch.setattr(Lora, "load_weights", load_badly)
    with pytest.raises(BundleError, match="does not give the trained model's logits"):
        train_tiny(data, llama, tmp_path / "run", **SETTINGS)
    assert not (tmp_path / "run" / "textune.json").exists()
    assert list((tmp_path / "run" / "checkpoints").glob("step-*")), "the work is kept"


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_an_altered_file_is_named(name: str, whole: Run, tmp_path: Path) -> None:
    copied = shutil.copytree(whole.folder, tmp_path / "run")
    content = bytearray((copied / name).read_bytes())
    content[-2] ^= 1
    (copied / name).write_bytes(bytes(content))
    with pytest.raises(BundleError, match=name):
        textune.load(copied)


def test_the_bundle_has_its_stops_and_template(whole: Run) -> None:
    writing = read_manifest(whole.folder).writing
    assert writing["stop_token_ids"] == [2] and writing["chat_template"] == CHAT_TEMPLATE
    assert writing["max_new_tokens"] == 4
