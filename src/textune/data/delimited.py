"""CSV, TSV and plain text files: detect and report the delimiter and encoding, and check every row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import pyarrow as pa

from textune.data import fasttext
from textune.data.cells import text_array
from textune.data.encodings import Encoding, find_encoding
from textune.data.header import (
    MOST_LINES,
    describe_skipped,
    find_header,
    has_known_name,
    is_as_wide,
    read_separator_line,
    split_lines,
)
from textune.data.lines import BARE_RETURN, BadLineError, decoded_lines, open_bytes
from textune.data.quotes import find_swallowed
from textune.data.source import Location, Reading, ReadOptions, cell_too_long, file_source, sources
from textune.errors import DataError

_CANDIDATES = (",", ";", "\t", "|")
_SHOWN = {"\t": "tab", ",": "','", ";": "';'", "|": "'|'"}
_SAMPLE_LINES = 200
_TEXT_FILE_HEADERS = {"text", "sentence", "review", "content", "message", "tweet", "label", "labels", "class"}


@dataclass(frozen=True)
class _Form:
    """How lines split into cells; delimiter None: each line is one text. labels: it begins with its labels."""

    delimiter: str | None
    quotes: bool = True
    note: str | None = None
    labels: bool = False


@dataclass(frozen=True)
class _File:
    """A delimited file, its read options and its encoding; lines_above: the number of lines above the header."""

    location: Location
    options: ReadOptions
    encoding: Encoding
    lines_above: int = 0

    @property
    def name(self) -> str:
        return self.location.name

    def lines(self) -> Iterator[str]:
        """Yield the lines from the header on."""
        with open_bytes(self.location.path, self.options) as stream:
            yield from islice(decoded_lines(stream, self.encoding, self.options), self.lines_above, None)


def _open(location: Location, options: ReadOptions, chunk_rows: int) -> Reading:
    name = location.name
    if not location.path.stat().st_size:
        raise DataError(f"{name}: the file is empty", hint="give a table with a header and at least one row")
    encoding = find_encoding(lambda: open_bytes(location.path, options), name, options.encoding)
    file, notes = _skip_to_header(_File(location, options, encoding))
    form = _find_form(file)
    reading = Reading(name, iter(()), [note for note in (encoding.note, *notes, form.note) if note])
    reading.chunks = _read_chunks(file, form, chunk_rows, reading.notes)
    return reading


sources.register("delimited")(
    file_source((".csv", ".tsv", ".tab", ".txt"), _open, ("delimiter", "encoding"), gzip=True)
)


def _skip_to_header(file: _File) -> tuple[_File, list[str]]:
    """Return the file from its header on, and notes about the lines above: sep=, comments, titles and blank lines."""
    try:
        sample = list(islice(file.lines(), MOST_LINES))
    except BadLineError:
        return file, []  # reported with its line number when the file is read
    above, notes, named = 0, [], read_separator_line(sample[0]) if sample else None
    if named is not None:
        above, sample = 1, sample[1:]
        if named and not file.options.delimiter:
            file = replace(file, options=replace(file.options, delimiter=named))
        notes.append(f"line 1 is Excel's and names the delimiter {_SHOWN.get(named, repr(named))}")
    delimiters = (_form_as_set(file).delimiter or ",",) if file.options.delimiter else _CANDIDATES
    found = [(find_header(rows), rows) for d in delimiters if (rows := split_lines(sample, d))]
    plain = file.location.suffix == ".txt" and not file.options.delimiter
    found = [
        (header, rows)
        for header, rows in found
        if len(rows[header[0]]) > 1 and (has_known_name(rows[header[0]]) or not plain)
    ]
    if found:
        # the delimiter that finds the header with the most columns
        (position, kinds), rows = max(found, key=lambda item: (has_known_name(item[1][item[0][0]]), -item[0][0]))
        if any(kind != "blank" for kind in kinds) or any(line.strip("\r\n") for line in sample[:position]):
            below = replace(file, lines_above=above + position)
            if not plain or (is_as_wide(rows[position], rows[position + 1 :]) and _has_delimiter(below)):
                return below, notes + describe_skipped(rows, kinds, "line", above + 1)
    return replace(file, lines_above=above), notes


def _has_delimiter(file: _File) -> bool:
    """Return whether a plain text file is a table, not one text per line."""
    try:
        return _detect_form(file).delimiter is not None
    except DataError:
        return False


# ---- detecting the delimiter --------------------------------------------------------------------------------------


def _find_form(file: _File) -> _Form:
    form = _form_as_set(file) if file.options.delimiter else _detect_form(file)
    if (
        form.delimiter == "\t"
        and not _rows_are_whole(file, form)
        and _rows_are_whole(file, replace(form, quotes=False))
    ):
        return _with_plain_quotes(form)
    return form if form.delimiter is None else _check_quotes(file, form)


def _with_plain_quotes(form: _Form) -> _Form:
    return _add_note(
        replace(form, quotes=False), "quotes are read as plain characters: treating them as quoting breaks the rows"
    )


def _add_note(form: _Form, note: str) -> _Form:
    return replace(form, note=f"{form.note}; {note}" if form.note else note)


def _check_quotes(file: _File, form: _Form) -> _Form:
    """Return the form, with quotes as plain characters where they would swallow rows of a tab-separated file.

    Raises DataError where they do in another, in which quotes may be needed elsewhere.
    """
    assert form.delimiter is not None
    _allow_long_cells(file)
    try:
        swallowed = find_swallowed(file.lines, form.delimiter)
    except (csv.Error, BadLineError, DataError):
        return form  # reported with its row when the file is read
    if swallowed is None or not (swallowed.rows or swallowed.whole):
        return form
    if form.delimiter == "\t" and swallowed.whole and _rows_are_whole(file, replace(form, quotes=False)):
        return _with_plain_quotes(form)
    where, below = _where(file, swallowed.row, file.lines_above + swallowed.line), swallowed.lines - 1
    if not swallowed.rows:
        return _add_note(
            form,
            f"{where} has a quoted cell of {swallowed.lines} lines, each of which could be a row; if its quotes are "
            'plain characters, write them twice, in a cell in quotes: """Hello"" she said"',
        )
    lines = "line below it, which is a row of its own" if below == 1 else f"{below} lines below it, which are rows"
    raise DataError(
        f"{where}: a quote is opened that takes in the {lines}",
        hint='remove the quote, or write it twice, in a cell in quotes: """Hello"" she said"',
    )


