"""A registry of named objects that refuses duplicates and suggests close names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from textune.errors import ConfigError, suggest

T = TypeVar("T")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


class Registry(Generic[T]):
    """Objects by lower-case name, in the order of registration.

    kind: the kind of entry ("method"), for error messages.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers an object under a name."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{self.kind} name {name!r} is not lower_case")
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered")

        def store(entry: T) -> T:
            self._entries[name] = entry
            return entry

        return store

    def get(self, name: str) -> T:
        """Return the entry with this name; raise ConfigError that suggests the closest name."""
        try:
            return self._entries[name]
        except KeyError:
            raise ConfigError(
                f"unknown {self.kind} '{name}'{suggest(name, self._entries)}",
                hint=f"known: {', '.join(self._entries)}",
            ) from None

    def names(self) -> tuple[str, ...]:
        """Return all names in the order of registration."""
        return tuple(self._entries)

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return iter(self._entries.items())
