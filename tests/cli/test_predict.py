"""What `textune predict` takes for a file, a setting and a text, and how it answers standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from textune.run import Run
from tiny import call_textune

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


def test_lines_are_answered_as_they_arrive_in_whatever_encoding(finished: Run, place: Path) -> None:
    command = [sys.executable, "-c", "from textune.cli import main; main()", "predict", str(finished.folder), "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=place, env=os.environ
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        for line in (b"\xef\xbb\xbfa good film\n", CP1252 + b"\n"):
            process.stdin.write(line)
            process.stdin.flush()
            answer = process.stdout.readline()
            answer = process.stdout.readline() if answer.startswith(b"label\t") else answer
            expected = line.removeprefix(b"\xef\xbb\xbf").strip().decode("cp1252")
            assert answer.decode("utf-8").rstrip().split("\t")[-1] == expected
        process.stdin.close()
        assert b"1 lines are not UTF-8" in process.stderr.read()
