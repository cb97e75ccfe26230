"""Standard output that nobody reads, that is full, or closed: no traceback, no bug reported, and whole files."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from textune.cli import main
from textune.cli.app import app
from textune.files import PARTIAL
from textune.run import Run, load_run
from tiny import COMMAND, as_words, open_forkserver, settings_for

KINDS = {"unread": 141, "full": 5, "closed": 0}
"""What standard output is, and the exit code of a command that prints."""
NAMES = [str(command.name) for command in app.registered_commands]
PLAIN = [(), ("--help",), ("--version",), *((name, "--help") for name in NAMES)]
SILENT = {"train", "resume"}
"""Their work is done when they print; what they printed before went to standard error."""


def run_with(kind: str, words: tuple[str, ...], cwd: Path) -> tuple[int, str]:
    """Run a command in a process of its own; return the exit code and standard error."""
    errors = cwd / "errors"
    process = open_forkserver().Process(target=_run_here, args=(kind, words, cwd, errors))
    process.start()
    process.join(300)
    assert process.exitcode is not None, "it does not end"
    return process.exitcode, errors.read_text(encoding="utf-8")


def _run_here(kind: str, words: tuple[str, ...], cwd: Path, errors: Path) -> None:
    import torch

    os.chdir(cwd)
    torch.set_num_threads(1)
    stderr = errors.open("w", encoding="utf-8", buffering=1)
    os.dup2(stderr.fileno(), 2)
    stdout: Any = None
    if kind == "closed":
        os.close(1)
    else:
        read, write = os.pipe()
        os.close(read)
        os.dup2(os.open("/dev/full", os.O_WRONLY) if kind == "full" else write, 1)
        stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stdout, sys.stderr = stdout, stderr
    code: Any = 0
    try:
        main(words)
    except SystemExit as stop:
        code = stop.code or 0
    try:
        sys.stdout.flush()
    except OSError:
        code = 120  # as the interpreter does at its end
    os._exit(code)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_help_of_every_command(words: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    code, errors = run_with(kind, words, tmp_path)
    check(kind, code, errors, {KINDS[kind], 2} if not words else {KINDS[kind]})


def check(kind: str, code: int, errors: str, expected: set[int]) -> None:
    assert code in expected, errors
    assert "Traceback" not in errors and "bug in textune" not in errors and "Exception ignored" not in errors
    if kind == "unread" and code == 141:
        assert "error" not in errors, "a reader that has enough is no error"
    if code == 5:
        assert "No space left on device" in errors or "the disk is full" in errors


@pytest.fixture
def place(tmp_path: Path, finished: Run, reviews: Path, backbone: Path) -> Path:
    shutil.copytree(finished.folder, tmp_path / "run")
    shutil.copy(reviews, tmp_path / "reviews.csv")
    shutil.copy(reviews, tmp_path / "unseen.csv")
    train = as_words(settings_for("reviews.csv", backbone, Path("runs/new"), epochs=1))
    (tmp_path / "train").write_text(json.dumps(train), encoding="utf-8")
    return tmp_path


WORK: dict[str, tuple[str, ...]] = {
    "inspect": ("inspect", "reviews.csv"),
    "tokens": ("tokens", "a good film", "run"),
    "evaluate": ("evaluate", "run", "unseen.csv"),
    "report": ("report", "run"),
    "report as JSON": ("report", "run", "--json"),
    "texts": ("predict", "run", "a good film"),
    "texts as JSON": ("predict", "run", "a good film", "--json"),
    "a file": ("predict", "run", "reviews.csv"),
    "methods": ("methods",),
    "backbones": ("backbones",),
    "doctor": ("doctor",),
    "cache": ("cache",),
    "export": ("export", "run", "--to", "merged"),
    "train": ("train",),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WORK)
def test_what_is_written_is_whole(name: str, kind: str, place: Path) -> None:
    words = WORK[name]
    if name == "tokens":
        words = ("tokens", "a good film", *(w for w in json.loads((place / "train").read_text()) if "backbone=" in w))
    if name == "train":
        words = (*words, *json.loads((place / "train").read_text()))
    code, errors = run_with(kind, words, place)
    check(kind, code, errors, {KINDS[kind]})
    assert not list(place.rglob(f"{PARTIAL}*")), "nothing is left half-written"
    if name == "a file":
        rows = (place / "reviews.predicted.csv").read_text(encoding="utf-8").splitlines()
        assert len(rows) == 61 and rows[0].endswith("predicted_label,probability")
    if name == "train":
        assert load_run(place / "runs" / "new").metrics["models"]["tuned"]["rows"]


@pytest.mark.parametrize(
    ("shell", "codes"),
    [
        ("{} --help | true", {0, 141}),
        ("{} methods | head -1", {0}),
        ("{} tokens 'a good film' | head -1", {0}),
        ("{} doctor | head -1", {0}),
        ("{} --help >&-", {0}),
        ("{} --help >&- 2>&- <&-", {0}),
        ("{} --help >/dev/full", {5}),
        ("{} inspect nothing.csv >&- 2>&-", {3}),
        ("{} inspect nothing.csv 2>/dev/full", {3}),
        ("{} predict nothing <&-", {5}),
        ("{} nothing 2>/dev/full", {2}),
    ],
)
def test_in_a_shell(shell: str, codes: set[int], tmp_path: Path) -> None:
    command = f'"{COMMAND[0]}" -c "{COMMAND[2]}"'
    script = f"{shell.format(command)}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode in codes, done.stderr
    assert "Traceback" not in done.stderr and "bug" not in done.stderr and "ignored" not in done.stderr


def test_a_closed_output_is_no_file_that_is_opened_next(place: Path) -> None:
    """The first file opened gets the lowest free number: what is printed must not land in it."""
    command = f'"{COMMAND[0]}" -c "{COMMAND[2]}"'
    script = f"{command} predict run reviews.csv --output out.csv >&- 2>&-"
    subprocess.run(["bash", "-c", script], cwd=place, check=True, timeout=300)
    assert (place / "out.csv").read_text(encoding="utf-8").startswith("text,label,number,")
    subprocess.run([*COMMAND, "report", "run", "--json"], cwd=place, check=True, timeout=300, capture_output=True)


class Pipe(io.StringIO):
    """Keeps what each flush sent on."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def flush(self) -> None:
        if text := self.getvalue():
            self.sent.append(text)
            self.seek(0)
            self.truncate()


@pytest.mark.parametrize("name", ["inspect", "tokens", "runs", "report", "methods", "backbones", "settings", "cache"])
def test_what_is_only_shown_goes_through_a_pipe_in_one_piece(
    name: str, finished: Run, reviews: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {
        "inspect": [str(reviews)],
        "tokens": ["a good film", f"backbone={backbone}"],
        "runs": [str(finished.folder.parent)],
        "report": [str(finished.folder)],
    }.get(name, [])
    monkeypatch.setattr(sys, "stdout", pipe := Pipe())
    with pytest.raises(SystemExit) as done:
        main([name, *words])
    assert done.value.code == 0
    assert len(pipe.sent) == 1 and pipe.sent[0].endswith("\n")
