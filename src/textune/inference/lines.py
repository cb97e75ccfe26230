"""Standard input as texts, one per line, answered as the lines arrive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_BYTES_AT_ONCE = 1 << 16
_BYTE_ORDER_MARK = "\ufeff"


class LineReader:
    """Reads lines as soon as they are there. Lines that are not UTF-8 are read as Windows-1252, or else Latin-1.

    foreign: the number of such lines so far.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._first = stream, True
        self.foreign = 0

    def batches(self) -> Iterator[list[str]]:
        """Yield the lines that have arrived since the last batch, blank ones too, without their ends."""
        rest = b""
        read = getattr(self._stream, "read1", self._stream.read)  # read1 returns what is there and waits for no more
        while chunk := read(_BYTES_AT_ONCE):
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                yield [self._decode(line) for line in lines]
        if rest:
            yield [self._decode(rest)]

    def _decode(self, line: bytes) -> str:
        line = line.removesuffix(b"\r")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            self.foreign += 1
            try:
                text = line.decode("cp1252")
            except UnicodeDecodeError:
                text = line.decode("latin-1")
        if self._first:
            self._first = False
            text = text.removeprefix(_BYTE_ORDER_MARK)
        return text
