"""Answers on a terminal: they stream, Ctrl-C ends them, and no character of theirs acts on it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

import textune
from textune.cli import write
from textune.inference.generation import Written
from textune.progress import show_controls
from textune.run import Run
from tiny import build_causal, call_here, open_forkserver, train_tiny, write_prompts

CONTROLS = "one two \x1b[2J\x1b]0;title\x07 three\r four \u202e five six seven eight nine ten"
FIRST = 6
"""Tokens that are written before a held answer waits."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("write")
    settings = {"task": "generation", "answer_rows": 1, "contrast_steps": None, "epochs": 1, "max_new_tokens": 40}
    return train_tiny(write_prompts(place / "rows.jsonl", 24), build_causal(place / "llama"), place / "run", **settings)


class Terminal:
    """A command at work on a terminal of its own."""

    def __init__(self, process: Any, master: int) -> None:
        self.process, self._master, self.output = process, master, ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def read_until(self, text: str | None, seconds: float = 60) -> str:
        """Read until a text is there, or to the end; return everything so far."""
        end = time.monotonic() + seconds
        while text is None or text not in self.output:
            assert time.monotonic() < end, f"{text!r} does not come: {self.output!r}"
            if not select.select([self._master], [], [], 0.2)[0]:
                if not self.process.is_alive():
                    break
                continue
            try:
                piece = os.read(self._master, 4096)
            except OSError:  # the other side is closed
                break
            self.output += piece.decode()
        return self.output

    def wait(self) -> int:
        self.read_until(None)
        self.process.join(60)
        return int(self.process.exitcode)


@contextmanager
def open_terminal(*words: str, hold: Path | None = None, text: str | None = None) -> Iterator[Terminal]:
    """Run a command on a new terminal. hold: after some tokens, wait until this file is gone. text: what is written."""
    master, slave = pty.openpty()
    process = open_forkserver().Process(target=_run_here, args=(words, os.ttyname(slave), hold, text))
    process.start()
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        process.kill()
        process.join(30)
        os.close(slave)
        os.close(master)


def _run_here(words: tuple[str, ...], device: str, hold: Path | None, text: str | None) -> None:
    import torch

    os.setsid()
    handle = os.open(device, os.O_RDWR)
    fcntl.ioctl(handle, termios.TIOCSCTTY, 0)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        os.dup2(handle, number)
        setattr(sys, name, os.fdopen(number, mode, buffering=1, encoding="utf-8", closefd=False))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    _change_writing(hold, text)
    from textune.cli import main

    main(words)


def _change_writing(hold: Path | None, text: str | None) -> None:
    from textune.inference import generation
    from textune.tokens.dialogues import Dialogues

    put = generation._Streamer.put

    def wait(self: Any, value: Any) -> None:
        put(self, value)
        while hold is not None and hold.exists() and len(self._ids) >= FIRST:
            time.sleep(0.01)

    generation._Streamer.put = wait  # type: ignore[method-assign]
    if text is not None:
        Dialogues.decode = lambda self, ids: text[: 3 * len(ids)]  # type: ignore[method-assign]


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    (tmp_path / "hold").touch()
    return tmp_path / "hold"


def test_the_first_words_come_before_the_last_are_made(run: Run, hold: Path) -> None:
    expected = textune.load(run, device="cpu", precision="fp32").generate("red 1")[0]
    words = ("predict", str(run.folder), "red 1", "--device", "cpu", "precision=fp32")
    with open_terminal(*words, hold=hold, text=CONTROLS) as terminal:
        early = terminal.read_until("one two")
        assert "ten" not in early and terminal.process.is_alive()
        time.sleep(0.2)
        assert "ten" not in terminal.read_until("one two"), "the rest is not made yet"
        hold.unlink()
        assert terminal.wait() == 0
    assert expected.tokens > FIRST, "the answer is long enough to be held"
    assert terminal.output.startswith(show_controls(CONTROLS[: 3 * expected.tokens]) + "\r\n")


@pytest.mark.parametrize("text", [None, CONTROLS], ids=["written", "controls"])
def test_a_terminal_shows_the_answer_and_obeys_nothing_in_it(run: Run, text: str | None) -> None:
    expected = textune.load(run, device="cpu", precision="fp32").generate("red 1")[0]
    with open_terminal("predict", str(run.folder), "red 1", "--device", "cpu", "precision=fp32", text=text) as terminal:
        assert terminal.wait() == 0
    shown = terminal.output.replace("\r\n", "\n")
    assert not [c for c in shown if c != "\n" and c != "\t" and not c.isprintable() and c != "\ufffd"]
    if text is not None:
        assert shown.startswith(show_controls(CONTROLS[: 3 * expected.tokens]))
    assert ("reached the limit of 40 tokens" in shown) is expected.endless


