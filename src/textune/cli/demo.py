"""`textune demo`."""

from __future__ import annotations

from pathlib import Path

import typer

from textune.cli.allocator import open_tuned_progress
from textune.cli.output import JSON_HELP, print_json, print_run, print_table, summarise_run

_SENTENCES = (
    "A warm, funny and beautifully acted film.",
    "A dull, lifeless mess with nothing to say.",
    "It is not a bad film, but I would not watch it twice.",
)
_DATA = "embedded:rotten_tomatoes"
_TRAIN, _VALIDATION, _TEST = 2_000, 200, 1_000


def _check_place(folder: Path) -> None:
    """Raise BundleError where the demo's place holds a run of a person's own: the demo overwrites only itself."""
    from textune.bundle import MANIFEST, SETTINGS, SWEEP
    from textune.config import load_settings
    from textune.errors import BundleError

    if not any((folder / name).is_file() for name in (SETTINGS, SWEEP, MANIFEST)):
        return  # empty, never begun, or not a run, which training tells
    data = load_settings(folder / SETTINGS).get("data") if (folder / SETTINGS).is_file() else None
    if data != _DATA:
        raise BundleError(
            f"{folder}: holds {f'a run on other data ({data})' if data else 'another run'}, which the demo does not "
            "overwrite",
            hint="put the demo elsewhere: textune demo --runs-dir FOLDER",
        )


def demo(
    runs_dir: str = typer.Option("runs", "--runs-dir", help="Folder for the runs."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Train, evaluate and try a film-review classifier, offline."""
    progress = open_tuned_progress()
    from textune.bundle import expand_home
    from textune.config import build_config
    from textune.run import train_config

    _check_place(expand_home(runs_dir) / "demo")
    total = _TRAIN + _VALIDATION + _TEST
    config = build_config(
        {
            "data": _DATA,
            "labels": "0=negative,1=positive",
            "sample": str(total),
            "validation_fraction": _VALIDATION / total,
            "test_fraction": _TEST / total,
            "name": "demo",
            "runs_dir": runs_dir,
        }
    )
    progress.say(f"demo: {_TRAIN:,} film-review sentences for training, {_TEST:,} for testing")
    run = train_config(config, overwrite=True, progress=progress)
    predictions = run.load().classify(_SENTENCES)
    if json_output:
        listed = [{"text": t} | vars(p) for t, p in zip(_SENTENCES, predictions, strict=True)]
        print_json(summarise_run(run) | {"predictions": listed})
        return
    print_run(run)
    typer.echo()
    rows = [
        (label, f"{probability:.1%}", text)
        for text, prediction in zip(_SENTENCES, predictions, strict=True)
        for label, probability in prediction.answer.items()
    ]
    print_table(("label", "probability", "sentence"), rows, right=(1,))