def _form_as_set(file: _File) -> _Form:
    setting = file.options.delimiter or ""
    delimiter = {"tab": "\t", "\\t": "\t"}.get(setting, setting)
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise DataError(
            f"{file.name}: delimiter '{delimiter}' is not a single character",
            hint="for example delimiter=';' or delimiter=tab",
        )
    return _Form(delimiter)


def _detect_form(file: _File) -> _Form:
    try:
        sample = list(islice(file.lines(), _SAMPLE_LINES))
    except BadLineError:
        sample = []  # reported with its line number when the file is read
    header = next((line for line in sample if line.strip()), "")
    widths = {delimiter: _row_widths(sample, delimiter) for delimiter in _CANDIDATES}
    splitting = [d for d in _CANDIDATES if widths[d] and widths[d][0] > 1]
    default = {".tsv": "\t", ".tab": "\t", ".csv": ","}.get(file.location.suffix)
    if default is None and fasttext.are_labelled(sample):
        return _Form(
            None, note="fastText's format: each line begins with its labels, such as __label__spam", labels=True
        )
    if default is None and not _looks_like_header(header, {d: len(set(widths[d])) == 1 for d in splitting}):
        if len(set(widths["\t"])) == 1 and "\t" in splitting and len(sample) > 1:
            raise DataError(
                f"{file.name}: every line has {widths[chr(9)][0]} tab-separated fields, but the first is not a header",
                hint="add a first line such as label<TAB>text, or set delimiter=tab if the first line is the header",
            )
        return _Form(None, note="each line is one text (no header with a delimiter found)")
    consistent = [d for d in splitting if len(set(widths[d])) == 1]
    candidates = consistent if len(consistent) == 1 or (consistent and default not in splitting) else splitting
    if len(candidates) > 1 and default not in candidates:
        names = " or ".join(_SHOWN[d] for d in candidates)
        raise DataError(f"{file.name}: the delimiter could be {names}", hint="set delimiter= to the right one")
    delimiter = default if default in candidates else candidates[0] if candidates else default or ","
    return _Form(delimiter, note=None if delimiter == default else f"delimiter {_SHOWN[delimiter]} detected")


def _row_widths(sample: list[str], delimiter: str) -> list[int]:
    widths = []
    try:
        for cells in csv.reader(sample, delimiter=delimiter, strict=True):
            if cells:
                widths.append(len(cells))
    except csv.Error:
        return [*widths[:1], -1]  # the rows do not parse, but the header's width is known
    # the sample may cut the last record short
    return widths[:-1] if len(sample) == _SAMPLE_LINES and len(widths) > 1 else widths


