"""Sources of tables: what a source is, how one is chosen, and the limits that apply to all of them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from textune.data.cells import TEXT, WHOLE_ROW
from textune.data.table import Table, build_table
from textune.errors import DataError, suggest
from textune.files import expand_home
from textune.registry import Registry

MAX_COLUMNS = 10_000


@dataclass(frozen=True)
class ReadOptions:
    """How to read a source, and the limits on its size.

    max_rows: rows of one table. max_bytes: bytes of all its cells after decoding.
    max_cell_chars: characters of one cell; a longer one is refused before it is tokenized.
    typed: columns keep the types of the source instead of becoming text. A source of JSON adds the column `WHOLE_ROW`.
    """

    encoding: str | None = None
    delimiter: str | None = None
    max_rows: int = 50_000_000
    max_bytes: int = 16 * 2**30
    max_cell_chars: int = 1_000_000
    typed: bool = False


@dataclass(frozen=True)
class Location:
    """A local path and optionally a part of it ("reviews.xlsx#Sheet2", "saved#test")."""

    path: Path
    part: str | None = None

    def __str__(self) -> str:
        """Return it as a user names it."""
        return str(self.path) if self.part is None else f"{self.path}#{self.part}"

    @property
    def name(self) -> str:
        """The name used in messages."""
        name = self.path.name or str(self.path)
        return f"{name}#{self.part}" if self.part else name

    @property
    def suffix(self) -> str:
        """The lower-case suffix that names the format, ignoring a trailing .gz."""
        path = self.path.with_suffix("") if self.path.suffix.lower() == ".gz" else self.path
        return path.suffix.lower()


@dataclass
class Reading:
    """An opened source: its name in messages, its rows in chunks, and notes that may grow while it is read.

    find_columns: reads all column names ahead, for sources whose chunks can differ in columns.
    """

    name: str
    chunks: Iterator[pa.Table]
    notes: list[str] = field(default_factory=list)
    find_columns: Callable[[], list[str]] | None = None


@dataclass(frozen=True)
class Source:
    """A kind of table.

    accepts: whether it can read a Location (for paths) or another object.
    open: (source, options, rows per chunk) -> Reading.
    suffixes: the lower-case endings of the files that it reads. gzip: whether these files may be gzipped.
    parts: whether a location may name a part of it, such as a sheet or a split.
    settings: the fields of ReadOptions that say how these files become text.
    """

    accepts: Callable[[Any], bool]
    open: Callable[[Any, ReadOptions, int], Reading]
    suffixes: tuple[str, ...] = ()
    gzip: bool = False
    parts: bool = False
    settings: tuple[str, ...] = ()


sources: Registry[Source] = Registry("source")


def file_source(
    suffixes: tuple[str, ...],
    open: Callable[[Any, ReadOptions, int], Reading],
    settings: tuple[str, ...] = (),
    *,
    gzip: bool = False,
    parts: bool = False,
) -> Source:
    """Return a source that reads the files with these endings; settings, gzip, parts: as in `Source`."""

    def accepts(source: Any) -> bool:
        return isinstance(source, Location) and source.suffix in suffixes and source.path.is_file()

    return Source(accepts, open, suffixes, gzip, parts, settings)


def list_readable() -> tuple[str, ...]:
    """Return the endings of every file that a source reads, in the order of the sources."""
    return tuple(suffix for _, source in sources for suffix in source.suffixes)


def list_reading_settings(name: str) -> tuple[str, ...]:
    """Return the fields of ReadOptions that say how a file of this name becomes text.

    A folder, and a name of no known ending, may have files that need any of them.
    """
    suffix = Location(Path(name.partition("#")[0])).suffix
    found = [source.settings for _, source in sources if suffix in source.suffixes]
    return found[0] if found else ("delimiter", "encoding")


def read_table(source: str | Path | Any, options: ReadOptions = ReadOptions()) -> Table:
    """Read a whole table from a path, "hub:NAME", "embedded:NAME", a data frame or a list of dicts.

    Raises DataError with the table, the row and the reason.
    """
    reading = open_source(source, options)
    chunks = list(_guarded(reading, options))
    arrow = pa.concat_tables(chunks, promote_options="default")
    return build_table(arrow, reading.name, reading.notes)


def stream_tables(
    source: str | Path | Any,
    options: ReadOptions = ReadOptions(),
    chunk_rows: int = 10_000,
) -> Iterator[Table]:
    """Yield a table in chunks of at most `chunk_rows` rows, in the order of the source.

    Every chunk has the same columns. Memory stays bounded for delimited files, JSON lines and Parquet;
    other sources are read whole first.
    """
    reading = open_source(source, options, chunk_rows)
    first_row = 1
    for part in stream_parts(reading, options, chunk_rows):
        yield build_table(part, reading.name, reading.notes, first_row)
        first_row += part.num_rows


def stream_parts(reading: Reading, options: ReadOptions, chunk_rows: int) -> Iterator[pa.Table]:
    """Yield the rows of an opened source in parts of at most `chunk_rows` rows with the same columns."""
    columns = reading.find_columns() if reading.find_columns else None
    for chunk in _guarded(reading, options):
        columns = columns or chunk.column_names
        complete = _with_columns(chunk, columns, reading.name)
        for start in range(0, complete.num_rows, chunk_rows):
            yield complete.slice(start, chunk_rows)


def _with_columns(chunk: pa.Table, columns: list[str], name: str) -> pa.Table:
    if chunk.column_names == columns:
        return chunk
    if unknown := [column for column in chunk.column_names if column not in columns]:
        raise DataError(f"{name}: the column '{unknown[0]}' appeared while the table was read", hint="read it again")
    missing = pa.nulls(chunk.num_rows, pa.large_string())
    return pa.table({c: chunk[c] if c in chunk.column_names else missing for c in columns})


def open_source(source: Any, options: ReadOptions, chunk_rows: int = 10_000) -> Reading:
    """Open a table with the first source that accepts it; raise DataError if none does."""
    target = locate(source) if isinstance(source, str | Path) else source
    for _, kind in sources:
        if kind.accepts(target):
            if isinstance(target, Location):
                _check_location(target, kind)
            try:
                return kind.open(target, options, chunk_rows)
            except OSError as error:
                raise _unreadable(target, error) from error
    if isinstance(target, Location):
        raise _unknown_file(target)
    raise DataError(
        f"cannot read a table from {type(source).__name__}",
        hint="pass a path, hub:NAME, embedded:NAME, a polars or pandas data frame, an Arrow table or a list of dicts",
    )


def _check_location(location: Location, kind: Source) -> None:
    """Raise DataError for a part of what has no parts, and for a gzipped file of a format that is not unpacked."""
    if location.part is not None and not kind.parts:
        raise DataError(
            f"{location.path.name}: has no parts, so there is no '#{location.part}' of it",
            hint="only spreadsheets (#Sheet2) and folders (#test) have parts; name another table, or drop the part",
        )
    if kind.suffixes and not kind.gzip and location.path.suffix.lower() == ".gz":
        raise DataError(
            f"{location.name}: {location.suffix} files are not read through gzip",
            hint=f"unpack it first: gunzip {shlex.quote(str(location.path))}",
        )


def locate(source: str | Path) -> Location | str:
    """Split "path#part"; return names such as "hub:imdb" unchanged. Raises DataError if the path does not exist."""
    if isinstance(source, str):
        if source.startswith(("hub:", "embedded:")):
            return source
        if "://" in source:
            raise DataError(f"'{source}' is a URL", hint="download the file and give its path, or use hub:NAME")
        if not source.strip():
            raise DataError("the name of the table is empty", hint="give a path, hub:NAME or embedded:NAME")
    try:
        path = expand_home(source)
        if path.exists():
            return Location(path)
        stem, hash_sign, part = str(path).rpartition("#")
        if hash_sign and part and Path(stem).exists():
            return Location(Path(stem), part)
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    except (OSError, ValueError) as error:
        raise DataError(f"'{source}' cannot be opened: {error}") from error
    raise DataError(
        f"'{source}' does not exist{suggest(path.name, siblings)}",
        hint="give a file, a folder with one folder per class, hub:NAME or embedded:NAME",
    )


def _guarded(reading: Reading, options: ReadOptions) -> Iterator[pa.Table]:
    """Yield the chunks; raise DataError as soon as a limit is exceeded."""
    rows = decoded = 0
    try:
        for chunk in reading.chunks:
            cells = chunk.select([name for name in chunk.column_names if name != WHOLE_ROW])
            if chunk.num_columns > MAX_COLUMNS:
                raise DataError(f"{reading.name}: has more than {MAX_COLUMNS:,} columns")
            check_cells(cells, reading.name, rows, options.max_cell_chars)
            rows += chunk.num_rows
            decoded += cells.nbytes
            if rows > options.max_rows:
                raise DataError(f"{reading.name}: has more than {options.max_rows:,} rows", hint="split the table")
            if decoded > options.max_bytes:
                raise too_large(reading.name, options)
            yield chunk
    except OSError as error:
        raise _unreadable(reading.name, error) from error
    if not rows:
        raise DataError(
            f"{reading.name}: has no rows, only column names",
            hint="give a table with at least one row below the header",
        )


def check_cells(chunk: pa.Table, name: str, rows_before: int, limit: int) -> None:
    """Raise DataError for a text cell that is longer than `limit` characters."""
    for column_name, column in zip(chunk.column_names, chunk.columns, strict=True):
        if column.type != TEXT:
            continue
        # a character takes at least one byte, so only cells with many bytes need counting
        if (pc.max(pc.binary_length(column)).as_py() or 0) <= limit:
            continue
        position = pc.index(pc.greater(pc.utf8_length(column), limit), pa.scalar(True)).as_py()
        if position >= 0:
            raise cell_too_long(name, f"row {rows_before + position + 1}, column '{column_name}'", limit)


def cell_too_long(name: str, where: str, limit: int) -> DataError:
    """Return the error for a cell over the limit."""
    return DataError(
        f"{name}, {where}: a cell is longer than {limit:,} characters",
        hint="split it into several rows, or look for a quote that is never closed",
    )


def too_large(name: str, options: ReadOptions) -> DataError:
    """Return the error for a table that decodes to more than max_bytes."""
    return DataError(
        f"{name}: decodes to more than {options.max_bytes / 2**30:.3g} GiB",
        hint="split the table into several files",
    )


def _unreadable(target: Any, error: OSError) -> DataError:
    name = target.name if isinstance(target, Location) else str(target)
    return DataError(f"{name}: cannot be read: {error.strerror or error}")


_REFUSED = {
    "can run code when opened": {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy", ".npz", ".rds"},
    "is an archive": {".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst"},
}


def _unknown_file(location: Location) -> DataError:
    for reason, suffixes in _REFUSED.items():
        if location.path.suffix.lower() in suffixes or location.suffix in suffixes:
            return DataError(
                f"{location.name}: {location.path.suffix} files are not read: such a file {reason}",
                hint="unpack it first" if "archive" in reason else "save the table as CSV, JSON lines or Parquet",
            )
    if location.path.is_dir():
        return DataError(
            f"{location.name}: the folder contains no table",
            hint="expected one folder of .txt files per class, train.csv, Parquet files or a saved data set",
        )
    if location.path.exists() and not location.path.is_file():
        return DataError(f"{location.name}: is not a regular file", hint="save its content to a file first")
    return DataError(
        f"{location.name}: unknown file suffix '{location.path.suffix}'",
        hint=f"known: {' '.join(list_readable())} (the text formats also with .gz)",
    )
