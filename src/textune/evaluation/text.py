"""Parts that evaluations share as plain text, for terminals and logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_LONGEST_NAME = 40
MOST_UNKNOWN_SHOWN = 20


def show_name(label: str, longest: int = _LONGEST_NAME) -> str:
    """Return a label that keeps to one line: cut, and without characters that would steer a terminal."""
    clean = "".join(c if c.isprintable() else "\ufffd" for c in label)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def percent(share: float) -> str:
    """Write 0.905 as ``90.5%``; 100% and 0% are kept for exactly that."""
    shown = f"{100 * share:.1f}"
    if shown == "100.0":
        return "100%" if share == 1 else ">99.9%"
    if shown == "0.0":
        return "0%" if share == 0 else "<0.1%"
    return shown + "%"


def quote_names(names: Sequence[str], most: int = 5) -> str:
    """Return names in quotation marks, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more


def format_strangers(unknown_labels: Mapping[str, int], absent_labels: Iterable[str]) -> list[str]:
    """Return notes on labels that the model does not know, with their rows, and on those that occur nowhere."""
    notes = []
    unknown = sum(unknown_labels.values())
    if unknown:
        count = len(unknown_labels)
        names_shown = ", ".join(show_name(label) for label in list(unknown_labels)[:5])
        more = f" and {count - 5} more" if count > 5 else ""
        notes.append(f"labels that the model does not know, counted as errors: {names_shown}{more} ({unknown} rows)")
    absent = [show_name(label) for label in absent_labels]
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        notes.append(f"neither in these rows nor predicted: {', '.join(absent[:5])}{more}")
    return notes
