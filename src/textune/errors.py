"""Every error that textune raises on purpose.

TextuneError                what went wrong, and what to do about it
|-- ConfigError             a setting is unknown, misspelled or out of range     exit code 2
|-- DataError               a table, a row or a label cannot be used             exit code 3
|-- ModelError              a backbone or method cannot be loaded or combined    exit code 4
|   `-- TrainingError       training went wrong and was stopped                  exit code 4
|-- BundleError             a run folder or checkpoint is incomplete or damaged  exit code 5
`-- MissingExtraError       an optional dependency is not installed              exit code 6
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TextuneError(Exception):
    """An error with a message written for the user.

    message: what is wrong and where (file, row, setting).
    hint: what to do about it, as one sentence.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class ConfigError(TextuneError):
    """One or more settings are wrong; all of them are in the message."""

    exit_code = 2


class DataError(TextuneError):
    """A table, a row or a label cannot be used."""

    exit_code = 3


class ModelError(TextuneError):
    """A backbone or a method cannot be loaded, or they cannot be combined."""

    exit_code = 4


class TrainingError(ModelError):
    """Training was stopped because it could not succeed."""


class BundleError(TextuneError):
    """A run folder or a checkpoint is incomplete, damaged or in use."""

    exit_code = 5


class MissingExtraError(TextuneError):
    """An optional dependency is missing; the hint names the extra to install."""

    exit_code = 6


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of the known names, or an empty string."""
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
