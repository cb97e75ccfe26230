"""Detect a file's encoding: byte order mark, else strict UTF-8, else a guess that is reported or refused."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from textune.errors import DataError, suggest

BLOCK = 1 << 20
_SAMPLE = 1 << 18
_AROUND = 20
"""Bytes shown before the first that is not ASCII; twice as many from it on."""
_MOST_SHOWN = 6
_MARKS = (  # UTF-32 before UTF-16: their little-endian marks start with the same bytes
    (codecs.BOM_UTF8, "utf-8", "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_GUESSES = [
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp1257",
    "koi8_r",
    "cp932",
    "euc_jp",
    "gb18030",
    "big5",
    "cp949",
]


@dataclass(frozen=True)
class Encoding:
    """A stateless encoding, how many bytes of byte order mark to skip, and a note for the user."""

    name: str = "utf-8"
    mark_bytes: int = 0
    note: str | None = None


def find_encoding(open_file: Callable[[], BinaryIO], name: str, setting: str | None) -> Encoding:
    """Read the file once and decide its encoding.

    open_file: opens the file from the start at each call. setting: the encoding that the user set, or None.
    Raises DataError, naming the setting, if the encoding is unknown or ambiguous.
    """
    with open_file() as stream:
        head = stream.read(4096)
    _refuse_other_formats(head, name)
    mark = find_mark(head)
    if setting is not None:
        return encoding_as_set(setting, name, mark)
    if mark:
        return Encoding(
            mark[1],
            len(mark[0]),
            f"read as {mark[2]}" if mark[1] == "utf-8" else f"read as {mark[2]} (byte order mark)",
        )
    _refuse_unmarked_utf16(head, name)
    with open_file() as stream:
        damage = _first_damage(stream)
    return Encoding() if damage is None else _guess(damage, name)


_GZIP, _ZIP, _COMPOUND = b"\x1f\x8b", b"PK\x03\x04", b"\xd0\xcf\x11\xe0"


def _refuse_other_formats(head: bytes, name: str) -> None:
    """Raise DataError for the first bytes of a format that is no text, whatever the file is called."""
    kind, advice = "", ""
    if head.startswith(_GZIP):
        kind = "gzipped"
        advice = "it was gzipped twice: unpack it once" if name.lower().endswith(".gz") else f"rename it to {name}.gz"
    elif head.startswith(_ZIP):
        sheet = ".ods" if b"opendocument.spreadsheet" in head else ".xlsx"
        is_sheet = sheet == ".ods" or b"[Content_Types].xml" in head or b"xl/" in head
        kind = "a spreadsheet" if is_sheet else "a zip archive"
        advice = f"rename it to {_with_suffix(name, sheet)}" if is_sheet else "unpack it first"
    elif head.startswith(_COMPOUND):
        kind, advice = "an old Excel file", f"rename it to {_with_suffix(name, '.xls')}"
    elif head.startswith(b"PAR1") and min(head) < 9:
        kind, advice = "a Parquet file", f"rename it to {_with_suffix(name, '.parquet')}"
    elif head.startswith(b"ARROW1\0"):
        kind, advice = "an Arrow file", "save the table as CSV, JSON lines or Parquet"
    if kind:
        raise DataError(f"{name}: is {kind} by its content, not text", hint=advice)


def _with_suffix(name: str, suffix: str) -> str:
    return f"{name.removesuffix('.gz').rpartition('.')[0] or name}{suffix}"


def find_mark(head: bytes) -> tuple[bytes, str, str] | None:
    """Return the byte order mark that the first bytes are, its codec and what the encoding is called, or None."""
    return next((mark for mark in _MARKS if head.startswith(mark[0])), None)


def encoding_as_set(setting: str, name: str, mark: tuple[bytes, str, str] | None) -> Encoding:
    """Return the encoding that a setting names, or that of a byte order mark; raise DataError for an unknown setting.

    name: of the source, in messages. mark: that `find_mark` found.
    """
    try:
        codec = codecs.lookup(setting).name
        "a".encode(codec)
    except (LookupError, TypeError, ValueError):
        known = ("utf-8", "utf-16", "utf-16-le", "latin-1", "cp1252", "cp1251", "gb18030", "shift_jis")
        raise DataError(
            f"{name}: unknown encoding '{setting}'{suggest(setting, known)}",
            hint=f"for example {', '.join(known)}",
        ) from None
    if mark and (codec.replace("_", "-").removesuffix("-sig") in (mark[1], mark[1][:6]) or codec == "utf-8-sig"):
        return Encoding(mark[1], len(mark[0]))
    if mark:  # such as one table of several that was saved otherwise
        return Encoding(
            mark[1], len(mark[0]), f"read as {mark[1]} because of its byte order mark, not as encoding={setting}"
        )
    plain = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}
    return Encoding(plain.get(codec.replace("_", "-"), codec))


def _refuse_unmarked_utf16(head: bytes, name: str) -> None:
    half = max(len(head) // 2, 1)
    for start, codec in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(head) >= 4 and head[start::2].count(0) > 0.4 * half and head[1 - start :: 2].count(0) < 0.1 * half:
            raise DataError(f"{name}: looks like UTF-16 without a byte order mark", hint=f"set encoding={codec}")


@dataclass(frozen=True)
class _Damage:
    """The first bytes of a file that are not UTF-8, with the text around them."""

    line: int
    byte: bytes
    sample: bytes


def _first_damage(stream: BinaryIO) -> _Damage | None:
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    line, previous = 1, b""
    while True:
        block = stream.read(BLOCK)
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            undecoded = bytes(error.object)
            line += undecoded[: error.start].count(b"\n")
            sample = previous[-_SAMPLE:] + undecoded[max(error.start - _SAMPLE, 0) : error.start + 2 * _SAMPLE]
            return _Damage(line, undecoded[error.start : error.start + 3], sample)
        if not block:
            return None
        line += block.count(b"\n")
        previous = block


def _guess(damage: _Damage, name: str) -> Encoding:
    where = f"{name}, line {damage.line}: byte 0x{damage.byte[0]:02x} is not UTF-8"
    if re.match(rb"\xed[\xa0-\xbf][\x80-\xbf]", damage.byte):
        raise DataError(
            f"{name}, line {damage.line}: contains a lone surrogate, not a valid character",
            hint="save the file again as UTF-8",
        )
    decoded = damage.sample.decode("utf-8", "surrogateescape")
    broken = sum("\udc80" <= char <= "\udcff" for char in decoded)
    if sum(char > "\x7f" for char in decoded) - broken > broken:
        raise DataError(
            f"{where}, but the text around it is",
            hint="fix that line, or set encoding= if the file is not UTF-8",
        )
    from charset_normalizer import from_bytes

    matches = list(from_bytes(damage.sample, cp_isolation=_GUESSES))
    best = matches[0] if matches else None
    rivals = [
        m
        for m in matches[1:]
        if str(m) != str(best) and m.chaos <= matches[0].chaos + 0.1 and m.coherence >= matches[0].coherence - 0.15
    ]
    if best is not None and best.coherence >= 0.3 and not rivals:
        name = _common_name(best.could_be_from_charset)
        return Encoding(name, 0, f"read as {name} (guessed; set encoding= if letters look wrong)")
    readings = _read_excerpt(damage, [_common_name(m.could_be_from_charset) for m in [*matches[:1], *rivals[:2]]])
    if not readings:
        raise DataError(f"{where}, and no other encoding fits", hint="set encoding=, for example cp1252 or latin-1")
    samples = "; ".join(f"as {codec}: '{text}'" for codec, text in readings)
    raise DataError(
        f"{where}, and the encoding is ambiguous ({samples})",
        hint=f"set the one that reads correctly, such as encoding={readings[0][0]}",
    )


def _read_excerpt(damage: _Damage, best: Sequence[str]) -> list[tuple[str, str]]:
    """Return encodings and how the first line that is not ASCII reads in each: the best, then others that fit it.

    A reading that an earlier one gives, too, is left out.
    """
    line = next(part for part in re.split(rb"[\r\n]+", damage.sample) if not part.isascii())
    first = next(i for i, byte in enumerate(line) if byte > 127)
    line = line[max(first - _AROUND, 0) : first + 2 * _AROUND]
    # the excerpt may end within a character
    texts = {codec: line.decode(codec, "replace").rstrip("\ufffd") for codec in (*best, *_GUESSES)}
    fitting = [codec for codec, text in texts.items() if codec not in best and _oddness(text) < _UNREADABLE]
    found: dict[str, str] = {}
    for codec in (*best, *sorted(fitting, key=lambda codec: _oddness(texts[codec]))):
        found.setdefault(texts[codec], codec)
    return [(codec, text) for text, codec in found.items()][:_MOST_SHOWN]


_UNREADABLE = 3


def _oddness(text: str) -> int:
    """Return 0 for what can be words, and more for words of two scripts, many capitals, and what is in no word."""
    if any(unicodedata.category(char) in _NOT_IN_WORDS for char in text if char > "\x7f"):
        return _UNREADABLE
    letters = [char for char in text if char.isalpha() and char > "\x7f"]
    scripts = [{unicodedata.name(char, "").split()[0] for char in word} for word in re.findall(r"[^\W\d_]+", text)]
    mixed = any(len(found - _OF_JAPANESE) + bool(found & _OF_JAPANESE) > 1 for found in scripts)
    return mixed + (2 * sum(map(str.isupper, letters)) > len(letters)) if letters else _UNREADABLE


_NOT_IN_WORDS = ("Cc", "Cf", "Cn", "Co", "So", "Sk")
_OF_JAPANESE = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}


def _common_name(candidates: list[str]) -> str:
    return next((guess for guess in _GUESSES if guess in candidates), candidates[0])
