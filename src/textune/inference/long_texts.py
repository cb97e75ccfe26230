"""How many of the texts that a model answered were cut, for one note after all of them."""

from __future__ import annotations

from dataclasses import dataclass

from textune.config.long_text import LongText
from textune.printable import count
from textune.tokens import Tokenized


@dataclass
class LongTexts:
    """Counts over the calls of one predictor, until `take_note`. within: a template, which takes some of the tokens."""

    max_length: int
    long_text: LongText
    within: str | None = None
    read: int = 0
    cut: int = 0

    def add(self, tokens: Tokenized) -> None:
        """Count tokenized texts; their full lengths are known already."""
        self.add_counts(len(tokens), int((tokens.full_lengths > (tokens.capacity or tokens.max_length)).sum()))

    def add_counts(self, read: int, cut: int) -> None:
        """Count texts of which some were cut."""
        self.read += read
        self.cut += cut

    def take_note(self) -> str | None:
        """Return how many texts were not read completely, or None, and begin to count anew."""
        read, cut = self.read, self.cut
        self.read = self.cut = 0
        if not cut:
            return None
        texts = "the text" if read == 1 else f"{cut:,} of {count(read, 'text')}"
        texts = texts if self.within is None else f"within {self.within}, {texts}"
        which, were = (f"{texts} is", "was") if cut == 1 else (f"{texts} are", "were")
        if self.long_text.form == "head_tail":
            whose = "its" if cut == 1 else "their"
            return f"{which} longer than max_length {self.max_length}: only {whose} first and last tokens were read"
        if self.long_text.form == "window":
            windows = count(self.long_text.max_windows, "window")
            return f"{which} longer than {windows} of max_length {self.max_length} and {were} cut"
        return f"{which} longer than max_length {self.max_length} and {were} cut"
