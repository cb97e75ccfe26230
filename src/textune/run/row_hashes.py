"""The hashes of a run's rows in its bundle, and which rows the run of init= has seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import Manifest, read_manifest
from textune.data import Examples, HashedRows, compute_probe, list_keys, match_rows
from textune.data.row_hashes import TRAINING_EXACT, TRAINING_NEAR, UNSEEN
from textune.errors import BundleError, TextuneError
from textune.files import confined_path

ROW_HASHES = "data/row_hashes.safetensors"
_FORM = "textune"
_PARTS = ("training", "validation")


@dataclass(frozen=True)
class RowHashes:
    """The hashes of a run's rows, by part. probe: as `compute_probe`. notes: which rows are not among them."""

    salt: bytes
    probe: str
    parts: Mapping[str, HashedRows]
    notes: tuple[str, ...] = ()


def write_hashes(path: Path, hashes: RowHashes) -> None:
    """Write the hashes of a run's rows."""
    from safetensors.numpy import save_file

    path.parent.mkdir(exist_ok=True)
    arrays = {
        f"{name}.{kind}": array
        for name, part in hashes.parts.items()
        for kind, array in (("exact", part.exact), ("near", part.near))
    }
    facts = {
        "salt": hashes.salt.hex(),
        "probe": hashes.probe,
        "notes": list(hashes.notes),
        "parts": {name: {"rows": part.rows, "complete": part.complete} for name, part in hashes.parts.items()},
    }
    save_file(arrays, str(path), metadata={_FORM: json.dumps(facts)})


def read_row_hashes(folder: Path, manifest: Manifest) -> RowHashes | None:
    """Return the hashes of a run's rows, or None if it keeps none; raise BundleError if they cannot be read."""
    if ROW_HASHES not in manifest.files:
        return None
    from safetensors import SafetensorError, safe_open

    path = confined_path(folder, ROW_HASHES)
    try:
        with safe_open(str(path), framework="numpy") as stored:
            facts: dict[str, Any] = json.loads(stored.metadata()[_FORM])
            parts = {
                name: HashedRows(
                    np.asarray(stored.get_tensor(f"{name}.exact"), np.uint64).reshape(-1),
                    np.asarray(stored.get_tensor(f"{name}.near"), np.uint8).reshape(-1, 16),
                    int(part["rows"]),
                    bool(part["complete"]),
                )
                for name, part in facts["parts"].items()
                if name in _PARTS
            }
        return RowHashes(bytes.fromhex(facts["salt"]), str(facts["probe"]), parts, tuple(map(str, facts["notes"])))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{path}: the hashes of the training rows cannot be read: {error}",
            hint="restore the file from a copy of the run",
        ) from error


def read_hashes_before(init: str | None) -> tuple[RowHashes | None, tuple[str, ...]]:
    """Return the hashes of the run of init=, if it has any that are of use, and notes on what is not known."""
    if init is None:
        return None, ()
    try:
        before = read_row_hashes(Path(init), read_manifest(init, verify=False))
    except TextuneError:
        before = None
    if before is None or before.probe != compute_probe(before.salt):
        return None, ("the rows of the run that this one was built on (init=) are not known",)
    return before, before.notes


def find_seen_by_init(init: str | None, examples: Examples) -> NDArray[np.int64]:
    """Return how the run of init= has seen each row, as `match_rows`: int64 [rows].

    All are unseen without init=, and where that run keeps no hashes.
    """
    before, _ = read_hashes_before(init)
    if before is None:
        return np.full(len(examples), UNSEEN, np.int64)
    found, _ = match_rows(before.parts, list_keys(examples.texts(), examples.text_pairs()), before.salt)
    return np.asarray(found, np.int64)


def describe_seen_by_init(init: str | None, name: str, examples: Examples) -> list[str]:
    """Return a warning if the run of init= has seen rows of a split. name: of the split."""
    found = find_seen_by_init(init, examples)
    trained = int(np.isin(found, (TRAINING_EXACT, TRAINING_NEAR)).sum())
    seen = int((found != UNSEEN).sum())
    if not seen:
        return []
    of_validation = f", {seen - trained:,} as validation rows" if seen > trained else ""
    return [
        f"{name}: the run of init= was trained on {trained:,} of the {len(examples):,} rows{of_validation}; "
        "scores will be too optimistic"
    ]
