"""What the shell is offered for settings, runs and methods. Only names of files are looked at, so it is quick."""

from __future__ import annotations

from pathlib import Path


def complete_setting(incomplete: str) -> list[tuple[str, str]]:
    """Return the settings that begin like a word."""
    from textune.config import known_settings

    return [(f"{name}=", text) for name, text in known_settings().items() if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Return the finished runs, in runs/ or in the folder that is being typed, and the sweeps' winners."""
    from textune.bundle import MANIFEST

    found = sorted({run for folder in _list_folders(incomplete) for run in (folder, folder / "winner")})
    return _match(incomplete, [run for run in found if (run / MANIFEST).is_file()])


def complete_interrupted(incomplete: str) -> list[str]:
    """Return what can be resumed: runs without a result, and sweeps without a report."""
    from textune.bundle import MANIFEST, PLAN, SETTINGS, SWEEP

    return _match(
        incomplete,
        [
            folder
            for folder in _list_folders(incomplete)
            if not any((folder / name).exists() for name in (MANIFEST, "sweep.json"))
            and any((folder / name).is_file() for name in (PLAN, SETTINGS, SWEEP))
        ],
    )


def complete_method(incomplete: str) -> list[tuple[str, str]]:
    """Return the methods that begin like a word."""
    from textune.methods import methods

    return [(name, method.summary) for name, method in methods if name.startswith(incomplete)]


def _list_folders(incomplete: str) -> list[Path]:
    """Return the folders beside the one that is being typed, and those in runs/."""
    places = {Path("runs"), Path(incomplete).parent, Path(incomplete)}
    try:
        return sorted({path for place in places if place.is_dir() for path in place.iterdir() if path.is_dir()})
    except OSError:
        return []


def _match(incomplete: str, runs: list[Path]) -> list[str]:
    """Return the paths that begin like a word, and the names of runs in runs/ that do."""
    start = incomplete.removeprefix("./")
    dots = incomplete[: len(incomplete) - len(start)]
    names = [run.name for run in runs if incomplete and run.parent == Path("runs") and run.name.startswith(incomplete)]
    return [f"{dots}{run}" for run in runs if str(run).startswith(start)] + names
