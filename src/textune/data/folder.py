"""Folders: one subfolder of .txt files per class, train/ and test/ subfolders, Parquet files, or train.csv."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.data.cells import text_array
from textune.data.encodings import find_encoding
from textune.data.parquet import read_files
from textune.data.source import (
    Location,
    Reading,
    ReadOptions,
    Source,
    cell_too_long,
    list_readable,
    open_source,
    sources,
)
from textune.errors import DataError, suggest

_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
}
_UNLABELED = ("unsup", "unlabeled", "unlabelled", "unsupervised")


def _accepts(source: Any) -> bool:
    return isinstance(source, Location) and source.path.is_dir()


def _open(location: Location, options: ReadOptions, chunk_rows: int) -> Reading:
    parts = _find_parts(location.path)
    if location.part is not None or "train" in parts:
        return _open_part(location, parts, options, chunk_rows)
    parquet = _parquet_files(location.path)
    if parquet:
        _refuse_several_splits(location, parquet)
        reading = read_files(parquet, location.name, options, chunk_rows)
        reading.notes += [f"{len(parquet):,} Parquet files read as one table"] if len(parquet) > 1 else []
        return reading
    return _open_classes(location, options, chunk_rows)


sources.register("folder")(Source(_accepts, _open, parts=True))


def _find_parts(folder: Path) -> dict[str, list[Path]]:
    """Return the folders or files of each split, such as train/, train.csv or train-00000-of-00002.parquet."""
    parts: dict[str, list[Path]] = {}
    has_classes = False
    for child in sorted(folder.iterdir()):
        stem = child.name if child.is_dir() else child.name.removesuffix(".gz").rpartition(".")[0]
        if not child.is_dir() and not _is_table(child):
            continue
        base = re.sub(r"-\d+-of-\d+(-[0-9a-f]+)?$", "", stem.casefold())
        split = next((name for name, spellings in _SPLITS.items() if base in spellings), None)
        if split:
            parts.setdefault(split, []).append(child)
        elif child.is_dir() and base not in _UNLABELED:
            has_classes = has_classes or _is_class(child)
    if has_classes:  # a folder of texts among them is one more class, whatever its name
        parts = {name: [path for path in paths if not _is_class(path)] for name, paths in parts.items()}
    return {name: paths for name, paths in parts.items() if paths}


def _is_table(path: Path) -> bool:
    tables = tuple(suffix for suffix in list_readable() if suffix != ".txt")  # in a folder, .txt files are texts
    return path.name.lower().removesuffix(".gz").endswith(tables)


def _is_class(path: Path) -> bool:
    """Return whether a path is a folder of texts, without a table and without folders of its own."""
    if not path.is_dir() or path.name.startswith((".", "__")):
        return False
    inside = [child for child in path.iterdir() if not child.name.startswith((".", "__"))]
    return any(map(_is_text, inside)) and not any(child.is_dir() or _is_table(child) for child in inside)


def _open_part(location: Location, parts: dict[str, list[Path]], options: ReadOptions, chunk_rows: int) -> Reading:
    requested = location.part or "train"
    split = next((name for name, spellings in _SPLITS.items() if requested in spellings), requested)
    if split not in parts:
        raise DataError(
            f"{location.path.name}: no split '{requested}'{suggest(requested, parts)}",
            hint=f"splits: {', '.join(parts) or 'none'}",
        )
    paths = parts[split]
    if len(paths) > 1 and all(path.suffix == ".parquet" for path in paths):
        reading = read_files(paths, location.name, options, chunk_rows)
    elif len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise DataError(f"{location.path.name}: {names} could all be the {split} table", hint="give the path of one")
    else:
        reading = open_source(Location(paths[0]), options, chunk_rows)
    if location.part is None:
        reading.notes.append(f"reading {_name_files(paths)} of {location.path.name}")
        for name in (name for name in ("validation", "test") if name in parts):
            verb, them = ("are", "them") if len(parts[name]) > 1 else ("is", "it")
            setting = shlex.quote(f"{location.path}#{name}")
            reading.notes.append(f"{_name_files(parts[name])} {verb} not read; to use {them}, add {name}={setting}")
    return reading


def _name_files(paths: list[Path]) -> str:
    return paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1:,} more"


def _parquet_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".parquet" and path.is_file()]


def _refuse_several_splits(location: Location, paths: list[Path]) -> None:
    """Raise DataError if the names of files that would be one table say that they are of several splits."""
    first_of: dict[tuple[str, ...], str] = {}
    for path in paths:
        words = re.split(r"[-._ \d]+", path.stem.casefold())
        splits = tuple(name for name, spellings in _SPLITS.items() if not {*words}.isdisjoint(spellings))
        if splits:
            first_of.setdefault(splits, path.name)
    if len(first_of) > 1:
        raise DataError(
            f"{location.name}: {', '.join(first_of.values())} seem to be of several splits, not of one table",
            hint="give the path of the training file, and name the others with test= and validation=",
        )


def _open_classes(location: Location, options: ReadOptions, chunk_rows: int) -> Reading:
    files: list[tuple[str, Path]] = []
    notes: list[str] = []
    empty: list[str] = []
    unread: list[str] = []
    for child in sorted(location.path.iterdir()):
        if not child.is_dir() or child.name.startswith((".", "__")):
            continue
        inside = sorted((path for path in child.iterdir() if not path.name.startswith(".")), key=_natural)
        texts = [path for path in inside if _is_text(path)]
        if child.name.casefold() in _UNLABELED:
            notes.append(f"skipped folder '{child.name}': {len(texts):,} files without a label")
            continue
        files += [(child.name, path) for path in texts]
        empty += [] if texts else [child.name]
        unread += [f"{child.name}/{path.name}" for path in inside if not _is_text(path)]
    if not files:
        raise DataError(
            f"{location.name}: the folder contains no table",
            hint="expected one folder of .txt files per class, train.csv, Parquet files or a saved data set",
        )
    if empty:
        raise DataError(
            f"{location.name}/{empty[0]}: contains no .txt file, but each folder is a class",
            hint="save its texts as .txt files, or move the folder away",
        )
    if unread:
        which = "1 file is" if len(unread) == 1 else f"{len(unread):,} files are"
        notes.append(f"{which} not read, such as {unread[0]}: in a folder per class, texts are .txt files")
    notes.append(f"labels: the names of the {len({label for label, _ in files})} folders")
    reading = Reading(location.name, iter(()), notes)
    reading.chunks = _class_chunks(location, files, options, chunk_rows, reading.notes)
    return reading


def _is_text(path: Path) -> bool:
    return path.suffix.lower() == ".txt" and path.is_file()


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort 2.txt before 10.txt."""
    return [(int(digits or 0), other) for digits, other in re.findall(r"(\d{1,18})|(\D+)", path.name)]


