"""The rows that a run has seen: their hashes in the bundle, and which rows of a table are among them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from textune.bundle import Manifest
from textune.data import Examples, compute_probe, hash_rows, list_keys, match_rows
from textune.data.row_hashes import (
    TRAINING_EXACT,
    TRAINING_NEAR,
    UNSEEN,
    VALIDATION_EXACT,
    VALIDATION_NEAR,
)
from textune.evaluation import Headline, SeenRows
from textune.files import read_json_lines
from textune.run.prepare import Prepared
from textune.run.row_hashes import ROW_HASHES, RowHashes, read_hashes_before, read_row_hashes, write_hashes
from textune.tasks import AnyEvaluation

NO_HASHES = "this run keeps no hashes of its training rows: whether it was trained on any of these rows is not known"
E = TypeVar("E", bound=AnyEvaluation)


class SeenRowsWarning(UserWarning):
    """Rows that are evaluated were trained on, or it is not known whether they were."""


def write_row_hashes(folder: Path, prepared: Prepared) -> list[str]:
    """Write the hashes of training and validation rows; return the file's name, or nothing with row_hashes=false.

    With init= those of the run that this one is built on are among them, because its weights were trained on them.
    """
    data = prepared.data
    if not prepared.config.data.row_hashes:
        return []
    before, notes = read_hashes_before(prepared.config.model.init)
    salt = before.salt if before else hashlib.sha256(data.fingerprint.encode()).digest()[:16]
    parts = {"training": hash_rows(data.train, salt)}
    if data.validation is not None:
        parts["validation"] = hash_rows(data.validation, salt)
    for name, earlier in (before.parts if before else {}).items():
        parts[name] = parts[name].join(earlier) if name in parts else earlier
    write_hashes(folder / ROW_HASHES, RowHashes(salt, compute_probe(salt), parts, notes))
    return [ROW_HASHES]


def find_seen_rows(
    folder: Path, manifest: Manifest, examples: Examples, measure: Callable[[NDArray[np.int64]], Any]
) -> SeenRows:
    """Count the rows that a run has seen.

    measure: returns the figures on the rows at some positions; called where some rows were seen and others not.
    """
    return _find(folder, manifest, list_keys(examples.texts(), examples.text_pairs()), measure)


def find_seen_texts(
    folder: Path, manifest: Manifest, texts: Sequence[str], measure: Callable[[NDArray[np.int64]], Headline]
) -> SeenRows:
    """Count the texts that a run has seen; `measure` as for `find_seen_rows`, but the one figure that matters."""
    return _find(folder, manifest, list_keys(texts), lambda rows: OneFigure(measure(rows), len(rows)))


@dataclass(frozen=True)
class OneFigure:
    """The figures on the unseen texts, where there is one alone."""

    headline: Headline
    rows: int


def _find(
    folder: Path, manifest: Manifest, keys: Sequence[str], measure: Callable[[NDArray[np.int64]], Any]
) -> SeenRows:
    rows = len(keys)
    hashes = read_row_hashes(folder, manifest)
    if hashes is None or hashes.probe != compute_probe(hashes.salt):
        reason = NO_HASHES if hashes is None else f"{NO_HASHES} (they were made by another version)"
        return SeenRows(rows, notes=(reason,), checked=False)
    found, notes = match_rows(hashes.parts, keys, hashes.salt)
    counts = {code: int((found == code).sum()) for code in range(VALIDATION_NEAR + 1)}
    unseen = np.flatnonzero(found == UNSEEN)
    return SeenRows(
        rows,
        training_exact=counts[TRAINING_EXACT],
        training_near=counts[TRAINING_NEAR],
        validation_exact=counts[VALIDATION_EXACT],
        validation_near=counts[VALIDATION_NEAR],
        unseen=measure(unseen) if 0 < len(unseen) < rows else None,
        notes=(*hashes.notes, *notes),
        chosen=list_chosen(folder, manifest),
    )


def list_chosen(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """Return what a run's validation rows chose, as far as it records that."""
    log, decisions = folder / "metrics.jsonl", manifest.decisions
    lines = read_json_lines(log) if log.is_file() else ()
    # a solved head is looked at before the first step, and where none follows, nothing was chosen
    trained = not log.is_file() or any(line.get("kind") == "evaluation" and line.get("step") != 0 for line in lines)
    found = {
        "checkpoint": trained,
        "temperature": manifest.temperature != 1,
        "thresholds": len(set(manifest.thresholds or ())) > 1,  # a single one was set
        "threshold": decisions.get("cutoff") is not None,
        "confidence to abstain below": decisions.get("abstain_below") is not None,
        "sets of labels": bool(decisions.get("quantiles")),
    }
    return tuple(name for name, is_chosen in found.items() if is_chosen)


def attach_seen(evaluation: E, seen: SeenRows) -> E:
    """Return the figures with the seen rows beside them, or as they are where a task has no place for them."""
    fields: Any = evaluation
    if "seen" not in {field.name for field in dataclasses.fields(fields)}:
        return evaluation
    return dataclasses.replace(fields, seen=seen)  # type: ignore[no-any-return]
