"""What the words of `predict` and `explain` name: a table, or texts; and the file for a table's answers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textune.config import RunConfig
    from textune.data import Location

_STORED = re.compile(r"(hub|embedded):\S+")


def find_table(texts: Sequence[str], named: str | None = None, literal: Sequence[str] = ()) -> Location | str | None:
    """Return the table that is meant: the one that an option names, any path that exists, a word that ends like one.

    A table is named as for training, so that a part of it may follow a '#': book.xlsx#Sheet2.
    named: of the option that takes only tables, so that a mistyped name is never answered as something else.
    literal: texts that are no table, whatever they look like.
    Raises DataError for a folder, a missing file, and a file among texts.
    """
    from textune.errors import DataError

    found = named if named is not None else next((text for text in texts if text != "-" and _is_place(text)), None)
    if found is not None and len(texts) + len(literal) + (named is not None) > 1:
        raise DataError(
            f"{found}: give either one file or only texts",
            hint="if it is a text, and not the file of this name, write it differently or run in another folder",
        )
    if found is None and len(texts) == 1 and not literal and len(texts[0].split()) == 1:
        if _STORED.fullmatch(texts[0]):
            found = texts[0]
        elif _ends_like_table(texts[0]):
            raise DataError(f"{texts[0]}: no such file")
    return None if found is None else _locate(found)


def _locate(name: str) -> Location | str:
    from textune.data import locate
    from textune.errors import DataError

    location = locate(name)
    if not isinstance(location, str) and location.path.is_dir():
        raise DataError(f"{name}: is a folder", hint="give one file")
    return location


def _is_place(word: str) -> bool:
    """Return whether a word is a path that exists, or one with a part of it after a '#'."""
    stem, _, part = word.rpartition("#")
    return _exists(word) or (bool(part) and _exists(stem))


def _exists(word: str) -> bool:
    try:
        return bool(word.strip()) and os.path.exists(word)  # noqa: PTH110  Path raises for a name that is too long
    except ValueError:  # a NUL character
        return False


def _ends_like_table(word: str) -> bool:
    """Return whether a word ends like a file that can be read, whether it exists or not."""
    place = Path(word.rpartition("#")[0] or word)
    if len(word) >= 4096 or not place.suffix or " " in place.suffix:
        return False
    from textune.data import Location, list_readable  # imported late: a text alone needs no tables

    return Location(place).suffix in list_readable()


def check_settings(texts: Sequence[str], config: RunConfig) -> None:
    """Raise ConfigError for settings that say how a table is read, where texts are typed or come on standard input.

    Raises DataError for an unknown encoding of standard input.
    """
    from textune.errors import ConfigError

    data, stdin = config.data, not texts or list(texts) == ["-"]
    unused = {"text": data.text, "text_pair": data.text_pair, "prompt": config.writing.prompt}
    unused |= {"delimiter": data.delimiter, "encoding": None if stdin else data.encoding}
    if names := [name for name, value in unused.items() if value is not None]:
        place = "a file or standard input" if names[0] == "encoding" else "a file"
        raise ConfigError(
            f"{names[0]}=: only applies to {place}",
            hint=f"leave it out, or put -- before it if it is a text: -- '{names[0]}=...'",
        )
    if data.encoding is not None:
        from textune.inference.lines import check_encoding

        check_encoding(data.encoding)


def check_single(folder: Path, command: str = "predict") -> None:
    """Raise DataError where a run classifies pairs of texts: texts that are typed or come line by line are single.

    command: that which reads a table of pairs instead.
    """
    from textune.bundle import read_manifest
    from textune.errors import DataError, show_command

    columns = read_manifest(folder, verify=False).columns
    if columns.text_pair is not None:
        raise DataError(
            f"{folder}: this model classifies pairs of texts; the second texts are missing",
            hint=f"give a table with the columns {', '.join(columns.text)} and {columns.text_pair}: "
            + show_command(command, folder, "FILE"),
        )


def check_table(folder: Path, table: Location | str, config: RunConfig) -> None:
    """Raise DataError where a table lacks a column that a run reads, before its model is loaded."""
    from textune.bundle import read_manifest
    from textune.inference.files import FileForm, check_columns
    from textune.run.tables import read_options

    form = FileForm(name_texts(config), config.data.text_pair)
    check_columns(read_manifest(folder, verify=False).columns, table, form=form, reading=read_options(config.data))


def name_texts(config: RunConfig) -> tuple[str, ...] | None:
    """Return the columns of texts or prompts that text= or prompt= names; raise ConfigError where both do."""
    from textune.data.roles import name_column

    prompt = name_column("prompt", config.writing.prompt, "text", config.data.text)
    return config.data.text or (None if prompt is None else (prompt,))


def choose_output(table: Location | str, output: Path | None, overwrite: bool) -> Path:
    """Return the file to write; raise ConfigError where it cannot be written or must not be replaced."""
    from textune.errors import ConfigError
    from textune.inference.files import check_output

    target = check_output(output or _name_output(table))
    if target.exists() and not overwrite:
        raise ConfigError(f"{target}: already exists", hint="choose another --output, or add --overwrite")
    return target


def _name_output(table: Location | str) -> Path:
    """Return a file beside the table, in its format where that can be written."""
    from textune.errors import ConfigError
    from textune.inference.writers import choose_ending

    if isinstance(table, str):
        raise ConfigError(f"{table}: has no folder for its answers", hint="name a file for them: --output FILE")
    stem = table.path.name.removesuffix(".gz").rpartition(".")[0]
    part = "" if table.part is None else "." + re.sub(r"[^\w.-]+", "_", table.part)
    return table.path.with_name(f"{stem}{part}.predicted{choose_ending(table.suffix)}")
