"""How texts longer than max_length are read."""

from __future__ import annotations

from dataclasses import dataclass

from textune.printable import count

LONG_TEXT_FORMS = ("truncate", "head_tail", "window")


@dataclass(frozen=True)
class LongText:
    """How texts longer than max_length are read, in training and prediction.

    form: "truncate" (the first tokens), "head_tail" (the first and last tokens), "window" (overlapping windows, whose
    logits are averaged). overlap: tokens shared by neighboring windows. max_windows: per text.
    head_fraction: share of head_tail's tokens from the beginning.
    """

    form: str = "truncate"
    overlap: int = 0
    max_windows: int = 1
    head_fraction: float = 1.0

    def describe(self) -> str:
        """Return a short description of how such a text is read."""
        if self.form == "window":
            return f"read in windows that share {count(self.overlap, 'token')}, at most {self.max_windows}"
        if self.form == "head_tail":
            return f"read at the beginning ({self.head_fraction:.0%}) and the end"
        return "cut"


TRUNCATE = LongText()
