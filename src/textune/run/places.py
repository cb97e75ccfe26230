"""Where the files of a run are: a run can be resumed from another folder, and after it was moved with its data."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from textune.backbones import SMOLLM2, find_embedded, recall_local
from textune.bundle import SWEEP, expand_home, is_finished
from textune.config import RunConfig
from textune.errors import BundleError, ConfigError, TextuneError, show_resume, suggest
from textune.tokens.dialogues import PLAIN

PLACED = ("data", "validation", "test", "fixes", "backbone", "init", "chat_template")
"""The settings that may name a file or a folder."""
FRAME = "data frame"
"""What a setting says of a table that was no file but a data frame in Python."""
RESUMABLE = (*PLACED, "trust")
"""What a run takes when it is resumed: where something is now, and trust, which holds for one call."""


def list_places(config: RunConfig, folder: Path) -> dict[str, str]:
    """Return the absolute path of the run, and of every file and folder that its settings name."""
    settings = config.to_dict()
    named = {name: value for name in PLACED if isinstance(value := settings.get(name), str)}
    places = {name: str(_absolute(value)) for name, value in named.items() if is_there(name, value)}
    return {"run": str(folder.resolve()), **places}


def fix_places(config: RunConfig) -> RunConfig:
    """Return settings whose files and folders are named by absolute paths."""
    places = {name: path for name, path in list_places(config, Path()).items() if name in PLACED}
    return config.replace(**places)


def find_places(config: RunConfig, plan: Mapping[str, Any], folder: Path, given: Mapping[str, Any]) -> RunConfig:
    """Return the settings of an interrupted run with its files as they can be reached from here.

    plan: of the run. given: what the caller gave instead of a run's own files: data frames, and new places. Raises
    BundleError that names the missing files and the settings that say where they are.
    """
    settings, stored = config.to_dict(), plan.get("places")
    places: Mapping[str, Any] = stored if isinstance(stored, Mapping) else {}
    found, missing = {}, {}
    for name in PLACED:
        value, place = settings.get(name), places.get(name)
        if name in given or not isinstance(value, str) or not isinstance(place, str):
            continue
        candidates = _list_candidates(name, value, places, plan, folder)
        path = next((path for path in candidates if is_there(name, path)), None)
        if path is None:
            missing[name] = place
        elif _absolute(path) != _absolute(value):
            found[name] = path
    if missing:
        raise _report_missing(missing, folder, given)
    return config.replace(**found) if found else config


def refuse_missing(config: RunConfig, folder: Path, given: Mapping[str, Any]) -> None:
    """Raise BundleError for files of a search that do not exist, with the settings that say where they are.

    given: data frames, and new places, which are in the settings already.
    """
    missing = {}
    for name in PLACED:
        value = config.to_dict().get(name)
        is_frame = not isinstance(given.get(name, ""), str | Path)
        if not is_frame and value and Path(value).is_absolute() and not is_there(name, value):
            missing[name] = value
    if missing:
        raise _report_missing(missing, folder, given)


def _report_missing(missing: Mapping[str, str], folder: Path, given: Mapping[str, Any]) -> BundleError:
    named = " and ".join(f"{name}={path}" for name, path in missing.items())
    problem = f"{folder}: {named} no longer {'exists' if len(missing) == 1 else 'exist'}"
    if is_finished(folder):  # which nothing resumes, so that no setting can say where the file is now
        return BundleError(problem, hint="the run is finished and keeps no copy of it: put it back there")
    places = {name: str(value) for name, value in given.items() if isinstance(value, str | Path)}
    places |= dict.fromkeys(missing, "PATH")
    return BundleError(
        problem, hint=f"say where it is now: {show_resume(folder, search=(folder / SWEEP).is_file(), **places)}"
    )


def _list_candidates(
    name: str, value: str, places: Mapping[str, Any], plan: Mapping[str, Any], folder: Path
) -> Iterator[str]:
    """Yield where a file may be: beside the moved run, where it was, where its name leads from here."""
    place, run = places[name], places.get("run")
    if isinstance(run, str) and not Path(value).is_absolute() and Path(run) != folder.resolve():
        with contextlib.suppress(ValueError):  # another drive
            yield os.path.normpath(folder.resolve() / os.path.relpath(place, run))
    yield place
    yield value
    known = recall_local(str(plan.get("backbone"))) if name == "backbone" else None
    if known is not None:
        yield known


def is_there(name: str, value: str) -> bool:
    """Return whether a setting names a file or a folder of this machine. name: one of PLACED."""
    if value.startswith(("hub:", "embedded:")):
        return False
    if name == "backbone" and (find_embedded(value) is not None or value == SMOLLM2.name):
        return False
    if name == "chat_template" and ("{" in value or value == PLAIN):  # Jinja text
        return False
    path = expand_home(value)
    if name in ("backbone", "init"):
        return path.is_dir()
    return path.exists() or ("#" in value and expand_home(value.rpartition("#")[0]).exists())


def _absolute(value: str) -> Path:
    return expand_home(value).absolute()


def check_resumable(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for a setting that a run cannot change when it is resumed."""
    wrong = [name for name in settings if name not in RESUMABLE]
    if wrong:
        raise ConfigError(
            f"{wrong[0]}=: a run is resumed with its own settings{suggest(wrong[0], RESUMABLE)}",
            hint=f"only these can be given, to say where something is now: {', '.join(RESUMABLE)}",
        )


def add_trust(error: TextuneError, trust: str | None) -> None:
    """Complete the command of an error's hint: trust holds for one call, so that a resumed run needs it again."""
    if trust is not None and error.hint and "textune resume " in error.hint and " trust=" not in error.hint:
        hint = error.hint.replace("), or in a shell: textune resume ", f", {trust=}), or in a shell: textune resume ")
        error.hint = f"{hint} {shlex.quote(f'trust={trust}')}"


def refuse_missing_frames(config: RunConfig, folder: Path, frames: Mapping[str, Any]) -> None:
    """Raise BundleError where a run was started on data frames and is resumed without them."""
    settings = config.to_dict()
    if missing := [name for name in PLACED if settings.get(name) == FRAME and name not in frames]:
        given = ", ".join(f"{name}=FRAME" for name in missing)
        raise BundleError(
            f"{folder}: was started on a data frame, which is not saved with the run ({', '.join(missing)})",
            hint=f"give it again in Python: textune.resume({str(folder)!r}, {given})",
        )
