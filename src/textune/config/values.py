"""Parse text and YAML values of settings; each function raises ValueError saying what the value must be."""

from __future__ import annotations

import json
import shlex
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from textune.errors import suggest

LabelPairs = tuple[tuple[str, str], ...]
"""Labels in order: (value in the data, display name)."""

RatePairs = tuple[tuple[str, float], ...]
"""Peak learning rates by layer: ("lower", 5e-5), ("upper", 1e-4)."""


_OPEN = ("auto", "none", "null", "")


_LONGEST_SHOWN = 200


def show_value(value: Any) -> str:
    """Return a value as Python writes it, cut to what fits a message; of a table or an array only its type."""
    if _is_array(value):
        return f"<{type(value).__name__}>"
    try:
        shown = repr(value)
    except ValueError:  # Python writes no whole number of thousands of digits
        shown = "a huge number"
    return shown if len(shown) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 3] + "..."


def _is_array(value: Any) -> bool:
    """Return whether a value is a data frame, a series or an array."""
    return getattr(value, "shape", ()) != ()  # NumPy's numbers have an empty shape


def coerce_option(limits: Mapping[str, Any], hint: Any, value: Any, parse: Callable[[Any], Any] | None = None) -> Any:
    """Return what a declared option holds, from text or YAML: None where it may be open and is; raise ValueError.

    limits: what `config.option` keeps of it. hint: its type. parse: for values of a form of their own.
    Words such as none leave a setting open, but not one that names a label or a column, which may be called so.
    """
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    optional = isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)
    words = ("",) if limits.get("names_data") else _OPEN
    if value is None or (optional and isinstance(value, str) and value.lower() in words):
        if optional:
            return None
        raise ValueError("must have a value")
    if parse is not None:
        return parse(value)
    return check_bounds(limits, coerce_value(kinds[0] if optional else hint, value))


def coerce_value(kind: Any, value: Any) -> Any:
    """Turn text or a YAML value into int, float, bool, str or tuple[str, ...]; raise ValueError."""
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, bool):
            return value
        if str(value).lower() in words:
            return words[str(value).lower()]
        raise ValueError("must be true or false")
    if kind is int:
        if isinstance(value, bool):
            raise ValueError("must be a whole number")
        try:
            whole = int(value)
            if not isinstance(value, str) and whole != value:
                raise ValueError
            return whole
        except (ValueError, TypeError, OverflowError):
            raise ValueError("must be a whole number") from None
    if kind is float:
        if isinstance(value, bool):
            raise ValueError("must be a number")
        try:
            number = float(value)
        except OverflowError:
            raise ValueError("is too large for a number") from None
        except (ValueError, TypeError):
            raise ValueError("must be a number") from None
        if number != number or number in (float("inf"), float("-inf")):
            raise ValueError("must be a finite number")
        return number
    if kind is str:
        if isinstance(value, Mapping | list | tuple):
            raise ValueError("must be text")
        if _is_array(value):
            raise ValueError("must be text: a name or a path, not the data themselves")
        return read_name(value)
    if isinstance(value, str):
        return _read_list(value) or tuple(item.strip() for item in value.split(","))
    items = [value] if isinstance(value, bool | Real) else value
    if not isinstance(items, list | tuple) or not items:
        raise ValueError("must be comma-separated names, or a list")
    return tuple(read_name(item) for item in items)


def read_name(value: Any) -> str:
    """Return a text, or the name of a label or column as the data print it: true for True; raise ValueError."""
    if value is None or isinstance(value, Mapping | list | tuple | set):
        raise ValueError(f"must be names, not {show_value(value)}; if it is one, write it in quotes")
    text = str(value)
    text = text.lower() if text in ("True", "False") and not isinstance(value, str) else text  # NumPy's, too
    if "\0" in text:
        raise ValueError("contains a NUL character")
    return text


def write_names(names: Sequence[str]) -> str:
    """Return names as one word of a command: with commas between them, or as a JSON list where a name needs it."""
    word = ",".join(names)
    return word if coerce_value(tuple, word) == tuple(names) else json.dumps(list(names), ensure_ascii=False)


def show_names(setting: str, *names: str) -> str:
    """Return a setting with names of columns, to be typed; quoted for a shell where they are a JSON list."""
    if setting.removeprefix("test_") not in ("text", "label"):  # the others name one column, whatever is in its name
        return f"{setting}={names[0]}"
    word, plain = write_names(names), ",".join(names)
    return f"{setting}={word}" if word == plain else shlex.quote(f"{setting}={word}")


def _read_list(word: str) -> tuple[str, ...] | None:
    """Return the names that a word lists in JSON, or None: a name may begin with a bracket, too."""
    if not word.startswith("["):
        return None
    try:
        names = json.loads(word)
    except (ValueError, RecursionError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def check_bounds(limits: Mapping[str, Any], value: Any) -> Any:
    """Return the value, or raise ValueError. limits: choices, low and high, as stored by `config.option`."""
    choices, low, high = limits["choices"], limits["low"], limits["high"]
    if choices and value not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}{suggest(str(value), choices)}")
    if low is not None and not low <= value <= high:
        raise ValueError(f"must be between {low:g} and {high:g}")
    return value


def parse_labels(value: Any) -> LabelPairs:
    """Turn ``"0=negative,1=positive"``, ``"no,yes"``, a list or a mapping into ordered (value, name) pairs.

    Raises ValueError if a value or name appears twice, or there are fewer than two labels.
    """
    value = (_read_list(value) or value) if isinstance(value, str) else value
    if isinstance(value, str):
        parts = [part.partition("=") for part in value.split(",")]
        pairs = [(v.strip(), (n if e else v).strip()) for v, e, n in parts]
    elif isinstance(value, Mapping):
        pairs = [(read_name(v), read_name(n)) for v, n in value.items()]
    else:
        items = [p if isinstance(p, list | tuple) else (p, p) for p in _list_items(value, "labels, or a mapping")]
        if not all(len(item) == 2 for item in items):
            raise ValueError("must be a list of labels, or of pairs [value in the data, name]")
        pairs = [(read_name(v), read_name(n)) for v, n in items]
    for side, what in ((0, "value"), (1, "name")):
        words = [pair[side] for pair in pairs]
        duplicates = sorted({word for word in words if words.count(word) > 1})
        if duplicates:
            raise ValueError(f"label {what} {duplicates[0]!r} appears twice")
        if not all(words):
            raise ValueError(f"a label {what} is empty")
    if len(pairs) < 2:
        raise ValueError("at least two labels are needed")
    return tuple(pairs)


def parse_rates(value: Any) -> RatePairs:
    """Turn ``"lower=5e-5,upper=1e-4"``, a mapping or pairs into (layers, rate) pairs; raise ValueError."""
    if isinstance(value, str):
        parts = [part.partition("=") for part in value.split(",")]
        if not all(equals for _, equals, _ in parts):
            raise ValueError("must be of the form lower=5e-5,upper=1e-4")
        pairs: list[tuple[Any, Any]] = [(words, rate) for words, _, rate in parts]
    else:
        pairs = list(value.items()) if isinstance(value, Mapping) else _list_items(value, "pairs, or a mapping")
        if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            raise ValueError("must be a mapping such as {lower: 5e-5, upper: 1e-4}")
    rates = tuple((str(words).strip(), coerce_value(float, rate)) for words, rate in pairs)
    if not rates or any(rate < 0 or rate > 10 for _, rate in rates):
        raise ValueError("each rate must be between 0 and 10")
    return rates


def _list_items(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of {what}")
    return list(value)
