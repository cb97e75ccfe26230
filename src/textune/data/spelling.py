"""Labels that look alike: what no reader can see is merged, what may be meant is said."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from textune.data.jsonlines import is_object
from textune.evaluation.text import quote_names
from textune.printable import count

_JOINERS = "\u200c\u200d"
_FILLERS = "\u034f\u115f\u1160\u3164\uffa0"
_FIRST_JOINED_SCRIPT = 0x0590
"""From Hebrew on, scripts and emoji need joiners: there they can be seen."""
_ALIKE = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("\u2018\u2019\u02bc\u00b4`", "'")
    | dict.fromkeys("\u201c\u201d\u201e", '"')
    | dict(zip("\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501", "aeopcyxijsd", strict=True))
    | dict(zip("\u0432\u043a\u043c\u043d\u0442\u03b1\u03bf\u03c1\u03ba\u03c4\u03c7", "bkmhtaopktx", strict=True))
)
"""Dashes, quotes, and the Cyrillic and Greek letters that print like Latin ones; applied after case folding."""
_WHOLE_NUMBER = re.compile(r"(-?[0-9]+)\.0+")


def visible_form(label: str) -> str:
    """Return a label as a reader sees it: composed (NFC), with single spaces, without characters that do not print."""
    if label.isascii() and label.isprintable() and "  " not in label:
        return label.strip()
    composed = unicodedata.normalize("NFC", label.replace("\u2800", " "))
    return " ".join("".join(char for i, char in enumerate(composed) if _is_visible(composed, i)).split())


def _is_visible(label: str, position: int) -> bool:
    char = label[position]
    if char in _JOINERS:
        around = (label[position - 1 : position], label[position + 1 : position + 2])
        return all(neighbour and ord(neighbour) >= _FIRST_JOINED_SCRIPT for neighbour in around)
    if char in _FILLERS or "\ufe00" <= char <= "\ufe0f":
        return False
    kind = unicodedata.category(char)
    tag = "\U000e0020" <= char <= "\U000e007f"  # flags of regions are spelled with these
    return char.isspace() or tag or kind not in ("Cf", "Cc")


def folded_form(label: str) -> str:
    """Return the form that labels share which a reader can mistake for each other."""
    form = unicodedata.normalize("NFKC", visible_form(label)).casefold()
    number = _WHOLE_NUMBER.fullmatch(form)
    return number[1] if number else " ".join(form.translate(_ALIKE).split())


def find_label_twins(row_labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Return labels that look alike, such as ("Spam", "spam "): they differ in case, white space or character forms."""
    return _group(row_labels, folded_form)