def _looks_like_header(line: str, delimiters: Mapping[str, bool]) -> bool:
    """Return whether the first line of a plain text file names columns.

    delimiters: those that split it, and whether they split all lines alike. Where they do not, the line is a header
    only if it has a word in each cell and no sentence, so that the odd row is named.
    """
    cells = {d: [cell.strip().strip('"') for cell in line.split(d)] for d in delimiters} or {"": [line.strip(' "\r\n')]}
    return any(
        any(name.casefold() in _TEXT_FILE_HEADERS for name in names)
        and (delimiters.get(d, True) or all(len(name.split()) <= 1 for name in names))
        for d, names in cells.items()
    )


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
    if form.labels:
        several, columns = fasttext.has_several_labels(file.lines()), list(fasttext.COLUMNS)
        rows = (list(fasttext.read_line(line, several)) for (line,) in rows)
    rows_before = 0
    while batch := list(islice(rows, chunk_rows)):

        def where(position: int, rows_before: int = rows_before) -> str:
            return f"{file.name}, row {rows_before + position + 1}"

        cells = zip(*batch, strict=True)
        arrays = [text_array([cell or None for cell in column], where) for column in cells]
        yield pa.table(arrays, names=columns)
        rows_before += len(batch)


def _column_names(header: list[str], name: str, notes: list[str]) -> list[str]:
    names = [cell.strip() for cell in header]
    for position, column in enumerate(names):
        if not column:
            names[position] = f"column_{position + 1}"
            notes.append(f"column {position + 1} has no name; it is read as '{names[position]}'")
    refuse_duplicates(names, name)
    return names


def refuse_duplicates(columns: list[str], name: str) -> None:
    """Raise DataError if two columns have the same name."""
    if len(set(columns)) == len(columns):
        return
    duplicates = sorted({column for column in columns if columns.count(column) > 1})
    raise DataError(
        f"{name}: the column name '{duplicates[0]}' appears {columns.count(duplicates[0])} times",
        hint="rename the columns; if the first row is data, add a header line above it",
    )


def _rows(file: _File, form: _Form, notes: list[str]) -> Iterator[list[str]]:
    """Yield the header (empty if each line is one text), then every row; all have the header's width."""
    lines = file.lines()
    if form.delimiter is None:
        yield [""]
        reader: Any = _PlainLines(lines)
    else:
        _allow_long_cells(file)
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if form.quotes else csv.QUOTE_NONE
        reader = csv.reader(lines, delimiter=form.delimiter, quoting=quoting, strict=form.quotes)
    width = 0 if form.delimiter is not None else 1
    row = 0 if width else -1
    blank = 0
    while True:
        start = file.lines_above + reader.line_num + 1
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


def _allow_long_cells(file: _File) -> None:
    # the csv module's limit is process-wide, so never lower it
    csv.field_size_limit(max(csv.field_size_limit(), file.options.max_cell_chars))


class _PlainLines:
    """Lines as one-cell rows, with a `line_num` like the csv reader's."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self.line_num = lines, 0

    def __next__(self) -> list[str]:
        line = next(self._lines)
        self.line_num += 1
        line = line.removesuffix("\n").rstrip("\r")
        if "\r" in line:
            raise BadLineError(*BARE_RETURN)
        return [line]


def _where(file: _File, row: int, line: int) -> str:
    return f"{file.name}, row {row} (line {line})" if row > 0 else f"{file.name}, header (line {line})"


def _ragged(file: _File, form: _Form, row: int, line: int, cells: int, width: int) -> DataError:
    delimiter = _SHOWN.get(form.delimiter or "", f"'{form.delimiter}'")
    hint = (
        f"put a cell that contains {delimiter} in double quotes, or set delimiter="
        if cells > width
        else "add the missing cells; an empty cell still needs its delimiter"
    )
    plural = "" if cells == 1 else "s"
    if width == 1:
        hint = f"{hint}; if the header (line {file.lines_above + 1}) is a title, delete that line"
    return DataError(f"{_where(file, row, line)}: {cells} field{plural}, but the header has {width}", hint=hint)


def _bad_row(file: _File, row: int, line: int, error: Exception) -> DataError:
    where = _where(file, row, line)
    if isinstance(error, BadLineError):
        return DataError(f"{where}: {error.reason}", hint=error.hint)
    message = str(error)
    if "field larger" in message:
        return cell_too_long(file.name, where.removeprefix(f"{file.name}, "), file.options.max_cell_chars)
    if "unexpected end" in message:
        return DataError(
            f"{where}: a quote is opened and never closed",
            hint='close it, or write a quote inside a cell as ""',
        )
    if "new-line" in message:
        return DataError(
            f"{where}: a bare carriage return (CR) outside quotes",
            hint="save the file with Unix or Windows line endings, or put the cell in double quotes",
        )
    if "expected after" in message:
        return DataError(
            f"{where}: text follows a closing quote",
            hint='write a quote inside a cell as "", or remove the quotes',
        )
    return DataError(f"{where}: {message}")
