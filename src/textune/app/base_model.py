"""The base model of a run as it was before tuning, for comparison with the tuned one on a typed text."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from textune.app.answers import Answered, show_answer
from textune.app.loading import stamp_bundle
from textune.errors import BundleError

if TYPE_CHECKING:
    from textune.data import Examples
    from textune.run.prepare import Prepared
    from textune.run.untuned import UntunedBackbone
    from textune.tokens.batches import EncodedSplit


@dataclass(frozen=True)
class BaseModel:
    """A base model that answers like the rows "base" and "probe" of a run's report."""

    prepared: Prepared
    untuned: UntunedBackbone
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, text: str, second: str | None = None) -> list[tuple[str, Answered]]:
        """Return what each form of the base model is called, and its answer."""
        task, labels = self.prepared.task, self.prepared.data.labels.names
        task = task.untuned(len(labels))
        example = _build_example(text, second)
        forms = [("base", self.untuned.base_logits)]
        if task.defaults.solves_head and self.untuned.has_probe:
            forms.append(("probe", self.untuned.probe_logits))
        with self.lock:
            found = [(task.model_names[key], task.probabilities(logits(example))[0]) for key, logits in forms]
        return [(name, show_answer(task, labels, probabilities)) for name, probabilities in found]


def open_base(folder: Path) -> BaseModel:
    """Return the base model of a run, which reads the run's rows once; raise what that raises."""
    base: BaseModel = _open(str(folder.absolute()), stamp_bundle(folder), folder)
    return base


_WAIT = "Reading the run's rows to rebuild its base model, which is done once"


@st.cache_resource(max_entries=1, show_spinner=_WAIT)  # type: ignore[untyped-decorator]
def _open(place: str, stamp: tuple[int, int, int], _folder: Path) -> BaseModel:
    from textune.bundle import read_manifest
    from textune.progress import Silent
    from textune.run.fit import SolvedHead
    from textune.run.predicted_rows import read_own_settings
    from textune.run.prepare import prepare
    from textune.run.untuned import open_untuned

    manifest = read_manifest(_folder, verify=False)
    if manifest.exported or manifest.imported:
        kind = "an export" if manifest.exported else "an imported adapter"
        raise BundleError(f"{_folder}: is {kind}, which keeps no settings to rebuild its base model with")
    prepared = prepare(read_own_settings(_folder, unused=("init", "fixes")), Silent())
    if prepared.data.labels.names != manifest.labels:
        raise BundleError(
            f"{_folder}: its data has changed since training: the labels are others", hint="train it again"
        )

    def encode(examples: Examples) -> EncodedSplit:
        return _encode(prepared, examples)

    return BaseModel(prepared, open_untuned(prepared, SolvedHead(), encode))


def _encode(prepared: Prepared, examples: Examples) -> EncodedSplit:
    """Tokenize typed texts without the cache on the disk, where they would stay."""
    from textune.tokens import encode_texts
    from textune.tokens.batches import EncodedSplit

    length = prepared.config.tokens.max_length or 0
    tokens = encode_texts(prepared.tokenizer, examples.texts(), examples.text_pairs(), length, prepared.long_text)
    nothing = np.full(len(tokens), -1)
    return EncodedSplit(tokens, nothing, nothing)


def _build_example(text: str, second: str | None) -> Examples:
    import pyarrow as pa

    from textune.data import Examples

    columns = {"row": pa.array([1], pa.int64()), "text": pa.array([text], pa.large_string())}
    if second is not None:
        columns["text_pair"] = pa.array([second], pa.large_string())
    return Examples(pa.table(columns), "the typed text")
