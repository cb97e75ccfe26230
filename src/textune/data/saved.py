"""Folders saved by the `datasets` library, read without it: the Arrow files listed in state.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.data.cells import as_text
from textune.data.delimited import refuse_duplicates
from textune.data.source import Location, Reading, ReadOptions, Source, sources
from textune.errors import DataError, suggest


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
    for path in files:
        try:
            with pa.memory_map(str(path)) as stream, pa.ipc.open_stream(stream) as batches:
                refuse_duplicates(batches.schema.names, name)
                for batch in batches:
                    batch.validate(full=True)  # damaged offsets would end the process where they are used
                    whole = pa.Table.from_batches([batch])
                    for start in range(0, len(whole), chunk_rows):
                        part = whole.slice(start, chunk_rows)
                        table, new_notes = (part, []) if options.typed else as_text(part, name)
                        notes += [note for note in new_notes if note not in notes]
                        yield table
        except (pa.ArrowException, KeyError, UnicodeDecodeError, OverflowError) as error:
            raise DataError(f"{path.name}: the saved data set is damaged: {error}", hint="save it again") from error
