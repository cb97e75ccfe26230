"""Two runs side by side: on which rows only one of them is right, with examples and the groups where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textune.evaluation.slices import Slice
from textune.report.markdown import build_table, escape_markdown
from textune.report.wording import clip, number, percent, plural, span


@dataclass(frozen=True)
class ContrastRow:
    """A row that only one run gets right. right: its labels; wrong: what the other run answers."""

    row: int
    text: str
    right: str
    wrong: str


@dataclass(frozen=True)
class Side:
    """What one run gets right and the other does not.

    name: the candidate. only: the number of such rows. rows: examples. slices: groups of rows in which, where the two
    runs differ, this one is right more often than elsewhere; their errors count the rows that it alone gets right.
    """

    name: str
    only: int
    rows: tuple[ContrastRow, ...]
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Contrast:
    """The best two candidates, one run of each. seeds: of the two runs.

    both, neither: rows that both get right, or none of them. looks: the groups that were tested for each side.
    """

    first: Side
    second: Side
    seeds: tuple[int, int]
    both: int
    neither: int
    looks: int

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both sides."""
        return self.first, self.second

    @property
    def apart(self) -> int:
        """The number of rows where only one run is right."""
        return self.first.only + self.second.only


SLICE_HEADER = ("rows where", "only one is right", "right alone", "share", "95% interval")


def describe_contrast(contrast: Contrast) -> str:
    """Return on how many rows the two runs differ."""
    one, other = contrast.sides
    rows = contrast.apart + contrast.both + contrast.neither
    return (
        f"Of {plural(rows, 'row')}, both get {number(contrast.both)} right and {number(contrast.neither)} wrong; only "
        f"{one.name} gets {number(one.only)} right, only {other.name} {number(other.only)}."
    )


def describe_groups(contrast: Contrast) -> str:
    """Return what the groups are, and how many were looked at."""
    were = "was" if contrast.looks == 1 else "were"
    return (
        f"Groups among the {plural(contrast.apart, 'row')} that only one of the two gets right. "
        f"{plural(contrast.looks, 'group')} {were} tested for each by Fisher's exact test, corrected for all (Holm)."
    )


def list_slice_cells(found: Slice) -> tuple[str, ...]:
    """Return the cells of a group of rows."""
    return (
        clip(found.description, 160),
        number(found.rows),
        number(found.errors),
        percent(found.error_rate),
        span(found.interval),
    )


def list_contrast_sections(contrast: Contrast) -> list[str]:
    """Return the Markdown sections of the contrast."""
    sections = [f"## Where the first two differ (seeds {contrast.seeds[0]} and {contrast.seeds[1]})"]
    sections.append(escape_markdown(describe_contrast(contrast)))
    for side in contrast.sides:
        sections += _list_side(side)
    return [*sections, describe_groups(contrast)]


def _list_side(side: Side) -> Sequence[str]:
    parts = []
    if side.rows:
        rows = [(str(r.row), clip(r.right, 60), clip(r.wrong, 60), clip(r.text, 160)) for r in side.rows]
        parts += [
            f"Only {escape_markdown(side.name)} is right:",
            build_table(("row", "label", "the other's answer", "text"), rows),
        ]
    if side.slices:
        parts += [
            f"Groups where {escape_markdown(side.name)} is right more often:",
            build_table(SLICE_HEADER, [list_slice_cells(found) for found in side.slices]),
        ]
    return parts
