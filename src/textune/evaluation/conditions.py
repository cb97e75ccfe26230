"""Conditions on rows that a search for slices tries: on any column, on length, script, words, negation and labels."""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.evaluation.slices import Condition
from textune.evaluation.text import show_name

Ints = NDArray[np.int64]

_MOST_VALUES = 100
_FEW_NUMBERS = 10
"""Numbers with at most so many different values, such as ratings, are taken one by one."""
_BINS = 5
_MOST_NUMBERS_MISSING = 0.05
_MOST_WORDS, _MOST_BIGRAMS = 1_000, 1_000
_MOST_CHARACTERS, _FEWEST_CHARACTERS, _CHARACTERS_IN_ALL = 5_000, 200, 50_000_000
_LARGEST_SHARE = 0.5
"""Words in more than half of the rows tell no slice apart."""
_SAME_AS_WORD = 0.8
_DATE = re.compile(r"((?:19|20)\d\d)-(0[1-9]|1[0-2])(?:-\d\d)?(?:[T ].*)?")
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+(?:['’][^\W{_SPACELESS}]+)*")
_ASCII_WORD = re.compile(r"\w+(?:'\w+)*")
"""The same for text that has ASCII characters only, in a third of the time."""
_ENGLISH = "not no never none nobody nothing neither nor nowhere cannot without hardly barely scarcely ain't"
_UNSPELLED = "isnt arent wasnt werent dont doesnt didnt wont wouldnt cant couldnt shouldnt havent hasnt hadnt aint"
_OTHERS = "nicht nichts kein keine keinen keiner keines nie niemals nunca jamais ningún ninguno jamás não"
NEGATIONS = frozenset(f"{_ENGLISH} {_UNSPELLED} {_OTHERS}".split())
"""Words that negate; so does whatever ends in n't. In English first, with those of other languages that are clear."""


def split_words(text: str) -> list[str]:
    """Return the words of a text without case; in scripts without spaces, its characters."""
    plain = text.casefold().replace("’", "'")
    return (_ASCII_WORD if plain.isascii() else _WORD).findall(plain)


@dataclass(frozen=True, eq=False)
class SplitTexts:
    """The words of texts, split once for all conditions on words.

    names: each distinct word. codes, row_of: int64 [words], the number of each word and the text that it is in.
    cut: positions of the texts of which only the beginning was split.
    """

    texts: Sequence[str]
    names: list[str]
    codes: Ints
    row_of: Ints
    cut: Ints


def split_texts(texts: Sequence[str]) -> SplitTexts:
    """Split texts into words, long ones only at their beginning, the shorter the more texts there are."""
    most = min(_MOST_CHARACTERS, max(_FEWEST_CHARACTERS, _CHARACTERS_IN_ALL // max(len(texts), 1)))
    numbers = _Numbers()
    ids, sizes = array("q"), []
    for text in texts:
        words = split_words(text[:most])
        ids.extend(map(numbers.__getitem__, words))
        sizes.append(len(words))
    row_of = np.repeat(np.arange(len(texts), dtype=np.int64), sizes)
    cut = np.array([at for at, text in enumerate(texts) if len(text) > most], np.int64)
    return SplitTexts(texts, list(numbers), np.array(ids, np.int64), row_of, cut)


class _Numbers(dict[str, int]):
    """Gives each new word the next number."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


def list_marked(kind: str, both: tuple[str, str], mask: NDArray[np.bool_]) -> list[Condition]:
    """Return two conditions: what is marked, and what is not. both: their descriptions."""
    marks = np.asarray(mask, bool)
    return [
        Condition(kind, kind, description, np.flatnonzero(chosen).astype(np.int64), paired=True)
        for description, chosen in zip(both, (marks, ~marks), strict=True)
    ]


def list_negations(texts: Sequence[str] | SplitTexts) -> list[Condition]:
    """Return whether a text has a word that negates."""
    split = texts if isinstance(texts, SplitTexts) else split_texts(texts)
    marks = np.zeros(len(split.texts), bool)
    negating = np.array([_negates(word) for word in split.names], bool)
    marks[split.row_of[negating[split.codes]]] = True
    for at in split.cut.tolist():
        marks[at] = any(map(_negates, split_words(split.texts[at][:_MOST_CHARACTERS])))
    return list_marked("negation", ("has a negation (not, no, never, n't ...)", "has no negation"), marks)


def _negates(word: str) -> bool:
    return word in NEGATIONS or word.endswith("n't")


def list_lengths(texts: Sequence[str]) -> list[Condition]:
    """Return fifths of the texts by their number of characters."""
    lengths = np.array([len(text) for text in texts], np.float64)
    return _list_bins("length", "length", "length {} characters", lengths)


def list_values(kind: str, subject: str, values: Sequence[str | None], form: str = "{}") -> list[Condition]:
    """Return a condition for each of the most frequent values; rows without one belong to none.

    form: the description, with {} for the value.
    """
    counts = Counter(value for value in values if value is not None and value.strip())
    numbers = {value: i for i, (value, _) in enumerate(counts.most_common(_MOST_VALUES))}
    codes = np.fromiter((numbers.get(value, -1) if value is not None else -1 for value in values), np.int64)
    return [
        Condition(kind, subject, form.format(show_name(value)), np.flatnonzero(codes == code), paired=True)
        for value, code in numbers.items()
    ]


def list_column(name: str, cells: Sequence[str | None]) -> list[Condition]:
    """Return conditions on a column: its values, or fifths of its numbers, or years and months of its dates.

    cells: text or None. Which it is, is told from the cells.
    """
    plain, subject = show_name(name), f"column {name}"
    shown = plain.replace("{", "{{").replace("}", "}}")  # the forms below are filled by str.format
    filled = [cell if cell is not None and cell.strip() else None for cell in cells]
    present = [cell.strip() for cell in filled if cell is not None]
    found: list[Condition] = []
    numbers = _read_numbers(filled)
    if len(set(present)) > _FEW_NUMBERS and numbers is not None:
        found += _list_bins("column", subject, f"{shown} {{}}", numbers)
    elif present and all(map(_DATE.fullmatch, present)):
        for form, groups in (("in", (1,)), ("in", (1, 2))):
            parts = [None if c is None else "-".join(_find_date(c, g) for g in groups) for c in filled]
            found += list_values("column", subject, parts, f"{shown} {form} {{}}")
    else:
        stripped = [None if cell is None else cell.strip() for cell in filled]
        found += list_values("column", subject, stripped, f"{shown} is '{{}}'")
    empty = np.array([cell is None for cell in filled], bool)
    if empty.any():
        found.append(Condition("column", subject, f"{plain} is empty", np.flatnonzero(empty), paired=True))
    return found


def _find_date(cell: str, group: int) -> str:
    match = _DATE.fullmatch(cell.strip())
    return "" if match is None else match.group(group)


def _read_numbers(cells: Sequence[str | None]) -> NDArray[np.float64] | None:
    """Return a column's numbers, NaN where there is none; None where too many filled cells are no numbers."""
    numbers = np.full(len(cells), np.nan)
    filled = 0
    for i, cell in enumerate(cells):
        if cell is None:
            continue
        filled += 1
        try:
            value = float(cell)
        except ValueError:
            continue
        if math.isfinite(value):
            numbers[i] = value
    wrong = filled - int(np.isfinite(numbers).sum())
    return numbers if filled and wrong <= _MOST_NUMBERS_MISSING * filled else None


def _list_bins(kind: str, subject: str, form: str, numbers: NDArray[np.float64]) -> list[Condition]:
    """Return conditions for fifths of the numbers; NaN belongs to none."""
    finite = np.flatnonzero(np.isfinite(numbers))
    if not len(finite):
        return []
    ranks = [(len(finite) * part + _BINS - 1) // _BINS - 1 for part in range(1, _BINS)]
    edges = np.unique(np.sort(numbers[finite])[ranks])
    bins = np.searchsorted(edges, numbers[finite], "left")
    found = []
    for number in np.unique(bins):
        rows = finite[bins == number].astype(np.int64)
        low, high = numbers[rows].min(), numbers[rows].max()
        span = f"{low:.10g}" if low == high else f"{low:.10g} to {high:.10g}"
        found.append(Condition(kind, subject, form.format(span), rows, paired=True))
    return found


def list_labels(kind: str, labels: Sequence[str], marks: NDArray[np.bool_]) -> list[Condition]:
    """Return a condition for each label. marks: bool [rows, labels]."""
    rows, columns = np.divmod(np.flatnonzero(marks), max(len(labels), 1))  # of two dimensions it is far slower
    order = np.argsort(columns, kind="stable")
    ends = np.cumsum(np.bincount(columns, minlength=len(labels)))
    by_label = np.split(rows[order].astype(np.int64), ends[:-1])
    return [Condition(kind, kind, f"{kind} is '{show_name(label)}'", by_label[i]) for i, label in enumerate(labels)]


def list_words(texts: Sequence[str] | SplitTexts, fewest_rows: int) -> list[Condition]:
    """Return conditions for the words and the pairs of neighboring words that occur in most texts."""
    split = texts if isinstance(texts, SplitTexts) else split_texts(texts)
    texts, names, codes, row_of = split.texts, split.names, split.codes, split.row_of
    if not len(texts):
        return []
    largest = int(_LARGEST_SHARE * len(texts))
    texts_with, rows_of = _count_texts(codes, row_of, len(texts))
    frequent = np.flatnonzero((texts_with >= fewest_rows) & (texts_with <= largest))
    chosen = frequent[np.argsort(-texts_with[frequent], kind="stable")][:_MOST_WORDS]
    found = [Condition("word", "words", f"has the word '{names[w]}'", rows_of(w)) for w in chosen.tolist()]
    return found + _list_bigrams(codes, row_of, names, (texts_with, fewest_rows, len(texts)))


def _list_bigrams(codes: Ints, row_of: Ints, names: Sequence[str], counts: tuple[Ints, int, int]) -> list[Condition]:
    """Return conditions for pairs of neighboring words that are no rarer than `counts` allows."""
    texts_with, fewest, rows = counts
    if len(codes) < 2:
        return []
    enough = texts_with[codes] >= fewest
    at = np.flatnonzero((row_of[1:] == row_of[:-1]) & enough[1:] & enough[:-1])
    keys = codes[at] * len(names) + codes[at + 1]
    pairs = _find_distinct(keys)
    pair_of = np.searchsorted(pairs, keys)
    if not len(pairs):
        return []
    first, second = np.divmod(pairs, len(names))
    pair_texts, rows_of = _count_texts(pair_of, row_of[at], rows)
    distinct = pair_texts < _SAME_AS_WORD * np.minimum(texts_with[first], texts_with[second])
    frequent = np.flatnonzero(distinct & (pair_texts >= fewest) & (pair_texts <= _LARGEST_SHARE * rows))
    chosen = frequent[np.argsort(-pair_texts[frequent], kind="stable")][:_MOST_BIGRAMS]
    return [
        Condition("word pair", "word pairs", f"has the words '{names[first[i]]} {names[second[i]]}'", rows_of(i))
        for i in chosen
    ]


def _count_texts(codes: Ints, row_of: Ints, rows: int) -> tuple[Ints, Any]:
    """Return in how many texts each code occurs, and a function that returns the rows of a code."""
    distinct = _find_distinct(codes * rows + row_of)
    code_of, row = np.divmod(distinct, rows)
    counts = np.bincount(code_of)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return counts, lambda code: row[starts[code] : starts[code + 1]]


def _find_distinct(keys: Ints) -> Ints:
    """Return the different numbers in order. `np.unique` hashes them first, which takes ten times as long here."""
    ordered = np.sort(keys)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered
