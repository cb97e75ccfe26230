"""fastText's format: each line is one text with its labels before it, such as "__label__spam Win a prize"."""

from __future__ import annotations

from collections.abc import Iterable

from textune.data.cells import compact_json

COLUMNS = ("label", "text")
_PREFIX = "__label__"


def are_labelled(lines: Iterable[str]) -> bool:
    """Return whether most lines that are not blank begin with a label. fastText leaves the others out, too."""
    begin = [line.lstrip().startswith(_PREFIX) for line in lines if line.strip()]
    return 2 * sum(begin) > len(begin)


def has_several_labels(lines: Iterable[str]) -> bool:
    """Return whether any line has more than one label."""
    return any(len(_split(line)[0]) > 1 for line in lines)


def read_line(line: str, several: bool) -> tuple[str, str]:
    """Return the cells of `COLUMNS`; several: the label cell is a JSON list, since some lines have more than one."""
    labels, text = _split(line)
    return compact_json(labels) if several and labels else "".join(labels), text


def _split(line: str) -> tuple[list[str], str]:
    labels, rest = [], line.strip()
    while rest.startswith(_PREFIX):
        word, *below = rest.split(maxsplit=1)
        labels += [word.removeprefix(_PREFIX)] if word != _PREFIX else []
        rest = below[0] if below else ""
    return labels, rest
