"""CSV, TSV and plain text files: delimiter and encoding are found and said, every row is checked."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import pyarrow as pa

from textune.data.cells import text_array
from textune.data.encodings import Encoding, find_encoding
from textune.data.lines import BadLineError, decoded_lines, open_bytes
from textune.data.source import Location, Reading, ReadOptions, cell_too_long, file_source, sources
from textune.errors import DataError

_CANDIDATES = (",", ";", "\t", "|")
_SHOWN = {"\t": "tab", ",": "','", ";": "';'", "|": "'|'"}
_SAMPLE_LINES = 200
_TEXT_FILE_HEADERS = {"text", "sentence", "review", "content", "message", "tweet", "label", "labels", "class"}


@dataclass(frozen=True)
class _Form:
    """How a file's lines become cells: delimiter None means that each line is one text."""

    delimiter: str | None
    quotes: bool = True
    note: str | None = None


@dataclass(frozen=True)
class _File:
    """A delimited file and what is known about it."""

    location: Location
    options: ReadOptions
    encoding: Encoding

    @property
    def name(self) -> str:
        return self.location.name

    def lines(self) -> Iterator[str]:
        with open_bytes(self.location.path, self.options) as stream:
            yield from decoded_lines(stream, self.encoding, self.options)


def _open(location: Location, options: ReadOptions, chunk_rows: int) -> Reading:
    name = location.name
    if not location.path.stat().st_size:
        raise DataError(f"{name}: the file is empty", hint="give a table with a header and at least one row")
    encoding = find_encoding(lambda: open_bytes(location.path, options), name, options.encoding)
    file = _File(location, options, encoding)
    form = _find_form(file)
    reading = Reading(name, iter(()), [note for note in (encoding.note, form.note) if note])
    reading.chunks = _read_chunks(file, form, chunk_rows, reading.notes)
    return reading


sources.register("delimited")(file_source((".csv", ".tsv", ".tab", ".txt"), _open))


# ---- finding the form --------------------------------------------------------------------------------------------


def _find_form(file: _File) -> _Form:
    form = _given_form(file) if file.options.delimiter else _detected_form(file)
    if (
        form.delimiter == "\t"
        and not _rows_are_whole(file, form)
        and _rows_are_whole(file, replace(form, quotes=False))
    ):
        note = "quotes are kept as plain characters: with them as delimiters the rows do not fit the header"
        return replace(form, quotes=False, note=f"{form.note}; {note}" if form.note else note)
    return form


def _given_form(file: _File) -> _Form:
    given = file.options.delimiter or ""
    delimiter = {"tab": "\t", "\\t": "\t"}.get(given, given)
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise DataError(
            f"{file.name}: delimiter '{delimiter}' is not one character", hint="such as delimiter=';' or delimiter=tab"
        )
    return _Form(delimiter)


def _detected_form(file: _File) -> _Form:
    try:
        sample = list(islice(file.lines(), _SAMPLE_LINES))
    except BadLineError:
        sample = []  # the reading proper says where
    header = next((line for line in sample if line.strip()), "")
    widths = {delimiter: _row_widths(sample, delimiter) for delimiter in _CANDIDATES}
    found = [d for d in _CANDIDATES if widths[d] and widths[d][0] > 1]
    usual = {".tsv": "\t", ".tab": "\t", ".csv": ","}.get(file.location.suffix)
    if usual is None and not _looks_like_header(header, found):
        if len(set(widths["\t"])) == 1 and "\t" in found and len(sample) > 1:
            raise DataError(
                f"{file.name}: every line has {widths[chr(9)][0]} tab-separated fields, but the first names no columns",
                hint="put a line such as label<TAB>text on top; or set delimiter=tab where the first line is one",
            )
        return _Form(None, note="each line is one text (no header line with a delimiter was found)")
    whole = [d for d in found if len(set(widths[d])) == 1]
    candidates = whole if len(whole) == 1 or (whole and usual not in found) else found
    if len(candidates) > 1 and usual not in candidates:
        names = " or ".join(_SHOWN[d] for d in candidates)
        raise DataError(f"{file.name}: the delimiter could be {names}", hint="set delimiter= to the right one")
    chosen = usual if usual in candidates else candidates[0] if candidates else usual or ","
    return _Form(chosen, note=None if chosen == usual else f"delimiter {_SHOWN[chosen]} detected")


def _row_widths(sample: list[str], delimiter: str) -> list[int]:
    widths = []
    try:
        for cells in csv.reader(sample, delimiter=delimiter, strict=True):
            if cells:
                widths.append(len(cells))
    except csv.Error:
        return [*widths[:1], -1]  # the header counts, the rows do not fit
    # the last record may be cut by the end of the sample
    return widths[:-1] if len(sample) == _SAMPLE_LINES and len(widths) > 1 else widths


def _looks_like_header(line: str, delimiters: list[str]) -> bool:
    names = [line] if not delimiters else [n for d in delimiters for n in line.split(d)]
    return any(name.strip().strip('"').casefold() in _TEXT_FILE_HEADERS for name in names)


