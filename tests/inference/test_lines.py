"""Standard input: the same lines in every encoding and however they arrive, and no line of bytes taken for a text."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from textune.errors import DataError
from textune.inference.lines import LineReader
from textune.run import Run
from tiny import call_here

LINES = ["a good film", "", "überaus schön 🤗", "Ċ is no line feed", " a bad one "]


class Slow(io.RawIOBase):
    """A stream that hands over so many bytes at once."""

    def __init__(self, content: bytes, size: int) -> None:
        self._stream, self._size = io.BytesIO(content), size

    def read1(self, size: int) -> bytes:
        return self._stream.read(min(size, self._size))


def read(content: bytes, size: int = 1 << 16, encoding: str | None = None) -> list[str]:
    return [line for batch in LineReader(Slow(content, size), encoding).batches() for line in batch]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1 << 16])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_lines_are_the_same_in_every_encoding(codec: str, last: bool, ending: str, size: int) -> None:
    text = ending.join(LINES) + ending * last
    mark = "" if codec.startswith("utf-8") else "\ufeff"
    assert read((mark + text).encode(codec), size) == LINES


@pytest.mark.parametrize("size", [1, 3, 1 << 16])
def test_lines_are_in_the_encoding_that_was_set(size: int) -> None:
    for codec in ("cp1251", "utf-16-le", "utf-8", "koi8_r"):
        assert read("хороший фильм\n\nплохой\r\n".encode(codec), size, codec) == ["хороший фильм", "", "плохой"]
    assert read("\ufeffplain\n".encode("utf-16-le"), size, "utf-16") == ["plain"]
    with pytest.raises(DataError, match="line 2: is not utf-8, as encoding= says"):
        read("fine\nfür\n".encode("cp1252"), size, "utf-8")
    with pytest.raises(DataError, match="standard input: unknown encoding 'nonsense'"):
        LineReader(io.BytesIO(b""), "nonsense")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0"])
def test_a_mark_alone_is_no_line(content: bytes) -> None:
    assert read(content) == []


@pytest.mark.parametrize("most", [None, 1, 2, 5])
def test_lines_come_in_batches_of_the_size_that_was_asked_for(most: int | None) -> None:
    reader, read_lines = LineReader(io.BytesIO(b"a\nb\nc\nd\ne\0\nf\n")), []
    with pytest.raises(DataError, match="line 5: contains a NUL"):
        for batch in reader.batches(most):
            assert 0 < len(batch) <= (most or 4)
            read_lines += batch
    assert read_lines == ["a", "b", "c", "d"]
    with pytest.raises(DataError, match="line 1: contains a NUL"):
        list(LineReader(io.BytesIO(b"\0\n")).batches(most))


def test_lines_of_windows_are_read_and_counted() -> None:
    reader = LineReader(io.BytesIO("schön\n".encode("cp1252") + "schön\n".encode() + b"\x81\n"))
    assert [line for batch in reader.batches() for line in batch] == ["schön", "schön", "\x81"]
    assert reader.foreign == 2


@pytest.mark.parametrize("size", [1, 4, 1 << 16])
@pytest.mark.parametrize(
    ("content", "before", "where"),
    [
        (b"a good\0 film\n", 0, "line 1: contains a NUL"),
        (b"fine\n\nbad\0", 2, "line 3: contains a NUL"),
        (b"fine\r\ngood film\rbad film\r", 1, "line 2: a bare carriage return"),
        ("\ufeffgood film\rbad film\r".encode("utf-16-le"), 0, "line 1: a bare carriage return"),
        ("a good film\na bad film\n".encode("utf-16-le"), 0, "line 1: contains a NUL"),
        ("a good film\na bad film\n".encode("utf-16-be"), 0, "line 1: contains a NUL"),
        (b"\xff\xfe" + "fine\nhalf\0\n".encode("utf-16-le"), 1, "line 2: contains a NUL"),
        (b"\xff\xfe" + "fine\nhalf".encode("utf-16-le") + b"\0", 1, "line 2: is not UTF-16"),
        (b"\xff\xfe" + "fine\n".encode("utf-16-le") + b"\0\xd8a\0", 1, "line 2: is not UTF-16"),
    ],
)
def test_bytes_that_are_no_text_are_named_after_the_lines_above(
    content: bytes, before: int, where: str, size: int
) -> None:
    read_so_far: list[str] = []
    with pytest.raises(DataError, match=f"standard input, {where}") as caught:
        for batch in LineReader(Slow(content, size)).batches():
            read_so_far += batch
    assert len(read_so_far) == before and caught.value.hint


def test_commands_read_utf_16_and_refuse_nuls(
    finished: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(content: bytes, *settings: str, command: str = "predict") -> tuple[int, str, str]:
        stream: Any = io.TextIOWrapper(io.BytesIO(content))
        monkeypatch.setattr(sys, "stdin", stream)
        return call_here(capsys, command, str(finished.folder), "-", *settings)

    text = "a good film\na bad film\n"
    assert call(text.encode("utf-16"))[:2] == call(text.encode())[:2]
    for command in ("predict", "explain"):
        there = "хороший film\n".encode("cp1251")
        assert "хороший" in call(there, "encoding=cp1251", command=command)[1]
        assert "unknown encoding 'nonsense'" in call(there, "encoding=nonsense", command=command)[2]
        for setting in ("text=body", "text_pair=b", "delimiter=;"):
            code, _, errors = call(there, setting, command=command)
            assert code == 2 and "only applies to a file" in errors
    code, _, errors = call_here(capsys, "predict", str(finished.folder), "a good film", "encoding=cp1251")
    assert code == 2 and "encoding=: only applies to a file or standard input" in errors
    code, _, errors = call(b"a good\0 film\n")
    assert code == 3 and "line 1: contains a NUL character" in errors
