"""What a person types, put into the form the commands read: flags for settings, and settings for flags.

`--learning-rate 1e-3` is `learning_rate=1e-3`, and `overwrite=true` is `--overwrite`. The flags come from the settings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from shlex import quote

from textune.errors import ConfigError, suggest

EXTRA_SETTINGS = {
    "plan": ("methods", "backbones"),
    "compare": ("methods", "backbones", "seeds"),
    "sweep": ("trials", "sampler", "halving", "folds"),
}
"""Settings that only one command has, by command."""


@dataclass(frozen=True)
class Flag:
    """An option that a command declares. names: with their dashes. optional: its value may be left out."""

    names: tuple[str, ...]
    takes_value: bool
    optional: bool = False


def translate_words(
    words: Sequence[str], flags: Sequence[Flag], *, settings: Collection[str], convert: bool = True
) -> list[str]:
    """Return the words with every flag that is a setting as key=value, and key=value that is a flag as the flag.

    flags: of the command. settings: the names it takes. convert: whether key=value may be a flag; False where such a
    word can be a text. Words after -- stay as they are.
    Raises ConfigError for an unknown flag and a flag without its value.
    """
    declared = {name: flag for flag in flags for name in flag.names}
    rest, done = iter(words), list[str]()
    while (word := next(rest, None)) is not None:
        name, equals, value = word.partition("=")
        if word == "--":
            return [*done, word, *rest]
        if name in declared or name.replace("_", "-") in declared:
            name = name if name in declared else name.replace("_", "-")
            done.append(f"{name}{equals}{value}")
            if declared[name].optional and not equals:
                rest, value = _take_share(rest)
                done[-1] = f"{name}={value}"
            elif declared[name].takes_value and not equals:
                done += _take(rest)
        elif name.startswith("--"):
            given = value if equals else None
            done.append(_read_setting(name, given, rest, declared, settings, texts=not convert))
        elif not convert and _is_text_with_a_dash(word):
            raise _refuse(word, (), texts=True)
        elif convert and equals and (flag := declared.get(f"--{name.replace('_', '-')}")) and name not in settings:
            done += [f"{flag.names[0]}={value}"] if flag.takes_value else _switch(flag, word, value)
        else:
            done.append(word)
    return done


def _is_text_with_a_dash(word: str) -> bool:
    """Return whether a word that begins with one dash is more likely a text: it would be read as short options."""
    return word[:1] == "-" and len(word) > 1 and (word[1].isdigit() or any(map(str.isspace, word)))


OWN_VALUE = "own"
"""Stands for the value that was left out."""


def _take_share(rest: Iterator[str]) -> tuple[Iterator[str], str]:
    """Return the words left, and the next one where it is a number from 0 to 1: any other word is a text."""
    following = next(rest, None)
    try:
        if following is not None and 0 <= float(following) <= 1:
            return rest, following
    except ValueError:
        pass
    return (rest if following is None else chain([following], rest)), OWN_VALUE


def _take(rest: Iterator[str]) -> list[str]:
    following = next(rest, None)
    return [] if following is None else [following]


def _switch(flag: Flag, word: str, value: str) -> list[str]:
    from textune.config.values import coerce_value

    try:
        return [flag.names[0]] if coerce_value(bool, value) else []
    except ValueError as error:
        raise ConfigError(f"{word}: {error}", hint=f"use {flag.names[0]}") from None


def _read_setting(
    name: str,
    value: str | None,
    rest: Iterator[str],
    declared: Collection[str],
    settings: Collection[str],
    *,
    texts: bool,
) -> str:
    """Return `--name value` as key=value. texts: whether it may be a text."""
    key = name[2:].replace("-", "_")
    off = key.removeprefix("no_")
    if off != key and off in list_switches() and off in settings and value is None:
        return f"{off}=false"
    if key not in settings and not key.startswith(("method.", "sweep.")):
        known = [*declared, *(f"--{setting.replace('_', '-')}" for setting in settings)]
        raise _refuse(name if value is None else f"{name}={value}", known, texts=texts)
    if value is None and key in list_switches():
        value = "true"
    if value is None:
        value = next(rest, None)
    if value is None or (value.startswith("--") and value[2:].partition("=")[0].replace("-", "_") in settings):
        raise ConfigError(f"{name}: needs a value", hint=f"write {name} VALUE or {key}=VALUE")
    return f"{key}={value}"


def _refuse(word: str, known: Sequence[str], *, texts: bool) -> ConfigError:
    """Return the error about an option that does not exist. texts: whether the word may be a text."""
    name, hint = word.partition("=")[0], "textune settings lists every setting"
    if texts:
        hint = f"if it is a text, put -- before it: -- {quote(word)}"
    return ConfigError(f"unknown option {name}{'' if ' ' in word else suggest(name, known)}", hint=hint)


def list_settings(command: str) -> list[str]:
    """Return every name that a command takes as a setting, other tools' names too."""
    from textune.config import known_settings
    from textune.config.aliases import ALIASES, FOLDER

    return [*known_settings(), *ALIASES, *FOLDER, *EXTRA_SETTINGS.get(command, ())]


def list_switches() -> set[str]:
    """Return the settings that are true or false, which need no value as a flag."""
    from textune.config import RunConfig

    return {name for name, value in RunConfig().to_dict().items() if isinstance(value, bool)}