def _rows_are_whole(file: _File, form: _Form) -> bool:
    try:
        rows = _rows(file, form, [])
        next(rows)
        return all(True for _ in rows)
    except (DataError, StopIteration):
        return False


# ---- reading -----------------------------------------------------------------------------------------------------


def _read_chunks(file: _File, form: _Form, chunk_rows: int, notes: list[str]) -> Iterator[pa.Table]:
    rows = _rows(file, form, notes)
    header = next(rows, None)
    if header is None:
        raise DataError(f"{file.name}: the file is empty", hint="give a table with a header and at least one row")
    columns = ["text"] if form.delimiter is None else _column_names(header, file.name, notes)
    done = 0
    while batch := list(islice(rows, chunk_rows)):

        def where(position: int, done: int = done) -> str:
            return f"{file.name}, row {done + position + 1}"

        cells = zip(*batch, strict=True)
        arrays = [text_array([cell or None for cell in column], where) for column in cells]
        yield pa.table(arrays, names=columns)
        done += len(batch)


def _column_names(header: list[str], name: str, notes: list[str]) -> list[str]:
    names = [cell.strip() for cell in header]
    for position, column in enumerate(names):
        if not column:
            names[position] = f"column_{position + 1}"
            notes.append(f"column {position + 1} has no name and is called '{names[position]}'")
    refuse_duplicates(names, name)
    return names


def refuse_duplicates(columns: list[str], name: str) -> None:
    """Raise DataError where two columns have one name."""
    twice = (
        sorted({column for column in columns if columns.count(column) > 1}) if len(set(columns)) < len(columns) else []
    )
    if twice:
        raise DataError(
            f"{name}: the column name '{twice[0]}' comes {columns.count(twice[0])} times",
            hint="give every column a name of its own; a first row that is no header needs one above it",
        )


def _rows(file: _File, form: _Form, notes: list[str]) -> Iterator[list[str]]:
    """Yield the header (an empty one where each line is a text) and then every row, as wide as the header."""
    lines = file.lines()
    if form.delimiter is None:
        yield [""]
        reader: Any = _PlainLines(lines)
    else:
        # the module's limit is one for the whole process: it is only ever raised
        csv.field_size_limit(max(csv.field_size_limit(), file.options.max_cell_chars))
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if form.quotes else csv.QUOTE_NONE
        reader = csv.reader(lines, delimiter=form.delimiter, quoting=quoting, strict=form.quotes)
    width = 0 if form.delimiter is not None else 1
    row = 0 if width else -1
    blank = 0
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except (csv.Error, BadLineError) as error:
            raise _bad_row(file, row + 1, start, error) from None
        if not cells:
            if width != 1:
                blank += 1
                continue
            cells = [""]
        row += 1
        if not width:
            width = len(cells)
        elif len(cells) != width:
            raise _ragged(file, form, row, start, len(cells), width)
        yield cells
    if blank:
        notes.append(f"{blank} blank line{'s' if blank > 1 else ''} skipped")


class _PlainLines:
    """Lines as one-cell rows, with the csv reader's line count."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self.line_num = lines, 0

    def __next__(self) -> list[str]:
        line = next(self._lines)
        self.line_num += 1
        return [line.removesuffix("\n").removesuffix("\r")]


def _where(file: _File, row: int, line: int) -> str:
    return f"{file.name}, row {row} (line {line})" if row > 0 else f"{file.name}, header (line {line})"


def _ragged(file: _File, form: _Form, row: int, line: int, cells: int, width: int) -> DataError:
    delimiter = _SHOWN.get(form.delimiter or "", f"'{form.delimiter}'")
    hint = (
        f"put a cell that holds {delimiter} between double quotes; or set delimiter="
        if cells > width
        else "add the missing cells; an empty cell still needs its delimiter"
    )
    plural = "" if cells == 1 else "s"
    return DataError(f"{_where(file, row, line)}: {cells} field{plural} where the header has {width}", hint=hint)


def _bad_row(file: _File, row: int, line: int, error: Exception) -> DataError:
    where = _where(file, row, line)
    if isinstance(error, BadLineError):
        return DataError(f"{where}: {error.reason}", hint=error.hint)
    said = str(error)
    if "field larger" in said:
        return cell_too_long(file.name, where.removeprefix(f"{file.name}, "), file.options.max_cell_chars)
    if "unexpected end" in said:
        return DataError(
            f"{where}: a quote is opened and never closed",
            hint='close it, or write a quote inside a cell as ""',
        )
    if "new-line" in said:
        return DataError(
            f"{where}: a bare carriage return (CR) stands outside quotes",
            hint="save the file with Unix or Windows line ends, or put the cell between double quotes",
        )
    if "expected after" in said:
        return DataError(
            f"{where}: text follows a closing quote",
            hint='write a quote inside a cell as "", or remove the quotes',
        )
    return DataError(f"{where}: {said}")
