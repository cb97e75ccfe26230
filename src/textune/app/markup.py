"""The only HTML that the pages draw. Every text and label in it is escaped here, and nowhere else."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass

from textune.progress import show_controls

_FOR, _AGAINST = "52, 131, 212", "214, 108, 20"
"""Blue and orange, with a contrast of at least 3.5 to light and dark paper, and apart for most colour-blind readers."""
_GRID = "display:grid;grid-template-columns:fit-content(45%) minmax(3rem,1fr) auto;gap:.45rem .8rem;align-items:center"
_CHIP = (
    "display:inline-block;padding:.15rem .45rem;margin:.15rem .2rem .15rem 0;border-radius:.3rem;"
    "border:1px solid rgba(128,128,128,.45);font-family:'Source Code Pro',monospace;font-size:.875rem;"
    "overflow-wrap:anywhere;white-space:pre-wrap"
)


@dataclass(frozen=True)
class Bar:
    """A bar of a chart. share: its length, 0 to 1. value: the text beside it. strong: whether it is an answer."""

    label: str
    share: float
    value: str
    strong: bool = False


@dataclass(frozen=True)
class Mark:
    """A part of a text that is marked. score: how much and in which direction, in -1..1."""

    start: int
    end: int
    score: float
    note: str = ""


@dataclass(frozen=True)
class Chip:
    """A token. kind: plain, special, cut or padding. below: a line under it, such as its id."""

    text: str
    below: str = ""
    kind: str = "plain"


def escape_html(text: object) -> str:
    """Return a text escaped for HTML, with control characters as visible escapes."""
    return html.escape(show_controls(str(text)))


def write_bars(bars: Sequence[Bar]) -> str:
    """Return horizontal bars with their labels and values."""
    return f'<div style="{_GRID}">{"".join(_write_bar(bar) for bar in bars)}</div>'


def _write_bar(bar: Bar) -> str:
    width = 100 * min(max(bar.share, 0.0), 1.0)
    weight, alpha = (600, "1") if bar.strong else (400, ".65")
    label, value = escape_html(bar.label), escape_html(bar.value)
    return (
        f'<span style="overflow-wrap:anywhere;font-weight:{weight}">{label}</span>'
        f'<span role="img" aria-label="{value}" style="background:rgba(128,128,128,.18);border-radius:.35rem">'
        f'<span style="display:block;height:.7rem;border-radius:.35rem;min-width:2px;width:{width:.2f}%;'
        f'background:rgba({_FOR},{alpha})"></span></span>'
        f'<span style="text-align:right;font-variant-numeric:tabular-nums;font-weight:{weight}">{value}</span>'
    )


def write_marked(text: str, marks: Sequence[Mark]) -> str:
    """Return a text with marked parts: blue and underlined for a positive score, orange and dotted for a negative."""
    parts, at = [], 0
    for mark in sorted(marks, key=lambda mark: mark.start):
        start, end = max(mark.start, at), min(mark.end, len(text))
        if start >= end:
            continue
        parts.append(escape_html(text[at:start]))
        parts.append(_write_mark(text[start:end], mark))
        at = end
    parts.append(escape_html(text[at:]))
    return f'<div style="white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.9">{"".join(parts)}</div>'


def _write_mark(part: str, mark: Mark) -> str:
    strength = min(abs(mark.score), 1.0)
    color, line = (_FOR, "solid") if mark.score >= 0 else (_AGAINST, "dotted")
    style = (
        f"background:rgba({color},{0.08 + 0.5 * strength:.3f});border-bottom:2px {line} rgba({color},{strength:.3f})"
    )
    return (
        f'<span title="{escape_html(mark.note)}" style="{style};border-radius:.2rem;padding:.1rem .05rem">'
        f"{escape_html(part)}</span>"
    )


def write_chips(chips: Sequence[Chip]) -> str:
    """Return tokens in a row that wraps: special ones blue, those that are cut struck through, padding faint."""
    if not chips:  # Streamlit refuses HTML that is empty
        return '<span style="opacity:.75">(nothing)</span>'
    styles = {
        "plain": "",
        "special": f"background:rgba({_FOR},.22);border-color:rgba({_FOR},.6)",
        "cut": f"background:rgba({_AGAINST},.16);border-color:rgba({_AGAINST},.6);text-decoration:line-through",
        "padding": "border-style:dashed;opacity:.65",
    }
    return "".join(
        f'<span style="{_CHIP};text-align:center;{styles[chip.kind]}">{escape_html(chip.text)}'
        + (f'<br><span style="font-size:.75rem;opacity:.75">{escape_html(chip.below)}</span>' if chip.below else "")
        + "</span>"
        for chip in chips
    )


def write_cookie(name: str, value: str) -> str:
    """Return the one script of the pages: it sets a cookie for this site that goes when the browser is closed."""
    cookie = json.dumps(f"{name}={value}; path=/; SameSite=Strict").replace("<", "\\u003c")
    return f"<script>document.cookie={cookie}+(location.protocol==='https:'?'; Secure':'')</script>"
