"""Formatting of numbers and of user text in the report and the card."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from textune.config import load_yaml
from textune.evaluation.intervals import Interval
from textune.evaluation.text import percent as percent

_NOT_FOR_A_PAGE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean_text(text: str) -> str:
    """Replace control characters and lone surrogates, which neither HTML nor UTF-8 allows."""
    return _NOT_FOR_A_PAGE.sub("\ufffd", text)


def span(interval: Interval) -> str:
    """Write an interval of shares as ``88.6 to 92.3``, in percent; 100 and 0 are kept for exactly that."""
    return f"{_bound(interval.low)} to {_bound(interval.high)}"


def _bound(share: float) -> str:
    shown = f"{100 * share:.1f}"
    rounded = (shown == "100.0" and share != 1) or (shown == "0.0" and share != 0)
    return percent(share).rstrip("%") if rounded else shown


def points(share: float) -> str:
    """Write a difference of shares as signed percentage points: ``+7.5`` or ``−0.4``."""
    rounded = f"{100 * share:+.1f}"
    return "0.0" if rounded in ("+0.0", "-0.0") else rounded.replace("-", "−")


def distance(share: float) -> str:
    """Write a difference of shares in points without its sign, with enough digits not to read as 0."""
    size = 100 * abs(share)
    return f"{size:.1f}" if size >= 0.05 or not size else f"{size:.2g}"


def show_scores(figures: Any) -> tuple[str, str, str]:
    """Write F1, precision and recall of a class; – for a figure that does not exist.

    Nothing was given the class: it has no precision. No row has it: it has no recall. Neither: it has no F1.
    """
    exists = (figures.support or figures.predicted, figures.predicted, figures.support)
    shares = (figures.f1, figures.precision, figures.recall)
    f1, precision, recall = (percent(share) if there else "–" for share, there in zip(shares, exists, strict=True))
    return f1, precision, recall


def number(count: int) -> str:
    """Write 12345 as ``12,345``."""
    return f"{count:,}"


def plural(count: int, noun: str) -> str:
    """Write ``1 row``, ``2 rows``, ``2 classes``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"


def shorten(text: str, longest: int) -> str:
    """Cut text to `longest` characters and add how long it was."""
    return text if len(text) <= longest else f"{text[:longest].rstrip()} … ({len(text):,} characters in total)"


def clip(name: str, longest: int) -> str:
    """Cut a name to `longest` characters."""
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"


def cut_warnings(warnings: Sequence[str], most: int = 50) -> list[str]:
    """Return each warning once and not too long, and how many there are beyond the first."""
    each = list(dict.fromkeys(warnings))
    more = [f"and {plural(len(each) - most, 'more warning')}, in metrics.json"] if len(each) > most else []
    return [shorten(warning, 2000) for warning in each[:most]] + more


def list_names(names: list[str], most: int = 5) -> str:
    """Write the first names with commas, and the number of the others."""
    shown = ", ".join(clip(name, 60) for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def format_date(stamp: str) -> str:
    """Write 2026-11-28T15:27:01Z as ``2026-11-28 15:27 UTC``; what is no time of a zone stays as it is."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return stamp if moment.tzinfo is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def name_metric(key: str) -> str:
    """Write ``micro_f1`` as ``micro F1``, and ``rouge_l`` as ``ROUGE-L``."""
    return {"rouge_l": "ROUGE-L"}.get(key, key.replace("_f1", " F1").replace("_", " "))


def name_setting(name: str) -> str:
    """Write ``learning_rate`` as ``learning rate``, and ``method.lora_alpha`` as ``method: lora alpha``."""
    return name.replace("_", " ").replace(".", ": ")


def show_setting(value: Any) -> str:
    """Write a setting's value for a person: 0.0005, yes, a and b; never a raw list, dictionary or None."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _show_float(value)
    if isinstance(value, Mapping):
        named = [f"{name_setting(str(k))} {show_setting(v)}" for k, v in value.items() if v is not None and k != "name"]
        return ", ".join([*([str(value["name"])] if "name" in value else []), *named]) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(show_setting, value)) or "–"
    return str(value)


def _show_float(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")) or not 1e-7 <= abs(value) < 1e15:
        return f"{value:g}"
    digits = format(Decimal(f"{value:.6g}"), "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def list_settings(text: str) -> list[tuple[str, str]] | None:
    """Return names and values of settings in YAML as a person reads them, those left out last; None for other text."""
    try:
        settings = load_yaml(text)
    except ValueError:
        return None
    if not isinstance(settings, dict):
        return None
    pairs: list[tuple[str, str]] = []
    for name, value in settings.items():
        nested = isinstance(value, dict) and "name" not in value
        each = {f"{name}.{k}": v for k, v in value.items()} if nested else {str(name): value}
        pairs += [(name_setting(key), shorten(show_setting(v), 600)) for key, v in each.items() if v is not None]
    unset = [name_setting(str(name)) for name, value in settings.items() if value is None]
    return [*pairs, *([("not set", ", ".join(unset))] if unset else [])]