def _class_chunks(
    location: Location, files: list[tuple[str, Path]], options: ReadOptions, chunk_rows: int, notes: list[str]
) -> Iterator[pa.Table]:
    remaining = iter(files)
    read_as: dict[str, list[str]] = {}
    while batch := list(islice(remaining, chunk_rows)):

        def where(position: int, batch: list[tuple[str, Path]] = batch) -> str:
            return f"{location.name}/{batch[position][0]}/{batch[position][1].name}"

        texts = [_read_text(path, where(i), options, read_as) or None for i, (_, path) in enumerate(batch)]
        names = [f"{label}/{path.name}" for label, path in batch]
        labels = [label for label, _ in batch]
        columns: dict[str, list[str] | list[str | None]] = {"text": texts, "label": labels, "file": names}
        yield pa.table({name: text_array(cells, where) for name, cells in columns.items()})
    notes += [f"{names[0] if len(names) == 1 else f'{len(names):,} files'} {note}" for note, names in read_as.items()]


def _read_text(path: Path, name: str, options: ReadOptions, read_as: dict[str, list[str]]) -> str:
    """Return a file's text. read_as: the names of the files by what is to be said of their encoding."""
    if path.stat().st_size > 4 * options.max_cell_chars + 4:
        raise cell_too_long(name, "the whole file", options.max_cell_chars)
    content = path.read_bytes()
    encoding = find_encoding(lambda: io.BytesIO(content), name, options.encoding)
    if encoding.note is not None:
        read_as.setdefault(encoding.note, []).append(name)
        guesses = [(each[0], note) for note, each in read_as.items() if "guessed" in note]
        if len(guesses) > 1:
            (one, as_one), (other, as_other) = ((file, note.partition(" (")[0]) for file, note in guesses)
            raise DataError(f"{one} is {as_one}, but {other} {as_other}, by a guess", hint="set encoding=")
    try:
        text = content[encoding.mark_bytes :].decode(encoding.name)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: byte {error.start} is not {encoding.name}", hint="set encoding=") from None
    if "\0" in text:
        raise DataError(
            f"{name}: contains a NUL character", hint="remove it; if the file is UTF-16, set encoding=utf-16-le"
        )
    return text
