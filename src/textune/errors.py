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
import re
import shlex
from collections.abc import Iterable
from pathlib import PurePath


class TextuneError(Exception):
    """An error with a message written for the user.

    message: what is wrong and where (file, row, setting).
    hint: what to do about it, as one sentence.
    """

    exit_code = 1
    kind = "error"

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


def show_command(*words: object) -> str:
    """Return a textune command that works when it is pasted into a shell.

    words: texts as they are; paths as Path, since one that begins with a dash would be read as an option.
    """
    shown = (f"./{word}" if isinstance(word, PurePath) and str(word).startswith("-") else str(word) for word in words)
    return " ".join(["textune", *map(_quote, shown)])


def _quote(word: str) -> str:
    if not word.isprintable():  # control characters, and bytes of a name that are no UTF-8
        return "$'" + "".join(_escape(character) for character in word) + "'"
    return f'"{word}"' if re.fullmatch(r"[^\"$`\\!]*\s[^\"$`\\!]*", word) else shlex.quote(word)


def _escape(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", errors))
