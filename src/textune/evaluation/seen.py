"""Rows of an evaluation that the run was trained on, and the figures on the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from textune.evaluation.text import percent


@dataclass(frozen=True)
class SeenRows:
    """How many of the evaluated rows a run has seen; each row counts once, as the first that holds.

    training: rows that it was trained on. validation: rows that chose its checkpoint, temperature or thresholds.
    exact: the same text, ignoring case and white space. near: about the same words in about the same order.
    unseen: the figures on all other rows, None where there are none or none were seen. notes: what is not known.
    chosen: what the validation rows chose, such as "checkpoint".
    checked: False where the run keeps no hashes, so that nothing is known; the reason is in the notes.
    """

    rows: int
    training_exact: int = 0
    training_near: int = 0
    validation_exact: int = 0
    validation_near: int = 0
    unseen: Any = None
    notes: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    checked: bool = True

    @property
    def training(self) -> int:
        """Rows that the run was trained on."""
        return self.training_exact + self.training_near

    @property
    def validation(self) -> int:
        """Rows of the validation part."""
        return self.validation_exact + self.validation_near

    @property
    def seen(self) -> int:
        """Rows seen in any way."""
        return self.training + self.validation

    def describe(self) -> list[str]:
        """Return what a person must know before the figures, one sentence a line."""
        if not self.checked:
            return list(self.notes)
        if not self.seen:
            return [f"none of the {self.rows:,} rows are among the run's training or validation rows", *self.notes]
        lines = []
        if self.training:
            counts = _count(self.training_exact, self.training_near)
            lines.append(f"the run was trained on {self.training:,} of these {self.rows:,} rows ({counts})")
        if self.validation:
            verb = "is one of" if self.validation == 1 else "are"
            counts = _count(self.validation_exact, self.validation_near)
            lines.append(
                f"{self.validation:,} of these {self.rows:,} rows {verb} the run's validation rows ({counts})"
                f"{_name_chosen(self.chosen)}"
            )
        return [*lines, *self.notes, self.describe_unseen()]

    def describe_unseen(self) -> str:
        """Return the first figure on the rows that were not seen, or why there is none."""
        others = self.rows - self.seen
        if not others:
            return f"all {self.rows:,} rows were seen, so no figure on unseen rows can be given"
        those = f"the other {others:,} row{'s' if others > 1 else ''}"
        if self.unseen is None:
            return f"no answer was written for {those}, so no figure on unseen rows can be given"
        first = self.unseen.headline
        low, high = first.interval.low, first.interval.high
        return (
            f"{first.name} {percent(first.value)} on {name_measured(self.unseen.rows, others, those)} "
            f"(95% interval {percent(low)} to {percent(high)})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        counts = ("rows", "training_exact", "training_near", "validation_exact", "validation_near", "checked")
        return {key: getattr(self, key) for key in counts} | {
            "notes": list(self.notes),
            "unseen": None if self.unseen is None else self.unseen.to_dict(),
        }


def name_measured(measured: int, rows: int, name: str) -> str:
    """Return what a figure is measured on: rows by their name, or those of them for which answers were written."""
    return name if measured == rows else f"{measured:,} of {name}, for which answers were written"


def add_seen(content: dict[str, Any], seen: SeenRows | None) -> dict[str, Any]:
    """Return an evaluation's content without the empty field, and with the seen rows where there are any facts."""
    del content["seen"]
    return content if seen is None else content | {"seen_rows": seen.to_dict()}


def _name_chosen(chosen: tuple[str, ...]) -> str:
    """Return ``, which chose its checkpoint and its temperature``, or nothing."""
    if not chosen:
        return ""
    *others, last = [f"its {what}" for what in chosen]
    return f", which chose {', '.join(others)}{' and ' if others else ''}{last}"


def _count(exact: int, near: int) -> str:
    return " and ".join([f"{exact:,} exact"] * bool(exact) + [f"{near:,} near"] * bool(near))
