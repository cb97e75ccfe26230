"""Decoded lines of a text file of any size, split at line feeds only, within limits."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from textune.data.encodings import BLOCK, Encoding
from textune.data.source import ReadOptions, too_large
from textune.errors import DataError

MAX_EXPANSION = 200
"""Text compresses 3 to 20 times; a file that expands further is a decompression bomb."""
FREE_BYTES = 64 * 2**20
"""Bytes that may be unpacked before the expansion ratio is checked."""


BARE_RETURN = ("a bare carriage return (CR)", "save the text with Unix or Windows line endings")
"""What is wrong with a line that an old Mac wrote, or a cell with one in it; and what to do."""


class BadLineError(ValueError):
    """What is wrong with the next line; the reader adds its position."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


def open_bytes(path: Path, options: ReadOptions) -> BinaryIO:
    """Open a plain or gzip file for reading; the output of gzip is capped."""
    if path.suffix.lower() != ".gz":
        return path.open("rb")
    return cast(BinaryIO, _CappedGzip(path, options))


class _CappedGzip:
    """A gzip file that refuses to expand too far."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._stream = gzip.open(path, "rb")  # noqa: SIM115
        self._name, self._options = path.name, options
        self._packed_bytes = max(path.stat().st_size, 1)
        self._read_bytes = 0

    def read(self, size: int) -> bytes:
        try:
            block = self._stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{self._name}: the gzip file is damaged: {error}", hint="compress it again") from error
        self._read_bytes += len(block)
        check_expansion(self._name, self._read_bytes, self._packed_bytes, self._options)
        return block

    def __enter__(self) -> _CappedGzip:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()


def check_expansion(name: str, unpacked: int, packed: int, options: ReadOptions) -> None:
    """Raise DataError if the unpacked bytes exceed max_bytes, or far exceed what text compresses to."""
    if unpacked > options.max_bytes:
        raise too_large(name, options)
    if unpacked > FREE_BYTES and unpacked > MAX_EXPANSION * packed:
        raise DataError(
            f"{name}: unpacks to more than {MAX_EXPANSION} times its size, which text does not do",
            hint="if you trust the file, save it as plain CSV or JSON lines",
        )


def decoded_lines(
    stream: BinaryIO, encoding: Encoding, options: ReadOptions, max_line_chars: int | None = None
) -> Iterator[str]:
    """Yield the lines with their line feeds; carriage returns are kept.

    max_line_chars: by default 16 times max_cell_chars.
    Raises BadLineError for a line that contains a NUL or undecodable bytes, or is too long.
    """
    decoder = codecs.getincrementaldecoder(encoding.name)("strict")
    longest = max_line_chars or 16 * options.max_cell_chars
    stream.read(encoding.mark_bytes)
    tail, total, failure, first = "", 0, None, True
    while failure is None:
        block = stream.read(BLOCK)
        total += len(block)
        if total > options.max_bytes:
            raise BadLineError(f"the file is larger than {options.max_bytes / 2**30:.3g} GiB", "split it")
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            failure = _undecodable(error, encoding)
            text = bytes(error.object)[: error.start].decode(encoding.name, "replace")
        if first and text:  # a second byte order mark, which would become part of a column's name
            text, first = text.lstrip("\ufeff"), False
        tail += text
        if "\n" in text or len(tail) > longest or not block:
            *lines, tail = tail.split("\n")
            has_nul = "\0" in text
            for line in lines:
                if has_nul and "\0" in line:
                    raise _nul()
                yield line + "\n"
        if "\0" in tail:
            raise _nul()
        if len(tail) > longest:
            raise BadLineError(f"a line is longer than {longest:,} characters", "split it into several rows")
        if not block:
            break
    if failure:
        raise failure
    if tail:
        yield tail


def _nul() -> BadLineError:
    return BadLineError("contains a NUL character", "remove it; if the file is UTF-16, set encoding=utf-16-le")


def _undecodable(error: UnicodeDecodeError, encoding: Encoding) -> BadLineError:
    byte = bytes(error.object)[error.start]
    return BadLineError(f"byte 0x{byte:02x} is not {encoding.name}", "set encoding= to the file's encoding")
