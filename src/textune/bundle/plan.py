"""The plan of a run, which a resumed run follows: read, and checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textune.bundle.checks import Check, is_count, is_mapping, is_text
from textune.bundle.folder import PLAN
from textune.errors import BundleError, flag
from textune.files import read_json


def read_plan(folder: Path) -> dict[str, Any]:
    """Return the plan of a run; raise BundleError if it is missing or damaged."""
    path = folder / PLAN
    content = read_json(path, "the run's plan")
    for name, (fits, expected) in _FIELDS.items():
        if name not in content or not fits(content[name]):
            found = "is missing" if name not in content else f"must be {expected}"
            raise BundleError(
                f"{path}: the run's plan is damaged: {name} {found}",
                hint=f"restore the file from a copy, or train again with {flag('overwrite')}",
            )
    return content


def _is_data(value: Any) -> bool:
    return (
        is_mapping(value)
        and "training" in value
        and all(is_mapping(e) and is_count(e.get("rows")) and is_text(e.get("sha256")) for e in value.values())
    )


def _is_precision(value: Any) -> bool:
    return (
        is_mapping(value)
        and value.keys() == {"name", "reason"}
        and value["name"] in ("fp32", "bf16")
        and is_text(value["reason"])
    )


def _is_engine(value: Any) -> bool:
    """Return whether it is nothing, before there was a model to ask, or what was probed of the engine."""
    if value is None:
        return True
    return (
        is_mapping(value)
        and is_count(value.get("max_tokens"), 1)
        and all(value.get(key) is None or is_count(value[key]) for key in ("fused_attention_from", "prefix_layers"))
    )


_FIELDS: Mapping[str, Check] = {
    "settings": (is_mapping, "an object"),
    "data": (_is_data, "an object of tables with rows and sha256, one of them for training"),
    "labels": (lambda value: isinstance(value, list) and all(map(is_text, value)), "a list of labels"),
    "backbone": (is_text, "text"),
    "precision": (_is_precision, "an object with name, fp32 or bf16, and reason"),
    "engine": (_is_engine, "null, or an object with max_tokens"),
    "threads": (lambda value: is_count(value, 1), "a whole number of at least 1"),
    "device": (is_text, "text"),
    "versions": (is_mapping, "an object"),
}
