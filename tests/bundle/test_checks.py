"""Every field of the manifest: what it may not be is named, and the digest moves with every value."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from textune.bundle import OldBundleWarning, read_manifest, write_manifest
from textune.bundle.checks import OPTIONAL, REQUIRED, compute_digest, list_wrong_fields
from textune.errors import BundleError

CONTENT: dict[str, Any] = json.loads(
    (Path(__file__).parent / "made_by_0_1" / "lora" / "textune.json").read_text(encoding="utf-8")
)
WRONG: dict[str, list[Any]] = {
    "task": ["", 3, None],
    "labels": [[], ["a", "a"], "ab", [1, 2], None],
    "label_values": [[], ["a", "a"], {}, None],
    "base_model": [{}, {"id": "a", "family": "bert"}, {"id": "a", "family": "bert", "sha256": 3}, [], "minilm"],
    "method": ["", None, 1],
    "method_options": [None, [], "r=8"],
    "max_length": ["32", -5, 0, 1.5, True, None, math.nan, 10**18],
    "pad_token_id": [-1, "0", None, 0.0],
    "columns": [None, [], {"text": "text"}, {"text": ["a"], "label": 3}],
    "seed": [-1, "1", None],
    "data_fingerprint": [None, 1],
    "engine": [None, "lean"],
    "trainable_parameters": [-1, "1", None, 10**16],
    "total_parameters": [-1, "1", None],
    "versions": [None, []],
    "textune_version": [None, 1],
    "created": [None, 0],
    "files": [None, [], {"a": 1}, {"a": "short"}, {"a": "G" * 64}],
    "new_modules": [None, "classifier", [1]],
    "random_weights": ["x", [1]],
    "needs_trust": ["true", 1, None],
    "pooling": ["median", 1, ["mean"]],
    "temperature": [math.nan, math.inf, 0, -1, "x", None, True, 10**330, 5e-324, 1e300],
    "thresholds": [[math.nan, 0.5], [2.0, 0.5], "0.5", [0.5, None], [0.5]],
    "imported": [None, []],
    "exported": [None, {"form": "pickle"}, {"padding": 1}, {"form": "onnx"}]
    + [
        {"form": "onnx", "padding": {"pad_token_id": 0, "side": "right", "token_types": True} | change}
        for change in (
            {"side": "abc"},
            {"side": math.nan},
            {"side": 5},
            {"pad_token_id": "abc"},
            {"pad_token_id": 1e300},
            {"pad_token_id": None},
            {"token_types": 1},
            {"more": 1},
        )
    ],
    "decisions": [
        None,
        3,
        {"cutoff": 2.0},
        {"costs": [[0.0, -1.0], [1.0, 0.0]]},
        {"costs": [[0, 10**400], [1, 0]]},
        {"quantiles": {"0.9": [math.nan]}},
    ],
    "fixes": [None, 3],
    "writing": [None, 3, {"max_new_tokens": 5}]
    + [
        {"stop_token_ids": [2], "chat_template": None} | change
        for change in (
            {"max_new_tokens": 1.5},
            {"max_new_tokens": True},
            {"max_new_tokens": "5"},
            {"stop_token_ids": "5"},
            {"stop_token_ids": [-1]},
            {"stop_token_ids": [None]},
            {"chat_template": -1},
            {"temperature": math.nan},
            {"top_p": 2},
            {"answer_rows": 0},
        )
    ],
    "metrics": [None, 3],
    "figures": [None, [], {"evaluation/metrics.json": "short"}],
    "test_reads": [-1, "1", None],
}


def test_a_real_manifest_is_right_and_every_field_has_its_wrong_values() -> None:
    assert list_wrong_fields(CONTENT) == []
    assert WRONG.keys() == REQUIRED.keys() | OPTIONAL.keys()


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_wrong_value_is_named(field: str, value: Any) -> None:
    (sentence, *_) = list_wrong_fields(CONTENT | {field: value})
    assert field in sentence


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named(field: str) -> None:
    assert list_wrong_fields({k: v for k, v in CONTENT.items() if k != field}) == [f"{field} is missing"]


@pytest.mark.parametrize(
    "changes",
    [
        {"label_values": ["a", "b", "c"]},
        {"thresholds": [0.1, 0.2, 0.3]},
        {"trainable_parameters": 10, "total_parameters": 9},
        {"long_text": {"form": "window", "overlap": CONTENT["max_length"]}},
        {"files": CONTENT["files"] | {"model.onnx": "0" * 64}},
        {"exported": {"form": "onnx", "padding": {"pad_token_id": 0}}},
    ],
)
def test_fields_that_do_not_fit_together_are_named(changes: dict[str, Any]) -> None:
    assert len(list_wrong_fields(CONTENT | changes)) == 1


def test_the_digest_is_of_values_not_of_their_order() -> None:
    digest = compute_digest(CONTENT)
    assert compute_digest(dict(reversed(CONTENT.items()))) == digest == compute_digest(CONTENT | {"digest": "x"})
    others = {compute_digest(CONTENT | {key: "another"}) for key in CONTENT if key != "digest"}
    assert digest not in others and len(others) == len(CONTENT)


def test_every_bit_of_a_manifest_counts(tmp_path: Path) -> None:
    """A flipped bit changes no answer in silence: the file is refused, or means the same as before."""
    folder = Path(__file__).parent / "made_by_0_1" / "lora"
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "textune.json"
    with pytest.warns(OldBundleWarning):
        manifest = read_manifest(tmp_path / "run")
    write_manifest(tmp_path / "run", manifest)
    whole, content = read_manifest(tmp_path / "run"), path.read_bytes()
    assert whole.format_version == 2
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :])
        with contextlib.suppress(BundleError):
            assert read_manifest(tmp_path / "run") == whole, content[place - 20 : place + 20]
