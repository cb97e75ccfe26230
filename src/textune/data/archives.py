"""Limits on what a spreadsheet's zip archive unpacks to, checked before the spreadsheet library opens it."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from textune.data.lines import check_expansion
from textune.data.source import ReadOptions, too_large
from textune.errors import DataError

MAX_CELLS = 50_000_000
"""Cells in a sheet's bounding box. The spreadsheet library keeps all of them in memory, even empty ones."""
_BLOCK = 1 << 20
_OVERLAP = 256
_QUOTED = rb"""(?:[^<>"']|"[^<"]*"|'[^<']*')*"""  # without "<", so that no search goes beyond the next tag
_TAG = re.compile(rb"<" + _QUOTED + rb">")
_ROW_OR_CELL = re.compile(rb"<(?:[\w.-]+:)?(row|c)((?:\s" + _QUOTED + rb")?)/?>")
_POSITION = re.compile(rb"""\sr\s*=\s*["']\s*([A-Za-z]*)([0-9]+)""")
_MOST_DIGITS = 9
_STRINGS = re.compile(rb"<(?:[\w.-]+:)?sst\b")
_VALUE = re.compile(
    rb"<(?:[\w.-]+:)?c(\s" + _QUOTED + rb")>\s*<(?:[\w.-]+:)?v(?:\s" + _QUOTED + rb")?>\s*([0-9]{1,9})<"
)
_SHARED = re.compile(rb"""\st\s*=\s*["']s["']""")
_SHARED_END = re.compile(rb"</(?:\w+:)?si\s*>")


def check_spreadsheet(path: Path, name: str, options: ReadOptions) -> None:
    """Unpack an .xlsx or .ods in blocks without storing it; raise DataError if it is too large."""
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
            members = archive.infolist()
            _check_sizes(stream, members, path.stat().st_size, name, options)
            # a sheet and the strings may have any file name, so every member is looked at
            strings = [m for m in members if _STRINGS.search(next(_inflate(stream, m), b""))]
            lengths = max((_shared_lengths(stream, m) for m in strings), key=sum, default=[])
            for sheet in (m for m in members if m not in strings):
                _check_cells(_inflate(stream, sheet), name)
                if lengths:
                    _check_strings(_inflate(stream, sheet), lengths, name, options)
            for content in (m for m in members if m.filename == "content.xml"):
                _check_open_document(_inflate(stream, content), name, options)
    except (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, EOFError) as error:
        raise DataError(f"{name}: damaged, or not a spreadsheet: {error}", hint="save the file again") from error


def _check_sizes(
    stream: BinaryIO, members: list[zipfile.ZipInfo], packed: int, name: str, options: ReadOptions
) -> None:
    unpacked = 0
    for member in members:
        if member.flag_bits & 1:
            raise DataError(f"{name}: is password-protected", hint="save it without a password")
        for block in _inflate(stream, member):  # the sizes in the archive's headers cannot be trusted
            unpacked += len(block)
            check_expansion(name, unpacked, packed, options)


def _inflate(stream: BinaryIO, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield a member's content in blocks, ignoring the size in the archive's header."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{member.filename} uses an unsupported compression method")
    stream.seek(member.header_offset)
    header = stream.read(30)
    name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
    stream.seek(member.header_offset + 30 + name_bytes + extra_bytes)
    left = member.compress_size
    inflater = zlib.decompressobj(-zlib.MAX_WBITS) if member.compress_type == zipfile.ZIP_DEFLATED else None
    while left > 0 and (packed := stream.read(min(left, _BLOCK))):
        left -= len(packed)
        if inflater is None:
            yield packed
            continue
        while packed:
            yield inflater.decompress(packed, _BLOCK)
            packed = inflater.unconsumed_tail
    if inflater is not None:
        yield inflater.flush()


