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

import contextlib
import difflib
import inspect
import re
import shlex
import warnings
from collections.abc import Iterable, Iterator
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


class Note(UserWarning):
    """Says how something was read; the command line prints it as a note."""


class OldBundleWarning(UserWarning):
    """A bundle of an older format, which has fewer checks, was read."""


def note(message: str, category: type[Warning] = Note) -> None:
    """Warn with the line of the caller outside textune."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "textune":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


READER, PYTHON = "TEXTUNE_READER", "python"
"""Tells a command that a Python program started it, whose errors are worded for Python."""
_reader = {"types commands": False}


@contextlib.contextmanager
def address_shell(commands: bool = True) -> Iterator[None]:
    """Word errors for who types commands (`--overwrite`), and not for who calls Python (`overwrite=True`).

    This holds for the whole process, its threads too. commands: False: word them for Python.
    """
    before = _reader["types commands"]
    _reader["types commands"] = commands
    try:
        yield
    finally:
        _reader["types commands"] = before


def in_shell() -> bool:
    """Return whether errors are worded for the command line."""
    return _reader["types commands"]


def flag(name: str, value: str | bool = True) -> str:
    """Return an option as the reader writes it: `--data FILE`, or `data='FILE'` in Python.

    name: of the Python parameter. value: True for a switch; an empty text to name the option alone.
    """
    dashed = f"--{name.replace('_', '-')}"
    if in_shell():
        return f"{dashed} {value}" if value and value is not True else dashed
    return f"{name}={value!r}" if value else f"{name}="


def show_resume(folder: PurePath, *, search: bool = False, **settings: str | None) -> str:
    """Return what continues a run or a search, ready to be pasted: a command, and in Python the call before it.

    settings: what to add, such as trust; None is left out.
    """
    added = {name: value for name, value in settings.items() if value is not None}
    command = show_command("resume", folder, *(f"{name}={value}" for name, value in added.items()))
    if in_shell():
        return command
    arguments = ", ".join([repr(str(folder)), *(f"{name}={value!r}" for name, value in added.items())])
    return f"textune.{'resume_sweep' if search else 'resume'}({arguments}), or in a shell: {command}"


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
