"""Standard input as texts, one per line, answered as the lines arrive."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

from textune.data.encodings import find_mark
from textune.errors import DataError

_BYTES_AT_ONCE = 1 << 16
_LONGEST_MARK = 4


class LineReader:
    """Reads lines as soon as they are there.

    A byte order mark tells UTF-16 and UTF-32. Else lines that are not UTF-8 are read as Windows-1252, or else Latin-1.
    foreign: the number of such lines so far.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._lines = stream, 0
        self.foreign = 0

    def batches(self) -> Iterator[list[str]]:
        """Yield the lines that have arrived since the last batch, blank ones too, without their ends.

        Raises DataError for a line with a NUL, or one that is not in the encoding of the mark, after those above it.
        """
        chunks = self._read_chunks()
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= _LONGEST_MARK or b"\n" in head:
                break
        mark, codec, name = find_mark(head) or (b"", "utf-8", "UTF-8")
        chunks = chain([head[len(mark) :]], chunks)
        batches = self._split_bytes(chunks) if codec == "utf-8" else self._split_decoded(chunks, codec, name)
        for lines in batches:
            nul = next((at for at, line in enumerate(lines) if "\0" in line), len(lines))
            if nul:
                self._lines += nul
                yield lines[:nul]
            if nul < len(lines):
                raise self._refuse("contains a NUL character", "if the text is UTF-16 or UTF-32, save it as UTF-8")

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

    def _split_decoded(self, chunks: Iterable[bytes], codec: str, name: str) -> Iterator[list[str]]:
        """Yield lines of an encoding in which a line feed is more than one byte."""
        decoder, rest = codecs.getincrementaldecoder(codec)("strict"), ""
        for chunk in chain(chunks, [b""]):
            try:
                text, damaged = decoder.decode(chunk, final=not chunk), False
            except UnicodeDecodeError as error:
                text, damaged = bytes(error.object)[: error.start].decode(codec), True
            *lines, rest = (rest + text).split("\n")
            if lines:
                yield [line.removesuffix("\r") for line in lines]
            if damaged:
                raise self._refuse(f"is not {name}, as the byte order mark says", "save the text again as UTF-8")
        if rest:
            yield [rest.removesuffix("\r")]

    def _refuse(self, reason: str, hint: str) -> DataError:
        return DataError(f"standard input, line {self._lines + 1}: {reason}", hint=hint)

    def _decode(self, line: bytes) -> str:
        line = line.removesuffix(b"\r")
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            self.foreign += 1
        try:
            return line.decode("cp1252")
        except UnicodeDecodeError:
            return line.decode("latin-1")
