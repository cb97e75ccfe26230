"""The support matrix: which methods work on which families, as recorded by the contract tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from textune.backbones.families import Family, families
from textune.methods.base import methods, resolve

RECORD = "support.json"
"""Written next to this file by `make matrix`, from the results of the contract tests."""
WORKS, REFUSED, UNPROVEN = "works", "refused", "unproven"


@dataclass(frozen=True)
class Cell:
    """One method on one family. reason: why it is not supported."""

    state: str
    reason: str = ""


def list_rows() -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return the rows of the matrix: every method and its variants, "lora+dora" -> ("lora", {"dora": True})."""
    rows: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for key, cls in sorted(methods):
        rows[key] = (key, {})
        rows |= {f"{key}+{variant}": (key, options) for variant, options in cls.variants.items()}
    return rows


def read_record() -> dict[str, Any]:
    """Return what the contract tests recorded: versions, test names, and the proven families of each row."""
    path = resources.files("textune.methods") / RECORD
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {"proven": {}}


def find_cell(row: str, family: Family, record: Mapping[str, Any]) -> Cell:
    """Return the cell of a row and a family: "works" only if its contract tests passed."""
    reason = methods.get(list_rows()[row][0]).refusal(family)
    if reason is not None:
        return Cell(REFUSED, reason)
    return Cell(WORKS if family.name in record["proven"].get(row, ()) else UNPROVEN)


def find_writing_cell(row: str, family: Family, record: Mapping[str, Any]) -> Cell:
    """Return the cell of a row and a family of decoders, for models that write."""
    name, options = list_rows()[row]
    reason = resolve(name, options).explain_no_writing() or methods.get(name).refusal(family)
    if reason is not None:
        return Cell(REFUSED, reason)
    return Cell(WORKS if family.name in record["writing"].get(row, ()) else UNPROVEN)


def build_writing_matrix() -> dict[str, dict[str, Cell]]:
    """Return every cell of models that write: row -> family of decoders -> cell; nothing where none was recorded."""
    record = read_record()
    if "writing" not in record:
        return {}
    decoders = [(name, family) for name, family in families if family.decoder]
    return {row: {name: find_writing_cell(row, family, record) for name, family in decoders} for row in list_rows()}


def build_matrix() -> dict[str, dict[str, Cell]]:
    """Return every cell: row -> family name -> cell."""
    record = read_record()
    return {row: {name: find_cell(row, family, record) for name, family in families} for row in list_rows()}
