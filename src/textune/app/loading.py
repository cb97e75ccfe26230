"""Loaded models that all visitors share: a few at a time, and loaded again when their bundle changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from textune.bundle import MANIFEST

if TYPE_CHECKING:
    from textune.inference import Predictor

MOST_MODELS = 4
"""Loaded at once. The one that was loaded first makes room."""


@dataclass(frozen=True)
class Loaded:
    """A model that one visitor at a time uses: a tokenizer is not set up anew while someone reads with it."""

    predictor: Predictor
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def hold(self) -> Iterator[Predictor]:
        """Yield the model when no one else uses it."""
        with self.lock:
            yield self.predictor


def open_run(folder: Path) -> Loaded:
    """Return the model of a run, loaded once; raise what loading it raises."""
    loaded: Loaded = _load(str(folder.absolute()), stamp_bundle(folder), folder)
    return loaded


def stamp_bundle(folder: Path) -> tuple[int, int, int]:
    """Return what changes when a bundle does: of its manifest, which is written last."""
    try:
        facts = (folder / MANIFEST).stat()
    except OSError:
        return (0, 0, 0)
    return (facts.st_mtime_ns, facts.st_size, facts.st_ino)


@st.cache_resource(max_entries=MOST_MODELS, show_spinner="Loading the model")  # type: ignore[untyped-decorator]
def _load(place: str, stamp: tuple[int, int, int], _folder: Path) -> Loaded:
    from textune.inference import Predictor

    return Loaded(Predictor.load(_folder))
