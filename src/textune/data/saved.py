"""Folders saved by the `datasets` library, read without it: the Arrow files listed in state.json."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.data.cells import as_text
from textune.data.delimited import refuse_duplicates
from textune.data.lines import FREE_BYTES, check_expansion
from textune.data.source import Location, Reading, ReadOptions, Source, sources
from textune.errors import DataError, suggest

_DICTIONARY, _BATCH = 2, 3


def _accepts(source: Any) -> bool:
    if not isinstance(source, Location) or not source.path.is_dir():
        return False
    return (source.path / "dataset_dict.json").is_file() or (source.path / "state.json").is_file()


def _open(location: Location, options: ReadOptions, chunk_rows: int) -> Reading:
    try:
        folder, notes = _choose_split(location)
        names = [str(entry["filename"]) for entry in _load_json(folder / "state.json")["_data_files"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{location.name}: the saved data set is damaged: {error!r}", hint="save it again") from error
    reading = Reading(location.name, iter(()), notes)
    files = [folder / _inside(name) for name in names]
    reading.chunks = _chunks(files, location.name, chunk_rows, reading.notes, options)
    return reading


sources.register("saved")(Source(_accepts, _open, parts=True))


def _choose_split(location: Location) -> tuple[Path, list[str]]:
    folder, notes = location.path, []
    if (folder / "dataset_dict.json").is_file():
        splits = [str(split) for split in _load_json(folder / "dataset_dict.json").get("splits", [])]
        requested = location.part or "train"
        if requested not in splits:
            raise DataError(
                f"{location.name}: no split '{requested}'{suggest(requested, splits)}",
                hint=f"name one after a '#': {', '.join(f'{folder.name}#{split}' for split in splits)}",
            )
        if location.part is None and len(splits) > 1:
            notes.append(f"reading split 'train' of {', '.join(splits)}; {folder.name}#{splits[-1]} reads another")
        folder = folder / _inside(requested)
    elif location.part is not None:
        raise DataError(f"{location.name}: the saved data set has no splits", hint="remove the '#' and what follows")
    return folder, notes


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path.name}: the saved data set is damaged: {error}", hint="save it again") from error


def _inside(name: str) -> str:
    """Return the name; raise DataError if it leads outside the folder."""
    if name != Path(name).name or name in ("", ".", ".."):
        raise DataError(f"the saved data set names a file outside its folder: '{name}'")
    return name


def _chunks(
    files: list[Path], name: str, chunk_rows: int, notes: list[str], options: ReadOptions
) -> Iterator[pa.Table]:
    rows = 0
    for path in files:
        try:
            check_expansion(name, _unpacked_size(path), max(path.stat().st_size, FREE_BYTES // 16), options)
            with pa.memory_map(str(path)) as stream, pa.ipc.open_stream(stream) as batches:
                refuse_duplicates(batches.schema.names, name)
                for batch in batches:
                    batch.validate(full=True)  # damaged offsets would end the process where they are used
                    whole = pa.Table.from_batches([batch])
                    for start in range(0, len(whole), chunk_rows):
                        part = whole.slice(start, chunk_rows)
                        table, new_notes = (part, []) if options.typed else as_text(part, name, rows + 1)
                        notes += [note for note in new_notes if note not in notes]
                        yield table
                        rows += len(part)
        except (pa.ArrowException, KeyError, UnicodeDecodeError, OverflowError) as error:
            raise DataError(f"{path.name}: the saved data set is damaged: {error}", hint="save it again") from error


def _unpacked_size(path: Path) -> int:
    """Return how many bytes the compressed batches of an Arrow stream unpack to, by the sizes that they state."""
    with pa.memory_map(str(path)) as stream:
        return sum(map(_stated_size, pa.ipc.MessageReader.open_stream(stream)))


def _stated_size(message: Any) -> int:
    """Return the bytes that a message's buffers unpack to; 0 where they are not compressed.

    Its header is a FlatBuffer: Message has the kind and place of a header, DictionaryBatch has a RecordBatch, and that
    has its buffers (offset and length) and its compression. A compressed buffer begins with its unpacked size.
    """
    header, body = message.metadata.to_pybytes(), message.body

    def read(kind: str, at: int) -> int:
        return int(struct.unpack_from(f"<{kind}", header, at)[0])

    def field(table: int, number: int) -> int:
        """Return the place of a table's field; 0 where it has none."""
        fields = table - read("i", table)
        offset = read("H", fields + 4 + 2 * number) if 4 + 2 * number < read("H", fields) else 0
        return table + offset if offset else 0

    def follow(at: int) -> int:
        return at + read("I", at)

    try:
        root = follow(0)
        kind, batch = read("B", field(root, 1)), follow(field(root, 2))
        if kind == _DICTIONARY:
            batch = follow(field(batch, 1))
        elif kind != _BATCH:
            return 0
        if not field(batch, 3):
            return 0
        buffers = follow(field(batch, 2))
        places = [
            read("q", buffers + 4 + 16 * i) for i in range(read("I", buffers)) if read("q", buffers + 12 + 16 * i)
        ]
        sizes = [struct.unpack_from("<q", body, place)[0] for place in places]
    except struct.error as error:
        raise pa.ArrowInvalid(f"a message's header: {error}") from error
    return sum(max(size, 0) for size in sizes)