def test_ctrl_c_ends_an_answer_cleanly(run: Run, hold: Path) -> None:
    with open_terminal("predict", str(run.folder), "red 1", "--device", "cpu", hold=hold, text=CONTROLS) as terminal:
        terminal.read_until("one two")
        terminal.type("\x03")
        assert terminal.wait() == 130
    answer, *rest = terminal.output.replace("^C", "").split("\r\n")
    assert show_controls(CONTROLS).startswith(answer) and rest == ["stopped", ""]


def test_typed_prompts_are_answered_until_ctrl_d(run: Run) -> None:
    with open_terminal("predict", str(run.folder), "--device", "cpu", text="an answer") as terminal:
        terminal.read_until("> ")
        terminal.type("red 1\n")
        terminal.read_until("an answer")
        terminal.type("\x04")
        assert terminal.wait() == 0
    assert terminal.output.count("> ") == 2 and "Traceback" not in terminal.output


def test_a_pipe_gets_the_answer_as_it_is(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from textune.tokens.dialogues import Dialogues

    monkeypatch.setattr(Dialogues, "decode", lambda self, ids: f"{CONTROLS}\nand more")
    code, out, err = call_here(capsys, "predict", str(run.folder), "red 1", "--device", "cpu", "max_new_tokens=3")
    assert (code, out) == (0, f"{CONTROLS}\nand more\n")
    assert err == "note: the answer reached the limit of 3 tokens (max_new_tokens=)\n"
    code, out, err = call_here(capsys, "predict", str(run.folder), "a", "b", "--device", "cpu", "max_new_tokens=3")
    assert (code, out) == (0, f"{CONTROLS}\nand more\n" * 2) and "2 of 2 answers reached" in err
    code, out, _ = call_here(capsys, "predict", str(run.folder), "a", "--device", "cpu", "--json")
    assert code == 0 and "\x1b" not in out


@pytest.mark.parametrize("as_json", [False, True])
def test_the_first_lines_are_answered_before_all_are(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file comes as one chunk, and its answers take minutes."""
    prompts = ["" if row % 10 == 9 else f"prompt {row}" for row in range(100)]
    printed: list[int] = []
    output = ""

    class Writer:
        limited = 0
        starts: ClassVar[list[int]] = []

        @property
        def generator(self) -> Any:
            return self

        def check_prompts(self, prompts: list[str], places: list[str]) -> None:
            pass

        def write(self, texts: list[str], start: int) -> list[Written]:
            nonlocal output
            self.starts.append(start)
            output += capsys.readouterr().out
            printed.append(output.count("\n"))
            return [Written(text.upper(), 1, False) for text in texts]

    lines = "".join(f"{prompt}\n" for prompt in prompts).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    write.answer_lines(Writer(), as_json)  # type: ignore[arg-type]
    output += capsys.readouterr().out
    assert printed == [0, 32, 64, 96]
    assert Writer.starts == [0, 29, 58, 87], "sampled answers go on from the prompts before"
    answers = [row["answer"] or "" for row in json.loads(output)["predictions"]] if as_json else output.splitlines()
    assert answers == [prompt.upper() for prompt in prompts]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("bad", [1, 3, 32, 33, 70])
def test_a_bad_prompt_is_named_by_its_line_after_the_answers_above_it(
    bad: int, as_json: bool, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blank lines and earlier batches count as lines, too."""
    lines = ["" if row % 4 == 1 else f"red {row}" for row in range(80)]
    lines[bad - 1] = json.dumps([{"role": "user"}])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    form = ["--json"] if as_json else []
    code, out, err = call_here(capsys, "predict", str(run.folder), "-", "--device", "cpu", "max_new_tokens=2", *form)
    assert code and f"standard input, line {bad} " in err
    answers = json.loads(out)["predictions"] if as_json and out else out.splitlines()
    assert len(answers) == bad - 1, "JSON is closed, so that it can be read"


def test_inspect_names_the_prompt_and_no_label(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    shown = call_here(capsys, "inspect", str(run.folder))[1]
    assert re.search(r"^prompt +prompt$", shown, re.M) and not re.search(r"^labels ", shown, re.M)
