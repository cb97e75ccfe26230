"""Standard input as texts, one per line, answered as the lines arrive."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

from textune.data.encodings import encoding_as_set, find_mark
from textune.data.lines import BARE_RETURN
from textune.errors import DataError

_BYTES_AT_ONCE = 1 << 16
_LONGEST_MARK = 4
_NAME = "standard input"
_NUL = ("contains a NUL character", "if the text is UTF-16 or UTF-32, save it as UTF-8, or set encoding=")


def check_encoding(encoding: str | None) -> None:
    """Raise DataError for an unknown encoding."""
    if encoding is not None:
        encoding_as_set(encoding, _NAME, None)


class LineReader:
    """Reads lines as soon as they are there.

    encoding: as the user set it. Without it a byte order mark tells UTF-16 and UTF-32, and other lines that are not
    UTF-8 are read as Windows-1252, or else Latin-1.
    foreign: the number of such lines so far. Raises DataError for an unknown encoding.
    """

    def __init__(self, stream: BinaryIO, encoding: str | None = None) -> None:
        check_encoding(encoding)
        self._stream, self._encoding, self._lines = stream, encoding, 0
        self.foreign = 0

    def batches(self, most_lines: int | None = None) -> Iterator[list[str]]:
        """Yield the lines that have arrived since the last batch, blank ones too, without their ends.

        most_lines: in one batch; None: all that have arrived.
        Raises DataError for a line with a NUL or a bare carriage return, or one that is not in its encoding
        (as set, or of the mark), after those above it.
        """
        chunks = self._read_chunks()
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= _LONGEST_MARK or b"\n" in head:
                break
        mark = find_mark(head)
        if self._encoding is not None:
            chosen = encoding_as_set(self._encoding, _NAME, mark)
            chunks = chain([head[chosen.mark_bytes :]], chunks)
            batches = self._split_decoded(chunks, chosen.name, (chosen.name, "encoding= says"))
        else:
            skipped, codec, name = mark or (b"", "utf-8", "UTF-8")
            chunks, told = chain([head[len(skipped) :]], chunks), (name, "the byte order mark says")
            batches = self._split_bytes(chunks) if codec == "utf-8" else self._split_decoded(chunks, codec, told)
        for lines in batches:
            bad = next((at for at, line in enumerate(lines) if "\0" in line or "\r" in line), len(lines))
            good, size = lines[:bad], most_lines or len(lines)
            self._lines += bad
            for begin in range(0, bad, size):
                yield good[begin : begin + size]
            if bad < len(lines):
                raise self._refuse(*(_NUL if "\0" in lines[bad] else BARE_RETURN))

    def describe_foreign(self) -> str:
        """Say how many lines were not UTF-8."""
        if self.foreign == 1:
            return "1 line is not UTF-8; it was read as Windows-1252 (encoding= sets another)"
        return f"{self.foreign:,} lines are not UTF-8; they were read as Windows-1252 (encoding= sets another)"

    def _read_chunks(self) -> Iterator[bytes]:
        read = getattr(self._stream, "read1", self._stream.read)  # read1 returns what is there and waits for no more
        while chunk := read(_BYTES_AT_ONCE):
            yield chunk

    def _split_bytes(self, chunks: Iterable[bytes]) -> Iterator[list[str]]:
        """Yield lines that are each decoded on its own."""
        rest = b""
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                yield [self._decode(line) for line in lines]
        if rest:
            yield [self._decode(rest)]

    def _split_decoded(self, chunks: Iterable[bytes], codec: str, told: tuple[str, str]) -> Iterator[list[str]]:
        """Yield lines of an encoding that was set, or in which a line feed is more than one byte.

        told: what it is called, and what says so.
        """
        decoder, rest = codecs.getincrementaldecoder(codec)("strict"), ""
        for chunk in chain(chunks, [b""]):
            try:
                text, damaged = decoder.decode(chunk, final=not chunk), False
            except UnicodeDecodeError as error:
                text, damaged = bytes(error.object)[: error.start].decode(codec), True
            *lines, rest = (rest + text).split("\n")
            if lines:
                yield [line.rstrip("\r") for line in lines]
            if damaged:
                raise self._refuse(f"is not {told[0]}, as {told[1]}", "save the text again as UTF-8")
        if rest:
            yield [rest.rstrip("\r")]

    def _refuse(self, reason: str, hint: str) -> DataError:
        return DataError(f"{_NAME}, line {self._lines + 1}: {reason}", hint=hint)

    def _decode(self, line: bytes) -> str:
        line = line.rstrip(b"\r")
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            self.foreign += 1
        try:
            return line.decode("cp1252")
        except UnicodeDecodeError:
            return line.decode("latin-1")
