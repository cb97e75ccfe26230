"""Tables whose texts have several labels each, in every form that is read."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from tiny import BAD, GOOD, NEUTRAL

LABELS = ("blame", "music", "praise")
ROWS = 90


def make_rows(rows: int = ROWS) -> list[tuple[str, tuple[str, ...]]]:
    """Return texts whose labels are told by single words; one in eight has none."""
    made = []
    for i in range(rows):
        words = [
            NEUTRAL[(i * k) % len(NEUTRAL)] for k in range(1, 3 + i % 4) if NEUTRAL[(i * k) % len(NEUTRAL)] != "music"
        ]
        labels = tuple(label for bit, label in enumerate(LABELS) if i % 8 >> bit & 1)
        told = {"blame": BAD[i // 8 % 4], "music": "music", "praise": GOOD[i // 8 % 4]}
        made.append((" ".join([*words, *(told[label] for label in labels), str(i)]), labels))
    return made


def write_table(path: Path, form: Callable[[tuple[str, ...]], dict[str, str]], rows: int = ROWS) -> Path:
    cells = [{"text": text} | form(labels) for text, labels in make_rows(rows)]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, cells[0].keys())
        writer.writeheader()
        writer.writerows(cells)
    return path


def as_list(labels: tuple[str, ...]) -> dict[str, str]:
    return {"labels": json.dumps(labels)}


def as_marks(labels: tuple[str, ...]) -> dict[str, str]:
    return {label: str(int(label in labels)) for label in LABELS}


def as_joined(labels: tuple[str, ...]) -> dict[str, str]:
    return {"labels": "|".join(labels)}
