"""How texts longer than max_length are read."""

from __future__ import annotations

from dataclasses import dataclass

LONG_TEXT_FORMS = ("truncate", "head_tail", "window")


@dataclass(frozen=True)
class LongText:
    """What becomes of a text longer than max_length, in training and ever after.

    form: "truncate" (its first tokens), "head_tail" (its first and its last), "window" (overlapping windows, whose
    logits are averaged). overlap: tokens that a window shares with the one before. max_windows: of one text.
    head_fraction: share of the tokens kept that come from the beginning.
    """

    form: str = "truncate"
    overlap: int = 0
    max_windows: int = 1
    head_fraction: float = 1.0

    def describe(self) -> str:
        """Return in a few words how such a text is read."""
        if self.form == "window":
            return f"read in windows that share {self.overlap} tokens, at most {self.max_windows}"
        if self.form == "head_tail":
            return f"read at the beginning ({self.head_fraction:.0%}) and the end"
        return "cut"


TRUNCATE = LongText()