def _overlapping(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield each block prefixed with the end of the previous one, and the length of that prefix in bytes."""
    tail = b""
    for block in blocks:
        yield tail + block, len(tail)
        tail = (tail + block)[-_OVERLAP:]


def _shared_lengths(stream: BinaryIO, member: zipfile.ZipInfo) -> list[int]:
    lengths: list[int] = []
    position = last = 0
    for window, prefix in _overlapping(_inflate(stream, member)):
        for match in _SHARED_END.finditer(window):
            if match.end() > prefix:
                end = position + match.end() - prefix
                lengths.append(end - last)
                last = end
        position += len(window) - prefix
    return lengths


def _check_cells(blocks: Iterator[bytes], name: str) -> None:
    """Raise DataError where the cells of a sheet lie too far apart. A cell without a place follows the one before."""
    row = column = last_row = last_column = 0
    for tags in _whole_tags(blocks):
        for match in _ROW_OR_CELL.finditer(tags):
            place = _POSITION.search(match[2])
            if match[1] == b"row":
                row, column = _row_number(place[2]) if place else row + 1, 0
                continue
            if place and place[1]:
                row, column = _row_number(place[2]), _column_number(place[1].upper())
            else:
                column += 1
            last_row, last_column = max(last_row, row), max(last_column, column)
        if last_row * last_column > MAX_CELLS:
            raise _too_many_cells(name, last_row, last_column)


def _whole_tags(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content with each tag in one piece; raise BadZipFile for a tag of more than a block."""
    rest = b""
    for block in blocks:
        content = rest + block
        start = content.rfind(b"<")
        cut = len(content) if start < 0 or _TAG.match(content, start) else start
        yield content[:cut]
        rest = content[cut:]
        if len(rest) > _BLOCK:
            raise zipfile.BadZipFile("a tag has no end")
    yield rest


def _check_strings(blocks: Iterator[bytes], lengths: list[int], name: str, options: ReadOptions) -> None:
    """Raise DataError where shared strings, each of which a few bytes name, add up to too much."""
    decoded = 0
    for window, prefix in _overlapping(blocks):
        for match in _VALUE.finditer(window):
            number = int(match[2])
            if match.end() > prefix and number < len(lengths) and _SHARED.search(match[1]):
                decoded += lengths[number]
        if decoded > options.max_bytes:
            raise too_large(name, options)


def _row_number(digits: bytes) -> int:
    return int(digits.lstrip(b"0")[: _MOST_DIGITS + 1] or b"0")


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters[:_MOST_DIGITS]:
        number = number * 26 + letter - 64
    return number


def _too_many_cells(name: str, rows: int, columns: int) -> DataError:
    return DataError(
        f"{name}: a sheet spans {rows:,} rows and {columns:,} columns, more than {MAX_CELLS:,} cells",
        hint="delete the stray cells far from the table, or save it as CSV",
    )


def _check_open_document(blocks: Iterator[bytes], name: str, options: ReadOptions) -> None:
    """Count the cells of an .ods including repetitions: a few bytes can stand for billions of cells."""
    from xml.parsers import expat

    count = _RepeatedCells(name, options)
    parser = expat.ParserCreate()
    parser.StartElementHandler = count.start
    parser.EndElementHandler = count.end
    parser.CharacterDataHandler = count.text
    parser.EntityDeclHandler = count.entity
    try:
        for block in blocks:
            parser.Parse(block)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise DataError(f"{name}: damaged, or not a spreadsheet: {error}", hint="save the file again") from error


class _RepeatedCells:
    """Sum of cells and characters over the rows that contain text, times their repetitions."""

    def __init__(self, name: str, options: ReadOptions) -> None:
        self._name, self._options = name, options
        self._cells = self._chars = 0
        self._row_repeats = self._cell_repeats = 1
        self._row_cells = self._row_chars = self._cell_chars = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Open a row or a cell."""
        if tag.endswith("table-row"):
            self._row_repeats = _repeats(attributes, "number-rows-repeated")
            self._row_cells = self._row_chars = 0
        elif tag.endswith("table-cell"):
            self._cell_repeats = _repeats(attributes, "number-columns-repeated")
            # some values appear only in an attribute
            self._cell_chars = sum(len(v) for k, v in attributes.items() if k.endswith("value"))

    def text(self, content: str) -> None:
        """Count the text of a cell."""
        self._cell_chars += len(content)

    def end(self, tag: str) -> None:
        """Close a cell or a row; raise DataError over the limits."""
        if tag.endswith("table-cell") and self._cell_chars:
            self._row_cells += self._cell_repeats
            self._row_chars += self._cell_repeats * self._cell_chars
            self._cell_chars = 0
        elif tag.endswith("table-row"):
            self._cells += self._row_repeats * self._row_cells
            self._chars += self._row_repeats * self._row_chars
            if self._cells > MAX_CELLS:
                raise DataError(f"{self._name}: a sheet has more than {MAX_CELLS:,} cells", hint="save it as CSV")
            if self._chars > self._options.max_bytes:
                raise too_large(self._name, self._options)

    def entity(self, *declaration: Any) -> None:
        """Refuse entities, which no spreadsheet program writes."""
        raise DataError(f"{self._name}: declares XML entities, which spreadsheets do not use")


def _repeats(attributes: dict[str, str], ending: str) -> int:
    value = next((v for k, v in attributes.items() if k.endswith(ending)), "1")
    return int(value) if value.isdecimal() and len(value) < 12 else MAX_CELLS + 1
