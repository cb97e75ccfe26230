"""What `textune predict` takes for a file, a setting and a text, and how it answers standard input."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from children import Forked
from textune.inference import Predictor
from textune.run import Run
from textune.run.save import update_manifest
from tiny import COMMAND, call_here, call_textune

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


def test_single_texts_are_refused_by_a_model_of_pairs_before_it_is_loaded(
    finished: Run, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(finished.folder, place / "pairs")
    update_manifest(folder, columns=replace(finished.manifest.columns, text_pair="other"))
    monkeypatch.setattr(Predictor, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    for command in ("predict", "explain"):
        for words in (["a good film"], ["-"], []):
            code, _, errors = call_here(capsys, command, str(folder), *words)
            assert code == 3, errors
            assert "the second texts are missing" in errors and "the columns text and other" in errors


def test_counts_of_one_are_singular(finished: Run, place: Path) -> None:
    (place / "one.csv").write_text("text,n\na good film,1\n,2\n")
    printed = ask(finished, place, "one.csv")[0]
    assert "1 row without text got no label" in printed
    (place / "single.csv").write_text("text\na good film\n")
    assert ask(finished, place, "single.csv")[0].startswith("1 row: ")


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
        assert b"1 line is not UTF-8" in process.stderr.read()
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


@pytest.fixture
def book(place: Path) -> Path:
    """A spreadsheet whose second sheet has two texts."""
    import openpyxl

    made = openpyxl.Workbook()
    made.active.append(["text"])
    made.active.append(["good"])
    for row in (["text"], ["bad film"], ["dull film"]):
        (made["Late ones"] if "Late ones" in made.sheetnames else made.create_sheet("Late ones")).append(row)
    made.save(place / "book.xlsx")
    return place / "book.xlsx"


@pytest.mark.parametrize(
    "words", [("book.xlsx#Late ones",), ("--file", "book.xlsx#Late ones"), ("--data=book.xlsx#Late ones",)]
)
def test_a_part_of_a_table_is_named_as_for_training(
    words: tuple[str, ...], book: Path, finished: Run, place: Path
) -> None:
    from textune.data import read_table

    printed, _ = ask(finished, place, *words)
    assert "2 rows" in printed and "book.Late_ones.predicted.xlsx" in printed
    assert read_table(place / "book.Late_ones.predicted.xlsx").arrow["text"].to_pylist() == ["bad film", "dull film"]


@pytest.mark.parametrize("words", [("book.xlsx#Late ones", "--json"), ("--", "book.xlsx#Late ones")])
def test_a_part_of_a_table_is_explained(words: tuple[str, ...], book: Path, finished: Run, place: Path) -> None:
    printed = call_textune("explain", str(finished.folder), *words, cwd=place).stdout
    assert "dull" in printed and "book.xlsx" not in printed


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--file", "my reviews.csv"), "'my reviews.csv' does not exist; did you mean 'my review.csv'?"),
        (("--data", "reviews.data"), "'reviews.data' does not exist"),
        (("--file", "reviews"), "'reviews' does not exist"),
        (("--file", ""), "the name of the table is empty"),
        (("--file", "absent.xlsx#B"), "'absent.xlsx#B' does not exist"),
        (("--file", "book.xlsx#B"), "no sheet 'B'"),
        (("--file", "work"), "is a folder"),
        (("--file", "https://example.org/reviews.csv"), "is a URL"),
        (("--file", "my review.csv", "--text", "good"), "one file or only texts"),
        (("--file", "missing.csv", "good"), "one file or only texts"),
        (("book.xlsx#B",), "no sheet 'B'"),
        (("absent.xlsx#B",), "absent.xlsx#B: no such file"),
    ],
)
def test_what_names_a_table_is_never_answered_as_something_else(
    words: tuple[str, ...], reason: str, book: Path, finished: Run, place: Path
) -> None:
    (place / "my review.csv").write_text("text\ngood\n")
    (place / "work").mkdir()
    printed, error = ask(finished, place, *words, code=3, stdin="typed by somebody\n")
    assert reason in error and not printed and not list(place.glob("*.predicted.*"))


@pytest.mark.parametrize("words", [("--file", "embedded:reviews"), ("embedded:reviews",), ("hub:imdb",)])
def test_a_table_without_a_folder_needs_the_name_of_an_output(
    words: tuple[str, ...], finished: Run, place: Path
) -> None:
    assert "--output FILE" in ask(finished, place, *words, code=2)[1]


def test_standard_input_may_be_named_as_the_file(finished: Run, place: Path) -> None:
    assert len(ask(finished, place, "--file", "-", stdin="a good film\nbad\n")[0].splitlines()) == 3
