"""What `textune predict` takes for a file, a setting and a text, and how it answers standard input."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from children import Forked
from textune.run import Run
from tiny import COMMAND, call_textune

CP1252 = "ein schöner Film".encode("cp1252")


def ask(run: Run, cwd: Path, *words: str, code: int = 0, stdin: str = "") -> tuple[str, str]:
    command = call_textune("predict", str(run.folder), *words, cwd=cwd, code=code, stdin=stdin)
    return command.stdout, command.stderr


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_every_path_that_exists_is_a_file(finished: Run, place: Path) -> None:
    (place / "texts.txt").write_text("a good film\nbad\n")
    (place / "fine").write_text("a good film\n")
    (place / "folder").mkdir()
    assert "2 rows" in ask(finished, place, "texts.txt")[0]
    assert "fine" in ask(finished, place, "fine", code=3)[1], "its kind is not known"
    assert "is a folder" in ask(finished, place, "folder", code=3)[1]
    assert "one file or only texts" in ask(finished, place, "fine", "a text", code=3)[1]
    assert "no such file" in ask(finished, place, "absent.csv.gz", code=3)[1]


def test_a_text_that_begins_like_a_setting_is_never_swallowed(finished: Run, place: Path) -> None:
    for word in ("name=Bob wrote that it broke", "label=new", "test=it"):
        error = ask(finished, place, "fine", word, code=2)[1]
        assert "is not a setting of predict" in error and "put -- before it" in error
    assert "did you mean 'precision'" in ask(finished, place, "fine", "precison=fp32", code=2)[1]
    answers = json.loads(ask(finished, place, "precision=fp32", "--json", "--", "name=Bob", "x=3 is true")[0])
    assert [answer["text"] for answer in answers["predictions"]] == ["name=Bob", "x=3 is true"]
    answers = json.loads(ask(finished, place, "--json", "x=3 is true", "2=2")[0])
    assert [answer["text"] for answer in answers["predictions"]] == ["x=3 is true", "2=2"]


def test_a_column_that_nobody_named_is_not_classified(finished: Run, place: Path) -> None:
    (place / "customers.csv").write_text("customer_name,city\nBob,Rome\nAda,Bern\n")
    error = ask(finished, place, "customers.csv", code=3)[1]
    assert "no column 'text'" in error and "'customer_name', 'city'" in error and "text=" in error
    assert "2 rows" in ask(finished, place, "customers.csv", "text=city")[0]
    error = call_textune("evaluate", str(finished.folder), "customers.csv", cwd=place, code=3).stderr
    assert "no column 'text'" in error
    (place / "customers.csv").write_text("text,stars\ngood,5\nbad,1\n")
    error = call_textune("evaluate", str(finished.folder), "customers.csv", cwd=place, code=3).stderr
    assert "no column 'label'" in error and "label=" in error


@pytest.mark.parametrize("options", [(), ("--probabilities",)])
def test_every_line_has_an_answer(options: tuple[str, ...], finished: Run, place: Path) -> None:
    lines = ["a good film", "", "  ", "bad"]
    header, *answers = ask(finished, place, "-", *options, stdin="\r\n".join(lines) + "\n")[0].splitlines()
    assert header.startswith("label\t") and header.endswith("\ttext")
    assert [answer.split("\t")[-1] for answer in answers] == lines
    assert [bool(answer.split("\t")[0]) for answer in answers] == [True, False, False, True]


@pytest.mark.parametrize("options", [(), ("--probabilities",), ("--json",), ("--json", "--probabilities")])
def test_lines_are_answered_as_they_arrive_in_whatever_encoding(
    options: tuple[str, ...], finished: Run, place: Path
) -> None:
    """The command as a co-process: each answer is there before the next line is written."""
    written = b""
    with open_process(
        ["predict", str(finished.folder), "-", *options], place, fresh="--json" in options[-1:]
    ) as process:
        for line in (b"\xef\xbb\xbfa good film\n", CP1252 + b"\n", b"\n", b"bad\r\n"):
            process.stdin.write(line)
            process.stdin.flush()
            answer = read_line(process.stdout)
            written += answer
            if answer.startswith(b"label\t"):
                answer = read_line(process.stdout)
                written += answer
            text = line.removeprefix(b"\xef\xbb\xbf").strip().decode("cp1252")
            if "--json" not in options:
                assert answer.decode("utf-8").rstrip("\n").split("\t")[-1] == text
            else:
                told = json.loads(answer.decode("utf-8").removeprefix('{"predictions": [').removeprefix(", "))
                assert told["text"] == text and (told["label"] is None) == (not text)
        process.stdin.close()
        written += process.stdout.read()
        assert b"1 lines are not UTF-8" in process.stderr.read()
    assert "--json" not in options or len(json.loads(written)["predictions"]) == 4, "one JSON object in all"


@contextmanager
def open_process(words: list[str], cwd: Path, *, fresh: bool) -> Iterator[Any]:
    """Yield a command with its three pipes; fresh: in an interpreter of its own, else forked from the tests' server.

    The pipes have no buffer of our own, which could hold the answer that `select` waits for.
    """
    if fresh:
        pipe = subprocess.PIPE
        with subprocess.Popen([*COMMAND, *words], stdin=pipe, stdout=pipe, stderr=pipe, cwd=cwd, bufsize=0) as process:
            yield process
        return
    (stdin, write), (read_output, stdout), (read_errors, stderr) = (os.pipe() for _ in range(3))
    command = [sys.executable, "-P", "-m", "textune", *words]
    process = Forked(command, stdin=stdin, stdout=stdout, stderr=stderr, env=os.environ, cwd=cwd)
    for number in (stdin, stdout, stderr):
        os.close(number)
    with (
        os.fdopen(write, "wb", 0) as ours,
        os.fdopen(read_output, "rb", 0) as output,
        os.fdopen(read_errors, "rb", 0) as errors,
    ):
        yield SimpleNamespace(stdin=ours, stdout=output, stderr=errors)
    assert process.wait(120) == 0


def read_line(stream: IO[bytes]) -> bytes:
    """Return the next line; fail where none comes."""
    ready, _, _ = select.select([stream], [], [], 120)
    assert ready, "no answer came while standard input was open"
    return stream.readline()
