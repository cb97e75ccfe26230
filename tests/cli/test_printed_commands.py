"""Every command that textune prints works when it is pasted into a shell."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from textune.cli import main
from textune.errors import show_command
from textune.run import Run
from tiny import StopAt, as_words, make_rows, settings_for, write_reviews

COMMAND = re.compile(r"textune (?=[a-z]+\b).*$", re.MULTILINE)
PLACEHOLDER = re.compile(r"\b(?:RUN|DATA|FILE|FOLDER|TEXT)\b")
Shell = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def _warnings_as_before() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        yield


@pytest.fixture
def textune(capfd: pytest.CaptureFixture[str]) -> Shell:
    """Run a command in this process: its exit code, and all that it printed."""

    def call(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(words)
        printed = capfd.readouterr()
        return int(caught.value.code or 0), printed.out + printed.err

    return call


@pytest.fixture
def paste(textune: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Let a shell take a command line apart, and run what it makes of it."""
    place = tmp_path_factory.mktemp("bin")
    (place / "textune").write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    (place / "textune").chmod(0o755)

    def run(command: str) -> tuple[int, str]:
        environment = os.environ | {"PATH": f"{place}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=True, env=environment)
        return textune(*map(os.fsdecode, done.stdout.split(b"\0")[:-1]))

    return run


def paste_all(paste: Shell, printed: str, *, at_least: int = 1) -> None:
    commands = COMMAND.findall(printed)
    assert len(commands) >= at_least, printed
    for command in commands:
        assert not PLACEHOLDER.search(command), command
        code, output = paste(command)
        assert code == 0, f"{command}\n{output}"


@pytest.mark.parametrize(
    "word", ["a b", "it's", "$HOME", 'a "b" `c`', "\\", "!x", "*", "~", "-dash", "ünï 日本", "", "new\nline", "\x1b[2J",
             "\udcff.csv", "a;b&c|d>e", "#1"],
)  # fmt: skip
def test_any_word_comes_through_a_shell(word: str, tmp_path: Path) -> None:
    command = show_command(word).replace("textune", "printf '%s'", 1)
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True, cwd=tmp_path)
    assert done.stdout == os.fsencode(word) or word == "-dash"
    assert command.isprintable()


def test_a_path_that_begins_with_a_dash_is_no_option() -> None:
    assert show_command("resume", Path("-runs/a")) == "textune resume ./-runs/a"


@pytest.mark.parametrize("runs_dir", ["runs", "my runs", "it's", 'so "called"', "$HOME", "-runs", "Käse", "a=b"])
def test_next_command_of_a_run_in_any_folder(
    runs_dir: str, textune: Shell, paste: Shell, work: Path, backbone: Path
) -> None:
    write_reviews(work / "reviews.csv", rows=20)
    settings = settings_for("reviews.csv", backbone, Path("runs/it"), method="head", epochs=1) | {"runs_dir": runs_dir}
    code, printed = textune("train", *as_words(settings))
    assert code == 0, printed
    paste_all(paste, printed)


@pytest.mark.parametrize("change", [{}, {"test": "a test.csv"}, {"test": "other.csv", "test_text": "t"}])
def test_next_command_of_pairs_reads_a_table(
    change: dict[str, Any], textune: Shell, paste: Shell, work: Path, backbone: Path
) -> None:
    rows = [(text, f"{text} again", label) for text, label in make_rows(24)]
    for name, header in (("my pairs.csv", "q,a,label"), ("a test.csv", "q,a,label"), ("other.csv", "t,a,label")):
        with (work / name).open("w", newline="") as stream:
            csv.writer(stream, delimiter=";").writerows([header.split(","), *rows])
    settings = settings_for("my pairs.csv", backbone, Path("runs/it"), method="head", epochs=1, text="q", text_pair="a",
                            delimiter=";", **change)  # fmt: skip
    code, printed = textune("train", *as_words(settings))
    assert code == 0, printed
    paste_all(paste, printed)
    paste_all(paste, printed)  # and once more: it overwrites its own answers


def test_backbone_is_named_where_it_cannot_be_remembered(
    textune: Shell, paste: Shell, work: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "cache").write_text("a file, so that nothing can be cached")
    monkeypatch.setenv("TEXTUNE_CACHE", str(work / "cache"))
    shutil.copytree(backbone, work / "my model")
    write_reviews(work / "reviews.csv", rows=20)
    settings = settings_for("reviews.csv", "my model", Path("runs/it"), method="head", epochs=1)
    code, printed = textune("train", *as_words(settings))
    assert code == 0 and 'backbone=my model"' in printed, printed
    paste_all(paste, printed)


def test_commands_after_an_interruption(
    textune: Shell, paste: Shell, work: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_reviews(work / "reviews.csv", rows=20)
    words = as_words(settings_for("reviews.csv", backbone, Path("my runs/it")))
    with monkeypatch.context() as patch:
        patch.setattr("textune.cli.train.open_tuned_progress", lambda: StopAt(2))
        code, stopped = textune("train", *words)
    assert code == 143 and "textune resume" in stopped
    _, again = textune("train", *words)
    _, early = textune("predict", "my runs/it", "a text")
    assert "already exists" in again and "not a finished run" in early
    paste_all(paste, stopped + again + early, at_least=3)


def test_commands_of_an_export_and_an_import(
    textune: Shell, paste: Shell, finished: Run, work: Path, backbone: Path
) -> None:
    pytest.importorskip("onnxruntime")
    shutil.copytree(finished.folder, work / "my run")
    code, printed = textune("export", "my run", "--to", "onnx")
    assert code == 0, printed
    paste_all(paste, printed)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (work / "adapter").mkdir(exist_ok=True)
        shutil.copyfile(finished.folder / name, work / "adapter" / name)
    words = ("--backbone", str(backbone), "--labels", "0=negative,1=positive", "-o", "my import")
    code, printed = textune("import", "adapter", *words)
    assert code == 0, printed
    paste_all(paste, printed)
    assert not PLACEHOLDER.search("".join(COMMAND.findall(textune("inspect", "my import")[1])))


def test_commands_of_hints(textune: Shell, paste: Shell, reviews: Path) -> None:
    code, printed = textune("train", str(reviews), "epochs=many")
    assert code == 2
    paste_all(paste, printed)
