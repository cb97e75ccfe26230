"""A table of text cells: what every source is converted to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of text cells; a missing cell is null, never an empty string.

    arrow: every column is large_string, in chunks so that millions of rows are not copied.
    name: the table's name in messages ("train.csv", "hub:imdb", "data frame").
    notes: what the reader detected and the user should know ("delimiter ';' detected").
    fingerprint: SHA-256 (hex) of the column names and cells; the file format does not matter.
    first_row: number of the first data row, counted from 1 without the header.
    """

    arrow: pa.Table
    name: str
    notes: tuple[str, ...]
    fingerprint: str
    first_row: int = 1

    @property
    def columns(self) -> list[str]:
        """The column names in the order of the source."""
        return list(self.arrow.column_names)

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def slice(self, start: int, rows: int) -> Table:
        """Return `rows` rows from position `start` (counted from 0); row numbers remain those of the source."""
        part = self.arrow.slice(start, rows)
        return replace(self, arrow=part, fingerprint=hash_columns(part), first_row=self.first_row + start)


def build_table(arrow: pa.Table, name: str, notes: Iterable[str] = (), first_row: int = 1) -> Table:
    """Wrap an Arrow table whose columns are all large_string, and compute its fingerprint."""
    return Table(arrow, name, tuple(notes), hash_columns(arrow), first_row)


def hash_columns(arrow: pa.Table) -> str:
    """Return the SHA-256 (hex) of column names and cells; the chunking does not matter."""
    table_hash = hashlib.sha256()
    for name in arrow.column_names:
        lengths, content = hashlib.sha256(), hashlib.sha256()
        for chunk in arrow.column(name).chunks:
            _hash_cells(chunk, lengths, content)
        table_hash.update(hashlib.sha256(name.encode()).digest() + lengths.digest() + content.digest())
    return table_hash.hexdigest()


def _hash_cells(chunk: pa.Array, lengths: hashlib._Hash, content: hashlib._Hash) -> None:
    if pa.types.is_integer(chunk.type):
        lengths.update(np.ascontiguousarray(chunk.to_numpy(zero_copy_only=False), dtype="<i8").tobytes())
        return
    offsets = np.frombuffer(chunk.buffers()[1], dtype="<i8") if len(chunk) else np.zeros(1, dtype="<i8")
    offsets = offsets[chunk.offset : chunk.offset + len(chunk) + 1]
    sizes = np.diff(offsets)
    if chunk.null_count:
        missing = chunk.is_null().to_numpy(zero_copy_only=False)
        if sizes[missing].any():  # bytes under a null are not content: drop them before hashing
            _hash_cells(pa.array(chunk.to_pylist(), pa.large_string()), lengths, content)
            return
        sizes = np.where(missing, -1, sizes)
    lengths.update(np.ascontiguousarray(sizes, dtype="<i8").tobytes())
    if len(chunk) and chunk.buffers()[2] is not None:
        content.update(memoryview(chunk.buffers()[2])[offsets[0] : offsets[-1]])