def find_same_labels(row_labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Return labels that print the same: they differ in what no reader can see."""
    return _group(row_labels, visible_form)


def _group(labels: Iterable[str], form: Callable[[str], str]) -> list[tuple[str, ...]]:
    alike: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        alike.setdefault(form(label), []).append(label)
    return [tuple(group) for group in alike.values() if len(group) > 1]


def choose_spellings(labels: Iterable[str], known: Sequence[str] = ()) -> dict[str, str]:
    """Return the labels to be replaced and by what: those that print like a known label, or like each other.

    known: labels that stay as they are, because they were listed or trained.
    """
    by_form: dict[str, list[str]] = {}
    for label in known:
        by_form.setdefault(visible_form(label), []).append(label)
    unknown = set(labels) - set(known)
    same = {label for group in find_same_labels(unknown) for label in group}
    spellings = {}
    for label in sorted(unknown):
        form = visible_form(label)
        choices = by_form.get(form, [])
        if len(set(choices)) == 1:
            spellings[label] = choices[0]
        elif not choices and form != label and label in same:
            spellings[label] = form
    return spellings


def describe_spellings(rows: Mapping[str, int], spellings: Mapping[str, str], table: str) -> tuple[str, ...]:
    """Return one note for each label that was replaced; rows: how many rows have each label as written."""
    return tuple(
        f"{table}: {_rows(rows[label])} {'has' if rows[label] == 1 else 'have'} the label {reveal(label)}, "
        f"which prints like '{chosen}' and is read as '{chosen}'"
        for label, chosen in spellings.items()
    )


def describe_twins(rows: Mapping[str, int], listed: Sequence[str] = ()) -> list[str]:
    """Return a warning for labels that look alike and remain two classes, unless all of them were listed."""
    warnings = []
    for twins in find_label_twins(rows):
        if set(twins) <= set(listed):
            continue
        each = " and ".join(f"{reveal(label, twins)} ({_rows(rows[label])})" for label in twins)
        warnings.append(
            f"the labels {each} differ only in {_difference(twins)}, and are {len(twins)} classes. Write them in one "
            "way in the label column, or list all classes with labels= if each is meant"
        )
    return warnings


def describe_hidden(rows: Mapping[str, int]) -> list[str]:
    """Return a warning for each label that holds what no reader can see."""
    return [
        f"the label {reveal(label)} ({_rows(count)}) holds characters or spaces that do not print; every answer will "
        "have them, too. Remove them in the label column"
        for label, count in sorted(rows.items())
        if visible_form(label) != label
    ]


def describe_objects(rows: Mapping[str, int]) -> list[str]:
    """Return a warning if labels are JSON objects: a field of theirs is the label."""
    objects = [label for label in sorted(rows) if is_object(label)]
    if not objects:
        return []
    return [
        f"{count(len(objects), 'label')} {'is a JSON object' if len(objects) == 1 else 'are JSON objects'}, such as "
        f"{objects[0]}; so will every answer be. Give the field that is the label a column of its own"
    ]


def describe_near(labels: Iterable[str], known: Sequence[str]) -> list[str]:
    """Return for each unknown label that looks like a known one, what it differs in."""
    by_form = {folded_form(label): label for label in known}
    pairs = [(label, by_form[folded_form(label)]) for label in labels if folded_form(label) in by_form]
    return [
        f"{reveal(pair[0], pair)} differs from {reveal(pair[1], pair)} only in {_difference(pair)}"
        for pair in pairs
        if pair[0] != pair[1]
    ]


def describe_foreign(
    sets: Sequence[Sequence[str]], unknown: Sequence[Sequence[str]], known: Sequence[str]
) -> tuple[str, str, str] | None:
    """Return the labels of rows of which none is known, the known ones, and what near ones differ in; else None.

    sets: the labels of each row. unknown: those of them that are not known.
    """
    if not any(sets) or any(len(names) < len(row) for names, row in zip(unknown, sets, strict=True)):
        return None
    foreign = sorted({label for row in sets for label in row})
    near = "".join(f"; {line}" for line in describe_near(foreign, known)[:3])
    return quote_names(foreign), quote_names(list(known)), near


def reveal(label: str, twins: Sequence[str] = ()) -> str:
    """Return a label in quotes, with escapes for what a reader cannot see or tell apart from its twins."""
    mixed = len({unicodedata.normalize("NFKC", twin).casefold() for twin in twins}) > 1
    hidden = unicodedata.normalize("NFC", label) != label
    return ascii(label) if hidden or mixed else repr(label)


def _difference(twins: Sequence[str]) -> str:
    visible = {visible_form(label) for label in twins}
    if len(visible) == 1:
        return "characters that do not print"
    if len({label.casefold() for label in visible}) == 1:
        return "case" if visible == set(twins) else "case and in what does not print"
    if len({unicodedata.normalize("NFKC", visible_form(label)).casefold() for label in twins}) == 1:
        return "the form of their characters, such as full-width letters"
    if any(_WHOLE_NUMBER.fullmatch(visible_form(label)) for label in twins):
        return "how a number is written"
    return "characters that look the same"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def count_labels(sets: Iterable[Sequence[str]]) -> Counter[str]:
    """Return how many rows have each label."""
    return Counter(label for labels in sets for label in labels)
