"""Pins what this environment holds of textune's dependencies: rewrites base.txt, demo.txt and dev.txt.

Run it in an environment where `pip install -e ".[dev]"` has resolved everything: python requirements/refresh.py
Only what the project's metadata leads to is pinned, however much else is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = "textune"
FILES = ("base", "demo", "dev")  # each holds what the one before it does not
_PLATFORMS = (
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
)
_HEADER = "# Exact versions, written by `make pins`; they are the same on Linux and macOS. Not meant to be edited.\n"


def list_requirements(name: str, extras: tuple[str, ...]) -> Iterator[Requirement]:
    """Yields what an installed distribution requires here; raises PackageNotFoundError where it is not installed."""
    for text in metadata.distribution(name).requires or ():
        requirement = Requirement(text)
        if is_wanted(requirement, extras, {}):
            yield requirement


def is_wanted(requirement: Requirement, extras: tuple[str, ...], platform: dict[str, str]) -> bool:
    """Returns whether a requirement holds with these extras on a platform; an empty one means this machine."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate(platform | {"extra": extra}) for extra in (*extras, ""))


def find_pins(extras: tuple[str, ...]) -> dict[str, str]:
    """Returns package key -> pinned line, for the project with these extras and all that they lead to."""
    markers: dict[str, set[str]] = {}
    names: dict[str, str] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    waiting = [(PROJECT, extras)]
    while waiting:
        name, wanted = waiting.pop()
        if (normalize(name), wanted) in seen:
            continue
        seen.add((normalize(name), wanted))
        for requirement in list_requirements(name, wanted):
            key = normalize(requirement.name)
            names[key] = requirement.name
            everywhere = all(is_wanted(requirement, wanted, platform) for platform in _PLATFORMS)
            markers.setdefault(key, set()).add("" if everywhere else str(requirement.marker))
            waiting.append((requirement.name, tuple(sorted(requirement.extras))))
    names.pop(PROJECT, None)
    return {key: pin(key, markers[key]) for key in sorted(names)}


def pin(key: str, markers: set[str]) -> str:
    """Returns one line; a platform's marker is carried only where every way to the package needs one.

    The local part of a version (2.13.0+cpu) names a build, not a version: it is left out.
    """
    version = metadata.version(key).partition("+")[0]
    only = next(iter(markers)) if len(markers) == 1 else ""
    return f"{key}=={version}" + (f" ; {only}" if only else "")


def normalize(name: str) -> str:
    """Returns a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Writes the three files beside this one."""
    folder, known = Path(__file__).parent, dict[str, str]()
    for position, name in enumerate(FILES):
        pins = find_pins(() if name == "base" else (name,))
        lines = [pins[key] for key in pins if key not in known]
        below = f"-r {FILES[position - 1]}.txt\n" if position else ""
        (folder / f"{name}.txt").write_text(_HEADER + below + "\n".join(lines) + "\n", encoding="utf-8")
        known |= pins


if __name__ == "__main__":
    main()
