"""Every command that textune prints works when it is pasted into a shell."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from textune import load
from textune.cli import main
from textune.errors import show_command
from textune.run import Run
from tiny import StopAt, as_words, make_rows, settings_for, train_tiny, write_reviews

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
    others = [work / f"{name}{end}.csv" for name in ("my pairs", "a test") for end in (".predicted", ".it")]
    for path in others:
        path.write_text("the answers of another run")
    code, printed = textune("train", *as_words(settings))
    assert code == 0, printed
    before = set(work.iterdir())
    paste_all(paste, printed)
    made = {path: path.read_text() for path in set(work.iterdir()) - before}
    assert len(made) == 1 and "inspect" not in COMMAND.findall(printed)[-1]
    assert paste(COMMAND.findall(printed)[-1])[0] == 2, "nor does it replace its own answers"
    assert {path: path.read_text() for path in made} == made
    assert {path.read_text() for path in others} == {"the answers of another run"}


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


@pytest.mark.parametrize("folder", ["no such dir", "it's", "$HOME x", "a;b"])
@pytest.mark.parametrize(
    "words",
    [
        ("errors", "--review", "review.csv"),
        ("report", "--output", "report.md"),
        ("explain", "a text", "-o", "page.html"),
        ("predict", "texts.csv", "-o", "out.csv"),
    ],
)
def test_the_command_that_makes_a_folder(
    words: tuple[str, ...], folder: str, textune: Shell, finished: Run, work: Path
) -> None:
    (work / "texts.csv").write_text("text\na text\n")
    code, printed = textune(words[0], str(finished.folder), *words[1:-1], f"{folder}/{words[-1]}")
    command = re.search(r"make it: (mkdir -p .*)$", printed, re.MULTILINE)
    assert code == 2 and command is not None, printed
    assert shlex.split(command[1]) == ["mkdir", "-p", folder]


@pytest.mark.parametrize("between", ["", "\n"], ids=["a separator", "none"])
def test_the_lines_for_a_merged_pair_model_put_between_the_texts_what_the_run_does(
    between: str, textune: Shell, backbones: dict[str, Path], work: Path
) -> None:
    shutil.copytree(backbones["gpt2"], work / "base")
    if between:  # as the tokenizers of GPT-2 and Qwen are
        tokenizer = json.loads((work / "base" / "tokenizer.json").read_text())
        plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
        tokenizer["post_processor"] = plain
        (work / "base" / "tokenizer.json").write_text(json.dumps(tokenizer))
        named = json.loads((work / "base" / "tokenizer_config.json").read_text())
        named["tokenizer_class"] = "PreTrainedTokenizerFast"
        (work / "base" / "tokenizer_config.json").write_text(json.dumps(named))
    rows = [(text, f"{text} again", label) for text, label in make_rows(24)]
    with (work / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("q", "a", "label"), *rows])
    settings = settings_for("pairs.csv", work / "base", Path("runs/it"), method="lora", epochs=1, text="q",
                            text_pair="a")  # fmt: skip
    assert textune("train", *as_words(settings))[0] == 0
    code, printed = textune("export", "runs/it", "-o", "merged")
    line = next(line for line in printed.splitlines() if "text_pair" in line)
    typed = ast.parse(line.strip(), mode="eval").body
    assert code == 0 and isinstance(typed, ast.Call)
    second = ast.literal_eval(typed.args[0])["text_pair"]
    assert second == f"{between}a second text"
    assert json.dumps(second) in (work / "merged" / "README.md").read_text()


def test_the_lines_for_a_merged_mean_give_the_answers_of_the_run(
    textune: Shell, backbones: dict[str, Path], reviews: Path, work: Path
) -> None:
    train_tiny(reviews, backbones["mpnet"], work / "run", method="full", pooling="mean", epochs=1)
    code, printed = textune("export", "run", "--to", "merged", "-o", "merged")
    names: dict[str, Any] = {}
    exec("\n".join(line[2:] for line in printed.splitlines() if line.startswith("  ")), names)
    expected = load("run", precision="fp32", device="cpu").classify("a text to classify").probabilities
    assert code == 0 and names["probabilities"] == pytest.approx(expected, abs=1e-5)
    told = "only with the lines in its README"
    assert told in printed and told in (work / "merged" / "README.md").read_text()


def test_commands_of_hints(textune: Shell, paste: Shell, reviews: Path) -> None:
    code, printed = textune("train", str(reviews), "epochs=many")
    assert code == 2
    paste_all(paste, printed)
