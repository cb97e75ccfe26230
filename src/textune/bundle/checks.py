"""What the values of a manifest may be, field by field: a damaged or edited manifest must not change an answer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

DIGEST = "digest"
EXPORTED_FORMS = ("onnx", "onnx-int8")
GRAPH = "model.onnx"
GRAPH_WEIGHTS = "model.onnx.data"
"""Where the exporter puts the weights of a graph above 1.5 GB."""
POOLINGS = (None, "first", "mean", "last", "native")
_LARGEST_COUNT = 10**15
_SHA256 = re.compile(r"[0-9a-f]{64}")
Check = tuple[Callable[[Any], bool], str]


def compute_digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object without its own digest, whatever the order of its keys."""
    plain = {key: value for key, value in content.items() if key != DIGEST}
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return content as plain JSON with a digest of it."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return {DIGEST: compute_digest(plain)} | plain


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Return whether content is what was sealed; earlier versions sealed manifests alone."""
    return DIGEST not in content or content[DIGEST] == compute_digest(content)


def list_wrong_fields(content: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every field of a manifest that is missing or cannot have its value."""
    wrong = []
    for name, (fits, expected) in REQUIRED.items():
        if name not in content:
            wrong.append(f"{name} is missing")
        elif not fits(content[name]):
            wrong.append(f"{name} must be {expected}, not {_show(content[name])}")
    for name, (fits, expected) in OPTIONAL.items():
        if name in content and not fits(content[name]):
            wrong.append(f"{name} must be {expected}, not {_show(content[name])}")
    return wrong or _list_contradictions(content)


def _list_contradictions(content: Mapping[str, Any]) -> list[str]:
    """Return what does not fit together in a manifest whose fields are each possible."""
    labels, thresholds = content["labels"], content.get("thresholds")
    wrong = []
    if len(labels) != len(content["label_values"]):
        wrong.append(f"there are {len(labels)} labels and {len(content['label_values'])} label_values")
    if thresholds is not None and len(thresholds) != len(labels):
        wrong.append(f"there are {len(labels)} labels and {len(thresholds)} thresholds")
    decisions = content.get("decisions", {})
    if (decisions.get("label") or 0) >= len(labels):
        wrong.append(f"there are {len(labels)} labels and a threshold for number {decisions['label']}")
    if any(len(each) not in (1, len(labels)) for each in decisions.get("quantiles", {}).values()):
        wrong.append(f"there are {len(labels)} labels and another number of quantiles")
    widths = (len(labels), 2) if thresholds is not None else (len(labels),)
    costs = decisions.get("costs")
    if costs is not None and (len(costs) != len(labels) or any(len(row) not in widths for row in costs)):
        wrong.append(f"there are {len(labels)} labels and costs of another number")
    long_text, longest = content.get("long_text"), content["max_length"]
    overlap = long_text.get("overlap") if isinstance(long_text, Mapping) else None
    if type(overlap) is int and overlap >= longest:
        wrong.append(f"windows of {longest} tokens overlap by {overlap}")
    if (GRAPH in content["files"]) != bool(content.get("exported")):
        wrong.append(f"files and exported do not agree on whether there is a {GRAPH}")
    if content["trainable_parameters"] > content["total_parameters"]:
        wrong.append("trainable_parameters is larger than total_parameters")
    return wrong


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"


def is_text(value: Any) -> bool:
    """Return whether it is text."""
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_count(value: Any, low: int = 0) -> bool:
    """Return whether it is a whole number of at least `low`, and of a possible size."""
    return type(value) is int and low <= value <= _LARGEST_COUNT


def is_mapping(value: Any) -> bool:
    """Return whether it is an object of JSON."""
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_classes(value: Any) -> bool:
    return _is_texts(value) and len(value) >= 1 and len(set(value)) == len(value)


_LOWEST, _HIGHEST, _LARGEST_COST = 1e-3, 1e3, 1e9


def _is_temperature(value: Any) -> bool:
    return type(value) in (int, float) and _LOWEST <= value <= _HIGHEST  # excludes NaN and huge integers, too


def _is_thresholds(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and all(type(v) in (int, float) and 0 <= v <= 1 for v in value)
    )  # a NaN is not between 0 and 1


def _is_decisions(value: Any) -> bool:
    """Return whether numbers and shapes are possible; the labels are counted by `_list_contradictions`."""
    if not is_mapping(value):
        return False
    quantiles, costs, label = value.get("quantiles", {}), value.get("costs"), value.get("label")
    below = value.get("abstain_below")
    return (
        all(value.get(key) is None or is_text(value[key]) for key in ("rule", "abstain_rule"))
        and (label is None or is_count(label))
        and all(_is_thresholds([v]) for v in (value.get("cutoff"), below, value.get("coverage", 0.9)) if v is not None)
        and (costs is None or (isinstance(costs, list) and all(_is_costs(row) for row in costs)))
        and is_mapping(quantiles)
        and all(isinstance(each, list) and _is_thresholds(each) for each in quantiles.values())
        and all(_is_coverage(name) for name in quantiles)
        and is_count(value.get("set_rows", 0))
    )


