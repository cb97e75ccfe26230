"""What the reader of a table detected is told by every command that reads one, on standard error."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import textune
from textune.errors import Note
from textune.run import Run
from tiny import call_textune

ROWS = [(f"café très bon déjà goûté à la forêt {i}", ("negative", "positive")[i % 2]) for i in range(30)]


def write_lines(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    return path


def in_an_old_encoding(place: Path) -> Path:
    return write_lines(place / "fr.csv", "text;label", *map(";".join, ROWS), encoding="cp1252")


def below_a_title(place: Path) -> Path:
    return write_lines(place / "title.csv", "Our reviews,", "text,label", "good,positive", "bad,negative")


def on_the_first_sheet(place: Path) -> Path:
    import openpyxl

    book = openpyxl.Workbook()
    for row in (("text", "label"), *ROWS):
        book.active.append(row)
    book.create_sheet("Late").append(("text", "label"))
    book.save(place / "book.xlsx")
    return place / "book.xlsx"


def beside_a_test_table(place: Path) -> Path:
    (place / "split").mkdir()
    for name in ("train", "test"):
        write_lines(place / "split" / f"{name}.csv", "text,label", f"{name} good,positive", f"{name} bad,negative")
    return place / "split"


def with_gaps(place: Path) -> Path:
    rows = ("a good film,positive", "a bad film,", ",negative", '"  ",negative', "bad,negative")
    return write_lines(place / "part.csv", "text,label", *rows)


TABLES: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "encoding": (in_an_old_encoding, ("delimiter ';'", "encoding")),
    "title": (below_a_title, ("line 1 was skipped", "Our reviews")),
    "sheet": (on_the_first_sheet, ("reading sheet 'Sheet' of 2",)),
    "folder": (beside_a_test_table, ("train",)),
    "gaps": (with_gaps, ("part.csv: 2 rows without text were skipped", "part.csv: 1 row without label was skipped")),
}


@pytest.mark.parametrize("kind", TABLES)
def test_evaluate_tells_how_it_read_a_table(kind: str, finished: Run, tmp_path: Path) -> None:
    make, expected = TABLES[kind]
    table = make(tmp_path)
    command = call_textune("evaluate", str(finished.folder), str(table), "--json", cwd=tmp_path)
    assert json.loads(command.stdout)["rows"] and all(words in command.stderr for words in expected)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        textune.evaluate(finished, table)
    told = "\n".join(str(warning.message) for warning in caught if warning.category is Note)
    assert all(words in told for words in expected), told


@pytest.mark.parametrize("kind", ["encoding", "title", "sheet"])
@pytest.mark.parametrize("words", [("predict",), ("predict", "--json"), ("explain", "--rows", "1", "--json")])
def test_predict_and_explain_tell_how_they_read_a_file(
    words: tuple[str, ...], kind: str, finished: Run, tmp_path: Path
) -> None:
    make, expected = TABLES[kind]
    command = call_textune(words[0], str(finished.folder), str(make(tmp_path)), *words[1:], cwd=tmp_path)
    assert all(command.stderr.count(part) == 1 for part in expected), command.stderr
