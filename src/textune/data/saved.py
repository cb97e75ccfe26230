"""Folders that the `datasets` library saved, read without it: Arrow files named in state.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.data.cells import as_text
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
    reading.chunks = _chunks([folder / _inside(name) for name in names], location.name, chunk_rows, reading.notes)
    return reading


sources.register("saved")(Source(_accepts, _open))


def _choose_split(location: Location) -> tuple[Path, list[str]]:
    folder, notes = location.path, []
    if (folder / "dataset_dict.json").is_file():
        splits = [str(split) for split in _load_json(folder / "dataset_dict.json").get("splits", [])]
        wanted = location.part or "train"
        if wanted not in splits:
            raise DataError(
                f"{location.name}: there is no split '{wanted}'{suggest(wanted, splits)}",
                hint=f"name one after a '#': {', '.join(f'{folder.name}#{split}' for split in splits)}",
            )
        if location.part is None and len(splits) > 1:
            notes.append(f"split 'train' of {', '.join(splits)} is read; {folder.name}#{splits[-1]} reads another")
        folder = folder / _inside(wanted)
    elif location.part is not None:
        raise DataError(f"{location.name}: the saved data set has no splits", hint="leave out what follows the '#'")
    return folder, notes


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path.name}: the saved data set is damaged: {error}", hint="save it again") from error


def _inside(name: str) -> str:
    """Refuse names that lead out of the folder."""
    if name != Path(name).name or name in ("", ".", ".."):
        raise DataError(f"the saved data set names a file outside its folder: '{name}'")
    return name


def _chunks(files: list[Path], name: str, chunk_rows: int, notes: list[str]) -> Iterator[pa.Table]:
    for path in files:
        try:
            with pa.memory_map(str(path)) as stream, pa.ipc.open_stream(stream) as batches:
                for batch in batches:
                    whole = pa.Table.from_batches([batch])
                    for start in range(0, len(whole), chunk_rows):
                        table, left_out = as_text(whole.slice(start, chunk_rows), name)
                        notes += [note for note in left_out if note not in notes]
                        yield table
        except (pa.ArrowException, KeyError) as error:
            raise DataError(f"{path.name}: the saved data set is damaged: {error}", hint="save it again") from error