def _is_costs(row: Any) -> bool:
    return isinstance(row, list) and all(type(v) in (int, float) and 0 <= v <= _LARGEST_COST for v in row)


def _is_coverage(name: str) -> bool:
    try:
        return 0 < float(name) < 1
    except ValueError:
        return False


def _is_digests(value: Any) -> bool:
    return is_mapping(value) and all(isinstance(v, str) and _SHA256.fullmatch(v) for v in value.values())


def _is_base_model(value: Any) -> bool:
    return (
        is_mapping(value)
        and all(_is_name(value.get(key)) for key in ("id", "family", "sha256"))
        and (value.get("revision") is None or _is_name(value["revision"]))
        and type(value.get("local", False)) is bool
    )


def _is_columns(value: Any) -> bool:
    return (
        is_mapping(value)
        and all(_is_texts(value.get(key, [])) for key in ("text", "indicators"))
        and all(value.get(key) is None or is_text(value[key]) for key in ("text_pair", "label", "group"))
        and all(is_text(value.get(key, "")) for key in ("joiner", "label_separator"))
    )


def _is_exported(value: Any) -> bool:
    return is_mapping(value) and (
        not value
        or (
            value.get("form") in EXPORTED_FORMS
            and _is_padding(value.get("padding"))
            and type(value.get("equal_lengths", False)) is bool
        )
    )


def _is_padding(value: Any) -> bool:
    return (
        is_mapping(value)
        and value.keys() <= {"pad_token_id", "side", "token_types"}
        and is_count(value.get("pad_token_id"))
        and value.get("side", "right") in ("left", "right")
        and type(value.get("token_types", False)) is bool
    )


def _is_writing(value: Any) -> bool:
    """Return whether it is nothing, or how a model writes: all that the manifest says of that."""
    if not is_mapping(value) or not value:
        return is_mapping(value)
    stops, template = value.get("stop_token_ids"), value.get("chat_template")
    return (
        value.keys() >= {"stop_token_ids", "chat_template"}
        and isinstance(stops, list)
        and all(map(is_count, stops))
        and (template is None or _is_name(template))
        and is_count(value.get("max_new_tokens", 1), 1)
        and is_count(value.get("answer_rows", 1), 1)
        and _is_number(value.get("temperature", 0), 100)
        and _is_number(value.get("top_p", 1), 1)
    )


def _is_number(value: Any, high: float) -> bool:
    return type(value) in (int, float) and 0 <= value <= high


_COUNT: Check = (is_count, "a whole number of at least 0")
_MAPPING: Check = (is_mapping, "an object")
_NAME: Check = (_is_name, "text that is not empty")
_TEXT: Check = (is_text, "text")
REQUIRED: Mapping[str, Check] = {
    "task": _NAME,
    "labels": (_is_classes, "a list of different labels"),
    "label_values": (_is_classes, "a list of different labels"),
    "base_model": (_is_base_model, "an object with id, family and sha256"),
    "method": _NAME,
    "method_options": _MAPPING,
    "max_length": (lambda value: is_count(value, 1), "a whole number of at least 1"),
    "pad_token_id": _COUNT,
    "columns": (_is_columns, "an object that names columns"),
    "seed": _COUNT,
    "data_fingerprint": _TEXT,
    "engine": _MAPPING,
    "trainable_parameters": _COUNT,
    "total_parameters": _COUNT,
    "versions": _MAPPING,
    "textune_version": _TEXT,
    "created": _TEXT,
    "files": (_is_digests, "an object that maps file names to SHA-256 digests"),
}
OPTIONAL: Mapping[str, Check] = {
    "new_modules": (_is_texts, "a list of module names"),
    "random_weights": (_is_texts, "a list of module names"),
    "needs_trust": (lambda value: type(value) is bool, "true or false"),
    "pooling": (lambda value: value in POOLINGS, f"one of {', '.join(str(p) for p in POOLINGS[1:])} or null"),
    "temperature": (_is_temperature, "a finite number above 0"),
    "thresholds": (_is_thresholds, "null or a list of numbers from 0 to 1"),
    "decisions": (_is_decisions, "an object of rules, costs, quantiles and confidences"),
    "imported": _MAPPING,
    "exported": (_is_exported, f"empty, or an object of padding and a form, {' or '.join(EXPORTED_FORMS)}"),
    "fixes": _MAPPING,
    "writing": (_is_writing, "empty, or an object with stop_token_ids, chat_template and settings in their ranges"),
    "metrics": _MAPPING,
    "figures": (_is_digests, "an object that maps file names to SHA-256 digests"),
    "test_reads": _COUNT,
}
