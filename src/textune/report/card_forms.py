"""The model card of another form of a run: merged, exported or published. What a person wrote into it stays."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textune.config import load_yaml
from textune.errors import BundleError
from textune.report.card import LOADING, dump_front_matter

_PLACE = re.compile(r'^folder = ".*"  # the path of this folder.*$', re.M)


def change_card(card: str, facts: Mapping[str, Any], loading: str) -> str:
    """Return a model card with other facts in its front matter and another section on how to load the model.

    facts: front matter entries to set; None removes one. loading: Markdown below the heading.
    """
    front, body = split_card(card)
    merged = {key: value for key, value in (front | dict(facts)).items() if value is not None}
    before, after = _cut_section(body)
    parts = [dump_front_matter(merged), before.strip(), LOADING, loading.strip(), after.strip()]
    return "\n\n".join(part for part in parts if part) + "\n"


def read_card(path: Path) -> str:
    """Return a model card that a person may have saved again, with a byte order mark or not.

    Raises BundleError if it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: is not UTF-8 text", hint="save it again as UTF-8") from error


def split_card(card: str) -> tuple[dict[str, Any], str]:
    """Return the entries of a card's front matter, none where it has none that can be read, and the text below it."""
    found = re.match(r"---\n(.*?)^---\s*?$\n?", card, re.M | re.S)
    if found is None:
        return {}, card
    try:
        front = load_yaml(found[1])
    except ValueError:
        front = None
    return (front if isinstance(front, dict) else {}), card[found.end() :]


def name_published(card: str, hub_id: str) -> str:
    """Return a card whose lines load the model from the hub and not from the folder that was published."""
    place = f"folder = {json.dumps(hub_id)}"
    if "\nimport textune\n" in card:
        place = f"import huggingface_hub\nfolder = huggingface_hub.snapshot_download({json.dumps(hub_id)})"
    return _PLACE.sub(lambda _: place, card, count=1)


def _cut_section(body: str) -> tuple[str, str]:
    """Return what is before and after the section on loading, or before and from the first section if there is none."""
    lines, headings, fence = body.splitlines(), [], ""
    for number, line in enumerate(lines):
        mark = re.match(r"(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif fence and line.rstrip() == fence:
            fence = ""
        elif not fence and line.startswith("## "):
            headings.append(number)
    start = next((n for n in headings if lines[n].strip() == LOADING), None)
    if start is None:
        start = end = headings[0] if headings else len(lines)
    else:
        end = next((n for n in headings if n > start), len(lines))
    return "\n".join(lines[:start]), "\n".join(lines[end:])
